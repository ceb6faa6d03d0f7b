// SPDX-License-Identifier: GPL-2.0-only
/* carry.bpf.c: adds what another layout's programs counted, while ours count already. See user/relayout.c. */
#include "count.h"

char LICENSE[] SEC("license") = "GPL";

#define ADD(to, from) __sync_fetch_and_add(&(to), (from))

BPF_INLINE void raise(__u64 *to, __u64 least)
{
	for (int i = 0; i < COUNT_ROUNDS; i++) {
		__u64 seen = count_load(to);

		if (seen >= least || __sync_val_compare_and_swap(to, seen, least) == seen)
			return;
	}
}

BPF_CALLED void carry_source(struct sipkeep_carry *ctx)
{
	struct sipkeep_source_key key = ctx->key;
	struct sipkeep_source *source = source_find(&key);

	if (!source)
		return;
	raise(&source->tat_ns, ctx->source.tat_ns);
	raise(&source->last_seen_ns, ctx->source.last_seen_ns);
	raise(&source->reported_ns, ctx->source.reported_ns);
	ADD(source->admitted, ctx->source.admitted);
	ADD(source->refused, ctx->source.refused);
	ADD(source->reported, ctx->source.reported);
	if (!source->cause)
		source->cause = ctx->source.cause;
	if (source->peak < ctx->source.peak)
		source->peak = ctx->source.peak;
}

BPF_CALLED void carry_totals(struct sipkeep_carry *ctx)
{
	struct sipkeep_policy_stats *policy = policy_stats_get(ctx->key.policy);
	struct sipkeep_policy_count *count = policy_count_get(ctx->key.policy);
	struct sipkeep_shared *all = shared_get();
	struct sipkeep_stats *mine = stats_get();

	if (!policy || !count || !all || !mine)
		return;
	ADD(all->lost, ctx->lost);
	ADD(count->refused, ctx->count.refused);
	ADD(count->reported, ctx->count.reported);
#pragma unroll
	for (__u32 i = 0; i < sizeof(*policy) / sizeof(__u64); i++)
		ADD(((__u64 *)policy)[i], ((__u64 *)&ctx->policy)[i]);
#pragma unroll
	for (__u32 i = 0; i < sizeof(*mine) / sizeof(__u64); i++)
		ADD(((__u64 *)mine)[i], ((__u64 *)&ctx->total)[i]);
}

BPF_CALLED void carry_contact(struct sipkeep_carry *ctx)
{
	struct sipkeep_contact_key key = ctx->contact;
	__u64 *failures = bpf_map_lookup_elem(&contacts, &key);

	if (failures)
		ADD(*failures, ctx->failures);
}

/* Of a source that has its entry: a syscall program may sleep, and Linux 6.1 lets such a one at no queue. */
SEC("syscall")
int on_carry(struct sipkeep_carry *ctx)
{
	if (ctx->kind == SIPKEEP_CARRY_TOTALS)
		carry_totals(ctx);
	else if (ctx->kind == SIPKEEP_CARRY_CONTACT)
		carry_contact(ctx);
	else
		carry_source(ctx);
	return 0;
}
