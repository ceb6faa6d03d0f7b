// SPDX-License-Identifier: GPL-2.0-only
/*
 * bind.bpf.c: UDP listeners. A UDP socket that is bound to a port that an inbound policy names is told of here, its end
 * by on_sock_release. A policy for any port names none: every media stream's socket would be a listener.
 */
#include "guarded.h"
#include "count.h"
#include "listener.h"

char LICENSE[] SEC("license") = "GPL";

#define SOCK_DGRAM 2

BPF_INLINE bool is_listener(struct bpf_sock *ctx)
{
	const struct sipkeep_config *cfg;

	if (ctx->type != SOCK_DGRAM || ctx->protocol != IPPROTO_UDP)
		return false;
	cfg = config_get();
	return cfg && port_is_named(live_get(cfg), ctx->src_port);
}

BPF_CALLED void bound(struct bpf_sock *ctx, const struct sipkeep_addr *addr, __u32 port)
{
	struct sipkeep_transport *transport =
		bpf_sk_storage_get(&transports, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!transport)
		storage_failed_count(SIPKEEP_MAX_POLICIES);
	if (!transport || !addr || transport->phase == SIPKEEP_PHASE_LISTENER) /* run twice: see transport.bpf.c */
		return;
	listener_begin_udp(transport, addr, port, bpf_get_socket_cookie(ctx));
	listener_emit_udp(SIPKEEP_EVENT_LISTENER_UP, transport, bpf_get_netns_cookie(ctx));
}

SEC("cgroup/post_bind4")
int on_post_bind4(struct bpf_sock *ctx)
{
	struct sipkeep_addr addr;

	if (!is_listener(ctx))
		return 1;
	addr_from_ipv4(&addr, ctx->src_ip4);
	bound(ctx, &addr, ctx->src_port);
	return 1;
}

SEC("cgroup/post_bind6")
int on_post_bind6(struct bpf_sock *ctx)
{
	struct sipkeep_addr addr;

	if (!is_listener(ctx))
		return 1;
	addr.w[0] = ctx->src_ip6[0];
	addr.w[1] = ctx->src_ip6[1];
	addr.w[2] = ctx->src_ip6[2];
	addr.w[3] = ctx->src_ip6[3];
	bound(ctx, &addr, ctx->src_port);
	return 1;
}

/* Those that are bound already: only their end is told. One that is connected takes nobody else's packets. */
SEC("iter/udp")
int on_adopt_udp(struct bpf_iter__udp *ctx)
{
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_transport *transport;
	struct udp_sock *udp = ctx->udp_sk;
	struct sock_common *skc;
	struct sipkeep_addr addr;
	__u32 live;

	if (!udp || !cfg)
		return 0;
	skc = &udp->inet.sk.__sk_common;
	live = live_get(cfg);
	if (!port_is_named(live, skc->skc_num) &&
	    !((live & SIPKEEP_LIVE_PREPARE) && port_is_named(live ^ SIPKEEP_LIVE_BANK, skc->skc_num)))
		return 0;
	if (skc->skc_state == BPF_TCP_ESTABLISHED || !cgroup_is_guarded(&udp->inet.sk))
		return 0;
	transport = bpf_sk_storage_get(&transports, udp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!transport)
		storage_failed_count(SIPKEEP_MAX_POLICIES);
	if (!transport || transport->phase == SIPKEEP_PHASE_LISTENER)
		return 0;
	if (skc->skc_family == AF_INET)
		addr_from_ipv4(&addr, skc->skc_rcv_saddr);
	else
		addr_from_ipv6(&addr, &skc->skc_v6_rcv_saddr);
	listener_begin_udp(transport, &addr, skc->skc_num, bpf_get_socket_cookie(udp));
	return 0;
}
