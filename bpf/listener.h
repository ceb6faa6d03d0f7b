/* SPDX-License-Identifier: GPL-2.0-only */
/* listener.h: the map of guarded listeners, and their events. */
#ifndef SIPKEEP_LISTENER_H
#define SIPKEEP_LISTENER_H

#include "event.h"

BPF_INLINE void listener_key(struct sipkeep_listener_key *key, struct tcp_sock *tp)
{
	struct sipkeep_tuple tuple;

	tuple_from_sock(&tuple, tp);
	__builtin_memset(key, 0, sizeof(*key));
	key->netns_cookie = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->net_cookie;
	key->addr = tuple.local;
	key->port = tuple.local_port;
}

BPF_INLINE void listener_add(struct tcp_sock *tp)
{
	struct sipkeep_listener_key key;
	__u32 one = 1, *shares;

	listener_key(&key, tp);
	shares = bpf_map_lookup_elem(&listeners, &key);
	if (shares)
		__sync_fetch_and_add(shares, 1);
	else
		bpf_map_update_elem(&listeners, &key, &one, BPF_NOEXIST);
}

BPF_CALLED void listener_remove(struct tcp_sock *tp)
{
	struct sipkeep_listener_key key;
	__u32 *shares;

	listener_key(&key, tp);
	shares = bpf_map_lookup_elem(&listeners, &key);
	if (shares && __sync_fetch_and_add(shares, -1) <= 1)
		bpf_map_delete_elem(&listeners, &key);
}

BPF_CALLED void listener_emit(enum sipkeep_event event, struct tcp_sock *tp, __u64 cookie)
{
	struct sipkeep_record *record = record_begin(event);
	struct sipkeep_tuple tuple;

	if (!record)
		return;
	tuple_from_sock(&tuple, tp);
	record_tuple(record, &tuple);
	record->cookie = cookie;
	record->netns_cookie = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->net_cookie;
	record->direction = SIPKEEP_INBOUND;
	record_submit(record);
}

/* A UDP socket is no struct tcp_sock, and its address can't be read when it goes: its storage has it. */
BPF_INLINE void listener_emit_udp(enum sipkeep_event event, const struct sipkeep_transport *transport, __u64 netns_cookie)
{
	struct sipkeep_record *record = record_begin(event);

	if (!record)
		return;
	record->local = transport->source.addr;
	record->local_port = bpf_ntohs(transport->source.port_be);
	record->cookie = transport->cookie;
	record->netns_cookie = netns_cookie;
	record->direction = SIPKEEP_INBOUND;
	record->flags = SIPKEEP_RECORD_UDP;
	record_submit(record);
}

BPF_INLINE void listener_begin_udp(struct sipkeep_transport *transport, const struct sipkeep_addr *addr, __u32 port,
				   __u64 cookie)
{
	transport->source.addr = *addr;
	transport->source.port_be = bpf_htons(port);
	transport->cookie = cookie;
	transport->phase = SIPKEEP_PHASE_LISTENER;
}

BPF_INLINE void listener_down_udp(struct sipkeep_transport *transport, __u64 netns_cookie)
{
	transport->phase = SIPKEEP_PHASE_NONE;
	listener_emit_udp(SIPKEEP_EVENT_LISTENER_DOWN, transport, netns_cookie);
}

#endif
