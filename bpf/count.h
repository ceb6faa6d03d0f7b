/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * count.h: taking, settling and giving back places. The only code that changes a count word.
 *
 *   places_take()    a handshake's final ACK, a connect(): one compare-and-swap decides and reserves
 *   places_settle()  it became a transport: reserved -> active
 *   places_undo()    it came to nothing
 *   places_force()   counted without asking (adopted, moved, or established without having been seen before)
 *   places_release() the transport is gone
 */
#ifndef SIPKEEP_COUNT_H
#define SIPKEEP_COUNT_H

#include "event.h"

/* Compare-and-swap rounds before giving up; each lost round is another CPU's success. */
#define COUNT_ROUNDS 16

/* Idle sources are removed (clock.h); between the mark and the removal the key can't be used for a moment. */
#define GONE_ROUNDS 4

BPF_INLINE __u64 count_load(const __u64 *word)
{
	return *(const volatile __u64 *)word;
}

BPF_GLOBAL int place_take(__u64 *word, __u64 tag, __u32 limit)
{
	if (!word)
		return PLACE_GONE;
	for (int i = 0; i < COUNT_ROUNDS; i++) {
		__u64 seen = count_load(word);
		enum place place = count_place(seen, tag, limit);

		if (place != PLACE_FREE)
			return place;
		if (__sync_val_compare_and_swap(word, seen, seen + SIPKEEP_RESERVED_ONE) == seen)
			return PLACE_FREE;
	}
	return PLACE_DOUBT;
}

/* A source that could not be counted: counted as such, and told at most once a second. */
BPF_CALLED int full_count(void)
{
	struct sipkeep_shared *all = shared_get();
	struct sipkeep_stats *mine = stats_get();
	__u64 last, now = bpf_ktime_get_ns();
	struct sipkeep_record *record;

	if (!all || !mine || quiet)
		return 0;
	counter_add(&mine->map_full);
	last = all->full_reported_ns;
	if (now - last < ONE_SECOND_NS || __sync_val_compare_and_swap(&all->full_reported_ns, last, now) != last)
		return 0;
	record = record_begin(SIPKEEP_EVENT_FULL);
	if (record)
		record_submit(record);
	return 0;
}

/* 6.1 takes no key through a global function's argument: it is copied to the own stack. */
BPF_INLINE struct sipkeep_source *source_find(const struct sipkeep_source_key *key)
{
	struct sipkeep_source_key copy = *key;

	return bpf_map_lookup_elem(&sources, &copy);
}

enum made {
	MADE_NOT, /* it was there, or can't be had at this instant */
	MADE,
	MADE_FULL, /* no room for it */
};

/*
 * The source's entry, made if need be. NULL when the map is full (MADE_FULL), or when it could not be had at this instant
 * (another CPU made and removed it meanwhile): ask again.
 */
BPF_CALLED struct sipkeep_source *source_make(const struct sipkeep_source_key *key, int *ret_made)
{
	struct sipkeep_source fresh = {}, *source;
	struct sipkeep_source_key copy;
	long err;

	if (!key || !ret_made)
		return NULL;
	copy = *key;
	source = bpf_map_lookup_elem(&sources, &copy);
	if (source)
		return source;
	fresh.count = source_tag(&copy) | SIPKEEP_QUEUED;
	err = bpf_map_update_elem(&sources, &copy, &fresh, BPF_NOEXIST);
	if (!err) {
		bpf_map_push_elem(&source_queue, &copy, BPF_ANY); /* should nothing come of it */
		*ret_made = MADE;
	} else if (err == -E2BIG || err == -ENOMEM) { /* not -EBUSY: its bucket is being changed beneath this softirq */
		*ret_made = MADE_FULL;
	}
	return bpf_map_lookup_elem(&sources, &copy);
}

/*
 * Takes a place in the source's entry, made if need be. *ret_place tells how it went; NULL with PLACE_NONE when the map
 * is full, with PLACE_GONE when the entry is about to be removed and the caller should ask again.
 */
BPF_INLINE struct sipkeep_source *source_take(const struct sipkeep_source_key *key, __u32 limit, int *ret_place,
					      int *ret_made)
{
	__u64 tag = source_tag(key);

	for (int i = 0; i < GONE_ROUNDS; i++) {
		struct sipkeep_source *source = source_make(key, ret_made);
		int place;

		if (!source && *ret_made == MADE_FULL) {
			*ret_place = PLACE_NONE;
			return NULL;
		}
		if (!source)
			continue;
		place = place_take(&source->count, tag, limit);
		if (place != PLACE_GONE) {
			*ret_place = place;
			return source;
		}
	}
	*ret_place = PLACE_GONE;
	return NULL;
}

BPF_GLOBAL bool rate_take(struct sipkeep_source *source, const struct sipkeep_policy *policy, __u64 now)
{
	if (!source || !policy)
		return false;
	for (int i = 0; i < COUNT_ROUNDS; i++) {
		__u64 seen = count_load(&source->tat_ns);
		__u64 next = rate_next(seen, now, policy->rate_interval_ns, policy->rate_burst_ns);

		if (!next)
			return false;
		if (__sync_val_compare_and_swap(&source->tat_ns, seen, next) == seen)
			return true;
	}
	return false;
}

/* What a connection holds, between places_take() and places_settle() or places_undo(). */
struct places {
	struct sipkeep_source_key key;
	__u64 rate_ns;
	__u8 flags; /* SIPKEEP_TRANSPORT_IN_* */
	__u8 made;  /* an entry was, for this one: the clock's hand moves on (clock.h) */
};

enum verdict {
	ADMIT,
	REFUSE, /* with a cause */
	DEFER,	/* the last place is in doubt: let it ask again */
};

BPF_INLINE struct sipkeep_policy_count *policy_count_get(__u32 id)
{
	return bpf_map_lookup_elem(&policy_counts, &id);
}

/*
 * word: as it was left by giving something back. One that holds nothing any more is queued for its removal (clock.h). The
 * caller's own copy of the key: see source_find().
 */
BPF_INLINE void source_left(struct sipkeep_source *source, const struct sipkeep_source_key *copy, __u64 word)
{
	if (!count_is_idle(word) || (word & (SIPKEEP_QUEUED | SIPKEEP_DEAD)))
		return;
	/* Whoever comes in between will leave, too. */
	if (__sync_val_compare_and_swap(&source->count, word, word | SIPKEEP_QUEUED) == word)
		bpf_map_push_elem(&source_queue, copy, BPF_ANY);
}

BPF_GLOBAL int places_undo(const struct places *places)
{
	if (!places)
		return 0;
	if (places->flags & SIPKEEP_TRANSPORT_IN_SOURCE) {
		struct sipkeep_source_key copy = places->key;
		struct sipkeep_source *source = bpf_map_lookup_elem(&sources, &copy);

		if (source) {
			if (places->rate_ns)
				__sync_fetch_and_add(&source->tat_ns, -places->rate_ns);
			source_left(source, &copy,
				    __sync_fetch_and_add(&source->count, -SIPKEEP_RESERVED_ONE) - SIPKEEP_RESERVED_ONE);
		}
	}
	if (places->flags & SIPKEEP_TRANSPORT_IN_POLICY) {
		struct sipkeep_policy_count *count = policy_count_get(places->key.policy);

		if (count)
			__sync_fetch_and_add(&count->count, -SIPKEEP_RESERVED_ONE);
	}
	return 0;
}

/* The source's part of places_take(). PLACE_NONE: it can't be counted, but may come in all the same. */
BPF_INLINE int places_take_source(struct places *places, const struct sipkeep_policy *policy, bool force,
				  int *ret_cause)
{
	int place = PLACE_GONE, made = MADE_NOT;
	struct sipkeep_source *source;

	source = source_take(&places->key, policy->max_connections_per_source, &place, &made);
	places->made |= made == MADE;
	if (place == PLACE_NONE)
		*ret_cause = SIPKEEP_REFUSED_FULL;
	if (!source)
		return place;
	/* Forced, what is reserved will come in too: then doubt is over the limit as well. */
	if (place == PLACE_TAKEN || (place != PLACE_FREE && force))
		*ret_cause = SIPKEEP_REFUSED_SOURCE;
	if (place != PLACE_FREE && force)
		place = place_take(&source->count, source_tag(&places->key), 0);
	if (place == PLACE_FREE)
		places->flags |= SIPKEEP_TRANSPORT_IN_SOURCE;
	return place;
}

BPF_INLINE int places_take_policy(struct places *places, const struct sipkeep_policy *policy, bool force,
				  int *ret_cause)
{
	struct sipkeep_policy_count *count = policy_count_get(places->key.policy);
	int place;

	if (!count)
		return PLACE_DOUBT;
	place = place_take(&count->count, 0, policy->max_connections);
	if (place == PLACE_TAKEN || (place != PLACE_FREE && force))
		*ret_cause = SIPKEEP_REFUSED_POLICY;
	if (place != PLACE_FREE && force)
		place = place_take(&count->count, 0, 0);
	if (place == PLACE_FREE)
		places->flags |= SIPKEEP_TRANSPORT_IN_POLICY;
	return place;
}

/* Last, so that a connection refused for another cause costs no token. */
BPF_INLINE int places_take_rate(struct places *places, const struct sipkeep_policy *policy, bool force, int *ret_cause)
{
	struct sipkeep_source *source;

	if (!policy->rate_interval_ns || !(places->flags & SIPKEEP_TRANSPORT_IN_SOURCE))
		return PLACE_FREE;
	source = source_find(&places->key);
	if (!source)
		return PLACE_FREE;
	if (rate_take(source, policy, bpf_ktime_get_ns())) {
		places->rate_ns = policy->rate_interval_ns;
		return PLACE_FREE;
	}
	*ret_cause = SIPKEEP_REFUSED_RATE;
	return force ? PLACE_FREE : PLACE_TAKEN;
}

/*
 * One more for places->key: takes its place in the source and in the policy, or tells why not. `force` takes them over
 * the limit too and only names the cause (observe mode, exempt sources).
 */
BPF_GLOBAL int places_take(struct places *places, const struct sipkeep_policy *policy, bool force, __u32 live,
			   int *ret_cause)
{
	int place;

	if (!places || !policy || !ret_cause)
		return DEFER;
	*ret_cause = SIPKEEP_REFUSED_NONE;
	places->flags = 0;
	places->rate_ns = 0;
	place = places_take_source(places, policy, force, ret_cause);
	if (place == PLACE_NONE && (live & SIPKEEP_LIVE_FULL_REFUSE) && !force)
		return REFUSE;
	if (place == PLACE_FREE || place == PLACE_NONE) {
		place = places_take_policy(places, policy, force, ret_cause);
		if (place == PLACE_FREE)
			place = places_take_rate(places, policy, force, ret_cause);
		if (place == PLACE_FREE)
			return ADMIT;
		places_undo(places);
		places->flags = 0;
	}
	return place == PLACE_TAKEN ? REFUSE : DEFER;
}

BPF_INLINE void source_peak(struct sipkeep_source *source)
{
	__u32 active = count_active(count_load(&source->count));

	for (int i = 0; i < COUNT_ROUNDS; i++) {
		__u32 peak = *(volatile __u32 *)&source->peak;

		if (active <= peak || __sync_val_compare_and_swap(&source->peak, peak, active) == peak)
			return;
	}
}

#define PLACES_SETTLED (SIPKEEP_ACTIVE_ONE - SIPKEEP_RESERVED_ONE)

/*
 * Adds to the words of both counts that `flags` (SIPKEEP_TRANSPORT_IN_*) names. PLACES_SETTLED is a connection admitted.
 * In one function with that, and with one copy of the key: Linux 6.1 has no stack to spare here.
 */
BPF_GLOBAL int places_add(const struct sipkeep_source_key *key, __u32 flags, __u64 change)
{
	if (!key)
		return 0;
	if (flags & SIPKEEP_TRANSPORT_IN_SOURCE) {
		struct sipkeep_source_key copy = *key;
		struct sipkeep_source *source = bpf_map_lookup_elem(&sources, &copy);

		if (source) {
			if (change == PLACES_SETTLED)
				counter_add(&source->admitted);
			source->last_seen_ns = bpf_ktime_get_ns();
			source_left(source, &copy, __sync_fetch_and_add(&source->count, change) + change);
			source_peak(source);
		}
	} else if (change == PLACES_SETTLED) {
		struct sipkeep_policy_stats *mine = policy_stats_get(key->policy);

		if (mine)
			counter_add(&mine->uncounted);
	}
	if (flags & SIPKEEP_TRANSPORT_IN_POLICY) {
		struct sipkeep_policy_count *count = policy_count_get(key->policy);

		if (count)
			__sync_fetch_and_add(&count->count, change);
	}
	return 0;
}

/* A socket whose storage could not be had is told of nowhere else. policy: SIPKEEP_MAX_POLICIES for a listener. */
BPF_INLINE void storage_failed_count(__u32 policy)
{
	struct sipkeep_policy_stats *its = policy_stats_get(policy);
	struct sipkeep_stats *mine = stats_get();

	if (its)
		counter_add(&its->uncounted);
	if (mine)
		counter_add(&mine->storage_failed);
}

BPF_INLINE void admitted_count(__u32 policy)
{
	struct sipkeep_policy_stats *mine = policy_stats_get(policy);

	if (mine)
		counter_add(&mine->admitted);
}

BPF_INLINE void places_settle(const struct places *places)
{
	places_add(&places->key, places->flags, PLACES_SETTLED);
	admitted_count(places->key.policy);
}

/* Counts in places->key whatever the limits say; a full map leaves it uncounted, which is counted and shown. */
BPF_GLOBAL int places_force(struct places *places)
{
	struct sipkeep_policy_count *count;
	int place = PLACE_GONE, made = MADE_NOT;

	if (!places)
		return 0;
	places->flags = 0;
	places->rate_ns = 0;
	if (source_take(&places->key, 0, &place, &made) && place == PLACE_FREE)
		places->flags |= SIPKEEP_TRANSPORT_IN_SOURCE;
	if (place == PLACE_NONE)
		full_count();
	count = policy_count_get(places->key.policy);
	if (count && place_take(&count->count, 0, 0) == PLACE_FREE)
		places->flags |= SIPKEEP_TRANSPORT_IN_POLICY;
	places_add(&places->key, places->flags, PLACES_SETTLED);
	return 0;
}

/* The active places that `flags` names are free again. */
BPF_INLINE void places_release(const struct sipkeep_source_key *key, __u32 flags)
{
	places_add(key, flags, -SIPKEEP_ACTIVE_ONE);
}

#endif
