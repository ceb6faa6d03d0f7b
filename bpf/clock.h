/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * clock.h: sources that hold nothing are removed, with no reader and no timer: the hand of a clock.
 *
 * Every entry of `sources` stands in `source_queue` once, from its making to its removal. Each connection that makes
 * an entry looks at the two entries at the head of the queue: what holds nothing and wasn't seen for a while is removed,
 * everything else goes to the end. When the map is full, any that holds nothing will do. The reader's sweep
 * (sweep.bpf.c) lets the hand go round once.
 *
 * The mark DEAD keeps a connection that arrives at this instant on another CPU from counting in an entry about to vanish:
 * it looks again until the entry is gone, and makes a new one.
 */
#ifndef SIPKEEP_CLOCK_H
#define SIPKEEP_CLOCK_H

#include "refuse.h"

#define CLOCK_IDLE_NS (300 * ONE_SECOND_NS) /* so long `sources` shows one that holds nothing */
#define CLOCK_STEPS 2
#define CLOCK_STEPS_FULL 32

/* Not global: it would need a copy of the key, and Linux 6.1 has no stack to spare below admit.bpf.c. */
BPF_CALLED bool source_remove(const struct sipkeep_source_key *key, __u64 now, __u64 idle_before)
{
	struct sipkeep_source *source = bpf_map_lookup_elem(&sources, key);
	__u64 tag = source_tag(key);

	if (!source)
		return true;
	if (source->last_seen_ns > idle_before || source->tat_ns > now)
		return false;
	if (source->refused != source->reported)
		refusal_emit(key, &source->refused, &source->reported, source->cause);
	if (__sync_val_compare_and_swap(&source->count, tag, tag | SIPKEEP_DEAD) != tag)
		return false;
	if (!bpf_map_delete_elem(&sources, key))
		return true;
	__sync_fetch_and_and(&source->count, ~SIPKEEP_DEAD); /* its bucket is being changed beneath this softirq */
	return false;
}

struct clock_walk {
	__u64 now;
	__u64 idle_before; /* remove what wasn't seen since */
	__u32 removed;
	__u32 again; /* `first` is set */
	struct sipkeep_source_key key;
	__u64 first; /* the tag of the first one put back by this walk: met again, the hand has been round */
};

/* bpf_loop()'s: 1 ends it. */
BPF_CALLED long clock_step(__u32 index __attribute__((unused)), struct clock_walk *walk)
{
	if (bpf_map_pop_elem(&source_queue, &walk->key))
		return 1;
	if (source_remove(&walk->key, walk->now, walk->idle_before)) {
		walk->removed++;
		return 0;
	}
	bpf_map_push_elem(&source_queue, &walk->key, BPF_ANY);
	if (walk->again)
		return walk->first == source_tag(&walk->key);
	walk->first = source_tag(&walk->key);
	walk->again = 1;
	return 0;
}

/* Looks at so many entries; returns how many it removed. Global, so that its callers' state doesn't multiply with its. */
BPF_GLOBAL __u32 clock_walk(__u32 steps, __u64 idle_ns)
{
	struct clock_walk walk = {};

	walk.now = bpf_ktime_get_ns();
	/* The machine may not be up for that long. */
	walk.idle_before = walk.now > idle_ns ? walk.now - idle_ns : 0;
	bpf_loop(steps, clock_step, &walk, 0);
	return walk.removed;
}

/* Some entry was made: the hand moves on. */
BPF_INLINE void clock_tick(void)
{
	clock_walk(CLOCK_STEPS, CLOCK_IDLE_NS);
}

/* The map is full: room for one, if any of the next entries holds nothing. */
BPF_INLINE bool clock_make_room(void)
{
	return clock_walk(CLOCK_STEPS_FULL, 0);
}

/* places_take(), with room made where the map is full; what finds none is counted. */
BPF_CALLED int places_take_somehow(struct places *places, const struct sipkeep_policy *policy, bool force, __u32 live,
				   int *ret_cause)
{
	int verdict = places_take(places, policy, force, live, ret_cause);

	if (*ret_cause != SIPKEEP_REFUSED_FULL)
		return verdict;
	if (clock_make_room()) {
		if (verdict == ADMIT)
			places_undo(places);
		verdict = places_take(places, policy, force, live, ret_cause);
	}
	if (*ret_cause == SIPKEEP_REFUSED_FULL)
		full_count();
	return verdict;
}

#endif
