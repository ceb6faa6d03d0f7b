// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "action.h"
#include "diagnose.h"
#include "host.h"
#include "maps.h"
#include "sinks.h"
#include "stream.h"

struct stream {
	struct stream_options options;
	const struct datapath *datapath;
	struct reader *reader;
	struct diagnose *diagnose;
	struct actions *actions;
	struct sinks *sinks;
	struct output_mark taken; /* of the last line made */
	bool full;		  /* a sink that holds has more than it can write */
	bool missed;		  /* records were lost: what is open isn't known any more */
	__u64 live;		  /* config.live when the policies were read last */
	__s64 realtime_offset_ns;
	char names[SIPKEEP_MAX_POLICIES][SIPKEEP_NAME_LEN];
	void (*listener)(void *arg, __u64 netns_cookie);
	void *listener_arg;
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

/* What waits, and notes how far it is written. -EAGAIN: some goes on waiting. */
static int lines_write(struct stream *stream)
{
	struct output_mark written;
	int err = sinks_write(stream->sinks, &stream->taken, &written);

	if (stream->reader && (!err || err == -EAGAIN))
		reader_written(stream->reader, &written);
	stream->full = err == -EAGAIN;
	return err;
}

/* The next line. From diagnosis, from the reader, and from the actions. */
static int on_event(void *arg, const struct event *event)
{
	struct stream *stream = arg;
	struct events_context context = { .realtime_offset_ns = stream->realtime_offset_ns };
	/* An action's end may come when there is no instance to ask: it knows its policy. */
	const char *policy = events_has(event->kind) & EVENTS_HAS_POLICY ? policy_name(stream, event->record.policy) :
									   NULL;
	char line[EVENTS_LINE_MAX];
	size_t length;
	bool much;
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
	err = sinks_put(stream->sinks, event, line, length, &stream->taken, &much);
	if (!err && much)
		err = lines_write(stream);
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

static int closed(void *arg, const struct sipkeep_listing *listing)
{
	struct stream *stream = arg;

	if (listing->state == BPF_TCP_LAST_ACK)
		diagnose_closed(stream->diagnose, listing->transport.cookie, listing->transport.generation);
	return 0;
}

/* What only time tells. */
static int time_tell(struct stream *stream, __u64 now)
{
	struct failure ignored;

	if (diagnose_suspects(stream->diagnose, now))
		datapath_list(stream->datapath, closed, stream, &ignored); /* without it, they are told all the same */
	return diagnose_tick(stream->diagnose, now);
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
		diagnose_wedged_after(stream->diagnose, policies[i].id,
				      policies[i].kernel.wedged_after_ms * 1000000ULL);
	stream->live = config.live;
}

/* ---- sinks and actions -------------------------------------------------------------------------------------------- */

int stream_outlets(struct stream *stream, const struct outlets *outlets, struct failure *failure)
{
	static const struct outlets none;
	int err = 0;

	if (stream->reader && lines_write(stream)) /* what waits in a sink that is to go would be gone */
		return failure_set(failure, -EAGAIN, "the sinks can't change while lines wait to be written (%s)",
				   stream_error(stream));
	if (stream->options.loop && !stream->actions)
		err = actions_open(&none, stream->options.instance, stream->options.loop, on_outcome, stream,
				   &stream->actions, failure);
	err = err ?: sinks_set(stream->sinks, outlets->sinks, outlets->sink_count, &stream->taken, failure);
	if (!err && stream->actions && actions_reload(stream->actions, outlets))
		err = failure_set(failure, -ENOMEM, "actions can't be started: out of memory");
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
	sinks_reopen(stream->sinks);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

int stream_new(const struct stream_options *options, struct stream **ret_stream, struct failure *failure)
{
	const struct sinks_options sinks = {
		.instance = options->instance, .loop = options->loop, .tell = options->tell, .arg = options->arg
	};
	struct stream *stream = calloc(1, sizeof(*stream));
	int err;

	if (!stream)
		return failure_set(failure, -ENOMEM, "out of memory");
	stream->options = *options;
	stream->realtime_offset_ns = host_realtime_offset_ns();
	stream->sinks = sinks_new(&sinks);
	err = stream->sinks ? stream_outlets(stream, options->outlets, failure) :
			      failure_set(failure, -ENOMEM, "out of memory");
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
	sinks_free(stream->sinks);
	free(stream);
}

int stream_attach(struct stream *stream, const struct datapath *datapath, struct failure *failure)
{
	static const struct reader_calls calls = { .record = on_record, .lost = on_lost };
	int err = reader_open(datapath, &calls, stream, &stream->taken, &stream->reader, failure);

	if (err)
		return err;
	stream->datapath = datapath;
	if (stream->options.subscribers)
		sinks_subscribers(stream->sinks, &stream->taken);
	stream->live = ~0ULL;
	memset(stream->names, 0, sizeof(stream->names));
	sinks_renumber(stream->sinks, &stream->taken);
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
		err = time_tell(stream, now);
	if (!err && got >= 0 && stream->missed)
		err = stream_seed(stream, &ignored);
	err = err ?: lines_write(stream);
	if (!err && got == -EAGAIN)
		got = 1; /* there was room for the rest by now */
	return err ? err : got;
}

const char *stream_error(const struct stream *stream)
{
	return sinks_error(stream->sinks);
}
