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
#include "reader.h"

#define SWEEP_INTERVAL_NS (10ULL * 1000000000)
#define FLUSH_DELAY_NS 1100000000ULL /* a little over the second that the kernel gathers refusals */
#define FLUSHES_MAX 8192	     /* more sources than refused events in the delay */

struct flush {
	struct sipkeep_source_key key;
	__u32 cause;
	__u64 due_ns;
};

struct reader {
	const struct datapath *datapath;
	const struct reader_calls *calls;
	void *arg;
	int lock_fd;
	struct destroy *destroy;
	struct ring_buffer *ring;
	struct ring_buffer *aborts; /* by itself: it goes on when no line can be written */
	struct sipkeep_meta *meta; /* mapped: delivered, lost_told, derived, dropped: as far as the lines are written */
	__u64 lost_told; /* as far as the ring is read */
	__u64 next_sweep_ns;
	struct flush flushes[FLUSHES_MAX]; /* a ring, in the order they are due */
	size_t flush_first, flush_count;
};

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

static int lost_tell(struct reader *reader, __u64 lost)
{
	__u64 count;

	lost += reader->meta->dropped;
	if (lost <= reader->lost_told)
		return 0;
	count = lost - reader->lost_told;
	reader->lost_told = lost;
	return reader->calls->lost(reader->arg, count);
}

static int on_record(void *arg, void *data, size_t size)
{
	struct reader *reader = arg;
	const struct sipkeep_record *record = events_check(data, size);
	int err;

	if (!record)
		return 0;
	err = lost_tell(reader, record->lost);
	if (err && err != -EAGAIN)
		return err;
	if (record->event == SIPKEEP_EVENT_REFUSED)
		flush_later(reader, record);
	return reader->calls->record(reader->arg, record) ?: err;
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

void reader_tend(struct reader *reader)
{
	__u64 now = host_monotonic_ns();

	ring_buffer__consume(reader->aborts); /* first: a client waits */
	flush_due(reader, now);
	destroy_tidy(reader->destroy, now);
	if (now >= reader->next_sweep_ns) {
		datapath_sweep(reader->datapath, SIPKEEP_SOURCE_IDLE_NS, NULL);
		reader->next_sweep_ns = now + SWEEP_INTERVAL_NS;
	}
}

int reader_take(struct reader *reader)
{
	int got = ring_buffer__consume(reader->ring), err;
	__u64 lost;

	if (got == 0 && !maps_ring_lost(reader->datapath, &lost)) {
		err = lost_tell(reader, lost); /* nothing came after the loss to carry it */
		return err;
	}
	return got;
}

void reader_written(struct reader *reader, const struct output_mark *mark)
{
	reader->meta->delivered = mark->delivered;
	reader->meta->lost_told = mark->lost_told;
	reader->meta->derived = mark->derived;
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
	reader->lost_told = reader->meta->lost_told;
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

int reader_open(const struct datapath *datapath, const struct reader_calls *calls, void *arg,
		struct output_mark *ret_written, struct reader **ret_reader, struct failure *failure)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int err;

	if (!reader)
		return failure_set(failure, -ENOMEM, "out of memory");
	reader->datapath = datapath;
	reader->calls = calls;
	reader->arg = arg;
	reader->lock_fd = -1;
	err = lock_take(reader, failure);
	if (err)
		goto fail;
	reader->meta = datapath_meta_map(datapath);
	reader->ring = ring_buffer__new(datapath->maps[DATAPATH_EVENTS], on_record, reader, NULL);
	reader->aborts = ring_buffer__new(datapath->maps[DATAPATH_ABORTS], on_abort, reader, NULL);
	if (!reader->ring || !reader->aborts || !reader->meta) {
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
	*ret_written = (struct output_mark){ reader->meta->delivered, reader->meta->lost_told, reader->meta->derived };
	*ret_reader = reader;
	return 0;
fail:
	reader_close(reader, NULL);
	return err;
}

void reader_close(struct reader *reader, const struct output_mark *taken)
{
	if (!reader)
		return;
	ring_buffer__free(reader->ring);
	ring_buffer__free(reader->aborts);
	if (reader->meta) {
		if (taken && taken->delivered > reader->meta->delivered)
			reader->meta->dropped += taken->delivered - reader->meta->delivered;
		munmap(reader->meta, sizeof(*reader->meta));
	}
	destroy_close(reader->destroy);
	if (reader->lock_fd >= 0)
		close(reader->lock_fd);
	free(reader);
}
