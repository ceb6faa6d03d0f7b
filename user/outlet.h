/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * outlet.h: the model of what the config says about events: its `sinks` and `actions`. Only `run` acts on it, so it is
 * in no map, and `apply` of a change in it asks nothing of the kernel.
 */
#ifndef SIPKEEP_OUTLET_H
#define SIPKEEP_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <linux/types.h>

#define OUTLET_SINKS_MAX 8
#define OUTLET_ACTIONS_MAX 64
#define OUTLET_ROTATED_MAX 1000 /* files that max_total can be spread over: FILE.1 ... FILE.1000 */
#define OUTLET_SOCKET_PATH_MAX 107 /* the kernel's struct sockaddr_un */

enum outlet_sink_type {
	OUTLET_JSONL,	 /* lines into a file */
	OUTLET_JOURNALD, /* entries with fields */
	OUTLET_SOCKET,	 /* lines to whoever connects */
	OUTLET_SINK_MAX,
};

struct outlet_sink {
	enum outlet_sink_type type;
	int line;	    /* in the config */
	char *path;	    /* absolute; jsonl: the file, NULL: stdout; socket: its address in the file system */
	__u64 max_size;	    /* jsonl: bytes at which the file is rotated; 0: never */
	__u64 max_total;    /* jsonl: bytes that it and the rotated ones may have together; 0 without max_size */
	__u32 mode;	    /* socket: permissions */
};

struct outlet_action {
	int line;
	__u64 on;	     /* 1 << event, of enum events_kind */
	char *policy;	     /* its name; NULL: any, and events that have none */
	char **run;	     /* argv, NULL at the end; run[0] is absolute */
	__u32 timeout_ms;    /* then it is killed */
	__u32 debounce_ms;   /* per policy and remote: no second start so soon after one */
	__u32 retries;	     /* further attempts after one that failed */
	__u32 retry_ms;	     /* before the first of them; doubled for each, up to an hour */
};

struct outlets {
	struct outlet_sink *sinks; /* none: JSON lines on stdout */
	size_t sink_count;
	struct outlet_action *actions;
	size_t action_count;
	__u32 max_actions; /* running at once */
};

/* Where the config says nothing. */
#define OUTLET_TIMEOUT_MS 10000
#define OUTLET_DEBOUNCE_MS 5000
#define OUTLET_RETRIES 3
#define OUTLET_RETRY_MS 1000
#define OUTLET_MAX_ACTIONS 8

/* run[0]: printable ASCII, so that the line of an event can name it. */
#define OUTLET_COMMAND_MAX 255

/* `actions` and `max_actions` as the config file writes them; nothing when there are none. */
void outlet_actions_print(const struct outlets *outlets, FILE *out);

/* A copy that owns what it points to; outlet_action_free() it. 0 or -ENOMEM. `line` may differ between equal ones. */
int outlet_action_copy(const struct outlet_action *action, struct outlet_action *ret_copy);
bool outlet_action_equal(const struct outlet_action *a, const struct outlet_action *b);
void outlet_action_free(struct outlet_action *action);

/* The config's word for it. */
const char *outlet_sink_type(enum outlet_sink_type type);

/* Prints `sinks = ( ... );` as config_parse() reads it; nothing where there are none. */
void outlet_sinks_print(const struct outlets *outlets, FILE *out);

/* Frees what they own and zeroes them. */
void outlets_free(struct outlets *outlets);

/* What was in *from, for as long as the caller wants: outlets_delete() it (NULL is fine). NULL: out of memory. */
struct outlets *outlets_take(struct outlets *from);
void outlets_delete(struct outlets *outlets);

#endif
