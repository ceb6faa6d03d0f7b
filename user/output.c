// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "output.h"

struct line {
	size_t end; /* in text */
	struct output_mark mark;
};

struct output {
	int fd;
	int error;
	char *text;
	size_t length, written, room;
	struct line *lines; /* those not wholly written, in order */
	size_t line_count, line_first, line_room;
};

struct output *output_new(int fd)
{
	struct output *output = calloc(1, sizeof(*output));

	if (output)
		output->fd = fd;
	return output;
}

void output_free(struct output *output)
{
	if (!output)
		return;
	free(output->text);
	free(output->lines);
	free(output);
}

static int room_make(void **list, size_t *room, size_t wanted, size_t size)
{
	size_t more = *room ? *room * 2 : 1024;
	void *grown;

	if (wanted <= *room)
		return 0;
	while (more < wanted)
		more *= 2;
	grown = realloc(*list, more * size);
	if (!grown)
		return -ENOMEM;
	*list = grown;
	*room = more;
	return 0;
}

int output_add(struct output *output, const char *text, size_t length, struct output_mark mark)
{
	if (room_make((void **)&output->text, &output->room, output->length + length, 1) ||
	    room_make((void **)&output->lines, &output->line_room, output->line_count + 1, sizeof(*output->lines)))
		return -ENOMEM;
	memcpy(output->text + output->length, text, length);
	output->length += length;
	output->lines[output->line_count++] = (struct line){ .end = output->length, .mark = mark };
	return 0;
}

size_t output_waiting(const struct output *output)
{
	return output->length - output->written;
}

int output_error(const struct output *output)
{
	return output->error;
}

/* Where the line begins that is to be written next, or was begun. */
static size_t line_start(const struct output *output)
{
	return output->line_first ? output->lines[output->line_first - 1].end : 0;
}

size_t output_rewind(struct output *output)
{
	size_t part = output->written - line_start(output);

	output->written -= part;
	return part;
}

void output_redirect(struct output *output, int fd)
{
	output->fd = fd;
}

/* How far to write: the end of the last line that fits. */
static size_t end_within(const struct output *output, __u64 room)
{
	size_t end = output->written;

	if (output->length - output->written <= room)
		return output->length;
	for (size_t i = output->line_first; i < output->line_count; i++) {
		bool begun = i == output->line_first && output->written > line_start(output);

		if (!begun && output->lines[i].end - output->written > room)
			break;
		end = output->lines[i].end;
	}
	return end;
}

static void write_until(struct output *output, size_t end)
{
	output->error = 0;
	while (output->written < end) {
		ssize_t wrote = write(output->fd, output->text + output->written, end - output->written);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0) {
			output->error = errno;
			break;
		}
		output->written += (size_t)wrote;
	}
}

int output_write_within(struct output *output, __u64 room, struct output_mark *ret_mark)
{
	write_until(output, end_within(output, room));
	for (; output->line_first < output->line_count && output->lines[output->line_first].end <= output->written;
	     output->line_first++)
		*ret_mark = output->lines[output->line_first].mark;
	if (output->written == output->length) {
		output->written = output->length = 0;
		output->line_first = output->line_count = 0;
		return 0;
	}
	switch (output->error) {
	case 0:
		return 1;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EAGAIN:
		return -EAGAIN;
	}
	return -output->error;
}

int output_write(struct output *output, struct output_mark *ret_mark)
{
	return output_write_within(output, UINT64_MAX, ret_mark);
}
