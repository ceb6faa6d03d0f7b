/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink.h: where lines go. A sink either *holds* (a file, stdout: what it can't write waits in it, and then in the
 * kernel's ring) or *drops* (the socket's readers, each its own; journald): then it counts what it dropped and tells
 * that reader.
 */
#ifndef SIPKEEP_SINK_H
#define SIPKEEP_SINK_H

#include <stdbool.h>
#include "events.h"
#include "failure.h"
#include "outlet.h"
#include "output.h"

struct sink;

/*
 * Opens it. 0, or -errno with *failure saying which sink and why. instance: its name. settings: NULL is JSON lines on
 * standard output; it need not outlive the call.
 */
int sink_open(const struct outlet_sink *settings, const char *instance, struct sink **ret_sink,
	      struct failure *failure);

/* The socket that `run` has besides those of the config, for `events` of the same instance: see subscribe.h. */
int sink_open_default(const char *instance, struct sink **ret_sink, struct failure *failure);

/*
 * Writes what can be written without waiting (the journal: within a second); NULL is fine. Returns how many events it
 * had taken, will not deliver and counts for nobody: 0 for one that holds, whose mark tells.
 */
__u64 sink_close(struct sink *sink);

/* Takes an event with its line (newline included). 0, or -errno: it can't ever be taken. */
int sink_put(struct sink *sink, const struct event *event, const char *line, size_t length, struct output_mark mark);

/*
 * Writes what waits. A sink that holds sets *ret_mark to that of the last line that is out, when one is, and returns
 * -EAGAIN while lines wait (sink_error() is the errno why), another -errno when they can never be written; one that
 * drops leaves *ret_mark alone and returns 0.
 */
int sink_write(struct sink *sink, struct output_mark *ret_mark);
int sink_error(const struct sink *sink);

/* Does its mark count? False: it drops, or nobody needs to wait for it. */
bool sink_holds(const struct sink *sink);

/* Bytes that wait in a sink that holds. */
size_t sink_waiting(const struct sink *sink);

/*
 * Opens its file anew (SIGUSR1, after logrotate has moved it); what waits goes into the new one. On error, the old one
 * goes on.
 */
int sink_reopen(struct sink *sink, struct failure *failure);

/* A descriptor to be watched for EPOLLIN, then call sink_ready(); -1: none. */
int sink_fd(const struct sink *sink);
void sink_ready(struct sink *sink);

/* What it is, for messages: "jsonl /var/log/sipkeep/events.jsonl". */
const char *sink_name(const struct sink *sink);

/* Events it dropped so far. */
__u64 sink_dropped(const struct sink *sink);

#endif
