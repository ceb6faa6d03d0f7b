/* SPDX-License-Identifier: GPL-2.0-only */
/* config_sink.c: the groups of `sinks` -> struct outlet_sink (see config_internal.h). */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"

#define SIZE_DEFAULT (100ULL << 20)
#define SIZE_MIN (64ULL << 10) /* some dozens of lines */
#define TOTAL_MAX (1ULL << 50)
#define FILES_DEFAULT 10ULL
#define MODE_DEFAULT 0600U

struct sink_state {
	struct outlet_sink *sink;
	bool path_wrong, size_right, total_right;
};

static int line_of(const config_setting_t *setting)
{
	return (int)config_setting_source_line(setting);
}

/* Copies an absolute path with single slashes; NULL with *ret_why when it isn't one of a file. */
static char *normal_path(const char *path, const char **ret_why)
{
	char *normal = malloc(strlen(path) + 1), *end = normal;

	*ret_why = *path == '/' ? NULL : "must be absolute: it has to begin with '/'";
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*ret_why = "must not contain control characters";
	if (strlen(path) >= PATH_MAX)
		*ret_why = "is too long";
	while (normal && !*ret_why && *path) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!len)
			*ret_why = "names a directory; add a file's name";
		else if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
			*ret_why = "must not contain \".\" or \"..\"";
		*end++ = '/';
		memcpy(end, path, len);
		end += len;
		path += len;
	}
	if (!normal || *ret_why) {
		free(normal);
		return NULL;
	}
	*end = '\0';
	return normal;
}

static void read_type(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	/* Read before all others: config_sink_read() needs it to tell which keys belong. */
	(void)reader;
	(void)setting;
	(void)arg;
}

static void read_path(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sink_state *state = arg;
	struct outlet_sink *sink = state->sink;
	char quoted[CONFIG_QUOTE_LEN];
	const char *text, *why;

	state->path_wrong = !config_get_string(reader, setting, &text);
	if (state->path_wrong || (sink->type == OUTLET_JSONL && strcmp(text, "-") == 0))
		return;
	sink->path = normal_path(text, &why);
	if (sink->path && sink->type == OUTLET_SOCKET && strlen(sink->path) > OUTLET_SOCKET_PATH_MAX) {
		why = "is too long for a socket: 107 bytes at most";
		free(sink->path);
		sink->path = NULL;
	}
	state->path_wrong = !sink->path;
	if (!sink->path && why)
		config_error_add(reader, line_of(setting), "'path': \"%s\" %s", config_quote(text, quoted), why);
	else if (!sink->path)
		reader->failed = -ENOMEM;
}

/* "100M": digits and one of K, M, G, T, as logrotate and journald have them. */
static bool size_parse(const char *text, __u64 *ret_size)
{
	static const char units[] = "KMGT";
	size_t digits = strspn(text, "0123456789");
	const char *unit = text[digits] ? strchr(units, text[digits]) : NULL;
	__u64 size;

	if (!digits || digits > 18 || (text[digits] && (!unit || text[digits + 1])))
		return false;
	size = strtoull(text, NULL, 10);
	for (const char *step = units; unit && step <= unit; step++) {
		if (size > TOTAL_MAX)
			break;
		size <<= 10;
	}
	*ret_size = size;
	return true;
}

/* Bytes as a number, or as a string with a unit: libconfig's numbers end at 2 GiB, and config_scan() cuts those. */
static bool get_size(struct config_reader *reader, const config_setting_t *setting, __u64 *ret_size)
{
	const char *name = config_setting_name(setting), *text = config_setting_get_string(setting);
	char quoted[CONFIG_QUOTE_LEN];
	int type = config_setting_type(setting);
	long long value = config_setting_get_int64(setting);

	if (text && size_parse(text, ret_size))
		return true;
	if (text)
		config_error_add(reader, line_of(setting),
				 "'%s' wants bytes, as in 104857600, \"100M\" or \"1G\"; \"%s\" isn't", name,
				 config_quote(text, quoted));
	else if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		config_error_add(reader, line_of(setting), "'%s' wants bytes, as in 104857600, \"100M\" or \"1G\"",
				 name);
	else if (value < 0)
		config_error_add(reader, line_of(setting), "'%s' must not be negative", name);
	else if (value >= INT_MAX)
		config_error_add(reader, line_of(setting),
				 "'%s' is too large for a number here; write it as a string, as in \"4G\"", name);
	else
		*ret_size = (__u64)value;
	return !text && (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) && value >= 0 && value < INT_MAX;
}

static void read_max_size(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sink_state *state = arg;

	state->size_right = get_size(reader, setting, &state->sink->max_size);
	if (state->size_right && state->sink->max_size && state->sink->max_size < SIZE_MIN) {
		config_error_add(reader, line_of(setting),
				 "'max_size' must be 0 (never rotated) or at least %llu bytes (\"64K\")", SIZE_MIN);
		state->size_right = false;
	}
}

static void read_max_total(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sink_state *state = arg;

	state->total_right = get_size(reader, setting, &state->sink->max_total);
	if (state->total_right && (state->sink->max_total < 2 * SIZE_MIN || state->sink->max_total > TOTAL_MAX)) {
		config_error_add(reader, line_of(setting),
				 "'max_total' must be from %llu bytes (\"128K\") to \"1024T\"", 2 * SIZE_MIN);
		state->total_right = false;
	}
}

/* libconfig knows no octal numbers: a string, as chmod takes it. */
static void read_mode(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct outlet_sink *sink = ((struct sink_state *)arg)->sink;
	const char *text = config_setting_get_string(setting);
	char quoted[CONFIG_QUOTE_LEN];
	size_t digits = text ? strspn(text, "01234567") : 0;

	if (text && digits >= 3 && digits <= 4 && !text[digits] && strtoul(text, NULL, 8) <= 0777)
		sink->mode = (__u32)strtoul(text, NULL, 8);
	else
		config_error_add(reader, line_of(setting),
				 "'mode' wants permissions as a string of octal digits, as in \"0660\"%s%s%s",
				 text ? "; \"" : "", text ? config_quote(text, quoted) : "", text ? "\" isn't" : "");
}

const struct config_key config_sink_keys[] = {
	{ "type", read_type, CONFIG_KEY_BOTH },		{ "path", read_path, CONFIG_KEY_BOTH },
	{ "max_size", read_max_size, CONFIG_KEY_BOTH }, { "max_total", read_max_total, CONFIG_KEY_BOTH },
	{ "mode", read_mode, CONFIG_KEY_BOTH },
};
const size_t config_sink_key_count = sizeof(config_sink_keys) / sizeof(config_sink_keys[0]);

/* By key: the types that have it. */
static const unsigned int types_of[] = {
	(1U << OUTLET_SINK_MAX) - 1, 1U << OUTLET_JSONL | 1U << OUTLET_SOCKET, 1U << OUTLET_JSONL, 1U << OUTLET_JSONL,
	1U << OUTLET_SOCKET,
};
_Static_assert(sizeof(types_of) / sizeof(types_of[0]) == sizeof(config_sink_keys) / sizeof(config_sink_keys[0]),
	       "types for each key");

static bool key_belongs(struct config_reader *reader, const config_setting_t *setting, const struct config_key *key,
			const struct outlet_sink *sink)
{
	if (types_of[key - config_sink_keys] & 1U << sink->type)
		return true;
	config_error_add(reader, line_of(setting), "'%s' has nothing to do in a sink of type \"%s\"", key->name,
			 outlet_sink_type(sink->type));
	return false;
}

static bool get_type(struct config_reader *reader, const config_setting_t *group, enum outlet_sink_type *ret_type)
{
	const config_setting_t *setting = config_setting_get_member(group, "type");
	const char *text = setting ? config_setting_get_string(setting) : NULL;
	char quoted[CONFIG_QUOTE_LEN];

	for (unsigned int type = 0; text && type < OUTLET_SINK_MAX; type++) {
		if (strcmp(text, outlet_sink_type(type)) == 0) {
			*ret_type = type;
			return true;
		}
	}
	if (!setting)
		config_error_add(reader, line_of(group),
				 "this sink has no 'type': write \"jsonl\", \"journald\" or \"socket\"");
	else
		config_error_add(reader, line_of(setting), "'type' must be \"jsonl\", \"journald\" or \"socket\"%s%s%s",
				 text ? ", not \"" : "", text ? config_quote(text, quoted) : "", text ? "\"" : "");
	return false;
}

/* The sizes that are left out follow from the other. */
static void check_sizes(struct config_reader *reader, const config_setting_t *group, struct sink_state *state)
{
	const config_setting_t *size = config_setting_get_member(group, "max_size");
	const config_setting_t *total = config_setting_get_member(group, "max_total");
	struct outlet_sink *sink = state->sink;

	if (state->path_wrong || (size && !state->size_right) || (total && !state->total_right))
		return;
	if (!sink->path && (size || total)) {
		config_error_add(reader, line_of(size ? size : total),
				 "'%s' is for files, and this sink is standard output; give it a 'path'",
				 size ? "max_size" : "max_total");
		return;
	}
	if (!sink->path)
		return;
	if (!size)
		sink->max_size = total ? sink->max_total / FILES_DEFAULT : SIZE_DEFAULT;
	if (sink->max_size < SIZE_MIN && !size)
		sink->max_size = SIZE_MIN;
	if (!total)
		sink->max_total = sink->max_size * FILES_DEFAULT;
	if (size && !sink->max_size && total)
		config_error_add(reader, line_of(total),
				 "'max_total' is kept by removing rotated files, and 'max_size' is 0: never rotated "
				 "(line %d)",
				 line_of(size));
	else if (sink->max_total > TOTAL_MAX || sink->max_total < 2 * sink->max_size ||
		 sink->max_total > OUTLET_ROTATED_MAX * sink->max_size)
		config_error_add(reader, line_of(total ? total : size),
				 "'max_total' (%llu) must be 2 to %d times 'max_size' (%llu)", sink->max_total,
				 OUTLET_ROTATED_MAX, sink->max_size);
}

/* True when it can be compared with others. */
static bool sink_read(struct config_reader *reader, const config_setting_t *group, struct outlet_sink *sink)
{
	struct sink_state state = { .sink = sink };
	int len = config_setting_length(group);
	bool type_right = get_type(reader, group, &sink->type);

	sink->line = line_of(group);
	sink->mode = MODE_DEFAULT;
	for (int i = 0; i < len; i++) {
		const config_setting_t *setting = config_setting_get_elem(group, (unsigned int)i);
		const struct config_key *key;

		key = config_key_find(reader, setting, config_sink_keys, config_sink_key_count, config_top_keys,
				      config_top_key_count, "at the top level, not in a sink");
		if (key && type_right && key_belongs(reader, setting, key, sink))
			key->read(reader, setting, &state);
	}
	if (type_right && sink->type == OUTLET_JSONL)
		check_sizes(reader, group, &state);
	if (type_right && sink->type == OUTLET_SOCKET && !config_setting_get_member(group, "path"))
		config_error_add(reader, sink->line, "this sink has no 'path': where its socket is to be");
	return type_right && !state.path_wrong;
}

/* Would `rotated` be the name of an older file of this sink? */
static bool is_rotated_name(const struct outlet_sink *sink, const char *rotated)
{
	size_t len = sink->path ? strlen(sink->path) : 0;
	const char *number = rotated + len + 1;

	return len && sink->max_size && strncmp(rotated, sink->path, len) == 0 && rotated[len] == '.' && *number &&
	       strspn(number, "0123456789") == strlen(number);
}

static void check_pair(struct config_reader *reader, const struct outlet_sink *first, const struct outlet_sink *later)
{
	bool pathless = !first->path && !later->path && first->type == later->type;
	char quoted[CONFIG_QUOTE_LEN];

	if (pathless && later->type == OUTLET_JOURNALD)
		config_error_add(reader, later->line, "the sink in line %d is the journal already", first->line);
	else if (pathless && later->type == OUTLET_JSONL)
		config_error_add(reader, later->line,
				 "the sink in line %d is standard output already; give one a 'path'", first->line);
	else if (first->path && later->path && strcmp(first->path, later->path) == 0)
		config_error_add(reader, later->line, "the sink in line %d has the path \"%s\" already", first->line,
				 config_quote(later->path, quoted));
	else if (first->path && later->path &&
		 (is_rotated_name(first, later->path) || is_rotated_name(later, first->path)))
		config_error_add(
			reader, later->line,
			"its path and that of the sink in line %d differ by a number only: rotating the one would "
			"replace the other; rename one",
			first->line);
}

void config_sinks_read(struct config_reader *reader, const config_setting_t *setting, struct outlets *outlets)
{
	bool right[OUTLET_SINKS_MAX] = { false };
	int len;

	if (!config_setting_is_list(setting)) {
		config_error_add(reader, line_of(setting),
				 "'sinks' wants a list of groups, as in sinks = ( { type = \"journald\"; } );");
		return;
	}
	len = config_setting_length(setting);
	if (len < 1 || len > OUTLET_SINKS_MAX) {
		config_error_add(
			reader, line_of(setting),
			"'sinks' must have 1 to %d sinks, not %d; left out, it is JSON lines on standard output",
			OUTLET_SINKS_MAX, len);
		return;
	}
	outlets->sinks = calloc((size_t)len, sizeof(*outlets->sinks));
	if (!outlets->sinks) {
		reader->failed = -ENOMEM;
		return;
	}
	for (int i = 0; i < len; i++) {
		const config_setting_t *group = config_setting_get_elem(setting, (unsigned int)i);
		size_t at = outlets->sink_count;

		if (!config_setting_is_group(group)) {
			config_error_add(reader, line_of(group),
					 "'sinks' wants groups, as in { type = \"journald\"; }");
			continue;
		}
		right[at] = sink_read(reader, group, &outlets->sinks[at]);
		outlets->sink_count++;
		for (size_t j = 0; right[at] && j < at; j++)
			if (right[j])
				check_pair(reader, &outlets->sinks[j], &outlets->sinks[at]);
	}
}
