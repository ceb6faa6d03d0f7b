/* SPDX-License-Identifier: GPL-2.0-only */
/* config_policy.c: one group of `policies` -> struct policy (see config_internal.h). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"

/* 24 bits hold a count of connections (see struct sipkeep_source); this leaves some for those being decided. */
#define CONNECTIONS_MAX 16000000U
/* The kernel's own bounds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT; TCP_USER_TIMEOUT is an int of ms. */
#define KEEPIDLE_MAX 32767U
#define KEEPINTVL_MAX 32767U
#define KEEPCNT_MAX 127U
#define USER_TIMEOUT_MAX 2147483.0
#define WEDGED_AFTER_DEFAULT_MS 2000U
#define WEDGED_AFTER_MAX 86400.0

struct policy_state {
	struct policy *policy;
	bool direction_right;
	bool ports_right;
	bool remotes_right;
	bool rate_right;
	double rate;
	__u32 burst; /* 0: the default */
};

static bool name_is_right(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	static const char more[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

	return strspn(name, letters) > 0 && strspn(name, more) == strlen(name) && strlen(name) < SIPKEEP_NAME_LEN;
}

static void read_name(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_state *state = arg;
	char quoted[CONFIG_QUOTE_LEN];
	const char *name;

	if (!config_get_string(reader, setting, &name))
		return;
	if (name_is_right(name))
		snprintf(state->policy->name, sizeof(state->policy->name), "%s", name);
	else
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'name' must be 1 to %d letters, digits, '_', '.' or '-' and start with a letter or "
				 "digit; \"%s\" isn't",
				 SIPKEEP_NAME_LEN - 1, config_quote(name, quoted));
}

/* Read before all others: config_policy_read() needs it to tell which keys belong. */
static void read_direction(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	(void)reader;
	(void)setting;
	(void)arg;
}

static void read_ports(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_state *state = arg;

	state->ports_right = config_get_ports(reader, setting, &state->policy->ports, &state->policy->port_count);
}

static void read_remotes(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_state *state = arg;

	state->remotes_right = config_get_prefixes(reader, setting, &state->policy->remotes,
						   &state->policy->remote_count);
	if (state->remotes_right && !state->policy->remote_count) {
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'remotes' is empty, nothing would match; leave it out for any address");
		state->remotes_right = false;
	}
}

static void read_keepalive(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	bool on;

	if (!config_get_bool(reader, setting, &on))
		return;
	kernel->keepalive = on;
	kernel->keepalive_set |= SIPKEEP_SET_KEEPALIVE;
}

static void read_keepidle(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;

	if (config_get_whole(reader, setting, 1, KEEPIDLE_MAX, " seconds", &kernel->keepidle))
		kernel->keepalive_set |= SIPKEEP_SET_KEEPIDLE;
}

static void read_keepintvl(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;

	if (config_get_whole(reader, setting, 1, KEEPINTVL_MAX, " seconds", &kernel->keepintvl))
		kernel->keepalive_set |= SIPKEEP_SET_KEEPINTVL;
}

static void read_keepcnt(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;

	if (config_get_whole(reader, setting, 1, KEEPCNT_MAX, " probes", &kernel->keepcnt))
		kernel->keepalive_set |= SIPKEEP_SET_KEEPCNT;
}

static void read_user_timeout(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	double seconds;

	if (!config_get_number(reader, setting, &seconds))
		return;
	if (!(seconds >= 0.001 && seconds <= USER_TIMEOUT_MAX)) {
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'tcp_user_timeout' must be from 0.001 to %.0f seconds", USER_TIMEOUT_MAX);
		return;
	}
	kernel->user_timeout_ms = (__u32)lround(seconds * 1000);
	kernel->keepalive_set |= SIPKEEP_SET_USER_TIMEOUT;
}

static void read_keepalive_mode(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	bool enforce;

	if (config_get_choice(reader, setting, "default", "enforce", &enforce) && enforce)
		kernel->flags |= SIPKEEP_POLICY_ENFORCE_KEEPALIVE;
}

static void read_per_source(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;

	config_get_whole(reader, setting, 0, CONNECTIONS_MAX, "", &kernel->max_connections_per_source);
}

static void read_max_connections(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;

	config_get_whole(reader, setting, 0, CONNECTIONS_MAX, "", &kernel->max_connections);
}

static void read_source_prefix_ipv4(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	__u32 bits;

	if (config_get_whole(reader, setting, 0, 32, "", &bits))
		kernel->source_prefix_ipv4 = (__u8)bits;
}

static void read_source_prefix_ipv6(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	__u32 bits;

	if (config_get_whole(reader, setting, 0, 128, "", &bits))
		kernel->source_prefix_ipv6 = (__u8)bits;
}

static void read_rate(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_state *state = arg;
	double rate;

	if (!config_get_number(reader, setting, &rate))
		return;
	if (!(rate == 0 || (rate >= POLICY_RATE_MIN && rate <= POLICY_RATE_MAX))) {
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'max_rate_per_source' must be 0 (no limit) or from %g to %.0f connections a second",
				 POLICY_RATE_MIN, POLICY_RATE_MAX);
		return;
	}
	state->rate = rate;
}

static void read_burst(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct policy_state *state = arg;

	config_get_whole(reader, setting, 1, POLICY_BURST_MAX, "", &state->burst);
}

static void read_refuse_with(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	bool drop;

	if (config_get_choice(reader, setting, "reset", "drop", &drop) && drop)
		kernel->flags |= SIPKEEP_POLICY_DROP;
}

static void read_wedged_after(struct config_reader *reader, const config_setting_t *setting, void *arg)
{
	struct sipkeep_policy *kernel = &((struct policy_state *)arg)->policy->kernel;
	double seconds;

	if (!config_get_number(reader, setting, &seconds))
		return;
	if (seconds == 0 || (seconds >= 0.001 && seconds <= WEDGED_AFTER_MAX))
		kernel->wedged_after_ms = (__u32)lround(seconds * 1000);
	else
		config_error_add(reader, (int)config_setting_source_line(setting),
				 "'wedged_after' must be 0 (not watched for) or from 0.001 to %.0f seconds",
				 WEDGED_AFTER_MAX);
}

const struct config_key config_policy_keys[] = {
	{ "name", read_name, CONFIG_KEY_BOTH },
	{ "direction", read_direction, CONFIG_KEY_BOTH },
	{ "local_ports", read_ports, CONFIG_KEY_INBOUND },
	{ "remote_ports", read_ports, CONFIG_KEY_OUTBOUND },
	{ "remotes", read_remotes, CONFIG_KEY_BOTH },
	{ "tcp_keepalive", read_keepalive, CONFIG_KEY_BOTH },
	{ "tcp_keepidle", read_keepidle, CONFIG_KEY_BOTH },
	{ "tcp_keepintvl", read_keepintvl, CONFIG_KEY_BOTH },
	{ "tcp_keepcnt", read_keepcnt, CONFIG_KEY_BOTH },
	{ "tcp_user_timeout", read_user_timeout, CONFIG_KEY_BOTH },
	{ "keepalive_mode", read_keepalive_mode, CONFIG_KEY_BOTH },
	{ "max_connections_per_source", read_per_source, CONFIG_KEY_BOTH },
	{ "max_connections", read_max_connections, CONFIG_KEY_BOTH },
	{ "source_prefix_ipv4", read_source_prefix_ipv4, CONFIG_KEY_INBOUND },
	{ "source_prefix_ipv6", read_source_prefix_ipv6, CONFIG_KEY_INBOUND },
	{ "max_rate_per_source", read_rate, CONFIG_KEY_INBOUND },
	{ "burst_per_source", read_burst, CONFIG_KEY_INBOUND },
	{ "refuse_with", read_refuse_with, CONFIG_KEY_INBOUND },
	{ "wedged_after", read_wedged_after, CONFIG_KEY_OUTBOUND },
};
const size_t config_policy_key_count = sizeof(config_policy_keys) / sizeof(config_policy_keys[0]);

/* ---- the group --------------------------------------------------------------------------------------------- */

static int line_of_member(const config_setting_t *group, const char *name)
{
	const config_setting_t *member = config_setting_get_member(group, name);

	return member ? (int)config_setting_source_line(member) : 0;
}

/* False after telling that the key has nothing to do in a policy of this direction. */
static bool key_belongs(struct config_reader *reader, const config_setting_t *setting, const struct config_key *key,
			const struct policy_state *state)
{
	static const char *const instead[][2] = {
		{ "local_ports", "; an outbound policy has 'remote_ports'" },
		{ "remote_ports", "; an inbound policy has 'local_ports'" },
	};
	bool inbound = state->policy->direction == SIPKEEP_INBOUND;
	const char *hint = "";

	/* Which it is to be isn't known: that error is enough. */
	if (key->only == CONFIG_KEY_BOTH || !state->direction_right)
		return true;
	if ((key->only == CONFIG_KEY_INBOUND) == inbound)
		return true;
	for (size_t i = 0; i < sizeof(instead) / sizeof(instead[0]); i++)
		if (strcmp(instead[i][0], key->name) == 0)
			hint = instead[i][1];
	config_error_add(reader, (int)config_setting_source_line(setting),
			 "'%s' is for %s policies only, and this one is %s%s", key->name,
			 inbound ? "outbound" : "inbound", inbound ? "inbound" : "outbound", hint);
	return false;
}

static bool get_direction(struct config_reader *reader, const config_setting_t *group, struct policy *policy)
{
	const config_setting_t *setting = config_setting_get_member(group, "direction");
	bool outbound;

	if (!setting) {
		config_error_add(reader, (int)config_setting_source_line(group),
				 "this policy has no 'direction': write \"inbound\" (connections the PBX accepts) or "
				 "\"outbound\" (those it makes)");
		return false;
	}
	if (!config_get_choice(reader, setting, "inbound", "outbound", &outbound))
		return false;
	policy->direction = outbound ? SIPKEEP_OUTBOUND : SIPKEEP_INBOUND;
	return true;
}

/* What holds between the keys of one policy. */
static void check_together(struct config_reader *reader, const config_setting_t *group,
			   const struct policy_state *state)
{
	static const char *const times[] = { "tcp_keepidle", "tcp_keepintvl", "tcp_keepcnt" };
	const struct sipkeep_policy *kernel = &state->policy->kernel;
	bool off = (kernel->keepalive_set & SIPKEEP_SET_KEEPALIVE) && !kernel->keepalive;
	bool any = config_setting_get_member(group, "tcp_keepalive") ||
		   config_setting_get_member(group, "tcp_user_timeout");

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		int line = line_of_member(group, times[i]);

		if (!line)
			continue;
		any = true;
		if (off)
			config_error_add(reader, line, "'%s' says how to probe, but 'tcp_keepalive' is false (line %d)",
					 times[i], line_of_member(group, "tcp_keepalive"));
	}
	if ((kernel->flags & SIPKEEP_POLICY_ENFORCE_KEEPALIVE) && !any)
		config_error_add(reader, line_of_member(group, "keepalive_mode"),
				 "'keepalive_mode' is \"enforce\", but this policy sets no keepalive option");
	if (config_setting_get_member(group, "burst_per_source") &&
	    !config_setting_get_member(group, "max_rate_per_source"))
		config_error_add(reader, line_of_member(group, "burst_per_source"),
				 "'burst_per_source' needs 'max_rate_per_source'");
}

static int set_any_remote(struct policy *policy)
{
	static const char *const any[] = { "0.0.0.0/0", "::/0" };
	const char *why;

	policy->remotes = calloc(2, sizeof(*policy->remotes));
	if (!policy->remotes)
		return -ENOMEM;
	policy->remote_count = 2;
	for (size_t i = 0; i < 2; i++)
		policy_prefix_parse(any[i], &policy->remotes[i], &why);
	return 0;
}

void config_policy_read(struct config_reader *reader, const config_setting_t *group, struct policy *policy,
			bool *ret_matchable)
{
	struct policy_state state = { .policy = policy, .ports_right = true, .remotes_right = true };
	int line = (int)config_setting_source_line(group), len = config_setting_length(group);

	policy->line = line;
	state.direction_right = get_direction(reader, group, policy);
	policy->kernel.direction = (__u8)policy->direction;
	policy->kernel.in_use = 1;
	/* Outbound sources are whole addresses. */
	policy->kernel.source_prefix_ipv4 = 32;
	policy->kernel.source_prefix_ipv6 = policy->direction == SIPKEEP_INBOUND ? 64 : 128;

	policy->kernel.wedged_after_ms = policy->direction == SIPKEEP_OUTBOUND ? WEDGED_AFTER_DEFAULT_MS : 0;

	for (int i = 0; i < len; i++) {
		const config_setting_t *setting = config_setting_get_elem(group, (unsigned int)i);
		const struct config_key *key;

		key = config_key_find(reader, setting, config_policy_keys, config_policy_key_count, config_top_keys,
				      config_top_key_count, "at the top level, not in a policy");
		if (key && key_belongs(reader, setting, key, &state))
			key->read(reader, setting, &state);
	}
	if (!config_setting_get_member(group, "name"))
		config_error_add(reader, line, "this policy has no 'name'");
	check_together(reader, group, &state);
	policy_set_rate(policy, state.rate, state.burst);
	if (!config_setting_get_member(group, "remotes") && set_any_remote(policy))
		reader->failed = -ENOMEM;
	*ret_matchable = state.direction_right && state.ports_right && state.remotes_right;
}
