// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "events.h"
#include "policy.h"

static const char *const event_names[] = {
	[SIPKEEP_EVENT_CONNECTED] = "connected",
	[SIPKEEP_EVENT_DISCONNECTED] = "disconnected",
	[SIPKEEP_EVENT_DESTROYED] = "destroyed",
	[SIPKEEP_EVENT_REFUSED] = "refused",
	[SIPKEEP_EVENT_LISTENER_UP] = "listener_up",
	[SIPKEEP_EVENT_LISTENER_DOWN] = "listener_down",
	[SIPKEEP_EVENT_FULL] = "full",
	[SIPKEEP_EVENT_MODE] = "mode",
	[SIPKEEP_EVENT_STALE_CONTACT] = "stale_contact",
	[EVENTS_LOST] = "lost",
	[EVENTS_LISTENER_RESTART] = "listener_restart",
	[EVENTS_WEDGED] = "wedged",
	[EVENTS_ACTION] = "action",
};
_Static_assert(sizeof(event_names) / sizeof(event_names[0]) == EVENTS_KIND_MAX, "a name for each event");

static const char *const cause_names[] = {
	[EVENTS_CAUSE_NONE] = NULL,
	[EVENTS_CAUSE_PJSIP_IDLE_TIMER] = "pjsip_idle_timer",
	[EVENTS_CAUSE_SILENT_INBOUND] = "silent_inbound",
	[EVENTS_CAUSE_NAT_EXPIRED] = "nat_expired",
	[EVENTS_CAUSE_LISTENER_RESTART] = "listener_restart",
	[EVENTS_CAUSE_MONITOR_LOST] = "monitor_lost",
};
_Static_assert(sizeof(cause_names) / sizeof(cause_names[0]) == EVENTS_CAUSE_MAX, "a name for each cause");

static const char *const outcome_names[] = {
	[EVENTS_OUTCOME_DONE] = "done",
	[EVENTS_OUTCOME_FAILED] = "failed",
	[EVENTS_OUTCOME_TIMEOUT] = "timeout",
	[EVENTS_OUTCOME_ERROR] = "error",
	[EVENTS_OUTCOME_SKIPPED] = "skipped",
};
_Static_assert(sizeof(outcome_names) / sizeof(outcome_names[0]) == EVENTS_OUTCOME_MAX, "a name for each outcome");

static const char *const reason_names[] = {
	[SIPKEEP_REASON_UNKNOWN] = "unknown",
	[SIPKEEP_REASON_PEER_FIN] = "peer_fin",
	[SIPKEEP_REASON_PEER_RESET] = "peer_reset",
	[SIPKEEP_REASON_LOCAL_CLOSE] = "local_close",
	[SIPKEEP_REASON_LOCAL_RESET] = "local_reset",
	[SIPKEEP_REASON_KEEPALIVE_TIMEOUT] = "keepalive_timeout",
	[SIPKEEP_REASON_RETRANSMIT_TIMEOUT] = "retransmit_timeout",
	[SIPKEEP_REASON_USER_TIMEOUT] = "user_timeout",
	[SIPKEEP_REASON_UNREACHABLE] = "unreachable",
	[SIPKEEP_REASON_KILLED] = "killed",
};
_Static_assert(sizeof(reason_names) / sizeof(reason_names[0]) == SIPKEEP_REASON_MAX, "a name for each reason");

static const char *const refusal_names[] = {
	[SIPKEEP_REFUSED_NONE] = "none",
	[SIPKEEP_REFUSED_SOURCE] = "max_connections_per_source",
	[SIPKEEP_REFUSED_POLICY] = "max_connections",
	[SIPKEEP_REFUSED_RATE] = "max_rate_per_source",
	[SIPKEEP_REFUSED_FULL] = "on_full",
};
_Static_assert(sizeof(refusal_names) / sizeof(refusal_names[0]) == SIPKEEP_REFUSED_MAX, "a name for each refusal");

const char *events_kind_name(unsigned int kind)
{
	return kind < EVENTS_KIND_MAX ? event_names[kind] : NULL;
}

int events_kind_find(const char *name)
{
	for (int kind = 0; kind < EVENTS_KIND_MAX; kind++)
		if (!strcmp(event_names[kind], name))
			return kind;
	return -1;
}

const char *events_cause(unsigned int cause)
{
	return cause < EVENTS_CAUSE_MAX ? cause_names[cause] : NULL;
}

const char *events_outcome(unsigned int outcome)
{
	return outcome < EVENTS_OUTCOME_MAX ? outcome_names[outcome] : NULL;
}

const char *events_reason(unsigned int reason)
{
	return reason < SIPKEEP_REASON_MAX ? reason_names[reason] : NULL;
}

const char *events_refusal(unsigned int cause)
{
	return cause < SIPKEEP_REFUSED_MAX ? refusal_names[cause] : NULL;
}

const char *events_direction(unsigned int direction)
{
	return direction == SIPKEEP_INBOUND ? "inbound" : direction == SIPKEEP_OUTBOUND ? "outbound" : NULL;
}

const struct sipkeep_record *events_check(const void *data, size_t size)
{
	const struct sipkeep_record *record = data;

	if (size != sizeof(*record) || record->event >= SIPKEEP_EVENT_MAX || record->reason >= SIPKEEP_REASON_MAX ||
	    record->cause >= SIPKEEP_REFUSED_MAX || record->direction >= SIPKEEP_DIRECTION_MAX ||
	    record->closed_by > SIPKEEP_CLOSED_BY_REMOTE || record->prefix > 128)
		return NULL;
	return record;
}

char *events_id(__u64 cookie, __u16 generation, char *text)
{
	if (generation)
		snprintf(text, 32, "%llx.%u", cookie, generation);
	else
		snprintf(text, 32, "%llx", cookie);
	return text;
}

char *events_endpoint(const struct sipkeep_addr *addr, __u16 port, char *text)
{
	char plain[POLICY_PREFIX_LEN];

	policy_addr_format(addr, plain);
	snprintf(text, 80, policy_addr_is_ipv4(addr) ? "%s:%u" : "[%s]:%u", plain, port);
	return text;
}

struct line {
	char *text;
	size_t used;
};

static __attribute__((format(printf, 2, 3))) void line_add(struct line *line, const char *format, ...)
{
	size_t room = EVENTS_LINE_MAX - line->used;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line->text + line->used, room, format, args);
	va_end(args);
	if (length > 0)
		line->used += (size_t)length < room ? (size_t)length : room - 1;
}

/* RFC 3339, UTC, quoted. monotonic_ns: CLOCK_MONOTONIC. */
static void line_add_time(struct line *line, __u64 monotonic_ns, const struct events_context *context)
{
	__u64 real = monotonic_ns + (__u64)context->realtime_offset_ns;
	time_t seconds = (time_t)(real / 1000000000);
	char when[32];
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	line_add(line, "\"%s.%06lluZ\"", when, (real % 1000000000) / 1000);
}

static void line_begin(struct line *line, const char *event, __u64 ts_ns, const struct events_context *context)
{
	line_add(line, "{\"v\":1,\"ts\":");
	line_add_time(line, ts_ns, context);
	line_add(line, ",\"seq\":%llu,\"event\":\"%s\"", context->seq, event);
}

static size_t line_end(struct line *line)
{
	line_add(line, "}\n");
	return line->used;
}

static void add_cause(struct line *line, const struct event *event)
{
	const char *cause = events_cause(event->cause);

	if (cause)
		line_add(line, ",\"cause\":\"%s\"", cause);
	else
		line_add(line, ",\"cause\":null");
}

static void add_transport(struct line *line, const struct event *event, const struct events_context *context)
{
	static const char *const closers[] = { "null", "\"local\"", "\"remote\"" };
	const struct sipkeep_record *record = &event->record;
	char id[32], local[80], remote[80];

	line_add(line, ",\"id\":\"%s\",\"policy\":\"%s\",\"direction\":\"%s\",\"local\":\"%s\",\"remote\":\"%s\"",
		 events_id(record->cookie, record->generation, id), context->policy,
		 events_direction(record->direction), events_endpoint(&record->local, record->local_port, local),
		 events_endpoint(&record->remote, record->remote_port, remote));
	if (event->kind == SIPKEEP_EVENT_CONNECTED) {
		line_add(line, ",\"adopted\":%s", record->flags & SIPKEEP_RECORD_ADOPTED ? "true" : "false");
		return;
	}
	line_add(line, ",\"reason\":\"%s\",\"closed_by\":%s", events_reason(record->reason), closers[record->closed_by]);
	line_add(line,
		 ",\"age_ms\":%llu,\"idle_ms\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"srtt_us\":%u,"
		 "\"retransmits\":%u",
		 record->age_ns / 1000000, record->idle_ns / 1000000, record->bytes_in, record->bytes_out, record->srtt_us,
		 record->retransmits);
	add_cause(line, event);
}

static void add_refused(struct line *line, const struct sipkeep_record *record, const struct events_context *context)
{
	static const struct sipkeep_addr nobody;
	struct policy_prefix prefix = { .addr = record->remote, .len = record->prefix };
	bool ipv4 = policy_addr_is_ipv4(&record->remote);
	char text[POLICY_PREFIX_LEN], endpoint[80];

	line_add(line, ",\"policy\":\"%s\",\"direction\":\"%s\"", context->policy, events_direction(record->direction));
	prefix.family = ipv4 ? 4 : 6;
	if (record->direction == SIPKEEP_OUTBOUND) {
		/* As `sources` writes it. */
		if (!__builtin_memcmp(&record->local, &nobody, sizeof(nobody)) ||
		    (policy_addr_is_ipv4(&record->local) && !__builtin_memcmp(record->local.b + 12, nobody.b, 4)))
			snprintf(text, sizeof(text), "*");
		else
			policy_addr_format(&record->local, text);
		line_add(line, ",\"source\":\"%s > %s\"", text,
			 events_endpoint(&record->remote, record->remote_port, endpoint));
	} else if (!__builtin_memcmp(&record->remote, &nobody, sizeof(nobody))) {
		line_add(line, ",\"source\":null"); /* several, none of which has a connection */
	} else if (record->prefix == (ipv4 ? 32 : 128)) {
		line_add(line, ",\"source\":\"%s\"", policy_addr_format(&record->remote, text));
	} else {
		line_add(line, ",\"source\":\"%s\"", policy_prefix_format(&prefix, text));
	}
	line_add(line, ",\"limited_by\":\"%s\",\"count\":%llu,\"limit\":%u,\"observed\":%s",
		 events_refusal(record->cause), record->count, record->limit,
		 record->flags & SIPKEEP_RECORD_OBSERVED ? "true" : "false");
}

static void add_mode(struct line *line, const struct sipkeep_record *record, const struct events_context *context)
{
	line_add(line, ",\"mode\":\"%s\",\"until\":", record->flags & SIPKEEP_RECORD_OBSERVED ? "observe" : "enforce");
	if (record->count)
		line_add_time(line, record->count, context);
	else
		line_add(line, "null");
}

static void add_listener(struct line *line, const struct event *event)
{
	const struct sipkeep_record *record = &event->record;
	char id[32], local[80];

	line_add(line, ",\"id\":\"%s\",\"local\":\"%s\",\"protocol\":\"%s\"", events_id(record->cookie, 0, id),
		 events_endpoint(&record->local, record->local_port, local),
		 record->flags & SIPKEEP_RECORD_UDP ? "udp" : "tcp");
	if (event->kind == EVENTS_LISTENER_RESTART)
		line_add(line, ",\"gap_ms\":%u,\"open\":%u", event->gap_ms, event->open);
}

/* Of a connect() that failed. */
static const char *connect_error(unsigned int reason)
{
	switch (reason) {
	case SIPKEEP_REASON_PEER_RESET:
		return "refused";
	case SIPKEEP_REASON_RETRANSMIT_TIMEOUT:
		return "timeout";
	case SIPKEEP_REASON_UNREACHABLE:
		return "unreachable";
	}
	return "unknown";
}

static void add_stale_contact(struct line *line, const struct sipkeep_record *record)
{
	char id[32], remote[80];

	line_add(line, ",\"id\":\"%s\",\"remote\":\"%s\",\"error\":\"%s\",\"count\":%llu",
		 events_id(record->cookie, record->generation, id),
		 events_endpoint(&record->remote, record->remote_port, remote), connect_error(record->reason),
		 record->count);
}

size_t events_encode(const struct event *event, const struct events_context *context, char *text)
{
	const struct sipkeep_record *record = &event->record;
	struct line line = { .text = text };

	line_begin(&line, event_names[event->kind], record->ts_ns, context);
	switch (event->kind) {
	case SIPKEEP_EVENT_CONNECTED:
	case SIPKEEP_EVENT_DISCONNECTED:
	case SIPKEEP_EVENT_DESTROYED:
	case EVENTS_WEDGED:
		add_transport(&line, event, context);
		break;
	case SIPKEEP_EVENT_REFUSED:
		add_refused(&line, record, context);
		break;
	case SIPKEEP_EVENT_LISTENER_UP:
	case SIPKEEP_EVENT_LISTENER_DOWN:
	case EVENTS_LISTENER_RESTART:
		add_listener(&line, event);
		break;
	case SIPKEEP_EVENT_MODE:
		add_mode(&line, record, context);
		break;
	case SIPKEEP_EVENT_STALE_CONTACT:
		add_stale_contact(&line, record);
		break;
	case EVENTS_LOST:
		line_add(&line, ",\"count\":%llu", record->count);
		break;
	}
	return line_end(&line);
}
