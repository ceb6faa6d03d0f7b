/* SPDX-License-Identifier: GPL-2.0-only */
/* config_setting.c: one setting of the file -> one checked value (see config_internal.h). */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"

static int line_of(const config_setting_t *setting)
{
	return (int)config_setting_source_line(setting);
}

/* What a message calls it: an element of an array has no name, its array has. */
static const char *name_of(const config_setting_t *setting)
{
	while (setting && !config_setting_name(setting))
		setting = config_setting_parent(setting);
	return setting ? config_setting_name(setting) : "?";
}

static const char *type_name(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_ARRAY:
		return "an array";
	case CONFIG_TYPE_LIST:
		return "a list";
	case CONFIG_TYPE_GROUP:
		return "a group";
	}
	return "nothing";
}

static bool wrong_type(struct config_reader *reader, const config_setting_t *setting, const char *wanted)
{
	config_error_add(reader, line_of(setting), "'%s' wants %s, not %s", name_of(setting), wanted,
			 type_name(setting));
	return false;
}

/* ---- names ------------------------------------------------------------------------------------------------- */

#define NAME_MAX_COMPARED 40

/* Levenshtein's distance; a large number for names longer than any key. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[NAME_MAX_COMPARED + 1], a_len = strlen(a), b_len = strlen(b);

	if (a_len > NAME_MAX_COMPARED || b_len > NAME_MAX_COMPARED)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[b_len];
}

/* The key that was probably meant, or NULL. A long name may be further off than a short one. */
static const char *nearest_key(const char *name, const struct config_key *keys, size_t key_count)
{
	size_t limit = 1 + strlen(name) / 5;
	const char *nearest = NULL;

	for (size_t i = 0; i < key_count; i++) {
		size_t distance = edit_distance(name, keys[i].name);

		if (!keys[i].read || distance > limit)
			continue;
		nearest = keys[i].name;
		limit = distance ? distance - 1 : 0;
	}
	return nearest;
}

static const struct config_key *find_key(const char *name, const struct config_key *keys, size_t key_count)
{
	for (size_t i = 0; i < key_count; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

const struct config_key *config_key_find(struct config_reader *reader, const config_setting_t *setting,
					 const struct config_key *keys, size_t key_count,
					 const struct config_key *elsewhere, size_t elsewhere_count, const char *place)
{
	const char *name = config_setting_name(setting), *nearest;
	const struct config_key *key = find_key(name, keys, key_count);
	char quoted[CONFIG_QUOTE_LEN];

	if (key && key->read)
		return key;
	if (key) {
		config_error_add(reader, line_of(setting), "'%s' is not built in this version; remove it", name);
		return NULL;
	}
	config_quote(name, quoted);
	nearest = nearest_key(name, keys, key_count);
	if (find_key(name, elsewhere, elsewhere_count))
		config_error_add(reader, line_of(setting), "'%s' belongs %s", quoted, place);
	else if (nearest)
		config_error_add(reader, line_of(setting), "unknown key '%s'; did you mean '%s'?", quoted, nearest);
	else
		config_error_add(reader, line_of(setting), "unknown key '%s'", quoted);
	return NULL;
}

/* ---- single values ----------------------------------------------------------------------------------------- */

static bool is_whole(const config_setting_t *setting)
{
	int type = config_setting_type(setting);

	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

bool config_get_whole(struct config_reader *reader, const config_setting_t *setting, __u32 min, __u32 max,
		      const char *unit, __u32 *ret_value)
{
	char given[32] = "";
	long long value;

	if (!is_whole(setting)) {
		config_error_add(reader, line_of(setting), "'%s' wants a whole number from %u to %u%s, not %s",
				 name_of(setting), min, max, unit, type_name(setting));
		return false;
	}
	value = config_setting_get_int64(setting);
	if (value < min || value > max) {
		/* Numbers that config_scan() had to change aren't shown. */
		if (value > -INT_MAX && value < INT_MAX)
			snprintf(given, sizeof(given), ", not %lld", value);
		config_error_add(reader, line_of(setting), "'%s' must be from %u to %u%s%s", name_of(setting), min, max,
				 unit, given);
		return false;
	}
	*ret_value = (__u32)value;
	return true;
}

bool config_get_bool(struct config_reader *reader, const config_setting_t *setting, bool *ret_value)
{
	if (config_setting_type(setting) != CONFIG_TYPE_BOOL)
		return wrong_type(reader, setting, "true or false");
	*ret_value = config_setting_get_bool(setting);
	return true;
}

bool config_get_number(struct config_reader *reader, const config_setting_t *setting, double *ret_value)
{
	if (is_whole(setting))
		*ret_value = (double)config_setting_get_int64(setting);
	else if (config_setting_type(setting) == CONFIG_TYPE_FLOAT)
		*ret_value = config_setting_get_float(setting);
	else
		return wrong_type(reader, setting, "a number");
	return true;
}

bool config_get_string(struct config_reader *reader, const config_setting_t *setting, const char **ret_value)
{
	if (config_setting_type(setting) != CONFIG_TYPE_STRING)
		return wrong_type(reader, setting, "a string");
	*ret_value = config_setting_get_string(setting);
	return true;
}

bool config_get_choice(struct config_reader *reader, const config_setting_t *setting, const char *first,
		       const char *second, bool *ret_second)
{
	const char *word = config_setting_get_string(setting); /* NULL: not a string */
	char quoted[CONFIG_QUOTE_LEN];

	if (word && strcmp(word, first) == 0) {
		*ret_second = false;
		return true;
	}
	if (word && strcmp(word, second) == 0) {
		*ret_second = true;
		return true;
	}
	if (word)
		config_error_add(reader, line_of(setting), "'%s' must be \"%s\" or \"%s\", not \"%s\"",
				 name_of(setting), first, second, config_quote(word, quoted));
	else
		config_error_add(reader, line_of(setting), "'%s' wants the string \"%s\" or \"%s\", not %s",
				 name_of(setting), first, second, type_name(setting));
	return false;
}

/* ---- arrays ------------------------------------------------------------------------------------------------ */

bool config_get_array(struct config_reader *reader, const config_setting_t *setting, const char *example)
{
	if (config_setting_is_array(setting) || config_setting_is_list(setting))
		return true;
	config_error_add(reader, line_of(setting), "'%s' wants an array, as in %s = [ %s ]; not %s", name_of(setting),
			 name_of(setting), example, type_name(setting));
	return false;
}

bool config_get_ports(struct config_reader *reader, const config_setting_t *setting, __u16 **ret_ports,
		      size_t *ret_count)
{
	int *lines = NULL; /* by port: where it was first listed */
	size_t count = 0;
	__u16 *ports;
	bool right = true;
	int len;

	if (!config_get_array(reader, setting, "5060, 5061"))
		return false;
	len = config_setting_length(setting);
	lines = calloc(65536, sizeof(*lines));
	if (!lines) {
		reader->failed = -ENOMEM;
		return false;
	}
	for (int i = 0; i < len; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, (unsigned int)i);
		__u32 port;

		if (!config_get_whole(reader, element, 1, 65535, "", &port)) {
			right = false;
		} else if (lines[port]) {
			config_error_add(reader, line_of(element), "'%s' lists port %u twice (first in line %d)",
					 name_of(setting), port, lines[port]);
			right = false;
		} else {
			lines[port] = line_of(element);
			count++;
		}
	}
	ports = right && count ? calloc(count, sizeof(*ports)) : NULL;
	if (right && count && !ports) {
		reader->failed = -ENOMEM;
		right = false;
	}
	for (size_t port = 1, i = 0; right && i < count; port++)
		if (lines[port])
			ports[i++] = (__u16)port;
	free(lines);
	if (!right)
		return false;
	*ret_ports = ports;
	*ret_count = count;
	return true;
}

struct listed_prefix {
	struct policy_prefix prefix;
	int line;
	int index; /* makes qsort() stable */
};

static int listed_compare(const void *a, const void *b)
{
	const struct listed_prefix *x = a, *y = b;
	int order = policy_prefix_compare(&x->prefix, &y->prefix);

	return order ? order : x->index - y->index;
}

static bool get_prefix(struct config_reader *reader, const config_setting_t *element, struct policy_prefix *ret_prefix)
{
	char quoted[CONFIG_QUOTE_LEN], correct[POLICY_PREFIX_LEN];
	struct policy_prefix prefix;
	const char *text, *why;

	if (config_setting_type(element) != CONFIG_TYPE_STRING)
		return wrong_type(reader, element, "addresses as strings, as in \"192.0.2.0/24\"");
	text = config_setting_get_string(element);
	if (policy_prefix_parse(text, ret_prefix, &why) == 0)
		return true;
	config_quote(text, quoted);
	if (policy_prefix_correct(text, &prefix) == 0)
		config_error_add(reader, line_of(element), "'%s': \"%s\": %s; the prefix is \"%s\"", name_of(element),
				 quoted, why, policy_prefix_format(&prefix, correct));
	else
		config_error_add(reader, line_of(element), "'%s': \"%s\": %s", name_of(element), quoted, why);
	return false;
}

/* Reports what is listed twice, by the order of addresses, which error lines put right again. */
static bool check_doubles(struct config_reader *reader, const config_setting_t *setting,
			  const struct listed_prefix *list, size_t count)
{
	char buf[POLICY_PREFIX_LEN];
	bool right = true;

	for (size_t i = 1, first = 0; i < count; i++) {
		if (policy_prefix_compare(&list[first].prefix, &list[i].prefix) != 0) {
			first = i;
			continue;
		}
		config_error_add(reader, list[i].line, "'%s' lists \"%s\" twice (first in line %d)", name_of(setting),
				 policy_prefix_format(&list[i].prefix, buf), list[first].line);
		right = false;
	}
	return right;
}

bool config_get_prefixes(struct config_reader *reader, const config_setting_t *setting,
			 struct policy_prefix **ret_prefixes, size_t *ret_count)
{
	struct policy_prefix *prefixes;
	struct listed_prefix *list;
	bool right = true;
	size_t count = 0;
	int len;

	if (!config_get_array(reader, setting, "\"192.0.2.0/24\""))
		return false;
	len = config_setting_length(setting);
	list = calloc((size_t)len + 1, sizeof(*list));
	prefixes = calloc((size_t)len + 1, sizeof(*prefixes));
	if (!list || !prefixes) {
		reader->failed = -ENOMEM;
		right = false;
	}
	for (int i = 0; i < len && !reader->failed; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, (unsigned int)i);

		if (!get_prefix(reader, element, &list[count].prefix)) {
			right = false;
			continue;
		}
		list[count].line = line_of(element);
		list[count].index = i;
		count++;
	}
	if (list && count) {
		qsort(list, count, sizeof(*list), listed_compare);
		right = check_doubles(reader, setting, list, count) && right;
	}
	for (size_t i = 0; right && i < count; i++)
		prefixes[i] = list[i].prefix;
	free(list);
	if (!right) {
		free(prefixes);
		return false;
	}
	*ret_prefixes = prefixes;
	*ret_count = count;
	return true;
}
