// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "sinks.h"

#define WAITING_MAX (256 * 1024) /* bytes of lines gathered for one write */

struct outgoing {
	struct sink *sink;
	const struct outlet_sink *settings; /* NULL: the socket for subscribers */
	struct output_mark mark;	    /* written so far */
	sd_event_source *source;
};

struct sinks {
	struct sinks_options options;
	struct outgoing list[OUTLET_SINKS_MAX + 1];
	size_t count;
	bool subscribers; /* the last of them is their socket */
	char error[256];
};

/* ---- lines --------------------------------------------------------------------------------------------------- */

static int sink_fail(struct sinks *sinks, const struct sink *sink, int err)
{
	snprintf(sinks->error, sizeof(sinks->error), "%s: %s", sink_name(sink),
		 strerror(err == -EAGAIN ? sink_error(sink) : -err));
	return err;
}

int sinks_write(struct sinks *sinks, const struct output_mark *at, struct output_mark *ret_written)
{
	int waits = 0;

	*ret_written = *at;
	for (size_t i = 0; i < sinks->count; i++) {
		struct outgoing *out = &sinks->list[i];
		int err;

		if (sink_holds(out->sink) && !sink_waiting(out->sink))
			out->mark = *at;
		err = sink_write(out->sink, &out->mark);
		if (err == -EAGAIN)
			waits = sink_fail(sinks, out->sink, err);
		else if (err)
			return sink_fail(sinks, out->sink, err);
		if (sink_holds(out->sink) && output_mark_seq(&out->mark) < output_mark_seq(ret_written))
			*ret_written = out->mark;
	}
	return waits;
}

int sinks_put(struct sinks *sinks, const struct event *event, const char *line, size_t length,
	      const struct output_mark *at, bool *ret_much)
{
	*ret_much = false;
	for (size_t i = 0; i < sinks->count; i++) {
		struct sink *sink = sinks->list[i].sink;
		int err = sink_put(sink, event, line, length, *at);

		if (err)
			return sink_fail(sinks, sink, err);
		*ret_much = *ret_much || (sink_holds(sink) && sink_waiting(sink) >= WAITING_MAX);
	}
	return 0;
}

const char *sinks_error(const struct sinks *sinks)
{
	return sinks->error;
}

void sinks_renumber(struct sinks *sinks, const struct output_mark *at)
{
	for (size_t i = 0; i < sinks->count; i++)
		sinks->list[i].mark = *at;
}

/* ---- which they are -------------------------------------------------------------------------------------------- */

static int on_sink(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	(void)fd;
	(void)events;
	sink_ready(arg);
	return 0;
}

static void outgoing_close(struct sinks *sinks, struct outgoing *out)
{
	char what[256], why[64];
	__u64 undelivered;

	if (!out->sink)
		return;
	sd_event_source_disable_unref(out->source);
	snprintf(what, sizeof(what), "%s", sink_name(out->sink));
	undelivered = sink_close(out->sink);
	if (undelivered && sinks->options.tell) {
		snprintf(why, sizeof(why), ": %llu events will not be delivered there", undelivered);
		sinks->options.tell(sinks->options.arg, what, why);
	}
	*out = (struct outgoing){ 0 };
}

/* With its sink open: what it needs besides. */
static int outgoing_watch(struct sinks *sinks, struct outgoing *out, const struct output_mark *at,
			  struct failure *failure)
{
	int fd = sink_fd(out->sink), err = 0;

	out->mark = *at;
	if (sinks->options.loop && fd >= 0)
		err = sd_event_add_io(sinks->options.loop, &out->source, fd, EPOLLIN, on_sink, out->sink);
	return err < 0 ? failure_set(failure, err, "%s can't be watched: %s", sink_name(out->sink), strerror(-err)) : 0;
}

static int outgoing_open(struct sinks *sinks, const struct outlet_sink *settings, struct outgoing *out,
			 const struct output_mark *at, struct failure *failure)
{
	int err = sink_open(settings, sinks->options.instance, &out->sink, failure);

	out->settings = settings;
	return err ?: outgoing_watch(sinks, out, at, failure);
}

void sinks_subscribers(struct sinks *sinks, const struct output_mark *at)
{
	struct outgoing out = {};
	struct failure failure;

	if (sinks->subscribers)
		return;
	if (sink_open_default(sinks->options.instance, &out.sink, &failure) ||
	    outgoing_watch(sinks, &out, at, &failure)) {
		outgoing_close(sinks, &out);
		if (sinks->options.tell)
			sinks->options.tell(sinks->options.arg,
					    "'sipkeep events' will not get the events: ", failure.text);
		return;
	}
	sinks->list[sinks->count++] = out;
	sinks->subscribers = true;
}

static bool settings_equal(const struct outlet_sink *a, const struct outlet_sink *b)
{
	return a->type == b->type && a->max_size == b->max_size && a->max_total == b->max_total && a->mode == b->mode &&
	       !a->path == !b->path && (!a->path || !strcmp(a->path, b->path));
}

/* The one that is open for these settings, moved to next; false: there is none. */
static bool outgoing_keep(struct sinks *sinks, const struct outlet_sink *settings, struct outgoing *next)
{
	for (size_t i = 0; i < sinks->count; i++) {
		struct outgoing *out = &sinks->list[i];

		if (!out->sink || !out->settings || !settings_equal(out->settings, settings))
			continue;
		*next = *out;
		next->settings = settings;
		*out = (struct outgoing){ 0 };
		return true;
	}
	return false;
}

/* Those that stay keep what waits in them; the others are opened before any is closed, so that an error changes nothing. */
static int all_open(struct sinks *sinks, const struct outlet_sink *settings, size_t count, struct outgoing *next,
		    bool *kept, const struct output_mark *at, struct failure *failure)
{
	int err = 0;

	for (size_t i = 0; !err && i < count; i++) {
		for (size_t j = 0; j < sinks->count && !kept[i]; j++)
			kept[i] = sinks->list[j].settings && settings_equal(sinks->list[j].settings, &settings[i]);
		if (!kept[i])
			err = outgoing_open(sinks, &settings[i], &next[i], at, failure);
	}
	return err;
}

static void all_replace(struct sinks *sinks, const struct outlet_sink *settings, size_t count, struct outgoing *next,
			const bool *kept)
{
	for (size_t i = 0; i < count; i++)
		if (kept[i])
			outgoing_keep(sinks, &settings[i], &next[i]);
	if (sinks->subscribers) {
		next[count++] = sinks->list[sinks->count - 1];
		sinks->count--;
	}
	for (size_t i = 0; i < sinks->count; i++)
		outgoing_close(sinks, &sinks->list[i]);
	memcpy(sinks->list, next, sizeof(sinks->list));
	sinks->count = count;
}

int sinks_set(struct sinks *sinks, const struct outlet_sink *settings, size_t count, const struct output_mark *at,
	      struct failure *failure)
{
	static const struct outlet_sink plain = { .type = OUTLET_JSONL };
	struct outgoing next[OUTLET_SINKS_MAX + 1] = {};
	bool kept[OUTLET_SINKS_MAX] = {};
	int err;

	if (!count) {
		settings = &plain;
		count = 1;
	}
	err = all_open(sinks, settings, count, next, kept, at, failure);
	if (!err)
		all_replace(sinks, settings, count, next, kept);
	for (size_t i = 0; err && i < count; i++)
		outgoing_close(sinks, &next[i]);
	return err;
}

void sinks_reopen(struct sinks *sinks)
{
	struct failure failure;

	for (size_t i = 0; i < sinks->count; i++)
		if (sink_reopen(sinks->list[i].sink, &failure) && sinks->options.tell)
			sinks->options.tell(sinks->options.arg, failure.text, "");
}

struct sinks *sinks_new(const struct sinks_options *options)
{
	struct sinks *sinks = calloc(1, sizeof(*sinks));

	if (sinks)
		sinks->options = *options;
	return sinks;
}

void sinks_free(struct sinks *sinks)
{
	if (!sinks)
		return;
	for (size_t i = 0; i < sinks->count; i++)
		outgoing_close(sinks, &sinks->list[i]);
	free(sinks);
}
