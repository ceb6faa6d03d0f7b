// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sink_internal.h"
#include "subscribe.h"

static char *name_make(const struct outlet_sink *settings)
{
	char *name;
	int length;

	if (settings->path)
		length = asprintf(&name, "%s %s", outlet_sink_type(settings->type), settings->path);
	else
		length = asprintf(&name, "%s%s", outlet_sink_type(settings->type),
				  settings->type == OUTLET_JSONL ? " on standard output" : "");
	return length < 0 ? NULL : name;
}

static int type_open(const struct outlet_sink *settings, const char *instance, struct sink **ret_sink,
		     struct failure *failure)
{
	switch (settings->type) {
	case OUTLET_JSONL:
		return sink_file_open(settings, ret_sink, failure);
	case OUTLET_JOURNALD:
		return sink_journal_open(instance, ret_sink, failure);
	case OUTLET_SOCKET:
		return sink_socket_open(settings, ret_sink, failure);
	case OUTLET_SINK_MAX:
		break;
	}
	return failure_set(failure, -EINVAL, "there is no such type");
}

int sink_open(const struct outlet_sink *settings, const char *instance, struct sink **ret_sink, struct failure *failure)
{
	static const struct outlet_sink standard_output = { .type = OUTLET_JSONL };
	struct failure why = { "" };
	char *name;
	int err;

	settings = settings ? settings : &standard_output;
	name = name_make(settings);
	if (!name)
		return failure_set(failure, -ENOMEM, "out of memory");
	err = type_open(settings, instance, ret_sink, &why);
	if (err) {
		failure_set(failure, err, "sink %s: %.2000s", name, why.text);
		free(name);
		return err;
	}
	(*ret_sink)->name = name;
	return 0;
}

int sink_open_default(const char *instance, struct sink **ret_sink, struct failure *failure)
{
	char path[SUBSCRIBE_PATH_LEN];
	const struct outlet_sink settings = { .type = OUTLET_SOCKET, .path = path, .mode = 0600 };

	subscribe_path(instance, path);
	/* systemd's RuntimeDirectory=, where it isn't systemd that starts us. */
	if (mkdir(SUBSCRIBE_DIRECTORY, 0755) && errno != EEXIST)
		return failure_set(failure, -errno, SUBSCRIBE_DIRECTORY " can't be made: %s", strerror(errno));
	return sink_open(&settings, instance, ret_sink, failure);
}

__u64 sink_close(struct sink *sink)
{
	char *name;
	__u64 left;

	if (!sink)
		return 0;
	name = sink->name;
	left = sink->calls->close(sink);
	free(name);
	return left;
}

int sink_put(struct sink *sink, const struct event *event, const char *line, size_t length, struct output_mark mark)
{
	return sink->calls->put(sink, event, line, length, mark);
}

int sink_write(struct sink *sink, struct output_mark *ret_mark)
{
	return sink->calls->write ? sink->calls->write(sink, ret_mark) : 0;
}

int sink_error(const struct sink *sink)
{
	return sink->calls->error ? sink->calls->error(sink) : 0;
}

bool sink_holds(const struct sink *sink)
{
	return sink->calls->waiting;
}

size_t sink_waiting(const struct sink *sink)
{
	return sink->calls->waiting ? sink->calls->waiting(sink) : 0;
}

int sink_reopen(struct sink *sink, struct failure *failure)
{
	struct failure why = { "" };
	int err = sink->calls->reopen ? sink->calls->reopen(sink, &why) : 0;

	if (err)
		failure_set(failure, err, "sink %s: %.2000s", sink->name, why.text);
	return err;
}

int sink_fd(const struct sink *sink)
{
	return sink->calls->fd ? sink->calls->fd(sink) : -1;
}

void sink_ready(struct sink *sink)
{
	if (sink->calls->ready)
		sink->calls->ready(sink);
}

const char *sink_name(const struct sink *sink)
{
	return sink->name;
}

__u64 sink_dropped(const struct sink *sink)
{
	return sink->calls->dropped ? sink->calls->dropped(sink) : 0;
}
