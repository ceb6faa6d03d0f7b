/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reader.h: takes records out of the ring and gives out lines; meanwhile destroys the request sockets of clients
 * refused at their final ACK, and has idle sources removed. One reader an instance.
 */
#ifndef SIPKEEP_READER_H
#define SIPKEEP_READER_H

#include "datapath.h"

/* Sources that hold nothing are kept so long for `sipkeep sources` to show. */
#define READER_SOURCE_IDLE_NS (300ULL * 1000000000)

struct reader;

/*
 * line() gets each event as a JSON line with its newline; a negative return value ends reader_poll() with it. -EBUSY when
 * another process reads this instance's events (it is named). The datapath must outlive the reader.
 */
int reader_open(const struct datapath *datapath, int (*line)(void *arg, const char *text, size_t length), void *arg,
		struct reader **ret_reader, struct failure *failure);
void reader_close(struct reader *reader);

/* Has listener() told of each listener that comes up, with the cookie of its network namespace. */
void reader_on_listener(struct reader *reader, void (*listener)(void *arg, __u64 netns_cookie), void *arg);

/* Readable when the kernel wakes the reader early; call reader_poll() then, and every READER_INTERVAL_MS anyway. */
int reader_fd(const struct reader *reader);
#define READER_INTERVAL_MS 100

/* Takes what is there, without waiting. Returns the number of events, or what line() returned. */
int reader_poll(struct reader *reader);

#endif
