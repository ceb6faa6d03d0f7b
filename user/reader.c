// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "destroy.h"
#include "events.h"
#include "host.h"
#include "maps.h"
#include "output.h"
#include "reader.h"

#define SWEEP_INTERVAL_NS (10ULL * 1000000000)
#define FLUSH_DELAY_NS 1100000000ULL /* a little over the second that the kernel gathers refusals */
#define OUTPUT_WAITING_MAX (256 * 1024) /* bytes of lines gathered for one write */
#define FLUSHES_MAX 8192	     /* more sources than refused events in the delay */

struct flush {
	struct sipkeep_source_key key;
	__u32 cause;
	__u64 due_ns;
};

struct reader {
	const struct datapath *datapath;
	struct output *output;
	int lock_fd;
	struct destroy *destroy;
	void (*listener)(void *arg, __u64 netns_cookie);
	void *listener_arg;
	struct ring_buffer *ring;
	struct ring_buffer *aborts; /* by itself: it goes on when no line can be written */
	struct sipkeep_meta *meta; /* mapped: delivered, lost_told, dropped: as far as the lines are written */
	struct output_mark taken; /* as far as the ring is read */
	__s64 realtime_offset_ns;
	__u64 next_sweep_ns;
	struct flush flushes[FLUSHES_MAX]; /* a ring, in the order they are due */
	size_t flush_first, flush_count;
	char names[SIPKEEP_MAX_POLICIES][SIPKEEP_NAME_LEN];
	int result;
};

static const char *policy_name(struct reader *reader, __u16 id)
{
	if (id >= SIPKEEP_MAX_POLICIES)
		return "?";
	/* Kept for one reader_poll(): apply may give the slot to another policy. */
	if (!reader->names[id][0])
		maps_policy_name(reader->datapath, id, reader->names[id]);
	return reader->names[id];
}

static void flush_at(struct reader *reader, const struct sipkeep_source_key *key, __u32 cause, __u64 due_ns)
{
	struct flush *flush;

	if (reader->flush_count == FLUSHES_MAX)
		return; /* its next refusal, or its removal, tells the rest */
	flush = &reader->flushes[(reader->flush_first + reader->flush_count++) % FLUSHES_MAX];
	flush->key = *key;
	flush->cause = cause;
	flush->due_ns = due_ns;
}

static void flush_later(struct reader *reader, const struct sipkeep_record *record)
{
	struct sipkeep_source_key key = { .policy = record->policy };

	if (record->direction == SIPKEEP_INBOUND) {
		key.addr = record->remote;
	} else {
		key.addr = record->local;
		key.destination = record->remote;
		key.port_be = htons(record->remote_port);
	}
	flush_at(reader, &key, record->cause, record->ts_ns + FLUSH_DELAY_NS);
}

/* What the last reader would have asked for, had it lived. */
static int flush_inherit(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source)
{
	if (source->refused != source->reported)
		flush_at(arg, key, source->cause, 0);
	return 0;
}

/* What waits to be written. -EAGAIN: it goes on waiting. */
static int lines_write(struct reader *reader)
{
	struct output_mark mark = { reader->meta->delivered, reader->meta->lost_told };
	int err = output_write(reader->output, &mark);

	reader->meta->delivered = mark.delivered;
	reader->meta->lost_told = mark.lost_told;
	return err;
}

static int line_put(struct reader *reader, const char *text, size_t length)
{
	int err = output_add(reader->output, text, length, reader->taken);

	if (err || output_waiting(reader->output) < OUTPUT_WAITING_MAX)
		return err;
	return lines_write(reader); /* -EAGAIN ends this look into the ring */
}

static int tell_lost(struct reader *reader, __u64 lost)
{
	struct events_context context = { .realtime_offset_ns = reader->realtime_offset_ns };
	struct event event = { .kind = EVENTS_LOST, .record = { .ts_ns = host_monotonic_ns() } };
	char line[EVENTS_LINE_MAX];

	lost += reader->meta->dropped;
	if (lost <= reader->taken.lost_told)
		return 0;
	event.record.count = lost - reader->taken.lost_told;
	reader->taken.lost_told = lost;
	context.seq = reader->taken.delivered + lost;
	return line_put(reader, line, events_encode(&event, &context, line));
}

static int on_record(void *arg, void *data, size_t size)
{
	struct reader *reader = arg;
	const struct sipkeep_record *record = events_check(data, size);
	struct events_context context = { .realtime_offset_ns = reader->realtime_offset_ns };
	char line[EVENTS_LINE_MAX];
	struct event event;
	int err;

	if (!record)
		return 0;
	event = (struct event){ .kind = record->event, .record = *record };
	err = tell_lost(reader, record->lost);
	if (err && err != -EAGAIN)
		return err;
	context.seq = ++reader->taken.delivered + reader->taken.lost_told;
	context.policy = policy_name(reader, record->policy);
	if (record->event == SIPKEEP_EVENT_REFUSED)
		flush_later(reader, record);
	if (record->event == SIPKEEP_EVENT_LISTENER_UP && reader->listener)
		reader->listener(reader->listener_arg, record->netns_cookie);
	return line_put(reader, line, events_encode(&event, &context, line)) ?: err;
}

static int on_abort(void *arg, void *data, size_t size)
{
	struct reader *reader = arg;
	const struct sipkeep_abort *abort = data;

	if (size == sizeof(*abort))
		destroy_request(reader->destroy, abort->netns_cookie, &abort->tuple);
	return 0;
}

static void flush_due(struct reader *reader, __u64 now)
{
	while (reader->flush_count && reader->flushes[reader->flush_first].due_ns <= now) {
		struct flush *flush = &reader->flushes[reader->flush_first];

		datapath_flush(reader->datapath, &flush->key, flush->cause);
		reader->flush_first = (reader->flush_first + 1) % FLUSHES_MAX;
		reader->flush_count--;
	}
}

int reader_fd(const struct reader *reader)
{
	return ring_buffer__epoll_fd(reader->ring);
}

int reader_abort_fd(const struct reader *reader)
{
	return ring_buffer__epoll_fd(reader->aborts);
}

int reader_poll(struct reader *reader)
{
	__u64 now = host_monotonic_ns(), lost;
	int got, err;

	memset(reader->names, 0, sizeof(reader->names));
	reader->realtime_offset_ns = host_realtime_offset_ns(); /* the wall clock may be set */
	flush_due(reader, now);
	destroy_tidy(reader->destroy, now);
	if (now >= reader->next_sweep_ns) {
		datapath_sweep(reader->datapath, READER_SOURCE_IDLE_NS, NULL);
		reader->next_sweep_ns = now + SWEEP_INTERVAL_NS;
	}
	ring_buffer__consume(reader->aborts);
	err = lines_write(reader);
	if (err)
		return err;
	got = ring_buffer__consume(reader->ring);
	if (got == 0 && !maps_ring_lost(reader->datapath, &lost))
		got = tell_lost(reader, lost); /* nothing came after the loss to carry it */
	err = lines_write(reader);
	if (!err && got == -EAGAIN)
		got = 1; /* there was room for the rest by now */
	return err ? err : got;
}

int reader_error(const struct reader *reader)
{
	return output_error(reader->output);
}

/*
 * What an earlier reader took and didn't write. The ring's own position tells how many were ever taken, for all records
 * are of one size.
 */
static int dropped_count(struct reader *reader, struct failure *failure)
{
	const size_t record_size = BPF_RINGBUF_HDR_SZ + sizeof(struct sipkeep_record);
	const volatile unsigned long *consumer;
	__u64 taken;

	consumer = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, reader->datapath->maps[DATAPATH_EVENTS], 0);
	if (consumer == MAP_FAILED)
		return failure_set(failure, -errno, "the event ring can't be mapped: %s", strerror(errno));
	taken = reader->meta->taken_before + *consumer / record_size;
	munmap((void *)consumer, (size_t)sysconf(_SC_PAGESIZE));
	reader->meta->dropped = taken - reader->meta->delivered;
	reader->taken.delivered = reader->meta->delivered;
	reader->taken.lost_told = reader->meta->lost_told;
	return 0;
}

static int lock_take(struct reader *reader, struct failure *failure)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/reader", reader->datapath->dir);
	if (mkdir(path, 0700) && errno != EEXIST)
		return failure_set(failure, -errno, "%s can't be made: %s", path, strerror(errno));
	return datapath_flock(path, "the events are being read", &reader->lock_fd, failure);
}

int reader_open(const struct datapath *datapath, int fd, struct reader **ret_reader, struct failure *failure)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int err;

	if (!reader)
		return failure_set(failure, -ENOMEM, "out of memory");
	reader->datapath = datapath;
	reader->lock_fd = -1;
	err = lock_take(reader, failure);
	if (err)
		goto fail;
	reader->meta = datapath_meta_map(datapath);
	reader->ring = ring_buffer__new(datapath->maps[DATAPATH_EVENTS], on_record, reader, NULL);
	reader->aborts = ring_buffer__new(datapath->maps[DATAPATH_ABORTS], on_abort, reader, NULL);
	reader->output = output_new(fd);
	if (!reader->ring || !reader->aborts || !reader->meta || !reader->output) {
		err = failure_set(failure, -errno, "the event rings can't be mapped: %s", strerror(errno));
		goto fail;
	}
	err = dropped_count(reader, failure);
	if (err)
		goto fail;
	err = destroy_open(datapath, &reader->destroy, failure);
	if (err)
		goto fail;
	err = maps_sources(datapath, flush_inherit, reader, failure);
	if (err)
		goto fail;
	*ret_reader = reader;
	return 0;
fail:
	reader_close(reader);
	return err;
}

void reader_on_listener(struct reader *reader, void (*listener)(void *arg, __u64 netns_cookie), void *arg)
{
	reader->listener = listener;
	reader->listener_arg = arg;
}

void reader_close(struct reader *reader)
{
	if (!reader)
		return;
	ring_buffer__free(reader->ring);
	ring_buffer__free(reader->aborts);
	output_free(reader->output);
	if (reader->meta) {
		if (reader->taken.delivered > reader->meta->delivered) /* what isn't written by now never will be */
			reader->meta->dropped += reader->taken.delivered - reader->meta->delivered;
		munmap(reader->meta, sizeof(*reader->meta));
	}
	destroy_close(reader->destroy);
	if (reader->lock_fd >= 0)
		close(reader->lock_fd);
	free(reader);
}
