/* SPDX-License-Identifier: GPL-2.0-only */
/* test_events.c: records from the ring: which are ours, and the line each becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "events.h"
#include "outlet.h"
#include "policy.h"

static struct sipkeep_addr addr_of(const char *text)
{
	struct policy_prefix prefix;
	const char *why = "";

	if (policy_prefix_parse(text, &prefix, &why))
		fail_msg("%s: %s", text, why);
	return prefix.addr;
}

/* 2026-03-04T05:06:07.089012345Z */
#define NOW_REAL 1772600767089012345LL
#define NOW_NS 4711000000123ULL

static const struct events_context context = { .realtime_offset_ns = NOW_REAL - (__s64)NOW_NS, .seq = 7, .policy = "phones" };
#define UNTIL "\"2026-03-04T05:06:07.089012Z\""
#define HEAD "{\"v\":1,\"ts\":\"2026-03-04T05:06:07.089012Z\",\"seq\":7,\"event\":"

static struct sipkeep_record record_of(enum sipkeep_event event)
{
	struct sipkeep_record record = {
		.ts_ns = NOW_NS,
		.cookie = 0x4a31,
		.age_ns = 812004999999,
		.idle_ns = 33018000000,
		.bytes_in = 9120,
		.bytes_out = 8800,
		.srtt_us = 18210,
		.retransmits = 2,
		.policy = 1,
		.local = addr_of("192.0.2.1"),
		.remote = addr_of("203.0.113.5"),
		.local_port = 5060,
		.remote_port = 40112,
		.event = event,
	};

	return record;
}

/* A record as it is, without a cause. */
static size_t encode(const struct sipkeep_record *record, const struct events_context *context, char *line)
{
	const struct event event = { .kind = record->event, .record = *record };

	return events_encode(&event, context, line);
}

static size_t encode_lost(__u64 count, char *line)
{
	const struct event event = { .kind = EVENTS_LOST, .record = { .ts_ns = NOW_NS, .count = count } };

	return events_encode(&event, &context, line);
}

static void expect_line(const struct sipkeep_record *record, const char *wanted)
{
	char line[EVENTS_LINE_MAX];
	size_t length;

	assert_ptr_equal(events_check(record, sizeof(*record)), record);
	memset(line, 'x', sizeof(line));
	length = encode(record, &context, line);
	assert_string_equal(line, wanted);
	assert_int_equal(length, strlen(wanted));
}

/* The line as a JSON object with exactly these keys, in order; json_decref() it. */
static json_t *parse_line(const char *line, size_t length, const char *const *keys)
{
	json_error_t error;
	json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	const char *key;
	json_t *value;
	size_t i = 0;

	if (!object)
		fail_msg("%s\n%s", error.text, line);
	assert_int_equal(line[length - 1], '\n');
	assert_null(memchr(line, '\n', length - 1));
	json_object_foreach(object, key, value) {
		if (!keys[i] || strcmp(keys[i], key))
			fail_msg("key %zu is %s, not %s: %s", i, key, keys[i] ? keys[i] : "(none)", line);
		i++;
	}
	assert_null(keys[i]);
	assert_int_equal(json_integer_value(json_object_get(object, "v")), 1);
	return object;
}

/* ---- golden lines ------------------------------------------------------------------------------------------------ */

static void connected_line(void **state)
{
	struct sipkeep_record record = record_of(SIPKEEP_EVENT_CONNECTED);

	(void)state;
	expect_line(&record, HEAD "\"connected\",\"id\":\"4a31\",\"policy\":\"phones\",\"direction\":\"inbound\","
			     "\"local\":\"192.0.2.1:5060\",\"remote\":\"203.0.113.5:40112\",\"adopted\":false}\n");
	record.flags = SIPKEEP_RECORD_ADOPTED;
	record.direction = SIPKEEP_OUTBOUND;
	record.generation = 2;
	expect_line(&record, HEAD "\"connected\",\"id\":\"4a31.2\",\"policy\":\"phones\",\"direction\":\"outbound\","
			     "\"local\":\"192.0.2.1:5060\",\"remote\":\"203.0.113.5:40112\",\"adopted\":true}\n");
}

static void expect_action(unsigned int on, const struct events_action *action, const char *wanted)
{
	struct events_action own = *action;
	struct event event = { .kind = EVENTS_ACTION, .action = &own, .record = record_of(SIPKEEP_EVENT_DISCONNECTED) };
	char line[EVENTS_LINE_MAX];
	size_t length;

	own.on = on;
	event.record.prefix = 32;
	length = events_encode(&event, &context, line);
	assert_string_equal(line, wanted);
	assert_int_equal(length, strlen(wanted));
}

#define ACTION HEAD "\"action\",\"for\":"

static void action_line(void **state)
{
	const struct events_action done = { .command = "/bin/a \"b\\", .policy = "carrier", .exit_code = 0, .attempt = 2,
					    .duration_ns = 1234567890 };
	const struct events_action killed = { .command = "/bin/a", .policy = "carrier", .exit_code = 143, .attempt = 1,
					      .outcome = EVENTS_OUTCOME_TIMEOUT, .duration_ns = 10000000000 };
	const struct events_action error = { .command = "/bin/a", .outcome = EVENTS_OUTCOME_ERROR, .attempt = 1, .error = 2 };
	const struct events_action why = { .command = "/bin/a", .outcome = EVENTS_OUTCOME_ERROR, .attempt = 1, .error = 13,
					   .why = "isn't executable" };
	const struct events_action skipped = { .command = "/bin/a", .policy = "phones", .count = 17,
					       .outcome = EVENTS_OUTCOME_SKIPPED };

	(void)state;
	expect_action(EVENTS_WEDGED, &done,
		      ACTION "\"wedged\",\"id\":\"4a31\",\"policy\":\"carrier\",\"direction\":\"inbound\","
			     "\"local\":\"192.0.2.1:5060\",\"remote\":\"203.0.113.5:40112\","
			     "\"command\":\"/bin/a \\\"b\\\\\",\"outcome\":\"done\",\"exit_code\":0,\"attempt\":2,"
			     "\"duration_ms\":1234,\"error\":null}\n");
	expect_action(SIPKEEP_EVENT_STALE_CONTACT, &killed,
		      ACTION "\"stale_contact\",\"id\":\"4a31\",\"policy\":\"carrier\",\"direction\":null,"
			     "\"local\":null,\"remote\":\"203.0.113.5:40112\",\"command\":\"/bin/a\","
			     "\"outcome\":\"timeout\",\"exit_code\":143,\"attempt\":1,\"duration_ms\":10000,"
			     "\"error\":null}\n");
	expect_action(EVENTS_LISTENER_RESTART, &error,
		      ACTION "\"listener_restart\",\"id\":\"4a31\",\"policy\":null,\"direction\":null,"
			     "\"local\":\"192.0.2.1:5060\",\"remote\":null,\"command\":\"/bin/a\","
			     "\"outcome\":\"error\",\"exit_code\":null,\"attempt\":1,\"duration_ms\":0,"
			     "\"error\":\"No such file or directory\"}\n");
	expect_action(EVENTS_LOST, &why,
		      ACTION "\"lost\",\"id\":null,\"policy\":null,\"direction\":null,\"local\":null,\"remote\":null,"
			     "\"command\":\"/bin/a\",\"outcome\":\"error\",\"exit_code\":null,\"attempt\":1,"
			     "\"duration_ms\":0,\"error\":\"isn't executable\"}\n");
	expect_action(SIPKEEP_EVENT_REFUSED, &skipped,
		      ACTION "\"refused\",\"id\":null,\"policy\":\"phones\",\"direction\":\"inbound\",\"local\":null,"
			     "\"source\":\"203.0.113.5\",\"command\":\"/bin/a\",\"outcome\":\"skipped\",\"count\":17}\n");
}

/* The longest there can be is whole. */
static void longest_action_line(void **state)
{
	char command[OUTLET_COMMAND_MAX + 1], line[EVENTS_LINE_MAX];
	const struct events_action action = { .command = command, .policy = "abcdefghijklmnopqrstuvwxyz01234",
					      .on = EVENTS_LISTENER_RESTART, .outcome = EVENTS_OUTCOME_ERROR, .error = 36,
					      .why = "belongs to a user who is not root, and could be changed by them; "
						     "chown root it", .attempt = ~0U, .duration_ns = ~0ULL };
	struct event event = { .kind = EVENTS_ACTION, .action = &action, .record = record_of(SIPKEEP_EVENT_DISCONNECTED) };
	json_error_t error;
	json_t *object;
	size_t length;

	(void)state;
	memset(command, '"', sizeof(command));
	command[sizeof(command) - 1] = '\0';
	event.record.local = event.record.remote = addr_of("2001:db8:1111:2222:3333:4444:5555:6666");
	length = events_encode(&event, &context, line);
	object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!object)
		fail_msg("%s\n%s", error.text, line);
	assert_string_equal(json_string_value(json_object_get(object, "command")), command);
	json_decref(object);
}

static void disconnected_line(void **state)
{
	struct sipkeep_record record = record_of(SIPKEEP_EVENT_DISCONNECTED);

	(void)state;
	record.reason = SIPKEEP_REASON_PEER_FIN;
	record.closed_by = SIPKEEP_CLOSED_BY_REMOTE;
	record.local = addr_of("2001:db8::1");
	record.remote = addr_of("2001:db8:1::5");
	expect_line(&record, HEAD "\"disconnected\",\"id\":\"4a31\",\"policy\":\"phones\",\"direction\":\"inbound\","
			     "\"local\":\"[2001:db8::1]:5060\",\"remote\":\"[2001:db8:1::5]:40112\","
			     "\"reason\":\"peer_fin\",\"closed_by\":\"remote\",\"age_ms\":812004,\"idle_ms\":33018,"
			     "\"bytes_in\":9120,\"bytes_out\":8800,\"srtt_us\":18210,\"retransmits\":2,\"cause\":null}\n");
}

static void destroyed_line(void **state)
{
	struct sipkeep_record record = record_of(SIPKEEP_EVENT_DESTROYED);

	(void)state;
	record.reason = SIPKEEP_REASON_LOCAL_CLOSE;
	record.closed_by = SIPKEEP_CLOSED_BY_LOCAL;
	expect_line(&record, HEAD "\"destroyed\",\"id\":\"4a31\",\"policy\":\"phones\",\"direction\":\"inbound\","
			     "\"local\":\"192.0.2.1:5060\",\"remote\":\"203.0.113.5:40112\","
			     "\"reason\":\"local_close\",\"closed_by\":\"local\",\"age_ms\":812004,\"idle_ms\":33018,"
			     "\"bytes_in\":9120,\"bytes_out\":8800,\"srtt_us\":18210,\"retransmits\":2,\"cause\":null}\n");
	record.reason = SIPKEEP_REASON_UNKNOWN;
	record.closed_by = SIPKEEP_CLOSED_BY_UNKNOWN;
	expect_line(&record, HEAD "\"destroyed\",\"id\":\"4a31\",\"policy\":\"phones\",\"direction\":\"inbound\","
			     "\"local\":\"192.0.2.1:5060\",\"remote\":\"203.0.113.5:40112\","
			     "\"reason\":\"unknown\",\"closed_by\":null,\"age_ms\":812004,\"idle_ms\":33018,"
			     "\"bytes_in\":9120,\"bytes_out\":8800,\"srtt_us\":18210,\"retransmits\":2,\"cause\":null}\n");
}

static struct sipkeep_record refused_of(const char *remote, __u8 prefix)
{
	struct sipkeep_record record = { .ts_ns = NOW_NS, .event = SIPKEEP_EVENT_REFUSED, .count = 42, .limit = 20,
					 .remote = addr_of(remote), .prefix = prefix, .cause = SIPKEEP_REFUSED_SOURCE };

	return record;
}

#define REFUSED HEAD "\"refused\",\"policy\":\"phones\",\"direction\":"

static void refused_line(void **state)
{
	struct sipkeep_record record = refused_of("203.0.113.5", 32);

	(void)state;
	expect_line(&record, REFUSED "\"inbound\",\"source\":\"203.0.113.5\",\"limited_by\":"
				     "\"max_connections_per_source\",\"count\":42,\"limit\":20,\"observed\":false}\n");
	record = refused_of("203.0.113.0", 24);
	record.flags = SIPKEEP_RECORD_OBSERVED;
	record.cause = SIPKEEP_REFUSED_RATE;
	record.limit = 0;
	expect_line(&record, REFUSED "\"inbound\",\"source\":\"203.0.113.0/24\",\"limited_by\":"
				     "\"max_rate_per_source\",\"count\":42,\"limit\":0,\"observed\":true}\n");
	record = refused_of("2001:db8:1:2::", 64);
	record.cause = SIPKEEP_REFUSED_FULL;
	expect_line(&record, REFUSED "\"inbound\",\"source\":\"2001:db8:1:2::/64\",\"limited_by\":"
				     "\"on_full\",\"count\":42,\"limit\":20,\"observed\":false}\n");
	record = refused_of("2001:db8::1", 128);
	expect_line(&record, REFUSED "\"inbound\",\"source\":\"2001:db8::1\",\"limited_by\":"
				     "\"max_connections_per_source\",\"count\":42,\"limit\":20,\"observed\":false}\n");
	/* Of several sources, none of which has an entry. */
	record = refused_of("::", 64);
	record.cause = SIPKEEP_REFUSED_POLICY;
	expect_line(&record, REFUSED "\"inbound\",\"source\":null,\"limited_by\":"
				     "\"max_connections\",\"count\":42,\"limit\":20,\"observed\":false}\n");
}

/* The words of `sipkeep sources`: an unbound socket's local address is "*". */
static void refused_outbound_line(void **state)
{
	struct sipkeep_record record = refused_of("198.51.100.5", 32);

	(void)state;
	record.direction = SIPKEEP_OUTBOUND;
	record.remote_port = 5061;
	record.local = addr_of("192.0.2.9");
	expect_line(&record, REFUSED "\"outbound\",\"source\":\"192.0.2.9 > 198.51.100.5:5061\",\"limited_by\":"
				     "\"max_connections_per_source\",\"count\":42,\"limit\":20,\"observed\":false}\n");
	record.local = addr_of("0.0.0.0");
	expect_line(&record, REFUSED "\"outbound\",\"source\":\"* > 198.51.100.5:5061\",\"limited_by\":"
				     "\"max_connections_per_source\",\"count\":42,\"limit\":20,\"observed\":false}\n");
	record.local = addr_of("::");
	record.remote = addr_of("2001:db8::5");
	record.prefix = 128;
	expect_line(&record, REFUSED "\"outbound\",\"source\":\"* > [2001:db8::5]:5061\",\"limited_by\":"
				     "\"max_connections_per_source\",\"count\":42,\"limit\":20,\"observed\":false}\n");
}

static void listener_lines(void **state)
{
	struct sipkeep_record record = record_of(SIPKEEP_EVENT_LISTENER_UP);

	(void)state;
	expect_line(&record, HEAD "\"listener_up\",\"id\":\"4a31\",\"local\":\"192.0.2.1:5060\",\"protocol\":\"tcp\"}\n");
	record.event = SIPKEEP_EVENT_LISTENER_DOWN;
	record.local = addr_of("::");
	record.flags = SIPKEEP_RECORD_UDP;
	expect_line(&record, HEAD "\"listener_down\",\"id\":\"4a31\",\"local\":\"[::]:5060\",\"protocol\":\"udp\"}\n");
}

static void mode_lines(void **state)
{
	struct sipkeep_record record = { .ts_ns = NOW_NS, .event = SIPKEEP_EVENT_MODE };

	(void)state;
	expect_line(&record, HEAD "\"mode\",\"mode\":\"enforce\",\"until\":null}\n");
	record.flags = SIPKEEP_RECORD_OBSERVED;
	record.count = NOW_NS;
	expect_line(&record, HEAD "\"mode\",\"mode\":\"observe\",\"until\":" UNTIL "}\n");
}

static void full_and_lost_lines(void **state)
{
	struct sipkeep_record record = { .ts_ns = NOW_NS, .event = SIPKEEP_EVENT_FULL };
	char line[EVENTS_LINE_MAX];
	size_t length;

	(void)state;
	expect_line(&record, HEAD "\"full\"}\n");
	length = encode_lost(18446744073709551615ULL, line);
	assert_string_equal(line, HEAD "\"lost\",\"count\":18446744073709551615}\n");
	assert_int_equal(length, strlen(line));
}

static void times_keep_their_microseconds(void **state)
{
	static const struct {
		__s64 real;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000000Z" },
		{ 999, "1970-01-01T00:00:00.000000Z" },
		{ 1000, "1970-01-01T00:00:00.000001Z" },
		{ 999999999, "1970-01-01T00:00:00.999999Z" },
		{ 951782400000000000, "2000-02-29T00:00:00.000000Z" },
		{ 4102444799000009000, "2099-12-31T23:59:59.000009Z" },
	};
	struct sipkeep_record record = { .event = SIPKEEP_EVENT_FULL };
	char line[EVENTS_LINE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* The clocks' difference may be negative: a machine whose clock was never set. */
		__u64 uptimes[] = { 0, NOW_NS };

		for (size_t u = 0; u < 2; u++) {
			struct events_context at = { .realtime_offset_ns = cases[i].real - (__s64)uptimes[u] };

			record.ts_ns = uptimes[u];
			encode(&record, &at, line);
			if (strncmp(line + strlen("{\"v\":1,\"ts\":\""), cases[i].text, strlen(cases[i].text)))
				fail_msg("wanted %s: %s", cases[i].text, line);
		}
	}
}

/* ---- as JSON ---------------------------------------------------------------------------------------------------------- */

static void every_event_has_the_fields_of_the_design(void **state)
{
#define COMMON "v", "ts", "seq", "event"
#define ENDS "id", "policy", "direction", "local", "remote"
#define SUMMARY "reason", "closed_by", "age_ms", "idle_ms", "bytes_in", "bytes_out", "srtt_us", "retransmits", "cause"
	static const struct {
		const char *name;
		const char *keys[20];
	} wanted[] = {
		[SIPKEEP_EVENT_CONNECTED] = { "connected", { COMMON, ENDS, "adopted" } },
		[SIPKEEP_EVENT_DISCONNECTED] = { "disconnected", { COMMON, ENDS, SUMMARY } },
		[SIPKEEP_EVENT_DESTROYED] = { "destroyed", { COMMON, ENDS, SUMMARY } },
		[SIPKEEP_EVENT_REFUSED] = { "refused", { COMMON, "policy", "direction", "source", "limited_by", "count",
							 "limit", "observed" } },
		[SIPKEEP_EVENT_LISTENER_UP] = { "listener_up", { COMMON, "id", "local", "protocol" } },
		[SIPKEEP_EVENT_LISTENER_DOWN] = { "listener_down", { COMMON, "id", "local", "protocol" } },
		[SIPKEEP_EVENT_FULL] = { "full", { COMMON } },
		[SIPKEEP_EVENT_MODE] = { "mode", { COMMON, "mode", "until" } },
		[SIPKEEP_EVENT_STALE_CONTACT] = { "stale_contact", { COMMON, "id", "remote", "error", "count" } },
	};
	_Static_assert(sizeof(wanted) / sizeof(wanted[0]) == SIPKEEP_EVENT_MAX, "each event is tested");
	static const char *const lost[] = { COMMON, "count", NULL };
	char line[EVENTS_LINE_MAX];
	json_t *object;

	(void)state;
	for (int event = 0; event < SIPKEEP_EVENT_MAX; event++) {
		struct sipkeep_record record = record_of(event);

		object = parse_line(line, encode(&record, &context, line), wanted[event].keys);
		assert_string_equal(json_string_value(json_object_get(object, "event")), wanted[event].name);
		assert_int_equal(json_integer_value(json_object_get(object, "seq")), 7);
		json_decref(object);
	}
	object = parse_line(line, encode_lost(3, line), lost);
	assert_string_equal(json_string_value(json_object_get(object, "event")), "lost");
	json_decref(object);
}

static void every_reason_and_refusal_has_its_name(void **state)
{
	static const char *const reasons[] = { "unknown",	    "peer_fin",		  "peer_reset",	  "local_close",
					       "local_reset",	    "keepalive_timeout",  "retransmit_timeout",
					       "user_timeout",	    "unreachable",	  "killed" };
	static const char *const refusals[] = { "none", "max_connections_per_source", "max_connections",
						"max_rate_per_source", "on_full" };
	struct sipkeep_record record = record_of(SIPKEEP_EVENT_DISCONNECTED);
	char line[EVENTS_LINE_MAX], part[64];

	(void)state;
	_Static_assert(sizeof(reasons) / sizeof(reasons[0]) == SIPKEEP_REASON_MAX, "each reason is tested");
	for (__u8 reason = 0; reason < SIPKEEP_REASON_MAX; reason++) {
		assert_string_equal(events_reason(reason), reasons[reason]);
		record.reason = reason;
		encode(&record, &context, line);
		snprintf(part, sizeof(part), "\"reason\":\"%s\"", reasons[reason]);
		assert_non_null(strstr(line, part));
	}
	assert_null(events_reason(SIPKEEP_REASON_MAX));
	_Static_assert(sizeof(refusals) / sizeof(refusals[0]) == SIPKEEP_REFUSED_MAX, "each refusal is tested");
	for (__u8 cause = 0; cause < SIPKEEP_REFUSED_MAX; cause++)
		assert_string_equal(events_refusal(cause), refusals[cause]);
	assert_null(events_refusal(SIPKEEP_REFUSED_MAX));
	assert_string_equal(events_direction(SIPKEEP_INBOUND), "inbound");
	assert_string_equal(events_direction(SIPKEEP_OUTBOUND), "outbound");
	assert_null(events_direction(SIPKEEP_DIRECTION_MAX));
}

/* ---- what isn't ours ---------------------------------------------------------------------------------------------------- */

static void other_sizes_are_not_ours(void **state)
{
	struct sipkeep_record records[2] = { record_of(SIPKEEP_EVENT_CONNECTED) };

	(void)state;
	for (size_t size = 0; size <= sizeof(records); size++)
		if (!events_check(records, size) != (size != sizeof(records[0])))
			fail_msg("a record of %zu bytes is%s taken", size, size == sizeof(records[0]) ? "n't" : "");
}

static void values_out_of_range_are_not_ours(void **state)
{
	static const struct {
		size_t offset;
		unsigned int first_wrong;
	} fields[] = {
		{ offsetof(struct sipkeep_record, event), SIPKEEP_EVENT_MAX },
		{ offsetof(struct sipkeep_record, direction), SIPKEEP_DIRECTION_MAX },
		{ offsetof(struct sipkeep_record, reason), SIPKEEP_REASON_MAX },
		{ offsetof(struct sipkeep_record, closed_by), SIPKEEP_CLOSED_BY_REMOTE + 1 },
		{ offsetof(struct sipkeep_record, cause), SIPKEEP_REFUSED_MAX },
		{ offsetof(struct sipkeep_record, prefix), 129 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		for (unsigned int value = 0; value < 256; value++) {
			struct sipkeep_record record = record_of(SIPKEEP_EVENT_CONNECTED);

			((__u8 *)&record)[fields[i].offset] = (__u8)value;
			if (!events_check(&record, sizeof(record)) != (value >= fields[i].first_wrong))
				fail_msg("offset %zu, value %u", fields[i].offset, value);
		}
}

/* Whatever passes the check becomes a whole JSON line. */
static void no_record_breaks_the_line(void **state)
{
	unsigned int seed = 1, seen = 0;

	(void)state;
	for (int round = 0; round < 200000; round++) {
		union {
			struct sipkeep_record record;
			__u8 bytes[sizeof(struct sipkeep_record)];
		} any;
		char line[EVENTS_LINE_MAX];
		size_t length;
		json_t *object;

		for (size_t i = 0; i < sizeof(any); i++)
			any.bytes[i] = (__u8)(rand_r(&seed) >> 7);
		any.record.event %= SIPKEEP_EVENT_MAX + 1;
		any.record.reason %= SIPKEEP_REASON_MAX;
		any.record.cause %= SIPKEEP_REFUSED_MAX;
		any.record.direction %= SIPKEEP_DIRECTION_MAX;
		any.record.closed_by %= SIPKEEP_CLOSED_BY_REMOTE + 1;
		any.record.prefix %= 130;
		if (!events_check(&any, sizeof(any)))
			continue;
		/* Times beyond the calendar aren't what this is about. */
		any.record.ts_ns >>= 8;
		length = encode(&any.record, &context, line);
		if (round % 50) { /* parsing is what takes long here */
			assert_int_equal(line[length - 1], '\n');
			continue;
		}
		object = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
		if (!object)
			fail_msg("not JSON: %s", line);
		json_decref(object);
		seen++;
	}
	assert_true(seen > 1000);
}

static void the_longest_line_fits(void **state)
{
	struct events_context longest = { .realtime_offset_ns = NOW_REAL, .seq = ~0ULL,
					  .policy = "abcdefghijklmnopqrstuvwxyz01234" };
	char line[EVENTS_LINE_MAX + 1];

	(void)state;
	assert_int_equal(strlen(longest.policy), SIPKEEP_NAME_LEN - 1);
	for (int event = 0; event < SIPKEEP_EVENT_MAX; event++) {
		for (int direction = 0; direction < SIPKEEP_DIRECTION_MAX; direction++) {
			struct sipkeep_record record;
			size_t length;
			json_t *object;

			memset(&record, 0xff, sizeof(record));
			record.ts_ns = 0;
			record.event = (__u8)event;
			record.direction = (__u8)direction;
			record.reason = SIPKEEP_REASON_RETRANSMIT_TIMEOUT;
			record.closed_by = SIPKEEP_CLOSED_BY_REMOTE;
			record.cause = SIPKEEP_REFUSED_SOURCE;
			record.prefix = 127;
			record.flags = event == SIPKEEP_EVENT_REFUSED ? 0 : record.flags;
			line[EVENTS_LINE_MAX] = 'x';
			length = encode(&record, &longest, line);
			assert_int_equal(line[EVENTS_LINE_MAX], 'x');
			assert_true(length < EVENTS_LINE_MAX);
			assert_int_equal(strlen(line), length);
			assert_int_equal(line[length - 1], '\n');
			object = json_loadb(line, length, JSON_DECODE_INT_AS_REAL, NULL);
			assert_non_null(object);
			json_decref(object);
		}
	}
}

static void ids_and_endpoints(void **state)
{
	struct sipkeep_addr addr = addr_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	char text[80];

	(void)state;
	assert_string_equal(events_id(0x4a31, 0, text), "4a31");
	assert_string_equal(events_id(0x4a31, 2, text), "4a31.2");
	assert_string_equal(events_id(~0ULL, 65535, text), "ffffffffffffffff.65535");
	assert_string_equal(events_endpoint(&addr, 65535, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	addr = addr_of("255.255.255.255");
	assert_string_equal(events_endpoint(&addr, 65535, text), "255.255.255.255:65535");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(connected_line),
		cmocka_unit_test(action_line),
		cmocka_unit_test(longest_action_line),
		cmocka_unit_test(disconnected_line),
		cmocka_unit_test(destroyed_line),
		cmocka_unit_test(refused_line),
		cmocka_unit_test(refused_outbound_line),
		cmocka_unit_test(listener_lines),
		cmocka_unit_test(mode_lines),
		cmocka_unit_test(full_and_lost_lines),
		cmocka_unit_test(times_keep_their_microseconds),
		cmocka_unit_test(every_event_has_the_fields_of_the_design),
		cmocka_unit_test(every_reason_and_refusal_has_its_name),
		cmocka_unit_test(other_sizes_are_not_ours),
		cmocka_unit_test(values_out_of_range_are_not_ours),
		cmocka_unit_test(no_record_breaks_the_line),
		cmocka_unit_test(the_longest_line_fits),
		cmocka_unit_test(ids_and_endpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
