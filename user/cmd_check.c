/* SPDX-License-Identifier: GPL-2.0-only */
/* cmd_check.c: `sipkeep check [FILE]`: reads a config, prints the policies as they will act. Touches nothing. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include "command.h"
#include "config_report.h"
#include "events.h"

static json_t *prefixes_to_json(const struct policy_prefix *list, size_t count)
{
	json_t *array = json_array();
	char buf[POLICY_PREFIX_LEN];

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(policy_prefix_format(&list[i], buf)));
	return array;
}

static json_t *ports_to_json(const struct policy *policy)
{
	json_t *array = json_array();

	for (size_t i = 0; i < policy->port_count; i++)
		json_array_append_new(array, json_integer(policy->ports[i]));
	return array;
}

/* null: the policy leaves the option alone. */
static json_t *option_to_json(const struct sipkeep_policy *kernel, __u32 option, __u32 value)
{
	return kernel->keepalive_set & option ? json_integer(value) : json_null();
}

static void add_keepalive(json_t *object, const struct sipkeep_policy *kernel)
{
	bool enforce = kernel->flags & SIPKEEP_POLICY_ENFORCE_KEEPALIVE;

	json_object_set_new(object, "tcp_keepalive",
			    kernel->keepalive_set & SIPKEEP_SET_KEEPALIVE ? json_boolean(kernel->keepalive) :
									    json_null());
	json_object_set_new(object, "tcp_keepidle", option_to_json(kernel, SIPKEEP_SET_KEEPIDLE, kernel->keepidle));
	json_object_set_new(object, "tcp_keepintvl", option_to_json(kernel, SIPKEEP_SET_KEEPINTVL, kernel->keepintvl));
	json_object_set_new(object, "tcp_keepcnt", option_to_json(kernel, SIPKEEP_SET_KEEPCNT, kernel->keepcnt));
	json_object_set_new(object, "tcp_user_timeout",
			    kernel->keepalive_set & SIPKEEP_SET_USER_TIMEOUT ?
				    json_real(kernel->user_timeout_ms / 1000.0) :
				    json_null());
	json_object_set_new(object, "keepalive_mode", json_string(enforce ? "enforce" : "default"));
}

/* The keys are those of the config file. */
static json_t *policy_to_json(const struct policy *policy)
{
	const struct sipkeep_policy *kernel = &policy->kernel;
	bool inbound = policy->direction == SIPKEEP_INBOUND;
	json_t *object = json_object();

	json_object_set_new(object, "name", json_string(policy->name));
	json_object_set_new(object, "direction", json_string(inbound ? "inbound" : "outbound"));
	json_object_set_new(object, inbound ? "local_ports" : "remote_ports", ports_to_json(policy));
	json_object_set_new(object, "remotes", prefixes_to_json(policy->remotes, policy->remote_count));
	add_keepalive(object, kernel);
	json_object_set_new(object, "max_connections_per_source", json_integer(kernel->max_connections_per_source));
	json_object_set_new(object, "max_connections", json_integer(kernel->max_connections));
	if (!inbound) {
		json_object_set_new(object, "wedged_after", json_real(kernel->wedged_after_ms / 1000.0));
		return object;
	}
	json_object_set_new(object, "source_prefix_ipv4", json_integer(kernel->source_prefix_ipv4));
	json_object_set_new(object, "source_prefix_ipv6", json_integer(kernel->source_prefix_ipv6));
	json_object_set_new(object, "max_rate_per_source", json_real(policy->max_rate_per_source));
	json_object_set_new(object, "burst_per_source",
			    policy->burst_per_source ? json_integer(policy->burst_per_source) : json_null());
	json_object_set_new(object, "refuse_with", json_string(kernel->flags & SIPKEEP_POLICY_DROP ? "drop" : "reset"));
	return object;
}

/* A path is bytes, JSON is UTF-8. */
static json_t *text_to_json(const char *path)
{
	json_t *text = path ? json_string(path) : NULL;

	return text ? text : json_null();
}

static json_t *cgroups_to_json(const struct policy_set *set)
{
	json_t *array = json_array();

	for (size_t i = 0; i < set->cgroup_count; i++)
		json_array_append_new(array, text_to_json(set->cgroups[i]));
	return array;
}

/* null: the sink doesn't have it, or the path is standard output. */
static json_t *sinks_to_json(const struct outlets *outlets)
{
	json_t *array = json_array();

	for (size_t i = 0; i < outlets->sink_count; i++) {
		const struct outlet_sink *sink = &outlets->sinks[i];
		bool rotated = sink->type == OUTLET_JSONL && sink->path;
		char mode[16];

		snprintf(mode, sizeof(mode), "%04o", sink->mode);
		json_array_append_new(array, json_pack("{s:s, s:o, s:o, s:o, s:o}", "type", outlet_sink_type(sink->type),
						       "path", text_to_json(sink->path), "max_size",
						       rotated ? json_integer((json_int_t)sink->max_size) : json_null(),
						       "max_total",
						       rotated ? json_integer((json_int_t)sink->max_total) : json_null(),
						       "mode", sink->type == OUTLET_SOCKET ? json_string(mode) : json_null()));
	}
	return array;
}

static json_t *strings_to_json(char **list)
{
	json_t *array = json_array();

	for (; *list; list++) {
		json_t *text = json_string(*list);

		json_array_append_new(array, text ? text : json_null()); /* as above */
	}
	return array;
}

static json_t *action_to_json(const struct outlet_action *action)
{
	json_t *on = json_array();

	for (unsigned int kind = 0; kind < EVENTS_KIND_MAX; kind++)
		if (action->on & 1ULL << kind)
			json_array_append_new(on, json_string(events_kind_name(kind)));
	return json_pack("{s:o, s:s?, s:o, s:f, s:f, s:i, s:f}", "on", on, "policy", action->policy, "run",
			 strings_to_json(action->run), "timeout", action->timeout_ms / 1000.0, "debounce",
			 action->debounce_ms / 1000.0, "retries", (int)action->retries, "retry_after",
			 action->retry_ms / 1000.0);
}

static json_t *actions_to_json(const struct outlets *outlets)
{
	json_t *array = json_array();

	for (size_t i = 0; i < outlets->action_count; i++)
		json_array_append_new(array, action_to_json(&outlets->actions[i]));
	return array;
}

static int print_json(const struct policy_set *set)
{
	json_t *policies = json_array(), *document;
	int err = -1;

	for (size_t i = 0; i < set->policy_count; i++)
		json_array_append_new(policies, policy_to_json(&set->policies[i]));
	document = json_pack("{s:i, s:b, s:o, s:s, s:s, s:I, s:o, s:o, s:o, s:I, s:o}", "v", 1, "ok", 1, "cgroups",
			     cgroups_to_json(set), "mode", set->observe ? "observe" : "enforce", "on_full",
			     set->on_full_refuse ? "refuse" : "admit", "max_sources", (json_int_t)set->max_sources,
			     "policies", policies, "exempt", prefixes_to_json(set->exempt, set->exempt_count), "actions",
			     actions_to_json(&set->outlets), "max_actions", (json_int_t)set->outlets.max_actions, "sinks",
			     sinks_to_json(&set->outlets));
	if (document)
		err = json_dumpf(document, stdout, JSON_COMPACT) || putchar('\n') == EOF;
	json_decref(document);
	return err;
}

/* SIPKEEP_EXIT_DONE when everything that the actions would start is there. */
static int check_executables(const char *path, bool json, const struct policy_set *set)
{
	struct config_errors errors = { 0 };
	int exit_code = SIPKEEP_EXIT_DONE;

	config_check_executables(set, &errors);
	if (errors.count) {
		config_report(path, json, &errors);
		exit_code = SIPKEEP_EXIT_USAGE;
	}
	config_errors_free(&errors);
	return exit_code;
}

int cmd_check(struct command_context *context, const struct command *self, int argc, char **argv)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	int option = command_option(context, self, NULL, "", argc, argv), err;
	const char *path;

	if (option != -1)
		return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
	if (argc - optind > 1) {
		command_error("check takes one FILE, not %d", argc - optind);
		return SIPKEEP_EXIT_USAGE;
	}
	path = optind < argc ? argv[optind] : context->config_path;
	err = config_load_or_report(path, context->json, &set);
	if (!err)
		err = check_executables(path, context->json, &set);
	if (err)
		return err;
	if (context->json)
		err = print_json(&set);
	else
		policy_print(&set, stdout);
	if (fflush(stdout) || ferror(stdout) || err) {
		command_error("can't write to standard output");
		return SIPKEEP_EXIT_FAILED;
	}
	return SIPKEEP_EXIT_DONE;
}
