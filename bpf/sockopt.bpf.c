// SPDX-License-Identifier: GPL-2.0-only
/* sockopt.bpf.c: keepalive that the PBX can't undo (keepalive_mode = "enforce"). */
#include "lookup.h"

char LICENSE[] SEC("license") = "GPL";

#define PAGE_SIZE_MIN 4096

BPF_INLINE __u32 option_bit(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_KEEPALIVE ? SIPKEEP_SET_KEEPALIVE : 0;
	if (level != SOL_TCP)
		return 0;
	switch (name) {
	case TCP_KEEPIDLE:
		return SIPKEEP_SET_KEEPIDLE;
	case TCP_KEEPINTVL:
		return SIPKEEP_SET_KEEPINTVL;
	case TCP_KEEPCNT:
		return SIPKEEP_SET_KEEPCNT;
	case TCP_USER_TIMEOUT:
		return SIPKEEP_SET_USER_TIMEOUT;
	}
	return 0;
}

SEC("cgroup/setsockopt")
int on_setsockopt(struct bpf_sockopt *ctx)
{
	__u32 bit = option_bit(ctx->level, ctx->optname);
	struct sipkeep_transport *transport;
	struct sipkeep_policy_stats *mine;

	if (!bit) {
		/* The kernel hands over a page at most and wants to be told that a longer option is left alone. */
		if (ctx->optlen > PAGE_SIZE_MIN)
			ctx->optlen = 0;
		return 1;
	}
	if (!ctx->sk)
		return 1;
	transport = bpf_sk_storage_get(&transports, ctx->sk, NULL, 0);
	if (!transport || !(transport->enforce & bit) || transport->phase < SIPKEEP_PHASE_CONNECTED)
		return 1;
	mine = policy_stats_get(transport->source.policy);
	if (mine)
		counter_add(&mine->keepalive_overridden);
	ctx->optlen = -1; /* the kernel skips the option and reports success */
	return 1;
}
