/* SPDX-License-Identifier: GPL-2.0-only */
/* life.h: a transport's keepalive and its three events; shared by the callbacks and by adoption. */
#ifndef SIPKEEP_LIFE_H
#define SIPKEEP_LIFE_H

#include "count.h"

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

BPF_CALLED void life_emit(enum sipkeep_event event, struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	const struct sipkeep_config *cfg = config_get();
	struct sipkeep_record *record;
	struct sipkeep_tuple tuple;

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
	record->idle_ns = idle_ns(cfg, tp);
	if (record->idle_ns > record->age_ns && !(record->flags & SIPKEEP_RECORD_ADOPTED))
		record->idle_ns = record->age_ns; /* kept in ticks of some milliseconds, the age in nanoseconds */
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
