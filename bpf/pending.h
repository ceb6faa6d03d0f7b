/* SPDX-License-Identifier: GPL-2.0-only */
/* pending.h: the one place each CPU took last, until the child it was taken for is established (see admit.bpf.c). */
#ifndef SIPKEEP_PENDING_H
#define SIPKEEP_PENDING_H

#include "clock.h"

/* A place that a CPU took for a final ACK, and that no connection has claimed for so long, will not be. */
#define PENDING_STALE_NS (500 * 1000 * 1000ULL)

#define CPUS_MAX 4096 /* the map ends the walk earlier */

BPF_CALLED bool pending_undo(struct sipkeep_pending *pending)
{
	struct sipkeep_stats *mine;
	struct places places;
	__u64 token;

	if (!pending)
		return false;
	token = count_load(&pending->token);
	if (!token)
		return false;
	places.key = pending->source;
	places.flags = pending->flags;
	places.rate_ns = pending->rate_ns;
	/* Read first, then claimed: the owner fills it anew only after the token has changed. */
	if (__sync_val_compare_and_swap(&pending->token, token, 0) != token)
		return false;
	places_undo(&places);
	mine = stats_get();
	if (mine)
		counter_add(&mine->reclaimed);
	return true;
}

BPF_CALLED long pending_reclaim(__u32 cpu, __u64 *stale_before)
{
	struct sipkeep_pending *pending = bpf_map_lookup_elem(&pendings, &cpu);

	if (!pending)
		return 1; /* no more CPUs */
	if (pending->token && pending->token < *stale_before)
		pending_undo(pending);
	return 0;
}

/* Takes the places back that idle CPUs still hold for handshakes that came to nothing. */
BPF_CALLED void pendings_reclaim(void)
{
	__u64 stale_before = bpf_ktime_get_ns() - PENDING_STALE_NS;

	bpf_loop(CPUS_MAX, pending_reclaim, &stale_before, 0);
}

/* Shows what this CPU is about to decide on; pending_decided() ends it. */
BPF_CALLED void pending_deciding(struct sipkeep_pending *pending, const struct sipkeep_tuple *tuple,
				 const struct sipkeep_source_key *source)
{
	pending->tuple = *tuple;
	pending->source = *source;
	__sync_lock_test_and_set(&pending->deciding, 1);
}

BPF_INLINE void pending_decided(struct sipkeep_pending *pending)
{
	__sync_lock_test_and_set(&pending->deciding, 0);
}

/* Remembers the place for the child that this CPU is about to make. cause: what would have refused it. */
BPF_CALLED void pending_put(struct sipkeep_pending *pending, const struct places *places, int cause)
{
	pending->flags = places->flags;
	pending->rate_ns = places->rate_ns;
	pending->cause = cause;
	__sync_lock_test_and_set(&pending->token, bpf_ktime_get_ns());
}

/* Is another CPU about to let in what this CPU, which shows it in its own element, is about to refuse? */
struct pending_search {
	__u32 own_cpu;
	bool by_rate; /* refused for the rate: a token that the other may have to give back counts too */
	bool found;
};

BPF_CALLED long pending_compare(__u32 cpu, struct pending_search *search)
{
	struct sipkeep_pending *own, *other = bpf_map_lookup_elem(&pendings, &cpu);

	if (!other)
		return 1; /* no more CPUs */
	if (cpu == search->own_cpu || !(count_load(&other->deciding) || count_load(&other->token)))
		return 0;
	own = bpf_map_lookup_elem(&pendings, &search->own_cpu);
	if (!own)
		return 1;
	if (!tuple_equal(&other->tuple, &own->tuple) &&
	    !(search->by_rate && count_load(&other->token) && other->rate_ns &&
	      source_key_equal(&other->source, &own->source)))
		return 0;
	search->found = true;
	return 1;
}

/* The place the final ACK took on this CPU a moment ago, if it was this connection's. */
BPF_CALLED bool pending_claim(const struct sipkeep_tuple *tuple, struct places *places)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct sipkeep_pending *pending = bpf_map_lookup_elem(&pendings, &cpu);
	__u64 token;
	int cause;

	if (!pending || !tuple || !places)
		return false;
	token = count_load(&pending->token);
	if (!token || !tuple_equal(&pending->tuple, tuple))
		return false;
	places->key = pending->source;
	places->flags = pending->flags;
	places->rate_ns = pending->rate_ns;
	cause = pending->cause;
	if (__sync_val_compare_and_swap(&pending->token, token, 0) != token)
		return false;
	if (cause)
		refusal_count(&places->key, source_find(&places->key), cause);
	return true;
}

#endif
