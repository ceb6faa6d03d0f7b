/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * output.h: lines to a file descriptor. What it doesn't take now (a full disk) waits, and the caller takes no more
 * meanwhile; each line has a mark, so that the caller knows how far the writing has come.
 */
#ifndef SIPKEEP_OUTPUT_H
#define SIPKEEP_OUTPUT_H

#include <linux/types.h>
#include <stddef.h>

struct output;

/* How far the reader was with this line: see struct sipkeep_meta. */
struct output_mark {
	__u64 delivered;
	__u64 lost_told;
	__u64 derived;
};

/* Its place in the sequence of lines, `seq`. */
static inline __u64 output_mark_seq(const struct output_mark *mark)
{
	return mark->delivered + mark->lost_told + mark->derived;
}

/* NULL: out of memory. output_free() doesn't close the descriptor. */
struct output *output_new(int fd);
void output_free(struct output *output);

/* Takes a line (with its newline) in; it is written by output_write(). 0 or -ENOMEM. */
int output_add(struct output *output, const char *text, size_t length, struct output_mark mark);

/* Bytes that wait. */
size_t output_waiting(const struct output *output);

/*
 * Writes what waits. *ret_mark becomes that of the last line that is out, if one is. Returns 0 when all are, -EAGAIN when
 * some wait for room (output_error() says what for), another -errno when they can never be written.
 */
int output_write(struct output *output, struct output_mark *ret_mark);

/* The same, of whole lines at most `room` bytes, and the rest of one that was begun: 1 when the next doesn't fit. */
int output_write_within(struct output *output, __u64 room, struct output_mark *ret_mark);

/* A line that is written in part will be written anew, from its first byte. Returns the length of that part. */
size_t output_rewind(struct output *output);

/* What waits goes to this descriptor. */
void output_redirect(struct output *output, int fd);

/* The errno that made lines wait; 0: none waits. */
int output_error(const struct output *output);

#endif
