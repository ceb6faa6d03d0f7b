// SPDX-License-Identifier: GPL-2.0-only
/*
 * disown.bpf.c: an iterator that forgets the sockets of cgroups that are guarded no more: what they hold in the counts
 * is given back, without an event, for they go on. Running it twice changes nothing.
 */
#include "guarded.h"
#include "count.h"

char LICENSE[] SEC("license") = "GPL";

BPF_CALLED void disown_listener(struct tcp_sock *tp)
{
	struct sock_common *skc = &tp->inet_conn.icsk_inet.sk.__sk_common;
	struct sipkeep_listener_key key = {};
	struct sipkeep_tuple tuple;
	__u32 *shares;

	tuple_from_sock(&tuple, skc);
	key.netns_cookie = skc->skc_net.net->net_cookie;
	key.addr = tuple.local;
	key.port = tuple.local_port;
	shares = bpf_map_lookup_elem(&listeners, &key);
	if (shares && __sync_fetch_and_add(shares, -1) <= 1)
		bpf_map_delete_elem(&listeners, &key);
}

SEC("iter/tcp")
int on_disown(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct sipkeep_transport *transport;
	struct places places = {};
	struct tcp_sock *tp;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	transport = bpf_sk_storage_get(&transports, tp, NULL, 0);
	if (!transport || transport->phase == SIPKEEP_PHASE_NONE || transport->phase == SIPKEEP_PHASE_DESTROYED ||
	    cgroup_is_guarded(&tp->inet_conn.icsk_inet.sk))
		return 0;
	if (transport->phase == SIPKEEP_PHASE_LISTENER) {
		disown_listener(tp);
	} else if (transport->phase < SIPKEEP_PHASE_CONNECTED) {
		places.key = transport->source;
		places.flags = transport->flags;
		places_undo(&places);
	} else {
		places_release(&transport->source, transport->flags);
	}
	transport->flags = 0;
	transport->enforce = 0;
	transport->phase = SIPKEEP_PHASE_NONE;
	return 0;
}
