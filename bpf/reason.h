/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reason.h: why a transport can't be used both ways any more, and which end did it, from the socket itself while it
 * changes its state.
 *
 *   to CLOSE_WAIT  the peer's FIN came first
 *   to FIN_WAIT1   ours did: close(), shutdown(), a process that ended
 *   to CLOSE       all at once. close() (with data unread, or SO_LINGER 0) has shut both directions before; connect() to
 *                  AF_UNSPEC and a listener closed before accept() leave no error, or set it later. Else the kernel has
 *                  put its error into sk_err by now: ECONNRESET for a RST; ECONNABORTED for SOCK_DESTROY (`ss -K`) and
 *                  bpf_sock_destroy(); ETIMEDOUT when it gave the peer up, or instead of it the last ICMP error (or
 *                  failure of a route) since anything was acknowledged, which it keeps in sk_err_soft.
 *
 * When the kernel gives up it throws its queue away first, but the sequence numbers still tell what was unacknowledged.
 * Nothing: the keepalive timer it was, and TCP_USER_TIMEOUT, where it is set, has only taken the place of tcp_keepcnt.
 * Else TCP_USER_TIMEOUT, where it is set, has taken the place of net.ipv4.tcp_retries2; but probes into a window that the
 * peer keeps closed end by whichever comes first.
 *
 * SO_ERROR takes sk_err away without the socket's lock: a program that asks for it at the very instant the kernel gives
 * up makes a timeout look like a local reset.
 */
#ifndef SIPKEEP_REASON_H
#define SIPKEEP_REASON_H

#include "life.h"

BPF_INLINE bool all_acknowledged(struct tcp_sock *tp)
{
	return tp->snd_una == tp->write_seq;
}

BPF_CALLED int timeout_reason(struct tcp_sock *tp)
{
	const struct sipkeep_config *cfg = config_get();
	__u32 user_timeout, probing;

	if (!tp || !cfg)
		return SIPKEEP_REASON_UNKNOWN;
	if (all_acknowledged(tp))
		return SIPKEEP_REASON_KEEPALIVE_TIMEOUT;
	user_timeout = tp->inet_conn.icsk_user_timeout;
	if (!user_timeout)
		return SIPKEEP_REASON_RETRANSMIT_TIMEOUT;
	probing = (__u32)bpf_jiffies64() - tp->inet_conn.icsk_probes_tstamp;
	if (tp->snd_una == tp->snd_nxt && probing * cfg->jiffy_ns < user_timeout * 1000000ULL)
		return SIPKEEP_REASON_RETRANSMIT_TIMEOUT;
	return SIPKEEP_REASON_USER_TIMEOUT;
}

BPF_INLINE int close_reason(struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	int error = sk->sk_err;

	if (!error || sk->sk_shutdown == SHUTDOWN_MASK)
		return SIPKEEP_REASON_LOCAL_RESET;
	if (error == ECONNRESET || error == EPIPE)
		return SIPKEEP_REASON_PEER_RESET;
	if (error == ECONNABORTED)
		return SIPKEEP_REASON_KILLED;
	if (error == ETIMEDOUT || error == EMSGSIZE) /* EMSGSIZE: "fragmentation needed" is no word about the peer */
		return timeout_reason(tp);
	return error == sk->sk_err_soft ? SIPKEEP_REASON_UNREACHABLE : SIPKEEP_REASON_UNKNOWN;
}

/* Nobody's, where the path was lost. */
BPF_INLINE int reason_closed_by(int reason)
{
	switch (reason) {
	case SIPKEEP_REASON_PEER_FIN:
	case SIPKEEP_REASON_PEER_RESET:
		return SIPKEEP_CLOSED_BY_REMOTE;
	case SIPKEEP_REASON_LOCAL_CLOSE:
	case SIPKEEP_REASON_LOCAL_RESET:
	case SIPKEEP_REASON_KILLED:
		return SIPKEEP_CLOSED_BY_LOCAL;
	default:
		return SIPKEEP_CLOSED_BY_UNKNOWN;
	}
}

/* state: the one it goes to. */
BPF_CALLED void disconnect_reason(struct sipkeep_transport *transport, struct tcp_sock *tp, __u32 state)
{
	int reason;

	if (!transport || !tp)
		return;
	if (state == BPF_TCP_CLOSE_WAIT)
		reason = SIPKEEP_REASON_PEER_FIN;
	else if (state == BPF_TCP_FIN_WAIT1)
		reason = SIPKEEP_REASON_LOCAL_CLOSE;
	else
		reason = close_reason(tp);
	transport->reason = reason;
	transport->closed_by = reason_closed_by(reason);
}

BPF_INLINE __u32 keepalive_interval(struct tcp_sock *tp)
{
	struct net *net = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;
	__u32 interval = tp->keepalive_intvl;

	return interval ? interval : net->ipv4.sysctl_tcp_keepalive_intvl;
}

/*
 * How long nothing had been heard from the peer when the first packet went out that it never answered: where a NAT forgot
 * the connection, it had been quiet for at least that NAT's time. Such a packet is a keepalive probe, or data; it goes
 * unanswered, or a RST is the answer. (To data sent several times before the RST came: counted from the last time.)
 * In jiffies; 0 where there is no such packet.
 */
BPF_CALLED __u32 quiet_ticks(struct sipkeep_transport *transport, struct tcp_sock *tp)
{
	__u32 now = (__u32)bpf_jiffies64(), heard, quiet, unanswered;

	if (!transport || !tp)
		return 0;
	heard = later_of(tp->inet_conn.icsk_ack.lrcvtime, tp->rcv_tstamp);
	unanswered = tp->inet_conn.icsk_probes_out;
	if (transport->reason == SIPKEEP_REASON_PEER_RESET && !all_acknowledged(tp)) {
		quiet = tp->lsndtime - heard;
	} else if (transport->reason == SIPKEEP_REASON_PEER_RESET && unanswered) {
		quiet = now - heard - (unanswered - 1) * keepalive_interval(tp); /* a RST to the last one */
	} else if (transport->reason == SIPKEEP_REASON_KEEPALIVE_TIMEOUT) {
		quiet = now - heard - unanswered * keepalive_interval(tp);
	} else {
		return 0;
	}
	return (__s32)quiet > 0 ? quiet : 0;
}

#endif
