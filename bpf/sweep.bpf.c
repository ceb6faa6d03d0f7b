// SPDX-License-Identifier: GPL-2.0-only
/* sweep.bpf.c: housekeeping that the reader asks for (BPF_PROG_TEST_RUN). Nothing that limits depend on. */
#include "pending.h"

char LICENSE[] SEC("license") = "GPL";

#define SOURCES_MAX (1U << 23) /* of bpf_loop(); the hand stops when it has been round */

/*
 * Returns how many sources it removed. A raw tracepoint's program, attached to none: a syscall one may sleep, and Linux 6.1
 * lets such a one at no queue.
 */
SEC("raw_tp")
int on_sweep(struct sipkeep_sweep *ctx)
{
	pendings_reclaim();
	return clock_walk(SOURCES_MAX, ctx->idle_ns);
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

/* Tells the mode that the loader has put in force. */
SEC("syscall")
int on_mode(struct sipkeep_mode *ctx)
{
	struct sipkeep_record *record = record_begin(SIPKEEP_EVENT_MODE);

	if (!record)
		return 0;
	record->count = ctx->until_ns;
	record->flags = ctx->observe ? SIPKEEP_RECORD_OBSERVED : 0;
	record_submit(record);
	return 0;
}
