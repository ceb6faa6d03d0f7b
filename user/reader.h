/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reader.h: takes records out of the ring; meanwhile destroys the request sockets of clients refused at their final ACK,
 * and has idle sources removed. One reader an instance.
 */
#ifndef SIPKEEP_READER_H
#define SIPKEEP_READER_H

#include "datapath.h"
#include "output.h"

struct reader;

struct reader_calls {
	/* The next record; -EAGAIN: it was taken, but none after it can be now; another -errno ends reader_take(). */
	int (*record)(void *arg, const struct sipkeep_record *record);
	/* So many were lost before the next one. As record(). */
	int (*lost)(void *arg, __u64 count);
};

/*
 * -EBUSY when another process reads this instance's events (it is named). The datapath and calls must outlive the reader.
 * What an earlier reader took and didn't write, because it was killed or its disk was full, is told as lost. *ret_written:
 * how far the lines of earlier readers were written, where the numbering goes on.
 */
int reader_open(const struct datapath *datapath, const struct reader_calls *calls, void *arg,
		struct output_mark *ret_written, struct reader **ret_reader, struct failure *failure);

/* taken: how far it was; what of it isn't written by now never will be. NULL is fine. */
void reader_close(struct reader *reader, const struct output_mark *taken);

/* Readable when the kernel wakes the reader early; see to both then, and every READER_INTERVAL_MS anyway. */
int reader_fd(const struct reader *reader);
int reader_abort_fd(const struct reader *reader);
#define READER_INTERVAL_MS 100

/* All but the records: to be done however long their lines wait. */
void reader_tend(struct reader *reader);

/* Takes what is there, without waiting. Returns the number of records, or what a call of reader_calls returned. */
int reader_take(struct reader *reader);

/* The lines are written up to here. */
void reader_written(struct reader *reader, const struct output_mark *mark);

#endif
