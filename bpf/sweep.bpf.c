// SPDX-License-Identifier: GPL-2.0-only
/* sweep.bpf.c: housekeeping that the reader asks for (BPF_PROG_TEST_RUN). Nothing that limits depend on. */
#include "pending.h"

char LICENSE[] SEC("license") = "GPL";

struct bpf_map;

struct sweep_state {
	__u64 now;
	__u64 idle_before; /* sources not seen since */
	__u64 removed;
};

/*
 * Removes a source that holds nothing. The mark keeps a connection that arrives at this instant on another CPU from
 * counting in an entry about to vanish: it looks again until the entry is gone, and makes a new one.
 */
static long sweep_source(struct bpf_map *map, const struct sipkeep_source_key *key, struct sipkeep_source *source,
			 struct sweep_state *state)
{
	__u64 tag = count_load(&source->count) & SIPKEEP_TAG_MASK;
	struct sipkeep_source_key copy = *key; /* the verifier passes no map key on as plain memory */

	if (source->last_seen_ns > state->idle_before || source->tat_ns > state->now)
		return 0;
	if (source->refused != source->reported)
		refusal_emit(&copy, &source->refused, &source->reported, source->cause);
	if (__sync_val_compare_and_swap(&source->count, tag, tag | SIPKEEP_DEAD) != tag)
		return 0;
	bpf_map_delete_elem(map, &copy);
	state->removed++;
	return 0;
}

SEC("syscall")
int on_sweep(struct sipkeep_sweep *ctx)
{
	struct sweep_state state = {};

	pendings_reclaim();
	state.now = bpf_ktime_get_ns();
	/* The machine may not be up for that long. */
	state.idle_before = state.now > ctx->idle_ns ? state.now - ctx->idle_ns : 0;
	bpf_for_each_map_elem(&sources, sweep_source, &state, 0);
	ctx->removed = state.removed;
	return 0;
}

/* Tells what a source's last `refused` event left untold. */
SEC("syscall")
int on_flush(struct sipkeep_flush *ctx)
{
	struct sipkeep_source_key key = ctx->key;
	struct sipkeep_source *source;
	struct sipkeep_policy_count *count;

	source = source_find(&key);
	if (source) {
		refusal_emit(&key, &source->refused, &source->reported, source->cause);
		return 0;
	}
	count = policy_count_get(key.policy);
	if (count)
		refusal_emit(&key, &count->refused, &count->reported, ctx->cause);
	return 0;
}
