/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ending.h: a socket goes to a state in which it can't be used both ways any more, or to its end: what it holds is
 * given back, what is to be told is told. One way, whether the state callback (transport.bpf.c) or the tracepoint
 * (watch.bpf.c) sees it. Either may come twice.
 */
#ifndef SIPKEEP_ENDING_H
#define SIPKEEP_ENDING_H

#include "contact.h"
#include "listener.h"
#include "reason.h"
#include "recount.h"

BPF_CALLED void ending_listener(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	if (!transport || !tp)
		return;
	listener_remove(tp);
	transport->phase = SIPKEEP_PHASE_NONE;
	transport->flags = 0;
	listener_emit(SIPKEEP_EVENT_LISTENER_DOWN, tp, transport->cookie);
}

BPF_CALLED void ending_disconnect(struct sipkeep_transport *transport, struct tcp_sock *tp, __u32 state)
{
	if (!transport || !tp)
		return;
	disconnect_reason(transport, tp, state);
	message_look(transport, tp);
	transport->phase = SIPKEEP_PHASE_DISCONNECTED;
	disconnected_count(policy_stats_get(transport->source.policy), *(volatile __u8 *)&transport->reason);
	life_emit(SIPKEEP_EVENT_DISCONNECTED, transport, tp, quiet_ticks(transport, tp));
	if (transport->direction == SIPKEEP_INBOUND)
		contact_closed(tp);
}

BPF_CALLED void ending_destroy(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	struct sipkeep_policy_stats *mine;

	if (!transport || !tp)
		return;
	recount_end(transport, tp);
	transport->phase = SIPKEEP_PHASE_DESTROYED;
	places_release(&transport->source, transport->flags);
	transport->flags &= SIPKEEP_TRANSPORT_ADOPTED;
	mine = policy_stats_get(transport->source.policy);
	if (mine)
		counter_add(&mine->destroyed);
	message_look(transport, tp);
	life_emit(SIPKEEP_EVENT_DESTROYED, transport, tp, 0);
}

BPF_INLINE bool state_is_ending(__u32 next)
{
	return next == BPF_TCP_CLOSE || next == BPF_TCP_CLOSE_WAIT || next == BPF_TCP_FIN_WAIT1;
}

BPF_INLINE void ending(struct sipkeep_transport *transport, struct tcp_sock *tp, __u32 next)
{
	struct places places = {};

	if (transport->phase == SIPKEEP_PHASE_CONNECTED)
		ending_disconnect(transport, tp, next);
	if (next != BPF_TCP_CLOSE)
		return;
	if (transport->phase == SIPKEEP_PHASE_DISCONNECTED) {
		ending_destroy(transport, tp);
	} else if (transport->phase == SIPKEEP_PHASE_CONNECTING) {
		recount_end(transport, tp);
		places.key = transport->source;
		places.flags = transport->flags;
		places_undo(&places);
		transport->flags = 0;
		transport->phase = SIPKEEP_PHASE_NONE;
	} else if (transport->phase == SIPKEEP_PHASE_LISTENER) {
		ending_listener(transport, tp);
	}
}

#endif
