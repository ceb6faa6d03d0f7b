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

#endif
