/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * contact.h: the far ends of closed inbound transports, and the connect()s that go there in vain.
 *
 *   contact_closed()  an inbound transport was disconnected: its far end is a contact from now on
 *   contact_dial()    connect() (connect.bpf.c): one that goes to a contact marks its socket, whether or not a policy
 *                     matches it
 *   contact_dialled() its SYN goes out: the state callback will tell of its end
 *   contact_reached() it is established: no contact any more
 *   contact_missed()  it wasn't: counted and told
 *
 * A connect() that we refuse is marked by nobody, one that fails before its SYN (no route) is seen by nobody.
 */
#ifndef SIPKEEP_CONTACT_H
#define SIPKEEP_CONTACT_H

#include "count.h"

BPF_INLINE void contact_key(struct sipkeep_contact_key *key, struct tcp_sock *tp)
{
	struct sock_common *skc = &tp->inet_conn.icsk_inet.sk.__sk_common;

	key->port = bpf_ntohs(skc->skc_dport);
	key->pad0 = 0;
	key->pad1 = 0;
	if (skc->skc_family == AF_INET)
		addr_from_ipv4(&key->addr, skc->skc_daddr);
	else
		addr_from_ipv6(&key->addr, &skc->skc_v6_daddr);
}

BPF_CALLED void contact_closed(struct tcp_sock *tp)
{
	struct sipkeep_contact_key key;
	__u64 none = 0;

	if (!tp)
		return;
	contact_key(&key, tp);
	bpf_map_update_elem(&contacts, &key, &none, BPF_NOEXIST);
}

BPF_CALLED void contact_forget(struct tcp_sock *tp)
{
	struct sipkeep_contact_key key;

	if (!tp)
		return;
	contact_key(&key, tp);
	if (bpf_map_lookup_elem(&contacts, &key)) /* mostly it isn't there, and looking takes no lock */
		bpf_map_delete_elem(&contacts, &key);
}

BPF_CALLED void contact_dial(struct bpf_sock_addr *ctx, const struct sipkeep_addr *remote, __u32 port)
{
	struct sipkeep_contact_key key = {};
	__u32 *redial;
	bool known;

	if (!remote || !ctx->sk)
		return;
	key.addr = *remote;
	key.port = port;
	known = bpf_map_lookup_elem(&contacts, &key) != NULL;
	redial = bpf_sk_storage_get(&redials, ctx->sk, NULL, known ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (redial)
		*redial = known;
	else if (known)
		storage_failed_count(SIPKEEP_MAX_POLICIES);
}

BPF_CALLED void contact_dialled(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 *redial = bpf_sk_storage_get(&redials, sk, NULL, 0);

	if (redial && *redial)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

BPF_CALLED void contact_reached(struct bpf_sock *sk)
{
	__u32 *redial = bpf_sk_storage_get(&redials, sk, NULL, 0);

	if (!redial || !*redial)
		return;
	*redial = 0;
	contact_forget(bpf_skc_to_tcp_sock(sk));
}

/* What connect() fails with. UNKNOWN: given up before it could be told, or killed by an administrator. */
BPF_INLINE __u32 contact_reason(struct tcp_sock *tp)
{
	int error = tp->inet_conn.icsk_inet.sk.sk_err;

	switch (error) {
	case 0:
		return tp->total_retrans ? SIPKEEP_REASON_RETRANSMIT_TIMEOUT : SIPKEEP_REASON_UNKNOWN;
	case ECONNABORTED:
		return SIPKEEP_REASON_UNKNOWN;
	case ECONNREFUSED:
		return SIPKEEP_REASON_PEER_RESET;
	case ETIMEDOUT:
		return SIPKEEP_REASON_RETRANSMIT_TIMEOUT;
	}
	return SIPKEEP_REASON_UNREACHABLE; /* whatever ICMP has told */
}

BPF_CALLED void contact_emit(struct tcp_sock *tp, __u64 cookie, __u32 reason, __u64 failures)
{
	struct sipkeep_record *record = record_begin(SIPKEEP_EVENT_STALE_CONTACT);
	struct sipkeep_tuple tuple;

	if (!record)
		return;
	tuple_from_sock(&tuple, tp);
	record_tuple(record, &tuple);
	record->cookie = cookie;
	record->direction = SIPKEEP_OUTBOUND;
	record->reason = reason;
	record->count = failures;
	record->retransmits = tp->total_retrans;
	record_submit(record);
}

/* One more failure: returns how many by now. Forgotten meanwhile, it is the first one. */
BPF_CALLED __u64 contact_failures(struct tcp_sock *tp)
{
	struct sipkeep_contact_key key;
	__u64 *failures;

	if (!tp)
		return 1;
	contact_key(&key, tp);
	failures = bpf_map_lookup_elem(&contacts, &key);
	return failures ? __sync_fetch_and_add(failures, 1) + 1 : 1;
}

BPF_CALLED void contact_missed(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 *redial = bpf_sk_storage_get(&redials, sk, NULL, 0), reason;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct sipkeep_shared *all = shared_get();
	struct sipkeep_stats *mine = stats_get();
	__u64 failures;

	if (!redial || !*redial || !tp || !all || !mine)
		return;
	*redial = 0;
	reason = contact_reason(tp);
	if (reason == SIPKEEP_REASON_UNKNOWN || quiet)
		return;
	failures = contact_failures(tp);
	counter_add(&mine->stale_failures);
	if (failures == 1)
		counter_add(&mine->stale_contacts);
	if (events_left(&all->stale_window_ns, &all->stale_events, SIPKEEP_STALE_EVENTS_MAX, bpf_ktime_get_ns()))
		contact_emit(tp, bpf_get_socket_cookie(ctx), reason, failures);
	else
		counter_add(&mine->stale_untold);
}

#endif
