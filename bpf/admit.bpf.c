// SPDX-License-Identifier: GPL-2.0-only
/*
 * admit.bpf.c: may this inbound connection come in?
 *
 * Asked twice. At the SYN (on_sk_lookup), so that a phone over its limit gets a RST at once and fails over; nothing is
 * reserved there, for a SYN's source may be forged. And at the handshake's final ACK (on_ingress), whose sender has
 * proved its address: there a place is taken, in one compare-and-swap, before the kernel makes the child socket. That
 * is what makes the limit exact: 200 clients that pass the SYN together still meet one by one here.
 *
 * Between the place and the child's PASSIVE_ESTABLISHED callback (transport.bpf.c), the kernel may still throw the ACK
 * away: accept queue full, TCP_DEFER_ACCEPT, another CPU's copy of it was quicker. Both happen in one softirq on one
 * CPU, so each CPU remembers the one place it took last; when it comes back here with that place unclaimed, the place
 * is given back. A place that an idle CPU still remembers makes the last place doubtful: the ACK is then dropped, not
 * refused (the peer sends again), and after PENDING_STALE_NS another CPU takes the stale place back.
 *
 * A client refused at its final ACK believes it is connected, and its request socket would linger for a minute. The
 * tuple is remembered as condemned, so that this request is never let in, and told to the reader through the aborts
 * ring: it destroys the request socket, and the client's next segment finds no socket but a RST.
 */
#include "pending.h"
#include "segment.h"

char LICENSE[] SEC("license") = "GPL";

/* The network namespace that this copy of on_sk_lookup is attached to: no helper tells. Set by the loader. */
const volatile __u64 netns_cookie = 0;

#define CONDEMNED_TAIL_NS (2 * 1000 * 1000 * 1000ULL) /* so long segments of a refused connection may come in */

#define HZ_TICKS(cfg, seconds) ((seconds) * 1000000000ULL / (cfg)->jiffy_ns)
#define SYNCOOKIE_VALID_SECONDS 121 /* the kernel's TCP_SYNCOOKIE_VALID, and a second for rounding */

/* Over the limit by what is established? Reads only. Returns enum sipkeep_refusal. */
BPF_CALLED int limit_reached(const struct sipkeep_source *source, const struct sipkeep_policy *policy, __u32 id)
{
	struct sipkeep_policy_count *count;
	__u64 now;

	if (!policy)
		return SIPKEEP_REFUSED_NONE;
	if (source) {
		__u64 word = count_load(&source->count);

		if (policy->max_connections_per_source && !(word & SIPKEEP_DEAD) &&
		    count_active(word) >= policy->max_connections_per_source)
			return SIPKEEP_REFUSED_SOURCE;
	}
	count = policy_count_get(id);
	if (count && policy->max_connections && count_active(count_load(&count->count)) >= policy->max_connections)
		return SIPKEEP_REFUSED_POLICY;
	if (source && policy->rate_interval_ns) {
		now = bpf_ktime_get_ns();
		if (!rate_next(count_load(&source->tat_ns), now, policy->rate_interval_ns, policy->rate_burst_ns))
			return SIPKEEP_REFUSED_RATE;
	}
	return SIPKEEP_REFUSED_NONE;
}

/* A SYN from remote: the cause it is refused for, or SIPKEEP_REFUSED_NONE. counted: it was told of already. */
BPF_CALLED int syn_refused(__u32 live, const struct sipkeep_addr *remote, __u32 port, __u32 skip_flags, bool counted)
{
	const struct sipkeep_policy *policy;
	struct sipkeep_source_key key;
	struct sipkeep_source *source;
	int id, cause;

	if (!remote)
		return SIPKEEP_REFUSED_NONE;
	id = policy_match(live, remote, SIPKEEP_INBOUND, port);
	if (id < 0)
		return SIPKEEP_REFUSED_NONE;
	policy = policy_get(live, id);
	if (!policy || (policy->flags & skip_flags))
		return SIPKEEP_REFUSED_NONE;
	source_key_inbound(&key, policy, id, remote);
	source = source_find(&key);
	cause = limit_reached(source, policy, id);
	if (cause == SIPKEEP_REFUSED_NONE || exempt_match(live, remote))
		return SIPKEEP_REFUSED_NONE;
	if (!counted)
		refusal_count(&key, source, cause);
	return cause;
}

/*
 * Functions of their own: inlined, clang merges the loads of both branches into one through a computed pointer, which
 * the verifier refuses ("dereference of modified ctx ptr").
 */
BPF_CALLED void tuple_from_ipv4(struct sipkeep_tuple *tuple, struct bpf_sk_lookup *ctx)
{
	addr_from_ipv4(&tuple->local, ctx->local_ip4);
	addr_from_ipv4(&tuple->remote, ctx->remote_ip4);
}

BPF_CALLED void tuple_from_ipv6(struct sipkeep_tuple *tuple, struct bpf_sk_lookup *ctx)
{
	tuple->local.w[0] = ctx->local_ip6[0];
	tuple->local.w[1] = ctx->local_ip6[1];
	tuple->local.w[2] = ctx->local_ip6[2];
	tuple->local.w[3] = ctx->local_ip6[3];
	tuple->remote.w[0] = ctx->remote_ip6[0];
	tuple->remote.w[1] = ctx->remote_ip6[1];
	tuple->remote.w[2] = ctx->remote_ip6[2];
	tuple->remote.w[3] = ctx->remote_ip6[3];
}

/*
 * SK_DROP makes the kernel answer the SYN with a RST. The program sees every lookup that found no connection, segments
 * of connections long gone among them, and no TCP flags: those would have met a RST anyway.
 */
SEC("sk_lookup")
int on_sk_lookup(struct bpf_sk_lookup *ctx)
{
	const struct sipkeep_config *cfg;
	struct sipkeep_tuple tuple = {};
	bool counted;
	__u32 live;
	__u64 *at;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	cfg = config_get();
	if (!cfg)
		return SK_PASS;
	live = live_get(cfg);
	if (live & SIPKEEP_LIVE_OBSERVE)
		return SK_PASS;
	tuple.local_port = ctx->local_port;
	tuple.remote_port = bpf_ntohs(ctx->remote_port);
	if (!port_is_guarded(live, tuple.local_port))
		return SK_PASS;
	if (ctx->family == AF_INET)
		tuple_from_ipv4(&tuple, ctx);
	else
		tuple_from_ipv6(&tuple, ctx);
	if (!listener_match(netns_cookie, &tuple.local, tuple.local_port))
		return SK_PASS;
	/* Refused at its final ACK, and counted then: its request socket is gone, this is one of its next segments. */
	at = bpf_map_lookup_elem(&condemned, &tuple);
	counted = at != NULL;
	if (at && bpf_ktime_get_ns() - *at > CONDEMNED_TAIL_NS)
		bpf_map_delete_elem(&condemned, &tuple);
	if (syn_refused(live, &tuple.remote, tuple.local_port, SIPKEEP_POLICY_DROP, counted))
		return SK_DROP; /* over its limit: RST, so that the phone fails over at once */
	return SK_PASS;
}

/* Has the listener sent SYN cookies lately, so that an ACK without a request may still become a connection? */
BPF_CALLED bool cookies_sent(struct tcp_sock *listener, const struct sipkeep_config *cfg)
{
	__u32 stamp = listener->rx_opt.ts_recent_stamp;

	return stamp && (__u32)bpf_jiffies64() - stamp < HZ_TICKS(cfg, SYNCOOKIE_VALID_SECONDS);
}

enum step {
	STEP_OTHER,	   /* makes no connection, whatever else it is */
	STEP_LAST,	   /* completes the handshake of a request socket */
	STEP_WITHOUT_REQUEST, /* may make one all the same: a SYN cookie's ACK, a Fast Open SYN */
};

/*
 * Will the kernel take this segment as a handshake's last step? Only then does it get a place: forged ACKs must not
 * hold one even for a moment.
 */
BPF_CALLED int handshake_step(struct __sk_buff *skb, struct bpf_sock *sk, const struct segment *segment,
			      const struct sipkeep_config *cfg)
{
	struct tcp_sock *listener = bpf_skc_to_tcp_sock(sk);
	struct tcp_request_sock *request;
	struct bpf_sock *found;
	int step = STEP_OTHER;

	if (!listener || !segment || !cfg)
		return STEP_OTHER;
	if (segment->flags & TCP_SYN) {
		if (!(segment->flags & TCP_ACK) && listener->inet_conn.icsk_accept_queue.fastopenq.max_qlen > 0)
			step = STEP_WITHOUT_REQUEST;
		return step;
	}
	if (!(segment->flags & TCP_ACK))
		return STEP_OTHER;
	found = request_lookup(skb, &segment->tuple);
	if (!found)
		return cookies_sent(listener, cfg) ? STEP_WITHOUT_REQUEST : STEP_OTHER;
	request = bpf_skc_to_tcp_request_sock(found);
	if (request)
		step = segment->ack == request->snt_isn + 1 ? STEP_LAST : STEP_OTHER;
	else if (found->state == BPF_TCP_LISTEN && cookies_sent(listener, cfg))
		step = STEP_WITHOUT_REQUEST;
	bpf_sk_release(found);
	return step;
}

/* Tells the reader, which destroys the request socket: the client's next segment then meets a RST. */
BPF_CALLED void abort_tell(struct __sk_buff *skb, const struct sipkeep_tuple *tuple)
{
	struct sipkeep_abort abort = {};
	struct sipkeep_stats *mine;
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *listener;

	if (!tuple || !sk)
		return;
	listener = bpf_skc_to_tcp_sock(sk);
	if (!listener)
		return;
	abort.tuple = *tuple;
	abort.netns_cookie = listener->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->net_cookie;
	if (bpf_ringbuf_output(&aborts, &abort, sizeof(abort), BPF_RB_FORCE_WAKEUP)) {
		mine = stats_get();
		if (mine)
			counter_add(&mine->aborts_lost);
	}
}

/*
 * Refused, but maybe only as a copy of an ACK that another CPU has just let in or is letting in: then it is no refusal,
 * whatever the limit says by now. First the places under way, then the sockets: between the two it can only have gone
 * from here to there.
 */
BPF_CALLED int copy_verdict(struct __sk_buff *skb, const struct segment *segment, int cause)
{
	struct pending_search search = {};
	struct bpf_sock *found;
	int verdict = REFUSE;

	search.by_rate = cause == SIPKEEP_REFUSED_RATE;
	search.own_cpu = bpf_get_smp_processor_id();
	bpf_loop(CPUS_MAX, pending_compare, &search, 0);
	if (search.found)
		return DEFER; /* should the other come to nothing, this one must not slip in uncounted */
	found = request_lookup(skb, &segment->tuple);
	if (!found)
		return REFUSE;
	if (found->state != BPF_TCP_LISTEN && found->state != TCP_NEW_SYN_RECV)
		verdict = ADMIT; /* established: the kernel throws the copy away */
	bpf_sk_release(found);
	return verdict;
}

/* Refused, or the last place in doubt. 0: drop it. */
BPF_CALLED int refuse_last_step(struct __sk_buff *skb, const struct segment *segment,
				const struct sipkeep_source_key *key, int verdict, int cause)
{
	struct sipkeep_stats *mine;
	__u64 now = bpf_ktime_get_ns();

	if (!segment || !key)
		return 0;
	if (verdict == REFUSE) {
		/*
		 * Condemned before looking for a copy, as the other CPU looks for the condemnation after it has
		 * shown what it decides about: at least one of the two sees the other.
		 */
		if (bpf_map_update_elem(&condemned, &segment->tuple, &now, BPF_NOEXIST) == -EEXIST)
			return 0; /* refused, and counted, there */
		verdict = copy_verdict(skb, segment, cause);
		if (verdict != REFUSE)
			bpf_map_delete_elem(&condemned, &segment->tuple);
	}
	if (verdict == ADMIT)
		return 1;
	if (verdict == REFUSE) {
		refusal_count(key, source_find(key), cause);
		abort_tell(skb, &segment->tuple);
	} else {
		mine = stats_get();
		if (mine)
			counter_add(&mine->deferred);
	}
	return 0; /* over the limit, or the last place in doubt: never without a place */
}

/* Takes a place for a handshake that is about to complete. 1: let it through, 0: drop it. */
BPF_CALLED int admit_last_step(struct __sk_buff *skb, __u32 live, const struct segment *segment, int id)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct sipkeep_pending *pending = bpf_map_lookup_elem(&pendings, &cpu);
	const struct sipkeep_policy *policy;
	struct places places = {};
	int verdict, cause = 0, pass = 1;
	bool exempt, force;

	if (!segment || !pending)
		return 0;
	policy = policy_get(live, id);
	if (!policy)
		return 1;
	source_key_inbound(&places.key, policy, id, &segment->tuple.remote);
	exempt = exempt_match(live, &segment->tuple.remote);
	force = (live & SIPKEEP_LIVE_OBSERVE) || exempt;
	pending_deciding(pending, &segment->tuple, &places.key);
	verdict = places_take_somehow(&places, policy, force, live, &cause);
	if (verdict == DEFER) {
		pendings_reclaim();
		verdict = places_take_somehow(&places, policy, force, live, &cause);
	}
	if (verdict == ADMIT) {
		if (exempt || cause == SIPKEEP_REFUSED_FULL)
			cause = SIPKEEP_REFUSED_NONE;
		pending_put(pending, &places, cause);
		if (!force && bpf_map_lookup_elem(&condemned, &segment->tuple)) {
			pending_undo(pending); /* another CPU refuses a copy of this ACK right now: it asks again */
			pass = 0;
		}
	} else if (!force) { /* forced: no place could be had at this instant, it is counted when established */
		pass = refuse_last_step(skb, segment, &places.key, verdict, cause);
	}
	pending_decided(pending);
	if (places.made)
		clock_tick();
	return pass;
}

/* apply is about to switch policies: nothing may be under way then. The peer sends again. */
BPF_INLINE bool frozen(const struct sipkeep_config *cfg, __u32 live)
{
	struct sipkeep_stats *mine;

	if (!(live & SIPKEEP_LIVE_FROZEN) || bpf_ktime_get_ns() >= cfg->frozen_until_ns)
		return false;
	mine = stats_get();
	if (mine)
		counter_add(&mine->deferred);
	return true;
}

BPF_CALLED int admit_segment(struct __sk_buff *skb, struct bpf_sock *sk)
{
	const struct sipkeep_config *cfg = config_get();
	__u32 cpu = bpf_get_smp_processor_id();
	struct segment segment = {};
	bool observe;
	int id, step;
	__u32 live;

	if (!cfg)
		return 1;
	live = live_get(cfg);
	observe = live & SIPKEEP_LIVE_OBSERVE;
	if (!port_is_guarded(live, sk->src_port))
		return 1;
	/* Whatever this CPU took a place for last is over by now. */
	pending_undo(bpf_map_lookup_elem(&pendings, &cpu));
	if (segment_parse(skb, &segment))
		return observe; /* headers the kernel may understand but we can't: it must not come in uncounted */
	if (segment.flags & TCP_RST)
		return 1;
	id = policy_match(live, &segment.tuple.remote, SIPKEEP_INBOUND, segment.tuple.local_port);
	if (id < 0)
		return 1;
	/* Over the limit since sk_lookup passed it, or refused by drop: the phone's next SYN meets the RST. */
	if ((segment.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !observe) {
		if (bpf_map_lookup_elem(&condemned, &segment.tuple))
			bpf_map_delete_elem(&condemned, &segment.tuple); /* a new connection from the same port */
		if (syn_refused(live, &segment.tuple.remote, segment.tuple.local_port, 0, false))
			return 0;
	}
	step = handshake_step(skb, sk, &segment, cfg);
	if (step == STEP_OTHER)
		return 1;
	if (step == STEP_LAST && !observe && bpf_map_lookup_elem(&condemned, &segment.tuple))
		return 0; /* refused before, and counted then: this request is never let in */
	if (frozen(cfg, live))
		return 0;
	return admit_last_step(skb, live, &segment, id);
}

/* Every packet a guarded socket receives passes here: one field tells that most aren't for a listener. */
SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || sk->state != BPF_TCP_LISTEN)
		return 1;
	return admit_segment(skb, sk);
}
