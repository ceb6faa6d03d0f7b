// SPDX-License-Identifier: GPL-2.0-only
/*
 * diagnose_wedged.c: outbound transports that the peer has closed and the PBX leaves as they are.
 *
 * What makes up for one is a newer one to the same destination: while such a one is open, and for `wedged_after` from
 * when the last of them was lost (the PBX may be connecting again), it isn't wedged. In doubt it isn't either: of those
 * that were adopted, which one is newer can't be known.
 */
#include <stdlib.h>
#include "diagnose_internal.h"

static struct destination *destination_get(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct destination_key key = { .addr = record->remote, .port = record->remote_port };
	struct destination *destination = table_find(&diagnose->destinations, &key);

	if (destination)
		return destination;
	destination = calloc(1, sizeof(*destination));
	if (!destination)
		return NULL;
	destination->key = key;
	TAILQ_INIT(&destination->alive);
	TAILQ_INIT(&destination->open);
	table_add(&diagnose->destinations, &destination->node);
	return destination;
}

/* They come in this order, but for those that diagnose_open() names. */
int outbound_add(struct diagnose *diagnose, struct outbound *outbound, const struct sipkeep_record *record)
{
	struct destination *destination = destination_get(diagnose, record);
	__u64 connected_ns = outbound->transport.connected_ns;
	struct outbound *before;

	if (!destination)
		return -1;
	outbound->destination = destination;
	before = TAILQ_LAST(&destination->alive, outbound_list);
	while (before && before->transport.connected_ns > connected_ns)
		before = TAILQ_PREV(before, outbound_list, alive);
	if (before)
		TAILQ_INSERT_AFTER(&destination->alive, before, outbound, alive);
	else
		TAILQ_INSERT_HEAD(&destination->alive, outbound, alive);
	before = TAILQ_LAST(&destination->open, outbound_list);
	while (before && before->transport.connected_ns > connected_ns)
		before = TAILQ_PREV(before, outbound_list, open);
	if (before)
		TAILQ_INSERT_AFTER(&destination->open, before, outbound, open);
	else
		TAILQ_INSERT_HEAD(&destination->open, outbound, open);
	outbound->is_open = true;
	return 0;
}

static void open_remove(struct outbound *outbound, __u64 now_ns)
{
	struct destination *destination = outbound->destination;

	if (!outbound->is_open)
		return;
	if (outbound == TAILQ_LAST(&destination->open, outbound_list) && now_ns > destination->lost_ns)
		destination->lost_ns = now_ns;
	TAILQ_REMOVE(&destination->open, outbound, open);
	outbound->is_open = false;
}

static void wait_from(struct diagnose *diagnose, struct outbound *outbound, __u64 since_ns)
{
	struct outbound_list *list = &diagnose->waiting[outbound->transport.policy];
	struct outbound *before = TAILQ_LAST(list, outbound_list);

	outbound->since_ns = since_ns;
	outbound->is_waiting = true;
	while (before && before->since_ns > since_ns)
		before = TAILQ_PREV(before, outbound_list, waiting);
	if (before)
		TAILQ_INSERT_AFTER(list, before, outbound, waiting);
	else
		TAILQ_INSERT_HEAD(list, outbound, waiting);
}

static void wait_end(struct diagnose *diagnose, struct outbound *outbound)
{
	if (outbound->is_waiting)
		TAILQ_REMOVE(&diagnose->waiting[outbound->transport.policy], outbound, waiting);
	outbound->is_waiting = false;
}

void outbound_close(struct diagnose *diagnose, struct outbound *outbound, const struct sipkeep_record *closing)
{
	open_remove(outbound, closing->ts_ns);
	outbound->ended = *closing;
	if (closing->reason == SIPKEEP_REASON_PEER_FIN && outbound->transport.policy < SIPKEEP_MAX_POLICIES)
		wait_from(diagnose, outbound, closing->ts_ns);
}

/* The next one was connected while this one lasted. Of two adopted ones, which came first is not known. */
void outbound_destroyed(struct outbound *outbound)
{
	struct outbound *next = TAILQ_NEXT(outbound, alive);

	if (next && !(next->transport.adopted && outbound->transport.adopted))
		next->overlapped = true;
}

void outbound_remove(struct diagnose *diagnose, struct outbound *outbound)
{
	struct destination *destination = outbound->destination;

	wait_end(diagnose, outbound);
	if (outbound->is_open)
		TAILQ_REMOVE(&destination->open, outbound, open);
	TAILQ_REMOVE(&destination->alive, outbound, alive);
	if (!TAILQ_EMPTY(&destination->alive))
		return;
	table_remove(&diagnose->destinations, &destination->node);
	free(destination);
}

static bool is_replaced(const struct outbound *outbound)
{
	const struct outbound *newest = TAILQ_LAST(&outbound->destination->open, outbound_list);

	return newest &&
	       (outbound->transport.adopted || newest->transport.connected_ns > outbound->transport.connected_ns);
}

static __u64 left_alone_since(const struct outbound *outbound)
{
	__u64 lost_ns = outbound->destination->lost_ns;

	return lost_ns > outbound->ended.ts_ns ? lost_ns : outbound->ended.ts_ns;
}

static int wedged_emit(struct diagnose *diagnose, struct outbound *outbound, __u64 now_ns)
{
	struct event event = { .kind = EVENTS_WEDGED, .record = outbound->ended };
	__u64 more = elapsed(now_ns, outbound->ended.ts_ns);

	if (outbound->overlapped)
		outbound->transport.cause = event.cause = EVENTS_CAUSE_MONITOR_LOST;
	event.record.ts_ns = now_ns;
	event.record.age_ns += more;
	event.record.idle_ns += more;
	return diagnose->emit(diagnose->emit_arg, &event);
}

/* The one of this policy that is due; those that were replaced, or are to have their time anew, wait on. */
static struct outbound *wedged_next(struct diagnose *diagnose, int policy, __u64 now_ns)
{
	__u64 after = diagnose->wedged_after_ns[policy], since;
	struct outbound *outbound;

	while (after && (outbound = TAILQ_FIRST(&diagnose->waiting[policy])) &&
	       elapsed(now_ns, outbound->since_ns) >= after) {
		since = is_replaced(outbound) ? now_ns : left_alone_since(outbound);
		if (elapsed(now_ns, since) >= after)
			return outbound;
		wait_end(diagnose, outbound);
		wait_from(diagnose, outbound, since);
	}
	return NULL;
}

int wedged_tick(struct diagnose *diagnose, __u64 now_ns)
{
	struct outbound *outbound;
	int err = 0;

	for (int policy = 0; policy < SIPKEEP_MAX_POLICIES; policy++) {
		while (!err && (outbound = wedged_next(diagnose, policy, now_ns))) {
			wait_end(diagnose, outbound);
			err = wedged_emit(diagnose, outbound, now_ns);
		}
	}
	return err;
}

bool diagnose_suspects(struct diagnose *diagnose, __u64 now_ns)
{
	for (int policy = 0; policy < SIPKEEP_MAX_POLICIES; policy++)
		if (wedged_next(diagnose, policy, now_ns))
			return true;
	return false;
}

void outbound_closed(struct diagnose *diagnose, struct outbound *outbound)
{
	wait_end(diagnose, outbound);
}
