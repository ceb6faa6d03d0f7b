/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * life.h: a transport's keepalive and its three events; shared by the callbacks and by adoption.
 *
 * Idle times. idle_ms counts from the last payload byte in either direction. A PBX's own timers count from the last SIP
 * message, and what passes since is payload, too: CRLF pings (2 or 4 bytes; inside TLS 24 to 35), WebSocket pings and
 * pongs, and TLS's close_notify (24 to 53 bytes), with which an end over TLS begins: at that moment the plain idle time is
 * 0. sip_idle_ms leaves such small chunks out. The kernel doesn't keep the size of the last one, so the counters are
 * looked at with each RTT sample, which comes when something we sent is acknowledged, and at the end. What grew by more
 * than small chunks since the last look may have been a message, and its time is that of the direction's last payload
 * (message_look()). What that can't see:
 *
 *   - encrypted or not, sizes are all there is: a large ping counts as a message, a file in MSRP over the same port, too.
 *     A TLS handshake does.
 *   - between two looks, only the last time of each direction is known. A message received, nothing sent after it, then a
 *     ping received: the message is taken to be as late as the ping (or, where the ping is still unread, as early as the
 *     look before, which was at the message's own ACK). A PBX that answers has a look each time.
 *   - a message that is sent again counts from the last time it was sent.
 *   - inbound transports, and those adopted on a kernel whose iterator can't set the callback (before Linux 6.12), have
 *     one look, at the end: unless all that ever passed was small, theirs is the plain idle time. (A look costs more than
 *     the rest of what the programs do for a packet; idle timers that end a transport too early are the client's.)
 */
#ifndef SIPKEEP_LIFE_H
#define SIPKEEP_LIFE_H

#include "count.h"

/* What a transport is called back for: its changes of state; outbound, its RTT samples, too (see above). */
BPF_INLINE int transport_callbacks(__u32 direction)
{
	return BPF_SOCK_OPS_STATE_CB_FLAG | (direction == SIPKEEP_OUTBOUND ? BPF_SOCK_OPS_RTT_CB_FLAG : 0);
}

BPF_INLINE bool is_sampled(const struct sipkeep_transport *transport)
{
	return transport->direction == SIPKEEP_OUTBOUND && !(transport->flags & SIPKEEP_TRANSPORT_WATCHED);
}

/* Since the last payload byte in either direction: keepalive probes and bare ACKs move neither time. */
BPF_INLINE __u64 idle_ns(const struct sipkeep_config *cfg, struct tcp_sock *tp)
{
	__u32 now = (__u32)bpf_jiffies64();
	__u32 sent = now - tp->lsndtime, received = now - tp->inet_conn.icsk_ack.lrcvtime;

	return (sent < received ? sent : received) * cfg->jiffy_ns;
}

/* The kernel counts the peer's FIN as a byte received. */
BPF_INLINE __u64 bytes_in(struct tcp_sock *tp)
{
	return tp->bytes_received - (tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags >> SOCK_DONE & 1);
}

BPF_INLINE __u64 bytes_out(struct tcp_sock *tp)
{
	return tp->bytes_sent - tp->bytes_retrans;
}

#define SMALL_MOST 64 /* bytes: no SIP message is that short */
#define PING_MOST 36  /* bytes of a ping, encrypted */

BPF_INLINE __u32 later_of(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0 ? a : b;
}

/* From here on: what passed before is taken as one message. */
BPF_INLINE void message_begin(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	transport->message_at = later_of(tp->lsndtime, tp->inet_conn.icsk_ack.lrcvtime);
	transport->looked_at = (__u32)bpf_jiffies64();
	transport->seen_out = (__u32)bytes_out(tp);
	transport->seen_in = (__u32)bytes_in(tp);
	transport->seen_segments = tp->data_segs_in;
}

/*
 * Received data comes with few looks when we send nothing, and may be one ping a segment. The segment that brought this
 * look is among data_segs_in, but not always among the bytes yet (header prediction counts them first, else the ACK is
 * looked at before the payload): so a message received may have been seen as nothing but its segment, at looked_at.
 */
BPF_INLINE void message_received(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	__u32 in = (__u32)bytes_in(tp), grown = in - transport->seen_in, unread = tp->rcv_nxt - tp->copied_seq;
	__u32 least = SMALL_MOST + PING_MOST * (tp->data_segs_in - transport->seen_segments);
	__u32 at = tp->inet_conn.icsk_ack.lrcvtime;

	transport->seen_in = in;
	transport->seen_segments = tp->data_segs_in;
	if (grown <= least)
		return;
	/* The last chunk is a small one, still unread: it isn't the message. */
	if (is_sampled(transport) && unread && unread <= SMALL_MOST && grown - unread > SMALL_MOST)
		at = transport->looked_at;
	transport->message_at = later_of(at, transport->message_at);
}

BPF_CALLED void message_look(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	__u32 out;

	if (!transport || !tp)
		return;
	out = (__u32)bytes_out(tp);
	if (out - transport->seen_out > SMALL_MOST)
		transport->message_at = later_of(tp->lsndtime, transport->message_at);
	transport->seen_out = out;
	message_received(transport, tp);
	transport->looked_at = (__u32)bpf_jiffies64();
}

BPF_INLINE __u32 to_ms(__u64 ns)
{
	__u64 ms = ns / 1000000;

	return ms > ~0U ? ~0U : ms;
}

/* Kept in ticks of some milliseconds, the age in nanoseconds. */
BPF_INLINE __u64 no_more_than_age(const struct sipkeep_record *record, __u64 ns)
{
	return ns > record->age_ns && !(record->flags & SIPKEEP_RECORD_ADOPTED) ? record->age_ns : ns;
}

/* quiet_ticks: see bpf/reason.h; 0 for events other than disconnected. */
BPF_CALLED void life_emit(enum sipkeep_event event, struct sipkeep_transport *transport, struct tcp_sock *tp,
			  __u32 quiet_ticks)
{
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_record *record;
	struct sipkeep_tuple tuple;
	__u64 sip_idle_ns;

	if (!transport || !tp || !cfg)
		return;
	record = record_begin(event);
	if (!record)
		return;
	tuple_from_sock(&tuple, tp);
	record_tuple(record, &tuple);
	record->cookie = transport->cookie;
	record->generation = transport->generation;
	record->policy = transport->source.policy;
	record->direction = transport->direction;
	record->reason = transport->reason;
	record->closed_by = transport->closed_by;
	record->flags = transport->flags & SIPKEEP_TRANSPORT_ADOPTED ? SIPKEEP_RECORD_ADOPTED : 0;
	record->age_ns = record->ts_ns - transport->connected_ns;
	record->idle_ns = no_more_than_age(record, idle_ns(cfg, tp));
	sip_idle_ns = ((__u32)bpf_jiffies64() - transport->message_at) * cfg->jiffy_ns;
	record->sip_idle_ms = to_ms(no_more_than_age(record, sip_idle_ns));
	record->quiet_ms = to_ms(quiet_ticks * cfg->jiffy_ns);
	record->bytes_in = bytes_in(tp);
	record->bytes_out = bytes_out(tp);
	record->srtt_us = tp->srtt_us >> 3;
	record->retransmits = tp->total_retrans;
	record_submit(record);
}

/*
 * Sets what the policy names, each option only where it is named. target: what bpf_setsockopt() takes in the calling
 * program (the sockops context, or the iterator's socket). A macro, because that differs by type.
 */
#define KEEPALIVE_OPTION(target, level, name, policy, bit, number, failed)                                             \
	do {                                                                                                           \
		value_ = (number);                                                                                     \
		if (((policy)->keepalive_set & (bit)) &&                                                               \
		    bpf_setsockopt(target, level, name, &value_, sizeof(value_)))                                      \
			failed = true;                                                                                 \
	} while (0)

/* One value_ for all: a slot each is stack that Linux 6.1 hasn't. */
#define KEEPALIVE_SET(target, policy, ret_failed)                                                                      \
	do {                                                                                                           \
		int value_;                                                                                            \
		ret_failed = false;                                                                                    \
		KEEPALIVE_OPTION(target, SOL_TCP, TCP_KEEPIDLE, policy, SIPKEEP_SET_KEEPIDLE, (policy)->keepidle,      \
				 ret_failed);                                                                          \
		KEEPALIVE_OPTION(target, SOL_TCP, TCP_KEEPINTVL, policy, SIPKEEP_SET_KEEPINTVL, (policy)->keepintvl,   \
				 ret_failed);                                                                          \
		KEEPALIVE_OPTION(target, SOL_TCP, TCP_KEEPCNT, policy, SIPKEEP_SET_KEEPCNT, (policy)->keepcnt,         \
				 ret_failed);                                                                          \
		KEEPALIVE_OPTION(target, SOL_TCP, TCP_USER_TIMEOUT, policy, SIPKEEP_SET_USER_TIMEOUT,                  \
				 (policy)->user_timeout_ms, ret_failed);                                               \
		KEEPALIVE_OPTION(target, SOL_SOCKET, SO_KEEPALIVE, policy, SIPKEEP_SET_KEEPALIVE,                      \
				 (policy)->keepalive, ret_failed);                                                     \
	} while (0)

/* Read once into a register: an index read again after its check is none the verifier trusts. */
BPF_INLINE void disconnected_count(struct sipkeep_policy_stats *mine, __u32 reason)
{
	if (!mine)
		return;
	counter_add(&mine->disconnected);
	if (reason < SIPKEEP_REASON_MAX)
		counter_add(&mine->teardowns[reason]);
}

BPF_INLINE void keepalive_count(__u32 policy_id, bool failed)
{
	struct sipkeep_policy_stats *mine = policy_stats_get(policy_id);

	if (!mine)
		return;
	if (failed)
		counter_add(&mine->keepalive_failed);
	else
		counter_add(&mine->keepalive_set);
}

BPF_INLINE __u8 keepalive_enforced(__u32 live, const struct sipkeep_policy *policy)
{
	if ((live & SIPKEEP_LIVE_OBSERVE) || !(policy->flags & SIPKEEP_POLICY_ENFORCE_KEEPALIVE))
		return 0;
	return policy->keepalive_set;
}

#endif
