/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * refuse.h: a refusal counted, and told: aggregated per source and policy, at most one event a second each, and no
 * more than SIPKEEP_REFUSAL_EVENTS_MAX a second in all. What isn't told yet stays in `refused - reported` and comes
 * with the next event; the reader asks for the rest after a quiet second (sweep.bpf.c).
 */
#ifndef SIPKEEP_REFUSE_H
#define SIPKEEP_REFUSE_H

#include "count.h"

BPF_INLINE bool refusal_events_left(struct sipkeep_shared *all, __u64 now)
{
	return all && events_left(&all->refusal_window_ns, &all->refusal_events, SIPKEEP_REFUSAL_EVENTS_MAX, now);
}

/* Emits what `refused` has over `reported`; cause and key describe it. */
BPF_GLOBAL int refusal_emit(const struct sipkeep_source_key *key, __u64 *refused, __u64 *reported, __u32 cause)
{
	const struct sipkeep_config *cfg = config_get();
	const struct sipkeep_policy *policy;
	struct sipkeep_record *record;
	__u64 total, told;
	__u32 live;

	if (!key || !refused || !reported || !cfg)
		return 0;
	live = live_get(cfg);
	policy = policy_get(live, key->policy);
	if (!policy)
		return 0;
	total = count_load(refused);
	told = count_load(reported);
	if (total <= told || __sync_val_compare_and_swap(reported, told, total) != told)
		return 0;
	record = record_begin(SIPKEEP_EVENT_REFUSED);
	if (!record)
		return 0;
	record->count = total - told;
	record->policy = key->policy;
	record->direction = policy->direction;
	record->cause = cause;
	record->limit = cause == SIPKEEP_REFUSED_SOURCE ? policy->max_connections_per_source :
			cause == SIPKEEP_REFUSED_POLICY ? policy->max_connections : 0;
	if (policy->direction == SIPKEEP_INBOUND) {
		record->remote = key->addr;
		record->prefix = addr_is_ipv4(&key->addr) ? policy->source_prefix_ipv4 : policy->source_prefix_ipv6;
	} else {
		record->local = key->addr;
		record->remote = key->destination;
		record->remote_port = bpf_ntohs(key->port_be);
		record->prefix = addr_is_ipv4(&key->destination) ? 32 : 128;
	}
	if (live & SIPKEEP_LIVE_OBSERVE)
		record->flags = SIPKEEP_RECORD_OBSERVED;
	record_submit(record);
	return 0;
}

/* key->addr unspecified and source NULL: of a source that has no entry, counted with its policy. */
BPF_GLOBAL int refusal_count(const struct sipkeep_source_key *key, struct sipkeep_source *source, __u32 cause)
{
	struct sipkeep_policy_stats *mine;
	__u64 now = bpf_ktime_get_ns();

	if (!key || quiet)
		return 0;
	/* An entry that never had a connection is somebody's who may have proved nothing yet (SYN cookies): it won't stay. */
	if (source && !source->admitted && !key->port_be)
		source = NULL;
	mine = policy_stats_get(key->policy);
	if (mine && cause < SIPKEEP_REFUSED_MAX)
		counter_add(&mine->refused[cause]);
	if (source) {
		__u64 last = count_load(&source->reported_ns);

		__sync_fetch_and_add(&source->refused, 1);
		source->cause = cause;
		source->last_seen_ns = now;
		if (now - last >= ONE_SECOND_NS &&
		    __sync_val_compare_and_swap(&source->reported_ns, last, now) == last &&
		    refusal_events_left(shared_get(), now))
			refusal_emit(key, &source->refused, &source->reported, cause);
	} else {
		struct sipkeep_policy_count *count = policy_count_get(key->policy);
		struct sipkeep_source_key nobody = { .policy = key->policy };
		__u64 last;

		if (!count)
			return 0;
		last = count_load(&count->reported_ns);
		__sync_fetch_and_add(&count->refused, 1);
		if (now - last >= ONE_SECOND_NS &&
		    __sync_val_compare_and_swap(&count->reported_ns, last, now) == last)
			refusal_emit(&nobody, &count->refused, &count->reported, cause);
	}
	return 0;
}

#endif
