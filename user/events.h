/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * events.h: ring-buffer bytes -> checked records -> one JSON line. Pure: no BPF, no I/O, unit-tested.
 *
 * `reason`, `cause` and the rest keep their places in the line whatever the event, so that a reader that knows
 * `disconnected` knows them all.
 */
#ifndef SIPKEEP_EVENTS_H
#define SIPKEEP_EVENTS_H

#include <stddef.h>
#include "sipkeep.h"

/* Longest line events_encode() can make, its newline and NUL included. */
#define EVENTS_LINE_MAX 1024

/* What a line can be of: the kernel's events, and those made of them. */
enum events_kind {
	EVENTS_LOST = SIPKEEP_EVENT_MAX, /* record.count: how many */
	EVENTS_LISTENER_RESTART,	 /* record: of its listener_up */
	EVENTS_WEDGED,			 /* record: of its disconnected, ts_ns, age_ns and idle_ns as of now */
	EVENTS_ACTION,			 /* record: of the event that it was for, ts_ns as of now */
	EVENTS_KIND_MAX,
};

/* What brought an end about, where the signs are clear. */
enum events_cause {
	EVENTS_CAUSE_NONE,
	EVENTS_CAUSE_PJSIP_IDLE_TIMER,
	EVENTS_CAUSE_SILENT_INBOUND,
	EVENTS_CAUSE_NAT_EXPIRED,
	EVENTS_CAUSE_LISTENER_RESTART,
	EVENTS_CAUSE_MONITOR_LOST,
	EVENTS_CAUSE_MAX,
};

/* How an attempt of an action went: see action.h. */
enum events_outcome {
	EVENTS_OUTCOME_DONE,	/* exit code 0 */
	EVENTS_OUTCOME_FAILED,	/* another exit code, or a signal that wasn't ours */
	EVENTS_OUTCOME_TIMEOUT, /* killed */
	EVENTS_OUTCOME_ERROR,	/* it could not be started: `error` */
	EVENTS_OUTCOME_STOPPED, /* killed, because sipkeep ends or the config has it no more */
	EVENTS_OUTCOME_SKIPPED, /* too many wait already, or it waited when sipkeep ended or the config had it no more */
	EVENTS_OUTCOME_MAX,
};

struct events_action {
	const char *command; /* run[0] */
	const char *policy;  /* its name, as it was at the event; NULL: the event has none */
	enum events_outcome outcome;
	int exit_code;	     /* 128 + N for signal N */
	int error;	     /* errno; 0: none */
	const char *why;     /* of an error that errno's own words don't tell (no quotes in it); NULL */
	__u64 count;	     /* skipped: how many starts since this was last told */
	__u32 attempt;	     /* 1: the first */
	__u64 duration_ns;
	unsigned int on;     /* the kind of the event that it was started for */
};

/* A record and what was found out about it. */
struct event {
	unsigned int kind;	    /* record.event, or one of enum events_kind */
	enum events_cause cause;
	__u32 gap_ms;		    /* listener_restart: how long nobody listened */
	__u32 open;		    /* listener_restart: transports open at its listener_down */
	const struct events_action *action; /* action */
	struct sipkeep_record record;
};

/* Words of the JSON: NULL for a value out of range. */
const char *events_kind_name(unsigned int kind);
int events_kind_find(const char *name); /* -1: there is none of this name */
const char *events_cause(unsigned int cause);
const char *events_outcome(unsigned int outcome);
const char *events_reason(unsigned int reason);
const char *events_refusal(unsigned int cause); /* the config key of the limit */
const char *events_direction(unsigned int direction);

/* What an event of this kind has: in its line, and in what is made of it. 0 for a kind out of range. */
#define EVENTS_HAS_ID (1U << 0)
#define EVENTS_HAS_POLICY (1U << 1) /* and direction */
#define EVENTS_HAS_LOCAL (1U << 2)
#define EVENTS_HAS_REMOTE (1U << 3)
#define EVENTS_HAS_SOURCE (1U << 4) /* refused: events_source() in place of local and remote */
#define EVENTS_HAS_REASON (1U << 5) /* and closed_by, cause */
unsigned int events_has(unsigned int kind);

/* What a record needs besides itself. */
struct events_context {
	__s64 realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
	__u64 seq;		  /* of this line */
	const char *policy;	  /* name; ignored by events without one */
};

/* A record of this size from the ring, checked: enums in range. NULL when it can't be one of ours. */
const struct sipkeep_record *events_check(const void *data, size_t size);

/* Writes one line, newline included, to line (EVENTS_LINE_MAX bytes). Returns its length. */
size_t events_encode(const struct event *event, const struct events_context *context, char *line);

/* "4a31", or "4a31.2" for a socket's third life. text: 32 bytes; returns it. */
char *events_id(__u64 cookie, __u16 generation, char *text);

/* "192.0.2.1:5060", "[2001:db8::1]:5060". text: 80 bytes; returns it. */
char *events_endpoint(const struct sipkeep_addr *addr, __u16 port, char *text);

/*
 * Of a refused record: "192.0.2.7", "2001:db8::/64", outbound "* > 203.0.113.5:5061". NULL: several sources, none of which
 * has a connection. text: 160 bytes; returns it.
 */
char *events_source(const struct sipkeep_record *record, char *text);

#endif
