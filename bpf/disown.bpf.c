// SPDX-License-Identifier: GPL-2.0-only
/*
 * disown.bpf.c: an iterator that forgets the sockets of cgroups that are guarded no more: what they hold in the counts
 * is given back, without an event, for they go on. Running it twice changes nothing.
 */
#include "guarded.h"
#include "count.h"
#include "listener.h"

char LICENSE[] SEC("license") = "GPL";

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
		listener_remove(tp);
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
