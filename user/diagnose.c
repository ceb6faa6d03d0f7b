// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include "diagnose_internal.h"

/* PJSIP_TRANSPORT_IDLE_TIME, and what Asterisk gives an inbound connection for its first byte; as they were seen. */
#define PJSIP_IDLE_MS 33000
#define SILENT_MS 32000
#define TIMER_SLACK_MS 500

/* A close_notify that went so shortly before the peer's FIN is what the FIN answers. */
#define CLOSE_NOTIFY_NS (2 * NS_PER_S)

/* ---- transports ---- */

static struct transport *transport_find(const struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct transport_key key = { .cookie = record->cookie, .generation = record->generation };

	return table_find(&diagnose->transports, &key);
}

static struct inbound *inbound_of(struct transport *transport)
{
	return (struct inbound *)transport;
}

static struct outbound *outbound_of(struct transport *transport)
{
	return (struct outbound *)transport;
}

static void transport_forget(struct diagnose *diagnose, struct transport *transport)
{
	table_remove(&diagnose->transports, &transport->node);
	TAILQ_REMOVE(&diagnose->transport_order, transport, order);
	if (transport->outbound)
		outbound_remove(diagnose, outbound_of(transport));
	else
		inbound_remove(diagnose, inbound_of(transport));
	free(transport);
}

static struct transport *transport_new(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	bool outbound = record->direction == SIPKEEP_OUTBOUND;
	struct transport *transport = calloc(1, outbound ? sizeof(struct outbound) : sizeof(struct inbound));
	int err;

	if (!transport)
		return NULL;
	transport->key = (struct transport_key){ .cookie = record->cookie, .generation = record->generation };
	transport->connected_ns = elapsed(record->ts_ns, record->age_ns);
	transport->epoch = diagnose->epoch;
	transport->policy = record->policy;
	transport->outbound = outbound;
	transport->adopted = !!(record->flags & SIPKEEP_RECORD_ADOPTED);
	err = outbound ? outbound_add(diagnose, outbound_of(transport), record) :
			 inbound_add(diagnose, inbound_of(transport), record);
	if (err) {
		free(transport);
		return NULL;
	}
	table_add(&diagnose->transports, &transport->node);
	TAILQ_INSERT_TAIL(&diagnose->transport_order, transport, order);
	return transport;
}

/* Known, or made known. NULL: out of memory. */
static struct transport *transport_get(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct transport *transport = transport_find(diagnose, record);

	if (!transport) {
		if (diagnose->transports.count == DIAGNOSE_TRANSPORTS_MAX)
			transport_forget(diagnose, TAILQ_FIRST(&diagnose->transport_order));
		return transport_new(diagnose, record);
	}
	transport->epoch = diagnose->epoch;
	return transport;
}

static void transport_close(struct diagnose *diagnose, struct transport *transport,
			    const struct sipkeep_record *closing)
{
	if (transport->closing)
		return;
	if (transport->outbound)
		outbound_close(diagnose, outbound_of(transport), closing);
	else
		inbound_close(inbound_of(transport));
	transport->closing = true;
}

/* ---- causes ---- */

static bool near(__u64 ms, __u64 timer_ms)
{
	return ms >= timer_ms - TIMER_SLACK_MS && ms <= timer_ms + TIMER_SLACK_MS;
}

/* An adopted one's age isn't its own. */
static bool is_silent_inbound(const struct sipkeep_record *record)
{
	return record->direction == SIPKEEP_INBOUND && record->reason == SIPKEEP_REASON_LOCAL_CLOSE &&
	       !record->bytes_in && !(record->flags & SIPKEEP_RECORD_ADOPTED) &&
	       near(record->age_ns / NS_PER_MS, SILENT_MS);
}

/*
 * Over TLS the PBX's close_notify may reach the peer first, whose FIN then comes before ours. A peer that closes by its
 * own timer does so 33 s after anything at all.
 */
static bool is_pjsip_idle_timer(const struct sipkeep_record *record)
{
	if (!near(record->sip_idle_ms, PJSIP_IDLE_MS))
		return false;
	if (record->reason == SIPKEEP_REASON_PEER_FIN)
		return record->direction == SIPKEEP_OUTBOUND && record->idle_ns <= CLOSE_NOTIFY_NS;
	return record->reason == SIPKEEP_REASON_LOCAL_CLOSE &&
	       (record->direction == SIPKEEP_OUTBOUND || record->bytes_in);
}

static bool is_listener_restart(struct transport *transport, const struct sipkeep_record *record)
{
	return transport && !transport->outbound &&
	       (record->reason == SIPKEEP_REASON_LOCAL_CLOSE || record->reason == SIPKEEP_REASON_LOCAL_RESET) &&
	       inbound_is_shaken(inbound_of(transport), record->ts_ns);
}

/* A timer's mark is the surer sign: a restart ends transports of any age. */
static enum events_cause cause_of(struct diagnose *diagnose, struct transport *transport,
				  const struct sipkeep_record *record)
{
	if (is_silent_inbound(record))
		return EVENTS_CAUSE_SILENT_INBOUND;
	if (is_pjsip_idle_timer(record))
		return EVENTS_CAUSE_PJSIP_IDLE_TIMER;
	if (nat_expired(diagnose, record))
		return EVENTS_CAUSE_NAT_EXPIRED;
	if (is_listener_restart(transport, record))
		return EVENTS_CAUSE_LISTENER_RESTART;
	return EVENTS_CAUSE_NONE;
}

static enum events_cause disconnected(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct transport *transport = transport_get(diagnose, record);
	enum events_cause cause = cause_of(diagnose, transport, record);

	if (transport) {
		transport_close(diagnose, transport, record);
		transport->cause = cause;
	}
	return cause;
}

static enum events_cause destroyed(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct transport *transport = transport_find(diagnose, record);
	enum events_cause cause;

	if (!transport)
		return EVENTS_CAUSE_NONE;
	cause = transport->cause;
	if (transport->outbound)
		outbound_destroyed(outbound_of(transport));
	transport_forget(diagnose, transport);
	return cause;
}

/* ---- the stream ---- */

int diagnose_record(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct event event = { .kind = record->event, .record = *record }, restart;
	bool restarted = false;
	int err, also = 0;

	switch (record->event) {
	case SIPKEEP_EVENT_CONNECTED:
		transport_get(diagnose, record);
		break;
	case SIPKEEP_EVENT_DISCONNECTED:
		event.cause = disconnected(diagnose, record);
		break;
	case SIPKEEP_EVENT_DESTROYED:
		event.cause = destroyed(diagnose, record);
		break;
	case SIPKEEP_EVENT_LISTENER_UP:
		restarted = listener_up(diagnose, record, &restart);
		break;
	case SIPKEEP_EVENT_LISTENER_DOWN:
		listener_down(diagnose, record);
		break;
	}
	err = diagnose->emit(diagnose->emit_arg, &event);
	if (restarted)
		also = diagnose->emit(diagnose->emit_arg, &restart);
	return err ? err : also;
}

void diagnose_closed(struct diagnose *diagnose, __u64 cookie, __u16 generation)
{
	const struct sipkeep_record record = { .cookie = cookie, .generation = generation };
	struct transport *transport = transport_find(diagnose, &record);

	if (transport && transport->outbound)
		outbound_closed(diagnose, outbound_of(transport));
}

int diagnose_tick(struct diagnose *diagnose, __u64 now_ns)
{
	listeners_expire(diagnose, now_ns);
	return wedged_tick(diagnose, now_ns);
}

/* Of one that isn't known, nothing more is to be found out. */
static void ended_open(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct transport *transport = transport_find(diagnose, record);

	if (!transport)
		return;
	transport->epoch = diagnose->epoch;
	transport_close(diagnose, transport, record);
}

void diagnose_open(struct diagnose *diagnose, const struct sipkeep_record *record, __u64 closing_ns)
{
	struct sipkeep_record closing = *record;
	struct transport *transport;

	if (record->event == SIPKEEP_EVENT_LISTENER_UP) {
		listener_open(diagnose, record);
		return;
	}
	if (record->event == SIPKEEP_EVENT_DISCONNECTED) {
		ended_open(diagnose, record);
		return;
	}
	transport = transport_get(diagnose, record);
	if (!transport || !closing_ns)
		return;
	closing.event = SIPKEEP_EVENT_DISCONNECTED;
	closing.reason = SIPKEEP_REASON_PEER_FIN;
	closing.closed_by = SIPKEEP_CLOSED_BY_REMOTE;
	closing.ts_ns = closing_ns;
	closing.age_ns = elapsed(closing_ns, transport->connected_ns);
	closing.idle_ns = elapsed(record->idle_ns, elapsed(record->ts_ns, closing_ns));
	transport_close(diagnose, transport, &closing);
}

void diagnose_reseed_begin(struct diagnose *diagnose)
{
	diagnose->epoch++;
	diagnose->listeners_named = false;
}

void diagnose_reseed_end(struct diagnose *diagnose)
{
	struct transport *transport = TAILQ_FIRST(&diagnose->transport_order), *next;

	for (; transport; transport = next) {
		next = TAILQ_NEXT(transport, order);
		if (transport->epoch != diagnose->epoch)
			transport_forget(diagnose, transport);
	}
	if (diagnose->listeners_named)
		listeners_sweep(diagnose);
}

/* ---- */

void diagnose_wedged_after(struct diagnose *diagnose, __u16 policy, __u64 wedged_after_ns)
{
	if (policy < SIPKEEP_MAX_POLICIES)
		diagnose->wedged_after_ns[policy] = wedged_after_ns;
}

void diagnose_on_nat(struct diagnose *diagnose, void (*nat)(void *arg, __u16 policy, __u32 count, __u32 quiet_ms),
		     void *arg)
{
	diagnose->nat = nat;
	diagnose->nat_arg = arg;
}

struct diagnose *diagnose_new(int (*emit)(void *arg, const struct event *event), void *arg)
{
	struct diagnose *diagnose = calloc(1, sizeof(*diagnose));

	if (!diagnose)
		return NULL;
	diagnose->emit = emit;
	diagnose->emit_arg = arg;
	TAILQ_INIT(&diagnose->transport_order);
	TAILQ_INIT(&diagnose->downs);
	TAILQ_INIT(&diagnose->socket_order);
	TAILQ_INIT(&diagnose->prefix_order);
	for (int policy = 0; policy < SIPKEEP_MAX_POLICIES; policy++)
		TAILQ_INIT(&diagnose->waiting[policy]);
	if (table_init(&diagnose->transports, sizeof(struct transport_key)) ||
	    table_init(&diagnose->places, sizeof(struct place_key)) ||
	    table_init(&diagnose->listeners, sizeof(struct listener_key)) ||
	    table_init(&diagnose->sockets, sizeof(__u64)) ||
	    table_init(&diagnose->destinations, sizeof(struct destination_key)) ||
	    table_init(&diagnose->prefixes, sizeof(struct prefix_key))) {
		diagnose_free(diagnose);
		return NULL;
	}
	return diagnose;
}

void diagnose_free(struct diagnose *diagnose)
{
	if (!diagnose)
		return;
	while (!TAILQ_EMPTY(&diagnose->transport_order))
		transport_forget(diagnose, TAILQ_FIRST(&diagnose->transport_order));
	table_free(&diagnose->transports);
	table_free(&diagnose->destinations);
	listeners_free(diagnose);
	nat_free(diagnose);
	free(diagnose);
}
