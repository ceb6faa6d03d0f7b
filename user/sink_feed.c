// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "host.h"
#include "sink_feed.h"

#define SEND_BYTES_MAX (256U << 10)

struct line {
	__u64 end; /* its last byte's place + 1 */
	__u64 first_seq, seq;
};

/* Places are counted on for ever; a byte is at its place modulo FEED_BYTES, a line at its number modulo FEED_LINES. */
struct feed {
	char *text; /* both: only while somebody has joined */
	struct line *lines;
	__u64 first, next; /* lines that are kept: numbers */
	__u64 begin, end;  /* their bytes: places */
	__u64 start_seq;   /* of the first line ever put; 0: there was none */
	__u64 next_seq;
	__u64 lost;
	size_t readers;
};

struct feed *feed_new(void)
{
	return calloc(1, sizeof(struct feed));
}

static void forget_all(struct feed *feed)
{
	free(feed->text);
	free(feed->lines);
	feed->text = NULL;
	feed->lines = NULL;
	feed->first = feed->next;
	feed->begin = feed->end;
}

void feed_free(struct feed *feed)
{
	if (!feed)
		return;
	forget_all(feed);
	free(feed);
}

static struct line *line_at(const struct feed *feed, __u64 number)
{
	return &feed->lines[number % FEED_LINES];
}

static void text_put(struct feed *feed, const char *text, size_t length)
{
	size_t at = feed->end % FEED_BYTES, before = FEED_BYTES - at < length ? FEED_BYTES - at : length;

	memcpy(feed->text + at, text, before);
	memcpy(feed->text, text + before, length - before);
	feed->end += length;
}

static void text_get(const struct feed *feed, __u64 begin, size_t length, char *text)
{
	size_t at = begin % FEED_BYTES, before = FEED_BYTES - at < length ? FEED_BYTES - at : length;

	memcpy(text, feed->text + at, before);
	memcpy(text + before, feed->text, length - before);
}

static void seq_note(struct feed *feed, __u64 first_seq, __u64 seq)
{
	if (!feed->start_seq)
		feed->start_seq = first_seq;
	feed->next_seq = seq + 1;
}

int feed_put(struct feed *feed, const char *line, size_t length, __u64 first_seq, __u64 seq)
{
	if (length > EVENTS_LINE_MAX)
		return -EMSGSIZE;
	seq_note(feed, first_seq, seq);
	if (!feed->readers)
		return 0;
	/* As much is mapped, no more is used than was written. */
	if (!feed->text)
		feed->text = malloc(FEED_BYTES);
	if (!feed->lines)
		feed->lines = malloc(FEED_LINES * sizeof(*feed->lines));
	if (!feed->text || !feed->lines)
		return -ENOMEM; /* the next line's number tells the readers */
	while (feed->first < feed->next &&
	       (feed->end - feed->begin + length > FEED_BYTES || feed->next - feed->first == FEED_LINES))
		feed->begin = line_at(feed, feed->first++)->end;
	text_put(feed, line, length);
	*line_at(feed, feed->next++) = (struct line){ .end = feed->end, .first_seq = first_seq, .seq = seq };
	return 0;
}

void feed_join(struct feed *feed, struct feed_reader *reader)
{
	*reader = (struct feed_reader){ .line = feed->next, .next_seq = feed->next_seq };
	feed->readers++;
}

void feed_leave(struct feed *feed, struct feed_reader *reader)
{
	(void)reader;
	if (!--feed->readers)
		forget_all(feed);
}

__u64 feed_lost(const struct feed *feed)
{
	return feed->lost;
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static __u64 line_begin(const struct feed *feed, __u64 number)
{
	return number == feed->first ? feed->begin : line_at(feed, number - 1)->end;
}

/*
 * To the oldest line that is there, when the reader's next one is gone, behind one that says how many it has lost. That
 * is told by their numbers, as a line may be missing because there was no memory for it.
 */
static void skip_lost(struct feed *feed, struct feed_reader *reader)
{
	struct events_context context = { .realtime_offset_ns = host_realtime_offset_ns() };
	struct event event = { .kind = EVENTS_LOST, .record = { .ts_ns = host_monotonic_ns() } };
	__u64 expected = reader->next_seq ? reader->next_seq : feed->start_seq, seq;

	if (reader->line < feed->first)
		reader->line = feed->first;
	seq = line_at(feed, reader->line)->first_seq;
	reader->next_seq = seq;
	if (seq <= expected)
		return;
	event.record.count = seq - expected;
	context.seq = seq - 1;
	reader->rest_at = 0;
	reader->rest_length = events_encode(&event, &context, reader->rest);
	feed->lost += event.record.count;
}

static bool is_next(const struct feed *feed, const struct feed_reader *reader)
{
	return reader->line >= feed->first && line_at(feed, reader->line)->first_seq == reader->next_seq;
}

static ssize_t send_some(int fd, struct iovec *parts, size_t count)
{
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = count };
	ssize_t sent;

	do
		sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

static int send_rest(struct feed_reader *reader, int fd)
{
	while (reader->rest_length) {
		struct iovec part = { reader->rest + reader->rest_at, reader->rest_length };
		ssize_t sent = send_some(fd, &part, 1);

		if (sent < 0)
			return (int)sent;
		reader->rest_at += (size_t)sent;
		reader->rest_length -= (size_t)sent;
	}
	return 0;
}

/* Up to here it has been sent; the rest of a line that was cut is kept apart, for the line may soon be gone. */
static void advance(const struct feed *feed, struct feed_reader *reader, __u64 place)
{
	while (reader->line < feed->next && line_begin(feed, reader->line) < place) {
		const struct line *line = line_at(feed, reader->line);

		if (line->end > place) {
			reader->rest_at = 0;
			reader->rest_length = line->end - place;
			text_get(feed, place, reader->rest_length, reader->rest);
		}
		reader->next_seq = line->seq + 1;
		reader->line++;
	}
}

static int send_lines(const struct feed *feed, struct feed_reader *reader, int fd)
{
	__u64 begin = line_begin(feed, reader->line);
	size_t length = feed->end - begin < SEND_BYTES_MAX ? feed->end - begin : SEND_BYTES_MAX;
	size_t at = begin % FEED_BYTES, before = FEED_BYTES - at < length ? FEED_BYTES - at : length;
	struct iovec parts[] = { { feed->text + at, before }, { feed->text, length - before } };
	ssize_t sent = send_some(fd, parts, before < length ? 2 : 1);

	if (sent < 0)
		return (int)sent;
	advance(feed, reader, begin + (size_t)sent);
	return 0;
}

int feed_send(struct feed *feed, struct feed_reader *reader, int fd)
{
	for (;;) {
		int err = send_rest(reader, fd);

		if (err)
			return err;
		if (reader->line == feed->next)
			return 0;
		if (!is_next(feed, reader)) {
			skip_lost(feed, reader);
			continue;
		}
		err = send_lines(feed, reader, fd);
		if (err)
			return err;
	}
}
