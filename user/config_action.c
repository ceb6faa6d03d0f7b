/* SPDX-License-Identifier: GPL-2.0-only */
/* config_action.c: `actions` -> struct outlet_action (see config_internal.h). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"
#include "events.h"
#include "host.h"

#define ARGUMENTS_MAX 64
#define RETRIES_MAX 10U
#define MAX_ACTIONS_MAX 64U
/* Seconds. */
#define TIMEOUT_MIN 0.1
#define TIMEOUT_MAX 3600.0
#define DEBOUNCE_MAX 86400.0
#define RETRY_MIN 0.1
#define RETRY_MAX 3600.0

static int line_of(const config_setting_t *setting)
{
	return (int)config_setting_source_line(setting);
}

/* ---- on ---------------------------------------------------------------------------------------------------- */

/* All events that an action can be for, for a message. */
static const char *kinds_text(char *text, size_t size)
{
	size_t used = 0;

	for (unsigned int kind = 0; kind < EVENTS_KIND_MAX; kind++)
		if (kind != EVENTS_ACTION && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 events_kind_name(kind));
	return text;
}

static void read_kind(struct config_reader *reader, const config_setting_t *element, struct outlet_action *action)
{
	const char *name = config_setting_get_string(element); /* NULL: not a string */
	char quoted[CONFIG_QUOTE_LEN], kinds[256];
	int kind = name ? events_kind_find(name) : -1;

	if (!name)
		config_error_add(reader, line_of(element), "'on' wants names of events as strings, as in \"wedged\"");
	else if (kind < 0)
		config_error_add(reader, line_of(element), "'on': there is no event \"%s\"; there are %s",
				 config_quote(name, quoted), kinds_text(kinds, sizeof(kinds)));
	else if (kind == EVENTS_ACTION)
		config_error_add(reader, line_of(element),
				 "'on': an action's own outcome starts none, as it would go on for ever; remove \"action\" "
				 "and use 'retries', or a sink");
	else if (action->on & 1ULL << kind)
		config_error_add(reader, line_of(element), "'on' lists \"%s\" twice", name);
	else
		action->on |= 1ULL << kind;
}

static void read_on(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	int len;

	if (!config_get_array(reader, setting, "\"wedged\""))
		return;
	len = config_setting_length(setting);
	if (!len)
		config_error_add(reader, line_of(setting),
				 "'on' is empty, nothing would start this action; name an event, as in on = [ \"wedged\" ]");
	for (int i = 0; i < len; i++)
		read_kind(reader, config_setting_get_elem(setting, (unsigned int)i), arg);
}

/* ---- run --------------------------------------------------------------------------------------------------- */

static bool command_is_right(struct config_reader *reader, const config_setting_t *element, const char *command)
{
	char quoted[CONFIG_QUOTE_LEN];

	config_quote(command, quoted);
	for (const char *c = command; *c; c++) {
		if (*c >= 0x20 && *c < 0x7f)
			continue;
		config_error_add(reader, line_of(element),
				 "'run': the executable \"%s\" may have printable ASCII characters only", quoted);
		return false;
	}
	if (*command != '/')
		config_error_add(reader, line_of(element),
				 "'run': the executable \"%s\" must be an absolute path, as in \"/usr/sbin/asterisk\": no "
				 "shell looks for it, and none splits its arguments",
				 quoted);
	else if (strlen(command) > OUTLET_COMMAND_MAX)
		config_error_add(reader, line_of(element), "'run': the executable's path is longer than %d bytes",
				 OUTLET_COMMAND_MAX);
	else
		return true;
	return false;
}

static bool read_argument(struct config_reader *reader, const config_setting_t *element, struct outlet_action *action,
			  size_t index)
{
	const char *text = config_setting_get_string(element);

	if (!text) {
		config_error_add(reader, line_of(element),
				 "'run' wants the executable and its arguments as strings, as in \"10\"");
		return false;
	}
	if (index == 0 && !command_is_right(reader, element, text))
		return false;
	action->run[index] = strdup(text);
	if (!action->run[index])
		reader->failed = -ENOMEM;
	return action->run[index];
}

static void read_run(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct outlet_action *action = arg;
	int len;

	if (!config_get_array(reader, setting, "\"/usr/sbin/asterisk\", \"-rx\", \"pjsip send register carrier\""))
		return;
	len = config_setting_length(setting);
	if (len < 1 || len > ARGUMENTS_MAX) {
		config_error_add(reader, line_of(setting), "'run' must have 1 to %d strings: the executable and its arguments",
				 ARGUMENTS_MAX);
		return;
	}
	action->run = calloc((size_t)len + 1, sizeof(*action->run));
	if (!action->run) {
		reader->failed = -ENOMEM;
		return;
	}
	for (int i = 0; i < len; i++)
		if (!read_argument(reader, config_setting_get_elem(setting, (unsigned int)i), action, (size_t)i))
			return; /* what follows would have to be kept without a gap */
}

/* ---- the other keys ---------------------------------------------------------------------------------------- */

static void read_policy(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct outlet_action *action = arg;
	const char *name;

	if (!config_get_string(reader, setting, &name))
		return;
	action->policy = strdup(name);
	if (!action->policy)
		reader->failed = -ENOMEM;
}

static void read_seconds(struct config_reader *reader, const config_setting_t *setting, double min, double max,
			 __u32 *ret_ms)
{
	double seconds;

	if (!config_get_number(reader, setting, &seconds))
		return;
	if (seconds >= min && seconds <= max)
		*ret_ms = (__u32)lround(seconds * 1000);
	else
		config_error_add(reader, line_of(setting), "'%s' must be from %g to %.0f seconds",
				 config_setting_name(setting), min, max);
}

static void read_timeout(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	read_seconds(reader, setting, TIMEOUT_MIN, TIMEOUT_MAX, &((struct outlet_action *)arg)->timeout_ms);
}

static void read_debounce(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	read_seconds(reader, setting, 0, DEBOUNCE_MAX, &((struct outlet_action *)arg)->debounce_ms);
}

static void read_retries(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_get_whole(reader, setting, 0, RETRIES_MAX, "", &((struct outlet_action *)arg)->retries);
}

static void read_retry_after(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	read_seconds(reader, setting, RETRY_MIN, RETRY_MAX, &((struct outlet_action *)arg)->retry_ms);
}

static const struct config_key action_keys[] = {
	{ "on", read_on, CONFIG_KEY_BOTH },
	{ "policy", read_policy, CONFIG_KEY_BOTH },
	{ "run", read_run, CONFIG_KEY_BOTH },
	{ "timeout", read_timeout, CONFIG_KEY_BOTH },
	{ "debounce", read_debounce, CONFIG_KEY_BOTH },
	{ "retries", read_retries, CONFIG_KEY_BOTH },
	{ "retry_after", read_retry_after, CONFIG_KEY_BOTH },
};

/* ---- the list ---------------------------------------------------------------------------------------------- */

static void read_action(struct config_reader *reader, const config_setting_t *group, struct outlet_action *action)
{
	int len = config_setting_length(group);

	action->line = line_of(group);
	action->timeout_ms = OUTLET_TIMEOUT_MS;
	action->debounce_ms = OUTLET_DEBOUNCE_MS;
	action->retries = OUTLET_RETRIES;
	action->retry_ms = OUTLET_RETRY_MS;
	for (int i = 0; i < len; i++) {
		const config_setting_t *setting = config_setting_get_elem(group, (unsigned int)i);
		const struct config_key *key;

		key = config_key_find(reader, setting, action_keys, sizeof(action_keys) / sizeof(action_keys[0]),
				      config_top_keys, config_top_key_count, "at the top level, not in an action");
		if (key)
			key->read(reader, setting, action);
	}
	if (!config_setting_get_member(group, "on"))
		config_error_add(reader, action->line, "this action has no 'on': name the events that start it, as in "
						       "on = [ \"wedged\" ]");
	if (!config_setting_get_member(group, "run"))
		config_error_add(reader, action->line,
				 "this action has no 'run': name the executable, as in run = [ \"/usr/sbin/asterisk\", "
				 "\"-rx\", \"pjsip send register carrier\" ]");
}

void config_actions_read(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct outlets *outlets = &((struct policy_set *)arg)->outlets;
	int len;

	if (!config_setting_is_list(setting)) {
		config_error_add(reader, line_of(setting),
				 "'actions' wants a list of groups, as in actions = ( { on = [ \"wedged\" ]; ... } );");
		return;
	}
	len = config_setting_length(setting);
	if (len > OUTLET_ACTIONS_MAX) {
		config_error_add(reader, line_of(setting), "'actions' may have up to %d actions, not %d",
				 OUTLET_ACTIONS_MAX, len);
		return;
	}
	outlets->actions = calloc((size_t)len + 1, sizeof(*outlets->actions));
	if (!outlets->actions) {
		reader->failed = -ENOMEM;
		return;
	}
	for (int i = 0; i < len; i++) {
		const config_setting_t *group = config_setting_get_elem(setting, (unsigned int)i);

		if (config_setting_is_group(group))
			read_action(reader, group, &outlets->actions[outlets->action_count++]);
		else
			config_error_add(reader, line_of(group),
					 "'actions' wants groups, as in { on = [ \"wedged\" ]; ... }");
	}
}

void config_max_actions_read(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	config_get_whole(reader, setting, 1, MAX_ACTIONS_MAX, "", &((struct policy_set *)arg)->outlets.max_actions);
}

/* ---- with the policies --------------------------------------------------------------------------------------- */

static void check_kinds(struct config_reader *reader, int line, const struct outlet_action *action,
			const struct policy *policy)
{
	for (unsigned int kind = 0; kind < EVENTS_KIND_MAX; kind++) {
		if (!(action->on & 1ULL << kind))
			continue;
		if (!(events_has(kind) & EVENTS_HAS_POLICY))
			config_error_add(reader, line,
					 "'policy' is \"%s\", but a \"%s\" event belongs to no policy and would never start "
					 "this action; make it an action of its own, without 'policy'",
					 action->policy, events_kind_name(kind));
		else if (kind == EVENTS_WEDGED && policy->direction == SIPKEEP_INBOUND)
			config_error_add(reader, line,
					 "'policy' is \"%s\", which is inbound; \"wedged\" tells of connections that the PBX "
					 "makes: name an outbound policy",
					 action->policy);
	}
}

/* Read without an error that would make it look like another. */
static bool is_whole(const struct outlet_action *action)
{
	return action->on && action->run && action->run[0];
}

static void check_doubles(struct config_reader *reader, const struct outlets *outlets)
{
	for (size_t i = 0; i < outlets->action_count; i++)
		for (size_t j = 0; j < i; j++)
			if (is_whole(&outlets->actions[i]) && is_whole(&outlets->actions[j]) &&
			    outlet_action_equal(&outlets->actions[i], &outlets->actions[j])) {
				config_error_add(reader, outlets->actions[i].line,
						 "this action is the same as that in line %d; remove one",
						 outlets->actions[j].line);
				break;
			}
}

void config_actions_check(struct config_reader *reader, const config_setting_t *root, const struct policy_set *set)
{
	const config_setting_t *list = config_setting_get_member(root, "actions");
	size_t action = 0;

	check_doubles(reader, &set->outlets);
	for (int i = 0; list && action < set->outlets.action_count; i++) {
		const config_setting_t *group = config_setting_get_elem(list, (unsigned int)i), *setting;
		const struct outlet_action *settings;
		char quoted[CONFIG_QUOTE_LEN];
		int index;

		if (!config_setting_is_group(group))
			continue;
		settings = &set->outlets.actions[action++];
		setting = config_setting_get_member(group, "policy");
		if (!settings->policy || !setting)
			continue;
		index = policy_find(set, settings->policy);
		if (index >= 0)
			check_kinds(reader, line_of(setting), settings, &set->policies[index]);
		else
			config_error_add(reader, line_of(setting), "'policy': there is no policy \"%s\" in this file",
					 config_quote(settings->policy, quoted));
	}
}

void config_check_executables(const struct policy_set *set, struct config_errors *errors)
{
	struct config_reader reader = { .errors = errors };

	for (size_t i = 0; i < set->outlets.action_count; i++) {
		const struct outlet_action *action = &set->outlets.actions[i];
		const char *why;
		int err = host_executable(action->run[0], &why);

		if (err)
			config_error_add(&reader, action->line, "'run': %s can't be started: %s", action->run[0],
					 why ? why : strerror(-err));
	}
}
