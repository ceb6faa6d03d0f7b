/* SPDX-License-Identifier: GPL-2.0-only */
/* lookup.h: which policy, which source; reading addresses off sockets. Read-only. */
#ifndef SIPKEEP_LOOKUP_H
#define SIPKEEP_LOOKUP_H

#include "maps.h"
#include "match.h"

#define BPF_INLINE static __always_inline
/* A BPF function of its own: the verifier walks it per call, the stack is its own. */
#define BPF_CALLED static __attribute__((noinline, unused))
/*
 * The verifier walks it once, whoever calls it: what keeps the compare-and-swap loops affordable. Its arguments can be
 * numbers, the context and pointers to plain memory (checked against NULL), its result a number; there is one in the
 * linked object, whoever includes it.
 */
#define BPF_GLOBAL __attribute__((noinline)) __weak

/* Another layout's programs count besides those they will replace, and say nothing: see user/relayout.c. */
extern const volatile __u32 quiet __weak;
const volatile __u32 quiet __weak = 0;

BPF_INLINE const struct sipkeep_config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/*
 * SIPKEEP_LIVE_*, as they are now, with OBSERVE as it acts: each run of a program reads them once and hands them on, so
 * that it acts by one bank and one mode throughout.
 */
BPF_INLINE __u32 live_get(const struct sipkeep_config *cfg)
{
	__u64 live = *(const volatile __u64 *)&cfg->live;
	__u32 flags = live & ((1U << SIPKEEP_LIVE_UNTIL_SHIFT) - 1) & ~SIPKEEP_LIVE_OBSERVE;
	__u64 now = live >> SIPKEEP_LIVE_UNTIL_SHIFT ? bpf_ktime_get_ns() : 0;

	return live_observes(live, now) ? flags | SIPKEEP_LIVE_OBSERVE : flags;
}

/* Per-CPU counters, atomically: a softirq may come between a process's load and its store. */
BPF_INLINE void counter_add(__u64 *counter)
{
	if (!quiet)
		__sync_fetch_and_add(counter, 1);
}

BPF_INLINE struct sipkeep_policy_stats *policy_stats_get(__u32 id)
{
	return bpf_map_lookup_elem(&policy_stats, &id);
}

BPF_INLINE struct sipkeep_stats *stats_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stats, &zero);
}

BPF_INLINE struct sipkeep_shared *shared_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shared, &zero);
}

BPF_INLINE const struct sipkeep_policy *policy_get(__u32 live, __u32 id)
{
	__u32 index = (live & SIPKEEP_LIVE_BANK) * SIPKEEP_MAX_POLICIES + id;

	return bpf_map_lookup_elem(&policies, &index);
}

/*
 * The policy of a connection: an exact port beats any port, then the longest prefix of the remote address wins (the
 * loader refuses what would match equally). port: host order; inbound: the local one, outbound: the remote one.
 * Returns its id, or -1.
 */
BPF_GLOBAL int policy_match(__u32 live, const struct sipkeep_addr *remote, __u32 direction, __u32 port)
{
	struct sipkeep_rule_key key = {};
	__u32 *id;

	if (!remote)
		return -1;
	key.prefixlen = SIPKEEP_RULE_FIXED_BITS + 128;
	key.bank = live & SIPKEEP_LIVE_BANK;
	key.direction = direction;
	key.family = addr_is_ipv4(remote) ? 4 : 6;
	key.port_be = bpf_htons(port);
	key.addr = *remote;
	id = bpf_map_lookup_elem(&rules, &key);
	if (!id) {
		key.port_be = 0;
		id = bpf_map_lookup_elem(&rules, &key);
	}
	return id ? (int)*id : -1;
}

BPF_GLOBAL bool exempt_match(__u32 live, const struct sipkeep_addr *remote)
{
	struct sipkeep_exempt_key key = {};

	if (!remote)
		return false;
	key.prefixlen = SIPKEEP_EXEMPT_FIXED_BITS + 128;
	key.bank = live & SIPKEEP_LIVE_BANK;
	key.family = addr_is_ipv4(remote) ? 4 : 6;
	key.addr = *remote;
	return bpf_map_lookup_elem(&exempts, &key) != NULL;
}

BPF_INLINE void source_key_inbound(struct sipkeep_source_key *key, const struct sipkeep_policy *policy, __u32 id,
				   const struct sipkeep_addr *remote)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->policy = id;
	key->addr = *remote;
	addr_mask(&key->addr, source_bits(policy, remote));
}

BPF_INLINE void source_key_outbound(struct sipkeep_source_key *key, __u32 id, const struct sipkeep_addr *local,
				    const struct sipkeep_addr *remote, __u32 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->policy = id;
	key->port_be = bpf_htons(port);
	key->addr = *local;
	key->destination = *remote;
}

BPF_INLINE void addr_from_ipv6(struct sipkeep_addr *addr, const struct in6_addr *from)
{
	bpf_probe_read_kernel(addr, sizeof(*addr), &from->in6_u.u6_addr8);
}

/* Both ends of a socket; IPv4 mapped. */
BPF_INLINE void tuple_from_sock(struct sipkeep_tuple *tuple, struct tcp_sock *tp)
{
	struct sock_common *skc = &tp->inet_conn.icsk_inet.sk.__sk_common;

	tuple->local_port = skc->skc_num;
	if (!tuple->local_port) /* given back on the way to CLOSE: watch.bpf.c comes after that */
		tuple->local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	tuple->remote_port = bpf_ntohs(skc->skc_dport);
	tuple->pad = 0;
	if (skc->skc_family == AF_INET) {
		addr_from_ipv4(&tuple->local, skc->skc_rcv_saddr);
		addr_from_ipv4(&tuple->remote, skc->skc_daddr);
	} else {
		addr_from_ipv6(&tuple->local, &skc->skc_v6_rcv_saddr);
		addr_from_ipv6(&tuple->remote, &skc->skc_v6_daddr);
	}
}

/* Is there a guarded listener for this local address and port: its own, the IPv4 wildcard, the IPv6 wildcard? */
BPF_GLOBAL bool listener_match(__u64 netns_cookie, const struct sipkeep_addr *local, __u32 port)
{
	struct sipkeep_listener_key key = {};

	if (!local)
		return false;
	key.netns_cookie = netns_cookie;
	key.port = port;
	key.addr = *local;
	if (bpf_map_lookup_elem(&listeners, &key))
		return true;
	if (addr_is_ipv4(local)) {
		addr_from_ipv4(&key.addr, 0);
		if (bpf_map_lookup_elem(&listeners, &key))
			return true;
	}
	__builtin_memset(&key.addr, 0, sizeof(key.addr));
	return bpf_map_lookup_elem(&listeners, &key) != NULL;
}

/* Does an inbound policy name this port? */
BPF_INLINE bool port_is_named(__u32 live, __u32 port)
{
	__u32 exact = (live & SIPKEEP_LIVE_BANK) << 16 | port;

	return bpf_map_lookup_elem(&guarded_ports, &exact);
}

BPF_INLINE bool port_is_guarded(__u32 live, __u32 port)
{
	__u32 any = (live & SIPKEEP_LIVE_BANK) << 16, exact = any | port;

	return bpf_map_lookup_elem(&guarded_ports, &exact) || bpf_map_lookup_elem(&guarded_ports, &any);
}

#endif
