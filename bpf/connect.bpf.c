// SPDX-License-Identifier: GPL-2.0-only
/*
 * connect.bpf.c: may this outbound connection go out?
 *
 * Counted from the connect() on, in the socket's storage: reserved here, active when established (transport.bpf.c).
 * connect() may still fail between this hook and the SYN (no route, no free port) without any callback; the place is
 * then given back when the socket connects again or is released.
 * The route isn't known yet, so the local address is the one the socket was bound to; unbound ones count together.
 */
#include "clock.h"
#include "contact.h"
#include "listener.h"

char LICENSE[] SEC("license") = "GPL";

#define SOCK_STREAM 1

/* What the kernel makes of connect() to the unspecified address: the own address it is bound to, else loopback. */
BPF_INLINE void remote_resolve(struct sipkeep_addr *remote, const struct sipkeep_addr *local, bool ipv4)
{
	if (remote->w[3] || (!ipv4 && (remote->w[0] || remote->w[1] || remote->w[2])))
		return;
	if (ipv4 && local->w[3]) {
		*remote = *local;
	} else if (ipv4) {
		addr_from_ipv4(remote, bpf_htonl(0x7f000001));
	} else {
		__builtin_memset(remote, 0, sizeof(*remote));
		remote->b[15] = 1;
	}
}

BPF_CALLED void reservation_undo(struct sipkeep_transport *transport)
{
	struct places places = {};

	if (!transport)
		return;
	places.key = transport->source;
	places.flags = transport->flags;
	places_undo(&places);
	transport->flags = 0;
	transport->phase = SIPKEEP_PHASE_NONE;
}

BPF_CALLED int connect_refused(const struct sipkeep_source_key *key, int cause)
{
	refusal_count(key, source_find(key), cause);
	return 0;
}

/* 1: go on, 0: EPERM. */
BPF_CALLED int connect_admit(struct bpf_sock_addr *ctx, const struct sipkeep_addr *local, struct sipkeep_addr *remote,
			     __u32 port)
{
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_transport *transport;
	const struct sipkeep_policy *policy;
	struct places places = {};
	int id, verdict, cause = 0;
	bool exempt, unlimited, observe;
	__u32 live;

	if (!cfg || !local || !remote)
		return 1;
	live = live_get(cfg);
	observe = live & SIPKEEP_LIVE_OBSERVE;
	transport = bpf_sk_storage_get(&transports, ctx->sk, NULL, 0);
	if (transport && transport->phase == SIPKEEP_PHASE_RESERVED)
		reservation_undo(transport); /* an earlier connect() of this socket that never got its SYN out */
	else if (transport && transport->phase >= SIPKEEP_PHASE_CONNECTING &&
		 transport->phase < SIPKEEP_PHASE_DESTROYED)
		return 1; /* connected already: the kernel says EISCONN */
	id = policy_match(live, remote, SIPKEEP_OUTBOUND, port);
	if (id < 0)
		return 1;
	policy = policy_get(live, id);
	if (!policy)
		return 1;

	source_key_outbound(&places.key, id, local, remote, port);
	exempt = exempt_match(live, remote);
	verdict = places_take_somehow(&places, policy, observe || exempt, live, &cause);
	if (places.made)
		clock_tick();
	unlimited = !policy->max_connections_per_source && !policy->max_connections;
	if (verdict != ADMIT && (observe || exempt || (verdict == DEFER && unlimited)))
		return 1; /* no place could be had at this instant: counted when it is established */
	if (verdict != ADMIT) /* outbound reservations are no passing thing: DEFER is a limit reached too */
		return connect_refused(&places.key, cause ? cause : SIPKEEP_REFUSED_SOURCE);
	if (cause && !exempt && cause != SIPKEEP_REFUSED_FULL)
		connect_refused(&places.key, cause);
	if (!transport)
		transport = bpf_sk_storage_get(&transports, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!transport) {
		struct sipkeep_stats *mine = stats_get();

		if (mine)
			counter_add(&mine->storage_failed);
		places_undo(&places);
		return (live & SIPKEEP_LIVE_FULL_REFUSE) && !observe ? connect_refused(&places.key, SIPKEEP_REFUSED_FULL) : 1;
	}
	if (transport->phase == SIPKEEP_PHASE_DESTROYED)
		transport->generation++;
	transport->source = places.key;
	transport->flags = places.flags;
	transport->direction = SIPKEEP_OUTBOUND;
	transport->phase = SIPKEEP_PHASE_RESERVED;
	return 1;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	struct sipkeep_addr local, remote;

	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM || !ctx->sk)
		return 1;
	addr_from_ipv4(&local, ctx->sk->src_ip4);
	addr_from_ipv4(&remote, ctx->user_ip4);
	remote_resolve(&remote, &local, true);
	if (!connect_admit(ctx, &local, &remote, bpf_ntohs((__u16)ctx->user_port)))
		return 0; /* over the limit: EPERM */
	contact_dial(ctx, &remote, bpf_ntohs((__u16)ctx->user_port));
	return 1;
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	struct sipkeep_addr local, remote;
	bool ipv4;

	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM || !ctx->sk)
		return 1;
	local.w[0] = ctx->sk->src_ip6[0];
	local.w[1] = ctx->sk->src_ip6[1];
	local.w[2] = ctx->sk->src_ip6[2];
	local.w[3] = ctx->sk->src_ip6[3];
	remote.w[0] = ctx->user_ip6[0];
	remote.w[1] = ctx->user_ip6[1];
	remote.w[2] = ctx->user_ip6[2];
	remote.w[3] = ctx->user_ip6[3];
	ipv4 = addr_is_ipv4(&remote);
	if (ipv4 && !local.w[0] && !local.w[1] && !local.w[2] && !local.w[3])
		addr_from_ipv4(&local, 0);
	remote_resolve(&remote, &local, ipv4);
	if (!connect_admit(ctx, &local, &remote, bpf_ntohs((__u16)ctx->user_port)))
		return 0; /* over the limit: EPERM */
	contact_dial(ctx, &remote, bpf_ntohs((__u16)ctx->user_port));
	return 1;
}

/* A socket that never got its SYN out takes its reservation with it; a UDP listener goes without another callback. */
SEC("cgroup/sock_release")
int on_sock_release(struct bpf_sock *ctx)
{
	struct sipkeep_transport *transport = bpf_sk_storage_get(&transports, ctx, NULL, 0);

	if (!transport)
		return 1;
	if (transport->phase == SIPKEEP_PHASE_RESERVED)
		reservation_undo(transport);
	else if (transport->phase == SIPKEEP_PHASE_LISTENER && ctx->protocol == IPPROTO_UDP)
		listener_down_udp(transport, bpf_get_netns_cookie(ctx));
	return 1;
}
