// SPDX-License-Identifier: GPL-2.0-only
/*
 * transport.bpf.c: sockops. A transport's keepalive, its place in the counts and its life.
 *
 * What the kernel does (seen on 6.18): PASSIVE_ESTABLISHED comes with the state still SYN_RECV, in the same softirq
 * and so on the same CPU as the final ACK's pass through cgroup_skb/ingress; the state callback runs before the state
 * changes, so the socket's addresses and counters are still there; CLOSE is entered on the way to TIME_WAIT and from
 * a FIN_WAIT2 orphan, and may be entered twice. All callbacks run under the socket's lock, which also guards its
 * storage.
 */
#include "ending.h"
#include "pending.h"

char LICENSE[] SEC("license") = "GPL";

/* The transport is established and in the counts: its storage, its keepalive, its first event. */
BPF_CALLED void transport_begin(struct bpf_sock_ops *ctx, struct sipkeep_transport *transport,
				       const struct places *places, struct tcp_sock *tp)
{
	const struct sipkeep_config *cfg = config_get();
	const struct sipkeep_policy *policy;
	struct sipkeep_policy_stats *mine;
	bool failed = false;
	__u32 live;

	if (!cfg || !transport || !places || !tp)
		return;
	live = live_get(cfg);
	transport->source = places->key;
	transport->flags &= ~(SIPKEEP_TRANSPORT_IN | SIPKEEP_TRANSPORT_FOUND); /* a shadow, taken in connecting, stays */
	transport->flags |= places->flags & SIPKEEP_TRANSPORT_IN;
	transport->cookie = bpf_get_socket_cookie(ctx);
	transport->connected_ns = bpf_ktime_get_ns();
	transport->phase = SIPKEEP_PHASE_CONNECTED;
	transport->reason = SIPKEEP_REASON_UNKNOWN;
	transport->closed_by = SIPKEEP_CLOSED_BY_UNKNOWN;
	message_begin(transport, tp);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | transport_callbacks(transport->direction));
	mine = policy_stats_get(places->key.policy);
	if (mine)
		counter_add(&mine->connected);
	policy = policy_get(live, places->key.policy);
	if (policy && policy->keepalive_set) {
		transport->enforce = keepalive_enforced(live, policy);
		if (!(live & SIPKEEP_LIVE_OBSERVE))
			KEEPALIVE_SET(ctx, policy, failed);
		keepalive_count(places->key.policy, failed);
	}
	life_emit(SIPKEEP_EVENT_CONNECTED, transport, tp, 0);
	if (transport->direction == SIPKEEP_INBOUND)
		contact_forget(tp);
	if (live & (SIPKEEP_LIVE_PREPARE | SIPKEEP_LIVE_SETTLE))
		recount(transport, tp, live);
}

/* Established without having passed admit.bpf.c or connect.bpf.c: counted all the same, if a policy matches. */
BPF_CALLED bool places_unseen(struct places *places, const struct sipkeep_tuple *tuple, __u32 direction)
{
	const struct sipkeep_config *cfg = config_get();
	const struct sipkeep_policy *policy;
	struct sipkeep_stats *mine;
	__u32 live;
	int id;

	if (!cfg || !places || !tuple)
		return false;
	live = live_get(cfg);
	id = policy_match(live, &tuple->remote, direction,
			  direction == SIPKEEP_INBOUND ? tuple->local_port : tuple->remote_port);
	if (id < 0 && (live & SIPKEEP_LIVE_PREPARE)) {
		live ^= SIPKEEP_LIVE_BANK; /* guarded by the policies that come next */
		id = policy_match(live, &tuple->remote, direction,
				  direction == SIPKEEP_INBOUND ? tuple->local_port : tuple->remote_port);
	}
	if (id < 0)
		return false;
	policy = policy_get(live, id);
	if (!policy)
		return false;
	if (direction == SIPKEEP_INBOUND)
		source_key_inbound(&places->key, policy, id, &tuple->remote);
	else
		source_key_outbound(&places->key, id, &tuple->local, &tuple->remote, tuple->remote_port);
	places_force(places);
	admitted_count(id);
	mine = stats_get();
	if (mine)
		counter_add(&mine->overrun);
	return true;
}

/* A socket without storage can't be told apart at its end: its place is given back, the loss counted. */
BPF_CALLED void storage_lost(const struct places *places)
{
	if (!places)
		return;
	places_release(&places->key, places->flags);
	storage_failed_count(places->key.policy);
}

BPF_CALLED void on_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u32 direction)
{
	struct sipkeep_transport *transport = bpf_sk_storage_get(&transports, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct sipkeep_tuple tuple;
	struct places places = {};

	if (!tp)
		return;
	if (transport && transport->phase == SIPKEEP_PHASE_CONNECTED)
		return; /* this program sits at a cgroup above it, too, or was attached there by systemd */
	tuple_from_sock(&tuple, tp);
	if (transport && (transport->phase == SIPKEEP_PHASE_RESERVED || transport->phase == SIPKEEP_PHASE_CONNECTING)) {
		/* Two sockets that connect() to each other both end in PASSIVE_ESTABLISHED: the connect() decides. */
		direction = SIPKEEP_OUTBOUND;
		places.key = transport->source;
		places.flags = transport->flags;
		places_settle(&places);
	} else if (direction == SIPKEEP_INBOUND && pending_claim(&tuple, &places)) {
		places_settle(&places);
	} else if (!places_unseen(&places, &tuple, direction)) {
		return;
	}
	if (!transport)
		transport = bpf_sk_storage_get(&transports, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!transport) {
		storage_lost(&places);
		return;
	}
	transport->direction = direction;
	transport_begin(ctx, transport, &places, tp);
}

/* A connect() that connect.bpf.c let through: from its SYN on, the state callback tells of a failure. */
BPF_CALLED void on_connecting(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct sipkeep_transport *transport = bpf_sk_storage_get(&transports, sk, NULL, 0);
	const struct sipkeep_config *cfg = config_get();
	struct tcp_sock *tp;
	__u32 live;

	if (!cfg || !transport || transport->phase != SIPKEEP_PHASE_RESERVED)
		return;
	transport->phase = SIPKEEP_PHASE_CONNECTING;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	live = live_get(cfg);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && (live & (SIPKEEP_LIVE_PREPARE | SIPKEEP_LIVE_SETTLE)))
		recount(transport, tp, live);
}

BPF_CALLED void on_listen(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct sipkeep_config *cfg = config_get();
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct sipkeep_transport *transport;

	if (!cfg || !tp || !port_is_guarded(live_get(cfg), ctx->local_port))
		return;
	transport = bpf_sk_storage_get(&transports, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!transport)
		storage_failed_count(SIPKEEP_MAX_POLICIES);
	if (!transport || transport->phase == SIPKEEP_PHASE_LISTENER) /* run twice: see on_established() */
		return;
	transport->phase = SIPKEEP_PHASE_LISTENER;
	transport->cookie = bpf_get_socket_cookie(ctx);
	listener_add(tp);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	listener_emit(SIPKEEP_EVENT_LISTENER_UP, tp, transport->cookie);
}

/* Something we sent has been acknowledged. */
BPF_CALLED void on_rtt(struct bpf_sock *sk)
{
	struct sipkeep_transport *transport = bpf_sk_storage_get(&transports, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (transport && tp)
		message_look(transport, tp);
}

BPF_CALLED void on_state(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 next = ctx->args[1];
	struct sipkeep_transport *transport;
	struct tcp_sock *tp;

	if (!state_is_ending(next))
		return;
	if (next == BPF_TCP_CLOSE && ctx->args[0] == BPF_TCP_SYN_SENT)
		contact_missed(ctx, sk);
	transport = bpf_sk_storage_get(&transports, sk, NULL, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (transport && tp)
		ending(transport, tp, next);
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_established(ctx, sk, SIPKEEP_INBOUND);
		contact_reached(sk); /* of two sockets that connect() to each other: see on_established() */
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_established(ctx, sk, SIPKEEP_OUTBOUND);
		contact_reached(sk);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		on_rtt(sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connecting(ctx, sk);
		contact_dialled(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx, sk);
		break;
	}
	return 1;
}

/*
 * Takes on_sockops' place at a cgroup that is guarded no more, until disown.bpf.c has been through its sockets: nothing
 * new is counted, and what ends meanwhile is uncounted.
 */
SEC("sockops")
int on_drain(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk && ctx->op == BPF_SOCK_OPS_STATE_CB)
		on_state(ctx, sk);
	return 1;
}
