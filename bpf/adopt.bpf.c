// SPDX-License-Identifier: GPL-2.0-only
/*
 * adopt.bpf.c: the iterators over the kernel's own socket tables.
 *
 * on_adopt brings every open transport and listener of the guarded cgroups to where the running policies want it:
 * one that isn't counted yet is, with its keepalive; one counted in a source that isn't its own any more moves; in
 * between, during `apply`, it is counted in both (recount.h). Running it twice changes nothing. on_list only tells what
 * is there.
 *
 * The iterator holds the socket's lock, as the callbacks in transport.bpf.c do. Listeners come first, so an
 * established socket's direction can be told by its local address having a listener.
 */
#include "guarded.h"
#include "contact.h"
#include "life.h"
#include "listener.h"
#include "recount.h"

char LICENSE[] SEC("license") = "GPL";

BPF_INLINE bool state_is_open(__u32 state)
{
	return state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT || state == BPF_TCP_FIN_WAIT1 ||
	       state == BPF_TCP_FIN_WAIT2 || state == BPF_TCP_LAST_ACK || state == BPF_TCP_CLOSING;
}

/* watch.bpf.c is there, for sockets whose state callback can't be set; set by the loader. */
const volatile bool watching;

/*
 * flags: BPF_SOCK_OPS_*_CB_FLAG, all or none. What tells of its end: its state callback (0), or watch.bpf.c, which looks for a flag (that one). With neither (-1),
 * its end would never be counted: then it must not be counted at all.
 */
BPF_CALLED int end_told_by(struct tcp_sock *tp, int flags)
{
	if (!bpf_setsockopt(tp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags)))
		return 0;
	return watching ? SIPKEEP_TRANSPORT_WATCHED : -1;
}

BPF_CALLED void adopt_transport(struct tcp_sock *tp, struct sipkeep_transport *transport,
				const struct sighting *sighting, __u32 live, __u32 state)
{
	struct sipkeep_policy_stats *mine = policy_stats_get(sighting->places.key.policy);
	const struct sipkeep_policy *policy = policy_get(live, sighting->places.key.policy);
	struct places places = {};
	bool failed = false;
	int told_by;

	if (!mine || !policy)
		return;
	told_by = end_told_by(tp, transport_callbacks(sighting->direction));
	if (told_by < 0)
		return;
	places.key = sighting->places.key;
	places_force(&places);
	admitted_count(places.key.policy);
	transport->source = sighting->places.key;
	transport->flags = places.flags | SIPKEEP_TRANSPORT_ADOPTED | told_by;
	transport->direction = sighting->direction;
	transport->cookie = bpf_get_socket_cookie(tp);
	transport->connected_ns = bpf_ktime_get_ns();
	transport->phase = SIPKEEP_PHASE_CONNECTED;
	message_begin(transport, tp);
	counter_add(&mine->connected);
	if (policy->keepalive_set) {
		transport->enforce = keepalive_enforced(live, policy);
		if (!(live & SIPKEEP_LIVE_OBSERVE))
			KEEPALIVE_SET(tp, policy, failed);
		keepalive_count(sighting->places.key.policy, failed);
	}
	life_emit(SIPKEEP_EVENT_CONNECTED, transport, tp, 0);
	if (state == BPF_TCP_ESTABLISHED)
		return;
	/* Half closed before we came: it must still have its `disconnected`. */
	transport->phase = SIPKEEP_PHASE_DISCONNECTED;
	if (state == BPF_TCP_CLOSE_WAIT || state == BPF_TCP_LAST_ACK) {
		transport->reason = SIPKEEP_REASON_PEER_FIN;
		transport->closed_by = SIPKEEP_CLOSED_BY_REMOTE;
	} else { /* FIN_WAIT1, FIN_WAIT2; CLOSING, which is entered from the first of them */
		transport->reason = SIPKEEP_REASON_LOCAL_CLOSE;
		transport->closed_by = SIPKEEP_CLOSED_BY_LOCAL;
	}
	disconnected_count(mine, *(volatile __u8 *)&transport->reason);
	life_emit(SIPKEEP_EVENT_DISCONNECTED, transport, tp, 0);
	if (sighting->direction == SIPKEEP_INBOUND)
		contact_closed(tp);
}

/* It could not be counted when it came, the map being full or memory short: once more. */
BPF_CALLED void count_again(struct sipkeep_transport *transport)
{
	struct places places = {};

	places.key = transport->source;
	places_force(&places);
	places_release(&transport->source, places.flags & transport->flags);
	transport->flags |= places.flags;
}

/* The running policy's keepalive, for a transport that another one (or observe mode) may have begun under. */
BPF_CALLED void refresh_keepalive(struct tcp_sock *tp, struct sipkeep_transport *transport, __u32 live)
{
	const struct sipkeep_policy *policy = policy_get(live, transport->source.policy);
	bool failed = false;

	if (!policy)
		return;
	transport->enforce = keepalive_enforced(live, policy);
	if (!(live & SIPKEEP_LIVE_OBSERVE))
		KEEPALIVE_SET(tp, policy, failed);
	if (failed)
		keepalive_count(transport->source.policy, failed);
}

BPF_CALLED void adopt_listener(struct tcp_sock *tp, __u32 live)
{
	struct sipkeep_transport *transport;
	struct sipkeep_tuple tuple;
	int told_by;

	tuple_from_sock(&tuple, tp);
	if (!port_is_guarded(live, tuple.local_port) &&
	    !((live & SIPKEEP_LIVE_PREPARE) && port_is_guarded(live ^ SIPKEEP_LIVE_BANK, tuple.local_port)))
		return;
	transport = bpf_sk_storage_get(&transports, tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!transport)
		storage_failed_count(SIPKEEP_MAX_POLICIES);
	if (!transport || transport->phase == SIPKEEP_PHASE_LISTENER)
		return;
	/* Untold, its entry outlives it, and a SYN to a port nobody listens on meets a RST either way. */
	told_by = end_told_by(tp, BPF_SOCK_OPS_STATE_CB_FLAG);
	transport->flags = told_by > 0 ? told_by : 0;
	transport->phase = SIPKEEP_PHASE_LISTENER;
	transport->cookie = bpf_get_socket_cookie(tp);
	listener_add(tp);
}

BPF_CALLED void adopt_open(struct tcp_sock *tp, struct sipkeep_transport *transport, __u32 live, __u32 state)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct sighting sighting = {};

	tuple_from_sock(&sighting.tuple, tp);
	sight(&sighting, live, transport, sk);
	if (sighting.policy < 0 && (live & SIPKEEP_LIVE_PREPARE)) {
		live ^= SIPKEEP_LIVE_BANK; /* guarded by the policies that come next */
		sight(&sighting, live, transport, sk);
	}
	if (sighting.policy < 0)
		return;
	transport = bpf_sk_storage_get(&transports, tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (transport)
		adopt_transport(tp, transport, &sighting, live, state);
	else
		storage_failed_count(sighting.places.key.policy);
}

SEC("iter/tcp")
int on_adopt(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_transport *transport;
	struct tcp_sock *tp;
	__u32 state, live;

	if (!skc || !cfg)
		return 0;
	live = live_get(cfg);
	state = skc->skc_state;
	if (state != BPF_TCP_LISTEN && state != BPF_TCP_SYN_SENT && !state_is_open(state))
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp || !cgroup_is_guarded(&tp->inet_conn.icsk_inet.sk))
		return 0;
	if (state == BPF_TCP_LISTEN) {
		adopt_listener(tp, live);
		return 0;
	}
	transport = bpf_sk_storage_get(&transports, tp, NULL, 0);
	if (!transport || transport->phase < SIPKEEP_PHASE_CONNECTING) {
		if (state != BPF_TCP_SYN_SENT)
			adopt_open(tp, transport, live, state);
		if (!(live & SIPKEEP_LIVE_PREPARE))
			return 0;
		transport = bpf_sk_storage_get(&transports, tp, NULL, 0);
	}
	if (!transport || transport->phase < SIPKEEP_PHASE_CONNECTING || transport->phase > SIPKEEP_PHASE_DISCONNECTED)
		return 0;
	recount(transport, tp, live);
	if (state == BPF_TCP_SYN_SENT || (live & (SIPKEEP_LIVE_PREPARE | SIPKEEP_LIVE_CANCEL)))
		return 0;
	if (!(transport->flags & SIPKEEP_TRANSPORT_IN_SOURCE))
		count_again(transport);
	refresh_keepalive(tp, transport, live);
	return 0;
}

BPF_CALLED void list_keepalive(struct tcp_sock *tp, struct sipkeep_listing *listing)
{
	int value = 0;

	if (!bpf_getsockopt(tp, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof(value)))
		listing->keepalive = value != 0;
	if (!bpf_getsockopt(tp, SOL_TCP, TCP_KEEPIDLE, &value, sizeof(value)))
		listing->keepidle = value;
	if (!bpf_getsockopt(tp, SOL_TCP, TCP_KEEPINTVL, &value, sizeof(value)))
		listing->keepintvl = value;
	if (!bpf_getsockopt(tp, SOL_TCP, TCP_KEEPCNT, &value, sizeof(value)))
		listing->keepcnt = value;
	if (!bpf_getsockopt(tp, SOL_TCP, TCP_USER_TIMEOUT, &value, sizeof(value)))
		listing->user_timeout_ms = value;
}

SEC("iter/tcp")
int on_list(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct seq_file *seq = ctx->meta->seq;
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_transport *transport;
	struct sipkeep_listing listing = {};
	struct sighting sighting = {};
	struct tcp_sock *tp;
	__u32 state, live;

	if (!skc || !cfg)
		return 0;
	live = live_get(cfg);
	state = skc->skc_state;
	if (state != BPF_TCP_LISTEN && !state_is_open(state))
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	listing.outside = !cgroup_is_guarded(&tp->inet_conn.icsk_inet.sk);
	if (listing.outside && state != BPF_TCP_LISTEN)
		return 0;
	tuple_from_sock(&sighting.tuple, tp);
	transport = bpf_sk_storage_get(&transports, tp, NULL, 0);
	if (state == BPF_TCP_LISTEN) {
		listing.listener = 1;
		listing.guarded = port_is_guarded(live, sighting.tuple.local_port);
	} else {
		sight(&sighting, live, transport, &tp->inet_conn.icsk_inet.sk);
		listing.guarded = sighting.policy >= 0;
		listing.expected = sighting.places.key;
		listing.now_ns = bpf_ktime_get_ns();
		listing.idle_ns = idle_ns(cfg, tp);
		listing.bytes_in = bytes_in(tp);
		listing.bytes_out = bytes_out(tp);
		list_keepalive(tp, &listing);
	}
	if (transport)
		listing.transport = *transport;
	if (!listing.guarded && !transport)
		return 0;
	listing.tuple = sighting.tuple;
	listing.state = state;
	bpf_seq_write(seq, &listing, sizeof(listing));
	return 0;
}
