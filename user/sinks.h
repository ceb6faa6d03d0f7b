/* SPDX-License-Identifier: GPL-2.0-only */
/* sinks.h: all the sinks of one process: each line goes to every one, and counts as written when all that hold have it. */
#ifndef SIPKEEP_SINKS_H
#define SIPKEEP_SINKS_H

#include <systemd/sd-event.h>
#include "sink.h"

struct sinks;

struct sinks_options {
	const char *instance;
	sd_event *loop; /* NULL: sockets are served only when lines are written */
	/* What goes on all the same, and a person must know; NULL: nobody is told. */
	void (*tell)(void *arg, const char *what, const char *why);
	void *arg;
};

/* None at first. NULL: out of memory. */
struct sinks *sinks_new(const struct sinks_options *options);
void sinks_free(struct sinks *sinks); /* NULL is fine */

/*
 * These, instead of those before (none: JSON lines on stdout); the settings must outlive them. Those that stay the same
 * stay open. at: the last line that was put. On an error, nothing has changed.
 */
int sinks_set(struct sinks *sinks, const struct outlet_sink *settings, size_t count, const struct output_mark *at,
	      struct failure *failure);

/* Besides, the socket that `events` reads from; when it can't be had, that is told. Once is enough. */
void sinks_subscribers(struct sinks *sinks, const struct output_mark *at);

/*
 * Puts a line; at: its mark. *ret_much: so many bytes of lines wait that they should be written. 0, or -errno with
 * sinks_error().
 */
int sinks_put(struct sinks *sinks, const struct event *event, const char *line, size_t length,
	      const struct output_mark *at, bool *ret_much);

/*
 * Writes what waits. *ret_written: how far all that hold have come; at: of the last line that was put. -EAGAIN: some goes on
 * waiting, another -errno: it can't ever be written; both with sinks_error().
 */
int sinks_write(struct sinks *sinks, const struct output_mark *at, struct output_mark *ret_written);

/* Which sink can't, and why. */
const char *sinks_error(const struct sinks *sinks);

/* The numbering goes on elsewhere; nothing waits. */
void sinks_renumber(struct sinks *sinks, const struct output_mark *at);

/* Opens their files anew. */
void sinks_reopen(struct sinks *sinks);

#endif
