/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * recount.h: where a transport belongs, by the policies in force and by those that come next.
 *
 * `apply` may rename a policy, split it, change the prefix that makes a source. A transport is then counted in another
 * source than before, and the limits of that source must hold from the first connection that the new policies judge.
 * So it is counted in both for a while:
 *
 *   PREPARE  the next policies are in the bank that isn't in force. Every transport, as the iterator finds it or as it
 *            is established, is counted by that bank too, where the two differ: its shadow.
 *   FROZEN   for a moment no handshake completes (its ACK is dropped, and sent again), so that none is under way that
 *            one bank admitted and the other hasn't counted.
 *   SETTLE   the banks have been switched. The iterator gives back what the old one counted: the shadow is the place.
 *   CANCEL   instead, when PREPARE came to no end: the iterator gives back the shadows.
 *
 * The shadow's source isn't kept: it is what its bank makes of the transport's addresses, as long as one of these lasts.
 */
#ifndef SIPKEEP_RECOUNT_H
#define SIPKEEP_RECOUNT_H

#include "count.h"

struct sighting {
	struct sipkeep_tuple tuple;
	struct places places; /* its key is where it belongs */
	int policy; /* -1: not guarded */
	__u32 direction;
};

/* Where a socket belongs by the bank of `live`; sighting->tuple is filled in. */
BPF_CALLED void sight(struct sighting *sighting, __u32 live, struct sipkeep_transport *transport, struct sock *sk)
{
	const struct sipkeep_policy *policy;
	struct sipkeep_tuple *tuple;

	if (!sighting || !sk)
		return;
	tuple = &sighting->tuple;
	if (transport && transport->phase >= SIPKEEP_PHASE_RESERVED)
		sighting->direction = transport->direction;
	else
		sighting->direction = listener_match(sk->__sk_common.skc_net.net->net_cookie, &tuple->local,
						     tuple->local_port) ?
					      SIPKEEP_INBOUND : SIPKEEP_OUTBOUND;
	sighting->policy = policy_match(live, &tuple->remote, sighting->direction,
					sighting->direction == SIPKEEP_INBOUND ? tuple->local_port : tuple->remote_port);
	if (sighting->policy < 0)
		return;
	policy = policy_get(live, sighting->policy);
	if (!policy) {
		sighting->policy = -1;
		return;
	}
	if (sighting->direction == SIPKEEP_INBOUND) {
		source_key_inbound(&sighting->places.key, policy, sighting->policy, &tuple->remote);
	} else {
		source_key_outbound(&sighting->places.key, sighting->policy, &tuple->local, &tuple->remote,
				    tuple->remote_port);
		/* As connect.bpf.c makes the key: by what it was bound to when it called connect(). */
		if (transport && transport->phase >= SIPKEEP_PHASE_RESERVED)
			sighting->places.key.addr = transport->source.addr;
		else if (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDADDR_LOCK)
			return;
		else if (addr_is_ipv4(&tuple->remote))
			addr_from_ipv4(&sighting->places.key.addr, 0);
		else
			__builtin_memset(&sighting->places.key.addr, 0, sizeof(sighting->places.key.addr));
	}
}

/* The bank that shadows are counted by. */
BPF_INLINE __u32 shadow_bank(__u32 live)
{
	return live & (SIPKEEP_LIVE_PREPARE | SIPKEEP_LIVE_CANCEL) ? live ^ SIPKEEP_LIVE_BANK : live;
}

/* Counted by that bank, too, if it counts it elsewhere. */
BPF_INLINE void shadow_take(struct sipkeep_transport *transport, struct sighting *sighting)
{
	if (source_key_equal(&transport->source, &sighting->places.key))
		return;
	places_force(&sighting->places);
	transport->flags |= SIPKEEP_TRANSPORT_SHADOW | sighting->places.flags << SIPKEEP_TRANSPORT_SHADOW_SHIFT;
}

BPF_INLINE __u32 shadow_flags(const struct sipkeep_transport *transport)
{
	return transport->flags >> SIPKEEP_TRANSPORT_SHADOW_SHIFT & SIPKEEP_TRANSPORT_IN;
}

/* What its own source counts is given back, the shadow is its place from now on. */
BPF_INLINE void shadow_settle(struct sipkeep_transport *transport, const struct sighting *sighting)
{
	__u32 flags = shadow_flags(transport);

	if (transport->phase == SIPKEEP_PHASE_CONNECTING) {
		places_add(&transport->source, transport->flags, -SIPKEEP_RESERVED_ONE);
		places_add(&sighting->places.key, flags, SIPKEEP_RESERVED_ONE - SIPKEEP_ACTIVE_ONE);
	} else {
		places_release(&transport->source, transport->flags);
	}
	transport->source = sighting->places.key;
	transport->flags = flags | (transport->flags & SIPKEEP_TRANSPORT_FOUND);
}

BPF_INLINE void shadow_drop(struct sipkeep_transport *transport, const struct sighting *sighting)
{
	places_release(&sighting->places.key, shadow_flags(transport));
	transport->flags &= SIPKEEP_TRANSPORT_IN | SIPKEEP_TRANSPORT_FOUND;
}

/* A transport that is counted (CONNECTING to DISCONNECTED) is brought to where this step of a recount wants it. */
BPF_CALLED void recount(struct sipkeep_transport *transport, struct tcp_sock *tp, __u32 live)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct sighting sighting = {};

	tuple_from_sock(&sighting.tuple, tp);
	sight(&sighting, shadow_bank(live), transport, sk);
	if (sighting.policy < 0)
		return; /* the other policies don't guard it: it stays where it is until it ends */
	if (!(transport->flags & SIPKEEP_TRANSPORT_SHADOW) && !(live & SIPKEEP_LIVE_CANCEL))
		shadow_take(transport, &sighting);
	if (!(transport->flags & SIPKEEP_TRANSPORT_SHADOW) || (live & SIPKEEP_LIVE_PREPARE))
		return;
	if (live & SIPKEEP_LIVE_CANCEL)
		shadow_drop(transport, &sighting);
	else
		shadow_settle(transport, &sighting);
}

/* Its end, in the middle of a recount. */
BPF_CALLED void recount_end(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	const struct sipkeep_config *cfg = config_get();
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct sighting sighting = {};

	if (!cfg || !(transport->flags & SIPKEEP_TRANSPORT_SHADOW))
		return;
	tuple_from_sock(&sighting.tuple, tp);
	sight(&sighting, shadow_bank(live_get(cfg)), transport, sk);
	if (sighting.policy >= 0)
		shadow_drop(transport, &sighting);
}

#endif
