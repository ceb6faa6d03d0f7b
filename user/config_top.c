/* SPDX-License-Identifier: GPL-2.0-only */
/* config_top.c: the top level of the file, and what holds between its policies (see config_internal.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"

#define MAX_SOURCES_DEFAULT 262144U
#define MAX_SOURCES_MAX 16777216U
/* As many may still drain from the file before. */
#define POLICIES_MAX (SIPKEEP_MAX_POLICIES / 2)
/* The maps hold two banks. */
#define RULES_MAX (SIPKEEP_MAX_RULES / 2)

/* ---- cgroups ----------------------------------------------------------------------------------------------- */

/* Copies path with single slashes and none at the end; NULL with *ret_why when it isn't one. */
static char *normal_path(const char *path, const char **ret_why)
{
	char *normal, *end;

	*ret_why = NULL;
	if (*path != '/')
		*ret_why = "must be absolute, relative to the cgroup2 mount, as in \"/system.slice/asterisk.service\"";
	else if (strlen(path) >= SIPKEEP_CGROUP_PATH)
		*ret_why = "is too long";
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*ret_why = "must not contain control characters";
	if (*ret_why)
		return NULL;

	normal = end = malloc(strlen(path) + 2);
	if (!normal)
		return NULL;
	while (*path) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.')) {
			*ret_why = "must not contain \".\" or \"..\"";
			free(normal);
			return NULL;
		}
		if (len) {
			*end++ = '/';
			memcpy(end, path, len);
			end += len;
			path += len;
		}
	}
	if (end == normal)
		*end++ = '/';
	*end = '\0';
	return normal;
}

/* True when inner is outer or lies in it; both as normal_path() makes them. */
static bool path_inside(const char *inner, const char *outer)
{
	size_t len = strlen(outer);

	if (strcmp(outer, "/") == 0)
		return true;
	return strncmp(inner, outer, len) == 0 && (inner[len] == '\0' || inner[len] == '/');
}

static bool check_path(struct config_reader *reader, int line, const char *path, const struct policy_set *set)
{
	char quoted[CONFIG_QUOTE_LEN], other[CONFIG_QUOTE_LEN];

	config_quote(path, quoted);
	for (size_t i = 0; i < set->cgroup_count; i++) {
		config_quote(set->cgroups[i], other);
		if (strcmp(path, set->cgroups[i]) == 0)
			config_error_add(reader, line, "'cgroups' lists \"%s\" twice", quoted);
		else if (path_inside(path, set->cgroups[i]))
			config_error_add(reader, line,
					 "'cgroups': \"%s\" lies inside \"%s\", which covers it already; remove it",
					 quoted, other);
		else if (path_inside(set->cgroups[i], path))
			config_error_add(reader, line, "'cgroups': \"%s\" covers \"%s\" already; remove that one",
					 quoted, other);
		else
			continue;
		return false;
	}
	return true;
}

static void read_cgroup(struct config_reader *reader, const config_setting_t *element, struct policy_set *set)
{
	int line = (int)config_setting_source_line(element);
	char quoted[CONFIG_QUOTE_LEN];
	const char *text, *why;
	char *path;

	if (config_setting_type(element) != CONFIG_TYPE_STRING) {
		config_error_add(reader, line, "'cgroups' wants paths as strings, as in \"/\"");
		return;
	}
	text = config_setting_get_string(element);
	path = normal_path(text, &why);
	if (!path) {
		if (why)
			config_error_add(reader, line, "'cgroups': \"%s\" %s", config_quote(text, quoted), why);
		else
			reader->failed = -ENOMEM;
		return;
	}
	if (check_path(reader, line, path, set))
		set->cgroups[set->cgroup_count++] = path;
	else
		free(path);
}

static void read_cgroups(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_set *set = arg;
	int line = (int)config_setting_source_line(setting), len;

	if (!config_get_array(reader, setting, "\"/\""))
		return;
	len = config_setting_length(setting);
	if (len < 1 || len > SIPKEEP_MAX_CGROUPS) {
		config_error_add(reader, line, "'cgroups' must list 1 to %d paths; leave it out for the whole host",
				 SIPKEEP_MAX_CGROUPS);
		return;
	}
	set->cgroups = calloc((size_t)len, sizeof(*set->cgroups));
	if (!set->cgroups) {
		reader->failed = -ENOMEM;
		return;
	}
	for (int i = 0; i < len; i++)
		read_cgroup(reader, config_setting_get_elem(setting, (unsigned int)i), set);
}

/* ---- the other keys of the top level ----------------------------------------------------------------------- */

static void read_mode(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_get_choice(reader, setting, "enforce", "observe", &((struct policy_set *)arg)->observe);
}

static void read_on_full(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_get_choice(reader, setting, "admit", "refuse", &((struct policy_set *)arg)->on_full_refuse);
}

static void read_max_sources(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_get_whole(reader, setting, 1, MAX_SOURCES_MAX, "", &((struct policy_set *)arg)->max_sources);
}

static void read_exempt(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_set *set = arg;

	if (config_get_prefixes(reader, setting, &set->exempt, &set->exempt_count) && set->exempt_count > RULES_MAX)
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'exempt' lists %zu prefixes; %d fit", set->exempt_count, RULES_MAX);
}

/* For a message: a policy without a (right) name has its line. */
static const char *label_of(const struct policy *policy)
{
	return *policy->name ? policy->name : "(no name)";
}

/* matchable: by policy, see config_policy_read(). */
static void check_overlaps(struct config_reader *reader, const struct policy_set *set, const bool *matchable)
{
	for (size_t i = 0; i < set->policy_count; i++) {
		const struct policy *later = &set->policies[i];

		for (size_t j = 0; j < i; j++) {
			const struct policy *first = &set->policies[j];
			struct policy_prefix prefix;
			char port_text[32] = "any port", prefix_text[POLICY_PREFIX_LEN];
			__u16 port;

			if (!matchable[i] || !matchable[j] || !policy_overlap(first, later, &port, &prefix))
				continue;
			if (port)
				snprintf(port_text, sizeof(port_text), "port %u", port);
			config_error_add(reader, later->line,
					 "policy \"%s\" matches as well as policy \"%s\" (line %d): both are %s "
					 "and have %s and %s; take it out of one of them",
					 label_of(later), label_of(first), first->line,
					 first->direction == SIPKEEP_INBOUND ? "inbound" : "outbound", port_text,
					 policy_prefix_format(&prefix, prefix_text));
		}
	}
}

static void check_names(struct config_reader *reader, const struct policy_set *set)
{
	for (size_t i = 0; i < set->policy_count; i++) {
		const struct policy *policy = &set->policies[i];
		int first = policy_find(set, policy->name);

		if (*policy->name && first != (int)i)
			config_error_add(reader, policy->line, "the name \"%s\" is taken by the policy in line %d",
					 policy->name, set->policies[first].line);
	}
}

static void check_rule_count(struct config_reader *reader, int line, const struct policy_set *set)
{
	size_t count = 0;

	for (size_t i = 0; i < set->policy_count; i++) {
		const struct policy *policy = &set->policies[i];

		count += (policy->port_count ? policy->port_count : 1) * policy->remote_count;
	}
	if (count > RULES_MAX)
		config_error_add(reader, line, "the policies make %zu rules (ports times remotes, summed up); %d fit",
				 count, RULES_MAX);
}

static void read_policies(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	int line = (int)config_setting_source_line(setting), len;
	bool matchable[POLICIES_MAX] = { false };
	struct policy_set *set = arg;

	if (!config_setting_is_list(setting)) {
		config_error_add(reader, line,
				 "'policies' wants a list of groups, as in policies = ( { name = \"phones\"; ... } );");
		return;
	}
	len = config_setting_length(setting);
	if (len < 1 || len > POLICIES_MAX) {
		config_error_add(reader, line, "'policies' must have 1 to %d policies, not %d", POLICIES_MAX, len);
		return;
	}
	set->policies = calloc((size_t)len, sizeof(*set->policies));
	if (!set->policies) {
		reader->failed = -ENOMEM;
		return;
	}
	for (int i = 0; i < len; i++) {
		const config_setting_t *group = config_setting_get_elem(setting, (unsigned int)i);

		if (!config_setting_is_group(group)) {
			config_error_add(reader, (int)config_setting_source_line(group),
					 "'policies' wants groups, as in { name = \"phones\"; ... }");
			continue;
		}
		config_policy_read(reader, group, &set->policies[set->policy_count], &matchable[set->policy_count]);
		set->policy_count++;
	}
	check_names(reader, set);
	check_overlaps(reader, set, matchable);
	check_rule_count(reader, line, set);
}

static void read_sinks(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_sinks_read(reader, setting, &((struct policy_set *)arg)->outlets);
}

const struct config_key config_top_keys[] = {
	{ "cgroups", read_cgroups, CONFIG_KEY_BOTH },
	{ "mode", read_mode, CONFIG_KEY_BOTH },
	{ "on_full", read_on_full, CONFIG_KEY_BOTH },
	{ "max_sources", read_max_sources, CONFIG_KEY_BOTH },
	{ "policies", read_policies, CONFIG_KEY_BOTH },
	{ "exempt", read_exempt, CONFIG_KEY_BOTH },
	{ "sinks", read_sinks, CONFIG_KEY_BOTH },
	{ "actions", config_actions_read, CONFIG_KEY_BOTH },
	{ "max_actions", config_max_actions_read, CONFIG_KEY_BOTH },
};
const size_t config_top_key_count = sizeof(config_top_keys) / sizeof(config_top_keys[0]);

/* ---- the whole --------------------------------------------------------------------------------------------- */

void config_top_read(struct config_reader *reader, const config_setting_t *root, struct policy_set *set)
{
	int len = config_setting_length(root);

	set->max_sources = MAX_SOURCES_DEFAULT;
	set->outlets.max_actions = OUTLET_MAX_ACTIONS;
	for (int i = 0; i < len; i++) {
		const config_setting_t *setting = config_setting_get_elem(root, (unsigned int)i);
		const struct config_key *key;

		key = config_key_find(reader, setting, config_top_keys, config_top_key_count, config_policy_keys,
				      config_policy_key_count, "in a policy, not at the top level");
		if (key)
			key->read(reader, setting, set);
	}
	if (!config_setting_get_member(root, "policies"))
		config_error_add(reader, 0, "'policies' is missing: at least one policy says what to guard");
	config_actions_check(reader, root, set);
	if (!config_setting_get_member(root, "cgroups")) {
		set->cgroups = calloc(1, sizeof(*set->cgroups));
		if (set->cgroups)
			set->cgroups[0] = strdup("/");
		if (!set->cgroups || !set->cgroups[0])
			reader->failed = -ENOMEM;
		else
			set->cgroup_count = 1;
	}
}
