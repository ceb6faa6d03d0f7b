// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include "events.h"
#include "sink_entry.h"
#include "sink_ids.h"

/* ---- fields ---------------------------------------------------------------------------------------------------- */

static __attribute__((format(printf, 2, 3))) void add(struct sink_entry *entry, const char *format, ...)
{
	size_t room = sizeof(entry->text) - entry->used;
	char *begin = entry->text + entry->used;
	va_list args;
	int length;

	if (entry->count == SINK_ENTRY_FIELDS)
		return;
	va_start(args, format);
	length = vsnprintf(begin, room, format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= room)
		return;
	entry->fields[entry->count++] = (struct iovec){ begin, (size_t)length };
	entry->used += (size_t)length + 1;
}

/* journald takes capitals, digits and '_', 64 in all. */
static bool field_name(const char *key, char name[64])
{
	int length = snprintf(name, 64, "SIPKEEP_%s", key);

	if (length < 0 || length >= 64)
		return false;
	for (char *c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && *c != '_')
			return false;
		*c = (char)toupper((unsigned char)*c);
	}
	return true;
}

static void add_value(struct sink_entry *entry, const char *name, const json_t *value)
{
	char nested[1024];
	size_t length;

	switch (json_typeof(value)) {
	case JSON_STRING:
		add(entry, "%s=%s", name, json_string_value(value));
		break;
	case JSON_INTEGER:
		add(entry, "%s=%" JSON_INTEGER_FORMAT, name, json_integer_value(value));
		break;
	case JSON_REAL:
		add(entry, "%s=%g", name, json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		add(entry, "%s=%s", name, json_is_true(value) ? "true" : "false");
		break;
	case JSON_NULL:
		break;
	case JSON_OBJECT:
	case JSON_ARRAY:
		length = json_dumpb(value, nested, sizeof(nested), JSON_COMPACT);
		if (length <= sizeof(nested))
			add(entry, "%s=%.*s", name, (int)length, nested);
		break;
	}
}

static void add_line(struct sink_entry *entry, json_t *line)
{
	const char *key;
	json_t *value;
	char name[64];

	json_object_foreach(line, key, value)
		if (strcmp(key, "v") != 0 && field_name(key, name))
			add_value(entry, name, value);
}

/* ---- the sentence ---------------------------------------------------------------------------------------------- */

#define SENTENCE_LEN 1024

static const char *text_of(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	return text ? text : "?";
}

static long long number_of(const json_t *line, const char *key)
{
	return json_integer_value(json_object_get(line, key));
}

static double seconds_of(const json_t *line, const char *key)
{
	return (double)number_of(line, key) / 1000;
}

/* "phones: 203.0.113.7:40112 > 192.0.2.1:5060": from whom it was made to whom. */
static char *transport_of(const json_t *line, char *text, size_t size)
{
	bool inbound = strcmp(text_of(line, "direction"), "inbound") == 0;

	snprintf(text, size, "%s: %s > %s", text_of(line, "policy"), text_of(line, inbound ? "remote" : "local"),
		 text_of(line, inbound ? "local" : "remote"));
	return text;
}

static void say_connected(const json_t *line, char *text)
{
	char transport[256];

	snprintf(text, SENTENCE_LEN, "%s connected%s", transport_of(line, transport, sizeof(transport)),
		 json_is_true(json_object_get(line, "adopted")) ? " (it was before sipkeep was loaded)" : "");
}

static void say_disconnected(const json_t *line, char *text)
{
	const char *closer = json_string_value(json_object_get(line, "closed_by"));
	const char *cause = json_string_value(json_object_get(line, "cause"));
	char transport[256];

	snprintf(text, SENTENCE_LEN, "%s disconnected%s%s: %s after %.1f s, the last %.1f s without a byte%s%s",
		 transport_of(line, transport, sizeof(transport)), closer ? ", closed by " : "",
		 !closer		      ? "" :
		 strcmp(closer, "local") == 0 ? "us" :
						"the remote",
		 text_of(line, "reason"), seconds_of(line, "age_ms"), seconds_of(line, "idle_ms"),
		 cause ? "; the cause is " : "", cause ? cause : "");
}

static void say_destroyed(const json_t *line, char *text)
{
	char transport[256];

	snprintf(text, SENTENCE_LEN, "%s is gone", transport_of(line, transport, sizeof(transport)));
}

static void say_refused(const json_t *line, char *text)
{
	const char *source = json_string_value(json_object_get(line, "source"));

	snprintf(text, SENTENCE_LEN, "%s: %lld connections of %s %s, by %s %lld", text_of(line, "policy"),
		 number_of(line, "count"), source ? source : "several sources",
		 json_is_true(json_object_get(line, "observed")) ? "would have been refused" : "refused",
		 text_of(line, "limited_by"), number_of(line, "limit"));
}

static void say_listener_up(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN, "The listener on %s %s is up", text_of(line, "protocol"), text_of(line, "local"));
}

static void say_listener_down(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN, "The listener on %s %s is down", text_of(line, "protocol"),
		 text_of(line, "local"));
}

static void say_listener_restart(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN, "The listener on %s %s was restarted: down for %lld ms, with %lld transports open",
		 text_of(line, "protocol"), text_of(line, "local"), number_of(line, "gap_ms"), number_of(line, "open"));
}

static void say_full(const json_t *line, char *text)
{
	(void)line;
	snprintf(text, SENTENCE_LEN, "A source could not be counted; 'sipkeep status' tells why");
}

static void say_mode(const json_t *line, char *text)
{
	const char *until = json_string_value(json_object_get(line, "until"));

	snprintf(text, SENTENCE_LEN, "The mode is %s%s%s", text_of(line, "mode"), until ? " until " : "",
		 until ? until : "");
}

static void say_stale_contact(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN,
		 "connect() to %s, the far end of a transport that is closed, failed: %s (%lld so far)",
		 text_of(line, "remote"), text_of(line, "error"), number_of(line, "count"));
}

static void say_lost(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN, "%lld events were lost", number_of(line, "count"));
}

static void say_wedged(const json_t *line, char *text)
{
	char transport[256];

	snprintf(text, SENTENCE_LEN, "%s is wedged: the remote has closed it, the PBX hasn't, and makes no new one",
		 transport_of(line, transport, sizeof(transport)));
}

static void say_action(const json_t *line, char *text)
{
	snprintf(text, SENTENCE_LEN, "The action %s for %s: %s", text_of(line, "command"), text_of(line, "for"),
		 text_of(line, "outcome"));
}

static const struct kind {
	const char *id;
	int priority;
	void (*say)(const json_t *line, char *text);
} kinds[] = {
	[SIPKEEP_EVENT_CONNECTED] = { SINK_ID_CONNECTED, LOG_INFO, say_connected },
	[SIPKEEP_EVENT_DISCONNECTED] = { SINK_ID_DISCONNECTED, LOG_INFO, say_disconnected },
	[SIPKEEP_EVENT_DESTROYED] = { SINK_ID_DESTROYED, LOG_INFO, say_destroyed },
	[SIPKEEP_EVENT_REFUSED] = { SINK_ID_REFUSED, LOG_NOTICE, say_refused },
	[SIPKEEP_EVENT_LISTENER_UP] = { SINK_ID_LISTENER_UP, LOG_NOTICE, say_listener_up },
	[SIPKEEP_EVENT_LISTENER_DOWN] = { SINK_ID_LISTENER_DOWN, LOG_NOTICE, say_listener_down },
	[SIPKEEP_EVENT_FULL] = { SINK_ID_FULL, LOG_ERR, say_full },
	[SIPKEEP_EVENT_MODE] = { SINK_ID_MODE, LOG_NOTICE, say_mode },
	[SIPKEEP_EVENT_STALE_CONTACT] = { SINK_ID_STALE_CONTACT, LOG_WARNING, say_stale_contact },
	[EVENTS_LOST] = { SINK_ID_LOST, LOG_WARNING, say_lost },
	[EVENTS_LISTENER_RESTART] = { SINK_ID_LISTENER_RESTART, LOG_WARNING, say_listener_restart },
	[EVENTS_WEDGED] = { SINK_ID_WEDGED, LOG_WARNING, say_wedged },
	[EVENTS_ACTION] = { SINK_ID_ACTION, LOG_INFO, say_action },
};
_Static_assert(sizeof(kinds) / sizeof(kinds[0]) == EVENTS_KIND_MAX, "an entry for each event");

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* A cause, or an action that failed, is for somebody to look at. */
static int priority_of(int kind, const json_t *line)
{
	if (json_is_string(json_object_get(line, "cause")))
		return kind == SIPKEEP_EVENT_DISCONNECTED ? LOG_NOTICE : kinds[kind].priority;
	if (kind == EVENTS_ACTION && strcmp(text_of(line, "outcome"), "done") != 0)
		return LOG_WARNING;
	return kinds[kind].priority;
}

static void begin(struct sink_entry *entry, const char *instance)
{
	entry->count = 0;
	entry->used = 0;
	add(entry, "SYSLOG_IDENTIFIER=sipkeep");
	add(entry, "SIPKEEP_INSTANCE=%s", instance);
}

void sink_entry_make(struct sink_entry *entry, const char *instance, const char *text, size_t length)
{
	json_t *line = json_loadb(text, length, 0, NULL);
	const char *name = json_string_value(json_object_get(line, "event"));
	int kind = name ? events_kind_find(name) : -1;
	char sentence[SENTENCE_LEN];

	begin(entry, instance);
	if (kind >= 0) {
		kinds[kind].say(line, sentence);
		add(entry, "MESSAGE=%s", sentence);
		add(entry, "MESSAGE_ID=%s", kinds[kind].id);
		add(entry, "PRIORITY=%d", priority_of(kind, line));
	} else {
		add(entry, "MESSAGE=%.*s", (int)(length && text[length - 1] == '\n' ? length - 1 : length), text);
		add(entry, "PRIORITY=%d", LOG_NOTICE);
	}
	add_line(entry, line);
	json_decref(line);
}

void sink_entry_lost(struct sink_entry *entry, const char *instance, __u64 count)
{
	begin(entry, instance);
	add(entry, "MESSAGE=The journal took nothing for a while: %llu events are not in it; other sinks have them",
	    count);
	add(entry, "MESSAGE_ID=%s", SINK_ID_JOURNAL_LOST);
	add(entry, "PRIORITY=%d", LOG_WARNING);
	add(entry, "SIPKEEP_EVENT=journal_lost");
	add(entry, "SIPKEEP_COUNT=%llu", count);
}
