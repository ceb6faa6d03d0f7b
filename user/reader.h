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
 * Each event becomes a JSON line on fd, which stays the caller's. -EBUSY when another process reads this instance's
 * events (it is named). The datapath must outlive the reader. What an earlier reader took and didn't write, because it was
 * killed or its disk was full, is told as lost.
 */
int reader_open(const struct datapath *datapath, int fd, struct reader **ret_reader, struct failure *failure);
void reader_close(struct reader *reader);

/* Has listener() told of each listener that comes up, with the cookie of its network namespace. */
void reader_on_listener(struct reader *reader, void (*listener)(void *arg, __u64 netns_cookie), void *arg);

/* Readable when the kernel wakes the reader early; call reader_poll() then, and every READER_INTERVAL_MS anyway. */
int reader_fd(const struct reader *reader);
int reader_abort_fd(const struct reader *reader);
#define READER_INTERVAL_MS 100

/*
 * Takes what is there, without waiting, and writes it. Returns the number of events, -EAGAIN when lines wait to be written
 * (reader_error() is why; the events wait in the kernel, the next call tries again), or another -errno.
 */
int reader_poll(struct reader *reader);
int reader_error(const struct reader *reader);

#endif
