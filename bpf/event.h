/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * event.h: records into the ring.
 *
 * A wake-up per record costs about nine times the rest of the program, so records are submitted without one: the
 * reader looks every 100 ms, and is woken once when a quarter of the ring has filled up.
 * A record that finds no room is counted in shared.lost; every record carries that count, so the reader can tell the
 * loss exactly, and where.
 */
#ifndef SIPKEEP_EVENT_H
#define SIPKEEP_EVENT_H

#include "lookup.h"

/* Bytes waiting in the ring at which the reader is woken; set by the loader. */
extern const volatile __u32 ring_wake_bytes __weak;
const volatile __u32 ring_wake_bytes __weak = 4 * 1024 * 1024;

#define ONE_SECOND_NS 1000000000ULL

BPF_INLINE struct sipkeep_record *record_begin(enum sipkeep_event event)
{
	struct sipkeep_shared *all = shared_get();
	struct sipkeep_stats *mine = stats_get();
	struct sipkeep_record *record;

	if (!all || !mine || quiet)
		return NULL;
	counter_add(&mine->emitted);
	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&all->lost, 1);
		return NULL;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->ts_ns = bpf_ktime_get_ns();
	record->lost = *(volatile __u64 *)&all->lost;
	record->event = event;
	return record;
}

/* One more event in this second (from *start, `count` so far), of at most `max`? */
BPF_GLOBAL bool events_left(__u64 *start, __u64 *count, __u32 max, __u64 now)
{
	__u64 since;

	if (!start || !count)
		return false;
	since = *(volatile __u64 *)start;
	if (now - since >= ONE_SECOND_NS && __sync_val_compare_and_swap(start, since, now) == since)
		*count = 0;
	return __sync_fetch_and_add(count, 1) < max;
}

BPF_INLINE void record_submit(struct sipkeep_record *record)
{
	__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	bool crossing = waiting >= ring_wake_bytes && waiting < ring_wake_bytes + 4096;

	bpf_ringbuf_submit(record, crossing ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

BPF_INLINE void record_tuple(struct sipkeep_record *record, const struct sipkeep_tuple *tuple)
{
	record->local = tuple->local;
	record->remote = tuple->remote;
	record->local_port = tuple->local_port;
	record->remote_port = tuple->remote_port;
}

#endif
