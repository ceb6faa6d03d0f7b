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
	[EVENTS_OUTCOME_STOPPED] = "stopped",
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

unsigned int events_has(unsigned int kind)
{
	const unsigned int transport = EVENTS_HAS_ID | EVENTS_HAS_POLICY | EVENTS_HAS_LOCAL | EVENTS_HAS_REMOTE;

	switch (kind) {
	case SIPKEEP_EVENT_CONNECTED:
		return transport;
	case SIPKEEP_EVENT_DISCONNECTED:
	case SIPKEEP_EVENT_DESTROYED:
	case EVENTS_WEDGED:
		return transport | EVENTS_HAS_REASON;
	case SIPKEEP_EVENT_REFUSED:
		return EVENTS_HAS_POLICY | EVENTS_HAS_SOURCE;
	case SIPKEEP_EVENT_LISTENER_UP:
	case SIPKEEP_EVENT_LISTENER_DOWN:
	case EVENTS_LISTENER_RESTART:
		return EVENTS_HAS_ID | EVENTS_HAS_LOCAL;
	case SIPKEEP_EVENT_STALE_CONTACT:
		return EVENTS_HAS_ID | EVENTS_HAS_REMOTE;
	}
	return 0;
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

char *events_source(const struct sipkeep_record *record, char *text)
{
	static const struct sipkeep_addr nobody;
	struct policy_prefix prefix = { .addr = record->remote, .len = record->prefix };
	bool ipv4 = policy_addr_is_ipv4(&record->remote);
	char local[POLICY_PREFIX_LEN], endpoint[80];

	prefix.family = ipv4 ? 4 : 6;
	if (record->direction == SIPKEEP_OUTBOUND) {
		/* As `sources` writes it. */
		if (!memcmp(&record->local, &nobody, sizeof(nobody)) ||
		    (policy_addr_is_ipv4(&record->local) && !memcmp(record->local.b + 12, nobody.b, 4)))
			snprintf(local, sizeof(local), "*");
		else
			policy_addr_format(&record->local, local);
		snprintf(text, 160, "%s > %s", local, events_endpoint(&record->remote, record->remote_port, endpoint));
	} else if (!memcmp(&record->remote, &nobody, sizeof(nobody))) {
		return NULL;
	} else if (record->prefix == (ipv4 ? 32 : 128)) {
		policy_addr_format(&record->remote, text);
	} else {
		policy_prefix_format(&prefix, text);
	}
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
	char source[160];

	line_add(line, ",\"policy\":\"%s\",\"direction\":\"%s\"", context->policy, events_direction(record->direction));
	if (events_source(record, source))
		line_add(line, ",\"source\":\"%s\"", source);
	else
		line_add(line, ",\"source\":null");
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

static void add_word(struct line *line, const char *key, const char *value)
{
	if (value)
		line_add(line, ",\"%s\":\"%s\"", key, value);
	else
		line_add(line, ",\"%s\":null", key);
}

/* Printable ASCII: see OUTLET_COMMAND_MAX. */
static void add_command(struct line *line, const char *command)
{
	line_add(line, ",\"command\":\"");
	for (; *command; command++)
		line_add(line, *command == '"' || *command == '\\' ? "\\%c" : "%c", *command);
	line_add(line, "\"");
}

static void add_outcome(struct line *line, const struct events_action *action)
{
	const char *error = NULL;

	add_word(line, "outcome", events_outcome(action->outcome));
	if (action->outcome == EVENTS_OUTCOME_SKIPPED) {
		line_add(line, ",\"count\":%llu", action->count);
		return;
	}
	if (action->outcome == EVENTS_OUTCOME_ERROR) {
		error = action->why ? action->why : strerror(action->error);
		line_add(line, ",\"exit_code\":null");
	} else {
		line_add(line, ",\"exit_code\":%d", action->exit_code);
	}
	line_add(line, ",\"attempt\":%u,\"duration_ms\":%llu", action->attempt, action->duration_ns / 1000000);
	add_word(line, "error", error);
}

/* First what the event was that it was started for, then how it went. */
static void add_action(struct line *line, const struct event *event)
{
	const struct sipkeep_record *record = &event->record;
	const struct events_action *action = event->action;
	unsigned int has = events_has(action->on);
	char id[32], local[80], remote[80], source[160];

	add_word(line, "for", events_kind_name(action->on));
	add_word(line, "id", has & EVENTS_HAS_ID ? events_id(record->cookie, record->generation, id) : NULL);
	add_word(line, "policy", action->policy);
	add_word(line, "direction", has & EVENTS_HAS_POLICY ? events_direction(record->direction) : NULL);
	add_word(line, "local",
		 has & EVENTS_HAS_LOCAL ? events_endpoint(&record->local, record->local_port, local) : NULL);
	if (has & EVENTS_HAS_SOURCE)
		add_word(line, "source", events_source(record, source));
	else
		add_word(line, "remote",
			 has & EVENTS_HAS_REMOTE ? events_endpoint(&record->remote, record->remote_port, remote) : NULL);
	add_command(line, action->command);
	add_outcome(line, action);
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
	case EVENTS_ACTION:
		add_action(&line, event);
		break;
	case EVENTS_LOST:
		line_add(&line, ",\"count\":%llu", record->count);
		break;
	}
	return line_end(&line);
}
