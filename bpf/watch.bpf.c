// SPDX-License-Identifier: GPL-2.0-only
/*
 * watch.bpf.c: sees the end of what was open before load, where the iterator can't set the state callback (before Linux
 * 6.12). Elsewhere the loader leaves it out: a tracepoint sees every socket of the host.
 *
 * It comes later than the callback does: the state is still the old one, but the port may have been given back.
 *
 * The kernel skips a program that is already running on this CPU, and the run of a process may be interrupted by a
 * softirq in which another socket ends. Hence two, one after the other: of these, at most one is running then, and the
 * other one isn't skipped. A softirq's own run is interrupted by no other. Where both run, the second finds nothing to
 * do. So misses that the kernel counts (recursion_misses) are no ends missed.
 */
#include "ending.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* Under the socket's lock, as all changes of state. */
BPF_CALLED void watched(struct sock *sk, __u32 next)
{
	struct sipkeep_transport *transport;
	struct tcp_sock *tp;

	transport = bpf_sk_storage_get(&transports, sk, NULL, 0);
	if (!transport || !(transport->flags & SIPKEEP_TRANSPORT_WATCHED))
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		ending(transport, tp, next);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_set_state, struct sock *sk, int from, int next)
{
	if (state_is_ending(next))
		watched(sk, next);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_set_state_2, struct sock *sk, int from, int next)
{
	if (state_is_ending(next))
		watched(sk, next);
	return 0;
}
