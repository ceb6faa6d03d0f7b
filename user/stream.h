/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stream.h: the one way of an event: reader -> diagnosis -> its line and number -> sinks and actions.
 *
 * Every line has the next number, `seq`. It is written when every sink that holds has written it; where one can't
 * (a full disk), nothing more is taken from the kernel until it can.
 */
#ifndef SIPKEEP_STREAM_H
#define SIPKEEP_STREAM_H

#include <systemd/sd-event.h>
#include "datapath.h"
#include "outlet.h"
#include "reader.h"

struct stream;

struct stream_options {
	const char *instance;
	const struct outlets *outlets; /* must outlive the stream or be replaced; no sinks: JSON lines on stdout */
	sd_event *loop;	   /* NULL where nothing but stream_poll() moves it; then there are no actions */
	bool subscribers;  /* has, besides, the socket that `events` reads from: see subscribe.h */
	/* What goes on all the same, and a person must know; NULL without a loop. */
	void (*tell)(void *arg, const char *what, const char *why);
	void *arg;
};

/* Opens its sinks and readies its actions. */
int stream_new(const struct stream_options *options, struct stream **ret_stream, struct failure *failure);
void stream_free(struct stream *stream); /* NULL is fine */

/* Goes over to other sinks and actions; those that stay the same stay open. On an error, nothing has changed. */
int stream_outlets(struct stream *stream, const struct outlets *outlets, struct failure *failure);

/* Ends the actions that run; their outcomes are lines like others: the next stream_poll() writes them. None start any more. */
void stream_end_actions(struct stream *stream);

/* Begins with an instance's ring; stream_detach() before the datapath is closed. -EBUSY: see reader_open(). */
int stream_attach(struct stream *stream, const struct datapath *datapath, struct failure *failure);
void stream_detach(struct stream *stream);

/* Has listener() told of each listener that comes up, with the cookie of its network namespace. */
void stream_on_listener(struct stream *stream, void (*listener)(void *arg, __u64 netns_cookie), void *arg);

/* Of the instance that it is attached to; readable: call stream_poll(). And call it every READER_INTERVAL_MS anyway. */
int stream_fd(const struct stream *stream);
int stream_abort_fd(const struct stream *stream);

/*
 * Takes what is there, without waiting, and passes it on. Returns how many records it took, -EAGAIN when lines wait to be
 * written (stream_error() says which sink's, and why; the next call tries again), or another -errno.
 */
int stream_poll(struct stream *stream);
const char *stream_error(const struct stream *stream);

/* Opens the sinks' files anew. */
void stream_reopen(struct stream *stream);

#endif
