// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "action.h"
#include "diagnose.h"
#include "host.h"
#include "maps.h"
#include "sink.h"
#include "stream.h"

#define WAITING_MAX (256 * 1024) /* bytes of lines gathered for one write */

struct outgoing {
	struct sink *sink;
	const struct outlet_sink *settings; /* NULL: the socket for subscribers */
	struct output_mark mark; /* written so far */
	sd_event_source *source;
};

struct stream {
	struct stream_options options;
	const struct datapath *datapath;
	struct reader *reader;
	struct diagnose *diagnose;
	struct actions *actions;
	struct outgoing sinks[OUTLET_SINKS_MAX + 1];
	size_t sink_count;
	struct output_mark taken; /* of the last line made */
	bool subscribers;	  /* the last of them is their socket */
	bool full;		  /* a sink that holds has more than it can write */
	bool missed;		  /* records were lost: what is open isn't known any more */
	__u64 live;		  /* config.live when the policies were read last */
	__s64 realtime_offset_ns;
	char names[SIPKEEP_MAX_POLICIES][SIPKEEP_NAME_LEN];
	void (*listener)(void *arg, __u64 netns_cookie);
	void *listener_arg;
	char error[256];
};

static const char *policy_name(struct stream *stream, __u16 id)
{
	if (id >= SIPKEEP_MAX_POLICIES)
		return "?";
	/* Kept for one stream_poll(): apply may give the slot to another policy. */
	if (!stream->names[id][0])
		maps_policy_name(stream->datapath, id, stream->names[id]);
	return stream->names[id];
}

/* ---- lines --------------------------------------------------------------------------------------------------- */

static int sink_fail(struct stream *stream, const struct sink *sink, int err)
{
	snprintf(stream->error, sizeof(stream->error), "%s: %s", sink_name(sink),
		 strerror(err == -EAGAIN ? sink_error(sink) : -err));
	return err;
}

/* Writes what waits, and notes how far all that hold have come. -EAGAIN: some goes on waiting. */
static int lines_write(struct stream *stream)
{
	struct output_mark written = stream->taken;
	int waits = 0;

	for (size_t i = 0; i < stream->sink_count; i++) {
		struct outgoing *out = &stream->sinks[i];
		int err;

		if (sink_holds(out->sink) && !sink_waiting(out->sink))
			out->mark = stream->taken;
		err = sink_write(out->sink, &out->mark);
		if (err == -EAGAIN)
			waits = sink_fail(stream, out->sink, err);
		else if (err)
			return sink_fail(stream, out->sink, err);
		if (sink_holds(out->sink) && output_mark_seq(&out->mark) < output_mark_seq(&written))
			written = out->mark;
	}
	if (stream->reader)
		reader_written(stream->reader, &written);
	stream->full = waits;
	return waits;
}

static int line_put(struct stream *stream, const struct event *event, const char *line, size_t length)
{
	bool write = false;

	for (size_t i = 0; i < stream->sink_count; i++) {
		struct sink *sink = stream->sinks[i].sink;
		int err = sink_put(sink, event, line, length, stream->taken);

		if (err)
			return sink_fail(stream, sink, err);
		write = write || (sink_holds(sink) && sink_waiting(sink) >= WAITING_MAX);
	}
	return write ? lines_write(stream) : 0;
}

/* The next line. From diagnosis, from the reader, and from the actions. */
static int on_event(void *arg, const struct event *event)
{
	struct stream *stream = arg;
	struct events_context context = { .realtime_offset_ns = stream->realtime_offset_ns };
	/* An action's end may come when there is no instance to ask: it knows its policy. */
	const char *policy = events_has(event->kind) & EVENTS_HAS_POLICY ? policy_name(stream, event->record.policy) : NULL;
	char line[EVENTS_LINE_MAX];
	size_t length;
	int err;

	if (event->kind < SIPKEEP_EVENT_MAX)
		stream->taken.delivered++;
	else if (event->kind == EVENTS_LOST)
		stream->taken.lost_told += event->record.count;
	else
		stream->taken.derived++;
	context.seq = output_mark_seq(&stream->taken);
	context.policy = policy;
	length = events_encode(event, &context, line);
	err = line_put(stream, event, line, length);
	if (err && err != -EAGAIN)
		return err;
	if (event->kind == SIPKEEP_EVENT_LISTENER_UP && stream->listener)
		stream->listener(stream->listener_arg, event->record.netns_cookie);
	if (stream->actions)
		actions_event(stream->actions, event, policy, line, length);
	return 0;
}

static void on_outcome(void *arg, const struct event *event)
{
	on_event(arg, event); /* a sink that can't take it tells at the next poll */
}

static int on_record(void *arg, const struct sipkeep_record *record)
{
	struct stream *stream = arg;

	return diagnose_record(stream->diagnose, record) ?: (stream->full ? -EAGAIN : 0);
}

static void on_nat(void *arg, __u16 policy, __u32 count, __u32 quiet_ms)
{
	struct stream *stream = arg;

	maps_finding_add(stream->datapath, policy, count, quiet_ms);
}

static int on_lost(void *arg, __u64 count)
{
	struct stream *stream = arg;
	struct event event = { .kind = EVENTS_LOST, .record = { .ts_ns = host_monotonic_ns(), .count = count } };

	stream->missed = true;
	return on_event(stream, &event) ?: (stream->full ? -EAGAIN : 0);
}

/* ---- what the diagnosis has to know ------------------------------------------------------------------------------ */

/* Since when it has been in CLOSE_WAIT, nothing tells; it is given its time from now on. */
static int seed(void *arg, const struct sipkeep_listing *listing)
{
	const struct sipkeep_transport *transport = &listing->transport;
	struct stream *stream = arg;
	bool closing = listing->state == BPF_TCP_CLOSE_WAIT;
	bool open = closing || transport->phase == SIPKEEP_PHASE_CONNECTED;
	struct sipkeep_record record = {
		.ts_ns = transport->connected_ns,
		.cookie = transport->cookie,
		.generation = transport->generation,
		.policy = transport->source.policy,
		.direction = transport->direction,
		.local = listing->tuple.local,
		.remote = listing->tuple.remote,
		.local_port = listing->tuple.local_port,
		.remote_port = listing->tuple.remote_port,
		.event = open ? SIPKEEP_EVENT_CONNECTED : SIPKEEP_EVENT_DISCONNECTED,
		.flags = transport->flags & SIPKEEP_TRANSPORT_ADOPTED ? SIPKEEP_RECORD_ADOPTED : 0,
	};

	if (transport->phase == SIPKEEP_PHASE_CONNECTED || transport->phase == SIPKEEP_PHASE_DISCONNECTED)
		diagnose_open(stream->diagnose, &record, closing ? listing->now_ns : 0);
	return 0;
}

/* What is open, from the kernel: what came before us, or was lost. */
static int stream_seed(struct stream *stream, struct failure *failure)
{
	int err;

	stream->missed = false;
	diagnose_reseed_begin(stream->diagnose);
	err = datapath_list(stream->datapath, seed, stream, failure);
	if (!err)
		diagnose_reseed_end(stream->diagnose);
	return err;
}

/* The policies may have changed with an apply. */
static void policies_follow(struct stream *stream)
{
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	struct sipkeep_config config;
	struct failure ignored;
	int count;

	if (maps_config(stream->datapath, &config, &ignored) || config.live == stream->live)
		return;
	count = maps_policies(stream->datapath, policies, &ignored);
	if (count < 0)
		return;
	for (int i = 0; i < count; i++)
		diagnose_wedged_after(stream->diagnose, policies[i].id, policies[i].kernel.wedged_after_ms * 1000000ULL);
	stream->live = config.live;
}

/* ---- sinks and actions -------------------------------------------------------------------------------------------- */

static int on_sink(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	(void)fd;
	(void)events;
	sink_ready(arg);
	return 0;
}

static void outgoing_close(struct stream *stream, struct outgoing *out)
{
	char what[256], why[64];
	__u64 undelivered;

	if (!out->sink)
		return;
	sd_event_source_disable_unref(out->source);
	snprintf(what, sizeof(what), "%s", sink_name(out->sink));
	undelivered = sink_close(out->sink);
	if (undelivered && stream->options.tell) {
		snprintf(why, sizeof(why), ": %llu events will not be delivered there", undelivered);
		stream->options.tell(stream->options.arg, what, why);
	}
	*out = (struct outgoing){ 0 };
}

/* With its sink open: what it needs besides. */
static int outgoing_watch(struct stream *stream, struct outgoing *out, struct failure *failure)
{
	int fd = sink_fd(out->sink), err = 0;

	out->mark = stream->taken;
	if (stream->options.loop && fd >= 0)
		err = sd_event_add_io(stream->options.loop, &out->source, fd, EPOLLIN, on_sink, out->sink);
	return err < 0 ? failure_set(failure, err, "%s can't be watched: %s", sink_name(out->sink), strerror(-err)) : 0;
}

static int outgoing_open(struct stream *stream, const struct outlet_sink *settings, struct outgoing *out,
			 struct failure *failure)
{
	int err = sink_open(settings, stream->options.instance, &out->sink, failure);

	out->settings = settings;
	return err ?: outgoing_watch(stream, out, failure);
}

/* Their socket. Without it, all else goes on. */
static void subscribers_open(struct stream *stream)
{
	struct outgoing out = {};
	struct failure failure;

	if (!stream->options.subscribers || stream->subscribers)
		return;
	if (sink_open_default(stream->options.instance, &out.sink, &failure) || outgoing_watch(stream, &out, &failure)) {
		outgoing_close(stream, &out);
		stream->options.tell(stream->options.arg, "'sipkeep events' will not get the events: ", failure.text);
		return;
	}
	stream->sinks[stream->sink_count++] = out;
	stream->subscribers = true;
}

static bool settings_equal(const struct outlet_sink *a, const struct outlet_sink *b)
{
	return a->type == b->type && a->max_size == b->max_size && a->max_total == b->max_total && a->mode == b->mode &&
	       !a->path == !b->path && (!a->path || !strcmp(a->path, b->path));
}

/* The one that is open for these settings, moved to next; false: there is none. */
static bool outgoing_keep(struct stream *stream, const struct outlet_sink *settings, struct outgoing *next)
{
	for (size_t i = 0; i < stream->sink_count; i++) {
		struct outgoing *out = &stream->sinks[i];

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
static int sinks_open(struct stream *stream, const struct outlet_sink *settings, size_t count, struct outgoing *next,
		      bool *kept, struct failure *failure)
{
	int err = 0;

	for (size_t i = 0; !err && i < count; i++) {
		for (size_t j = 0; j < stream->sink_count && !kept[i]; j++)
			kept[i] = stream->sinks[j].settings && settings_equal(stream->sinks[j].settings, &settings[i]);
		if (!kept[i])
			err = outgoing_open(stream, &settings[i], &next[i], failure);
	}
	return err;
}

static void sinks_replace(struct stream *stream, const struct outlet_sink *settings, size_t count, struct outgoing *next,
			  const bool *kept)
{
	for (size_t i = 0; i < count; i++)
		if (kept[i])
			outgoing_keep(stream, &settings[i], &next[i]);
	if (stream->subscribers) {
		next[count++] = stream->sinks[stream->sink_count - 1];
		stream->sink_count--;
	}
	for (size_t i = 0; i < stream->sink_count; i++)
		outgoing_close(stream, &stream->sinks[i]);
	memcpy(stream->sinks, next, sizeof(stream->sinks));
	stream->sink_count = count;
}

int stream_outlets(struct stream *stream, const struct outlets *outlets, struct failure *failure)
{
	static const struct outlet_sink plain = { .type = OUTLET_JSONL };
	static const struct outlets none;
	const struct outlet_sink *settings = outlets->sink_count ? outlets->sinks : &plain;
	size_t count = outlets->sink_count ? outlets->sink_count : 1;
	struct outgoing next[OUTLET_SINKS_MAX + 1] = {};
	bool kept[OUTLET_SINKS_MAX] = {};
	int err = 0;

	if (stream->reader && lines_write(stream)) /* what waits in a sink that is to go would be gone */
		return failure_set(failure, -EAGAIN, "the sinks can't change while lines wait to be written (%s)", stream->error);
	if (stream->options.loop && !stream->actions)
		err = actions_open(&none, stream->options.instance, stream->options.loop, on_outcome, stream, &stream->actions,
				   failure);
	err = err ?: sinks_open(stream, settings, count, next, kept, failure);
	if (!err && stream->actions && actions_reload(stream->actions, outlets))
		err = failure_set(failure, -ENOMEM, "actions can't be started: out of memory");
	if (!err)
		sinks_replace(stream, settings, count, next, kept);
	for (size_t i = 0; err && i < count; i++)
		outgoing_close(stream, &next[i]);
	return err;
}

void stream_end_actions(struct stream *stream)
{
	struct actions *actions = stream->actions;

	stream->actions = NULL;
	actions_close(actions);
}

void stream_reopen(struct stream *stream)
{
	struct failure failure;

	for (size_t i = 0; i < stream->sink_count; i++)
		if (sink_reopen(stream->sinks[i].sink, &failure))
			stream->options.tell(stream->options.arg, failure.text, "");
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

int stream_new(const struct stream_options *options, struct stream **ret_stream, struct failure *failure)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int err;

	if (!stream)
		return failure_set(failure, -ENOMEM, "out of memory");
	stream->options = *options;
	stream->realtime_offset_ns = host_realtime_offset_ns();
	err = stream_outlets(stream, options->outlets, failure);
	if (err)
		stream_free(stream);
	else
		*ret_stream = stream;
	return err;
}

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	stream_end_actions(stream);
	stream_detach(stream);
	for (size_t i = 0; i < stream->sink_count; i++)
		outgoing_close(stream, &stream->sinks[i]);
	free(stream);
}

int stream_attach(struct stream *stream, const struct datapath *datapath, struct failure *failure)
{
	static const struct reader_calls calls = { .record = on_record, .lost = on_lost };
	int err = reader_open(datapath, &calls, stream, &stream->taken, &stream->reader, failure);

	if (err)
		return err;
	stream->datapath = datapath;
	subscribers_open(stream);
	stream->live = ~0ULL;
	memset(stream->names, 0, sizeof(stream->names));
	for (size_t i = 0; i < stream->sink_count; i++)
		stream->sinks[i].mark = stream->taken;
	stream->diagnose = diagnose_new(on_event, stream);
	if (!stream->diagnose)
		err = failure_set(failure, -ENOMEM, "out of memory");
	else
		diagnose_on_nat(stream->diagnose, on_nat, stream);
	err = err ?: stream_seed(stream, failure);
	if (err)
		stream_detach(stream);
	return err;
}

void stream_detach(struct stream *stream)
{
	if (!stream->datapath)
		return;
	lines_write(stream);
	diagnose_free(stream->diagnose);
	reader_close(stream->reader, &stream->taken);
	stream->diagnose = NULL;
	stream->reader = NULL;
	stream->datapath = NULL;
}

void stream_on_listener(struct stream *stream, void (*listener)(void *arg, __u64 netns_cookie), void *arg)
{
	stream->listener = listener;
	stream->listener_arg = arg;
}

int stream_fd(const struct stream *stream)
{
	return reader_fd(stream->reader);
}

int stream_abort_fd(const struct stream *stream)
{
	return reader_abort_fd(stream->reader);
}

int stream_poll(struct stream *stream)
{
	__u64 now = host_monotonic_ns(); /* what happened before is in the ring by now */
	struct failure ignored;
	int got, err;

	memset(stream->names, 0, sizeof(stream->names));
	stream->realtime_offset_ns = host_realtime_offset_ns(); /* the wall clock may be set */
	policies_follow(stream);
	reader_tend(stream->reader);
	err = lines_write(stream);
	if (err)
		return err;
	got = reader_take(stream->reader);
	if (got >= 0) /* all that there was */
		err = diagnose_tick(stream->diagnose, now);
	if (!err && got >= 0 && stream->missed)
		err = stream_seed(stream, &ignored);
	err = err ?: lines_write(stream);
	if (!err && got == -EAGAIN)
		got = 1; /* there was room for the rest by now */
	return err ? err : got;
}

const char *stream_error(const struct stream *stream)
{
	return stream->error;
}
