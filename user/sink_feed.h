/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_feed.h: the lines of the last moments, kept once for all readers, and how far each is with them. A reader so slow
 * that its next line is gone loses that and what else is gone by then, and is told with a `lost` line of its own. However many there are and whatever they do, it takes no more than FEED_BYTES and FEED_LINES.
 */
#ifndef SIPKEEP_SINK_FEED_H
#define SIPKEEP_SINK_FEED_H

#include "events.h"

#define FEED_BYTES (16U << 20)
#define FEED_LINES (1U << 16)

struct feed;

/* Zeroed by feed_join(). */
struct feed_reader {
	__u64 line;	/* its next one */
	__u64 next_seq; /* that it expects */
	/* What goes before that: the rest of a line that was sent in part, or a `lost` line. */
	size_t rest_at, rest_length;
	char rest[EVENTS_LINE_MAX];
};

struct feed *feed_new(void); /* NULL: out of memory */
void feed_free(struct feed *feed);

/*
 * Takes a line (EVENTS_LINE_MAX at most, newline included) that covers the numbers first_seq to seq: more than one for
 * a `lost` line. Keeps it when somebody has joined. 0, -EMSGSIZE, or -ENOMEM: the readers are told that they lost it.
 */
int feed_put(struct feed *feed, const char *line, size_t length, __u64 first_seq, __u64 seq);

/* The reader gets what is put from now on, until it leaves. */
void feed_join(struct feed *feed, struct feed_reader *reader);
void feed_leave(struct feed *feed, struct feed_reader *reader);

/* Sends to fd, a socket, what it takes. 0: all is out; -EAGAIN: there is more; another -errno: nobody is there. */
int feed_send(struct feed *feed, struct feed_reader *reader, int fd);

/* Events that readers have lost so far, summed up. */
__u64 feed_lost(const struct feed *feed);

#endif
