/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * clock.h: sources that hold nothing are removed, with no reader and no timer: the hand of a clock.
 *
 * An entry of `sources` stands in `source_queue`, once, from its making, or from when it last came to hold nothing, to
 * its removal, or to when the hand finds that it holds something. Each connection that makes an entry lets the hand look
 * at two: what holds nothing and wasn't seen for a while is removed, what was seen lately goes to the end. When the map is
 * full, any that holds nothing will do. The reader's sweep (sweep.bpf.c) lets the hand go round once.
 *
 * The mark DEAD keeps a connection that arrives at this instant on another CPU from counting in an entry about to vanish:
 * it looks again until the entry is gone, and makes a new one.
 */
#ifndef SIPKEEP_CLOCK_H
#define SIPKEEP_CLOCK_H

#include "refuse.h"

#define CLOCK_STEPS 2
#define CLOCK_STEPS_FULL 32

enum visited {
	VISITED_GONE, /* removed, or long ago */
	VISITED_KEPT, /* holds nothing, but was seen lately: back into the queue */
	VISITED_HELD, /* holds something: it is queued when it doesn't any more */
};

/*
 * The entry of a key that was taken from the queue. idle_before: it may go when it wasn't seen since. Not global: it would
 * need a copy of the key, and Linux 6.1 has no stack to spare below admit.bpf.c.
 */
BPF_CALLED int source_visit(const struct sipkeep_source_key *key, __u64 now, __u64 idle_before)
{
	struct sipkeep_source *source = bpf_map_lookup_elem(&sources, key);
	__u64 word;

	if (!source)
		return VISITED_GONE;
	if (!count_is_idle(count_load(&source->count))) {
		word = __sync_fetch_and_and(&source->count, ~SIPKEEP_QUEUED) & ~SIPKEEP_QUEUED;
		if (!count_is_idle(word))
			return VISITED_HELD;
		/* The last one left in between, and saw it queued. */
		return __sync_val_compare_and_swap(&source->count, word, word | SIPKEEP_QUEUED) == word ? VISITED_KEPT :
													 VISITED_HELD;
	}
	if (source->last_seen_ns > idle_before || source->tat_ns > now)
		return VISITED_KEPT;
	if (source->refused != source->reported)
		refusal_emit(key, &source->refused, &source->reported, source->cause);
	word = source_tag(key) | SIPKEEP_QUEUED;
	if (__sync_val_compare_and_swap(&source->count, word, word | SIPKEEP_DEAD) != word)
		return VISITED_KEPT; /* the next visit tells */
	if (!bpf_map_delete_elem(&sources, key))
		return VISITED_GONE;
	__sync_fetch_and_and(&source->count, ~SIPKEEP_DEAD); /* its bucket is being changed beneath this softirq */
	return VISITED_KEPT;
}

struct clock_walk {
	__u64 now;
	__u64 idle_before; /* remove what wasn't seen since */
	__u32 removed;
	__u32 pad;
	struct sipkeep_source_key key;
	__u64 mark; /* the tag of one that this walk put back: met again, the hand has been round */
};

/*
 * bpf_loop()'s: 1 ends it. What is marked may leave the queue before it is met again (a connection came, another CPU's
 * hand took it): the mark moves on at the 1st, 2nd, 4th, 8th, ... step, or the hand would go round and round. As long as
 * the marked one is there, that makes it three rounds at most. No flag tells whether there is a mark yet: Linux 6.1
 * verifies this once, with what clock_walk() set, and cuts out what a flag that is 0 then would lead to.
 */
BPF_CALLED long clock_step(__u32 index, struct clock_walk *walk)
{
	bool round;
	int visited;

	if (bpf_map_pop_elem(&source_queue, &walk->key))
		return 1;
	round = walk->mark == source_tag(&walk->key);
	visited = source_visit(&walk->key, walk->now, walk->idle_before);
	if (visited == VISITED_GONE)
		walk->removed++;
	if (visited == VISITED_KEPT) {
		bpf_map_push_elem(&source_queue, &walk->key, BPF_ANY);
		if (!(index & (index + 1)))
			walk->mark = source_tag(&walk->key);
	}
	return round;
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
	clock_walk(CLOCK_STEPS, SIPKEEP_SOURCE_IDLE_NS);
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
