// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "sink.h"

struct sink {
	struct output *output;
};

int sink_open(const struct outlet_sink *settings, const char *instance, struct sink **ret_sink,
	      struct failure *failure)
{
	struct sink *sink = calloc(1, sizeof(*sink));

	(void)settings;
	(void)instance;
	if (sink)
		sink->output = output_new(STDOUT_FILENO);
	if (!sink || !sink->output) {
		sink_close(sink);
		return failure_set(failure, -ENOMEM, "out of memory");
	}
	*ret_sink = sink;
	return 0;
}

void sink_close(struct sink *sink)
{
	if (sink)
		output_free(sink->output);
	free(sink);
}

int sink_put(struct sink *sink, const struct event *event, const char *line, size_t length, struct output_mark mark)
{
	(void)event;
	return output_add(sink->output, line, length, mark);
}

int sink_write(struct sink *sink, struct output_mark *ret_mark)
{
	return output_write(sink->output, ret_mark);
}

int sink_error(const struct sink *sink)
{
	return output_error(sink->output);
}

bool sink_holds(const struct sink *sink)
{
	(void)sink;
	return true;
}

size_t sink_waiting(const struct sink *sink)
{
	return output_waiting(sink->output);
}

int sink_reopen(struct sink *sink, struct failure *failure)
{
	(void)sink;
	(void)failure;
	return 0;
}

int sink_fd(const struct sink *sink)
{
	(void)sink;
	return -1;
}

void sink_ready(struct sink *sink)
{
	(void)sink;
}

const char *sink_name(const struct sink *sink)
{
	(void)sink;
	return "stdout";
}

__u64 sink_dropped(const struct sink *sink)
{
	(void)sink;
	return 0;
}
