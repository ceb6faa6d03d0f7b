/* SPDX-License-Identifier: GPL-2.0-only */
/* policy_print.c: the model in the words of the config file, whole (policy_print) or by its changes (policy_diff). */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "literal.h"
#include "policy.h"

static void free_text(char **text)
{
	free(*text);
}
#define CLEANUP_TEXT __attribute__((cleanup(free_text)))

/* ---- values ------------------------------------------------------------------------------------------------ */

static void write_prefixes(FILE *out, const struct policy_prefix *list, size_t count)
{
	char buf[POLICY_PREFIX_LEN];

	fputc('[', out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s \"%s\"", i ? "," : "", policy_prefix_format(&list[i], buf));
	fputs(" ]", out);
}

static bool write_ports(FILE *out, const struct policy *policy, enum sipkeep_direction direction)
{
	if (policy->direction != direction)
		return false;
	fputc('[', out);
	for (size_t i = 0; i < policy->port_count; i++)
		fprintf(out, "%s %u", i ? "," : "", policy->ports[i]);
	fputs(" ]", out);
	return true;
}

/* ---- settings of a policy: each writes its value, or nothing and false where the policy doesn't set it ---------- */

static bool write_direction(FILE *out, const struct policy *policy)
{
	fputs(policy->direction == SIPKEEP_INBOUND ? "\"inbound\"" : "\"outbound\"", out);
	return true;
}

static bool write_local_ports(FILE *out, const struct policy *policy)
{
	return write_ports(out, policy, SIPKEEP_INBOUND);
}

static bool write_remote_ports(FILE *out, const struct policy *policy)
{
	return write_ports(out, policy, SIPKEEP_OUTBOUND);
}

static bool write_keepalive(FILE *out, const struct policy *policy)
{
	if (!(policy->kernel.keepalive_set & SIPKEEP_SET_KEEPALIVE))
		return false;
	fputs(policy->kernel.keepalive ? "true" : "false", out);
	return true;
}

static bool write_if_set(FILE *out, const struct policy *policy, __u32 option, __u32 value)
{
	if (!(policy->kernel.keepalive_set & option))
		return false;
	fprintf(out, "%u", value);
	return true;
}

static bool write_keepidle(FILE *out, const struct policy *policy)
{
	return write_if_set(out, policy, SIPKEEP_SET_KEEPIDLE, policy->kernel.keepidle);
}

static bool write_keepintvl(FILE *out, const struct policy *policy)
{
	return write_if_set(out, policy, SIPKEEP_SET_KEEPINTVL, policy->kernel.keepintvl);
}

static bool write_keepcnt(FILE *out, const struct policy *policy)
{
	return write_if_set(out, policy, SIPKEEP_SET_KEEPCNT, policy->kernel.keepcnt);
}

static bool write_user_timeout(FILE *out, const struct policy *policy)
{
	if (!(policy->kernel.keepalive_set & SIPKEEP_SET_USER_TIMEOUT))
		return false;
	literal_number(out, policy->kernel.user_timeout_ms / 1000.0);
	return true;
}

static bool write_keepalive_mode(FILE *out, const struct policy *policy)
{
	if (!policy->kernel.keepalive_set)
		return false;
	fputs(policy->kernel.flags & SIPKEEP_POLICY_ENFORCE_KEEPALIVE ? "\"enforce\"" : "\"default\"", out);
	return true;
}

static bool write_per_source(FILE *out, const struct policy *policy)
{
	fprintf(out, "%u", policy->kernel.max_connections_per_source);
	return true;
}

static bool write_source_prefix_ipv4(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_INBOUND)
		return false;
	fprintf(out, "%u", policy->kernel.source_prefix_ipv4);
	return true;
}

static bool write_source_prefix_ipv6(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_INBOUND)
		return false;
	fprintf(out, "%u", policy->kernel.source_prefix_ipv6);
	return true;
}

static bool write_max_connections(FILE *out, const struct policy *policy)
{
	fprintf(out, "%u", policy->kernel.max_connections);
	return true;
}

/* What the kernel keeps is the interval; of the rates that give it, the shortest to write is the likely one. */
static void write_rate_of_interval(FILE *out, __u64 interval_ns)
{
	char buf[64];

	for (int digits = 0; digits <= 9; digits++) {
		double rate;

		snprintf(buf, sizeof(buf), "%.*f", digits, 1e9 / (double)interval_ns);
		rate = strtod(buf, NULL);
		if (rate > 0 && (__u64)llround(1e9 / rate) == interval_ns)
			break;
	}
	fputs(buf, out);
}

static bool write_rate(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_INBOUND)
		return false;
	if (!policy->kernel.rate_interval_ns)
		fputs("0", out);
	else if (policy->max_rate_per_source > 0)
		literal_number(out, policy->max_rate_per_source);
	else
		write_rate_of_interval(out, policy->kernel.rate_interval_ns);
	return true;
}

static bool same_rate(const struct policy *a, const struct policy *b)
{
	return a->kernel.rate_interval_ns == b->kernel.rate_interval_ns;
}

static bool write_burst(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_INBOUND || !policy->kernel.rate_interval_ns)
		return false;
	fprintf(out, "%llu", policy->kernel.rate_burst_ns / policy->kernel.rate_interval_ns);
	return true;
}

static bool write_refuse_with(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_INBOUND)
		return false;
	fputs(policy->kernel.flags & SIPKEEP_POLICY_DROP ? "\"drop\"" : "\"reset\"", out);
	return true;
}

static bool write_wedged_after(FILE *out, const struct policy *policy)
{
	if (policy->direction != SIPKEEP_OUTBOUND)
		return false;
	literal_number(out, policy->kernel.wedged_after_ms / 1000.0);
	return true;
}

/* In the order they are printed. `remotes` stand apart: `apply` tells their changes prefix by prefix. */
static const struct setting {
	const char *key;
	bool (*write)(FILE *out, const struct policy *policy);
	/* Where equal isn't "written the same". */
	bool (*same)(const struct policy *a, const struct policy *b);
	const char *when; /* this value means something a reader should be told: */
	const char *note;
} settings[] = {
	{ .key = "direction", .write = write_direction },
	{ .key = "local_ports", .write = write_local_ports, .when = "[ ]", .note = "any" },
	{ .key = "remote_ports", .write = write_remote_ports, .when = "[ ]", .note = "any" },
	{ .key = "tcp_keepalive", .write = write_keepalive },
	{ .key = "tcp_keepidle", .write = write_keepidle, .note = "seconds" },
	{ .key = "tcp_keepintvl", .write = write_keepintvl, .note = "seconds" },
	{ .key = "tcp_keepcnt", .write = write_keepcnt, .note = "probes" },
	{ .key = "tcp_user_timeout", .write = write_user_timeout, .note = "seconds" },
	{ .key = "keepalive_mode", .write = write_keepalive_mode },
	{ .key = "max_connections_per_source", .write = write_per_source, .when = "0", .note = "no limit" },
	{ .key = "source_prefix_ipv4", .write = write_source_prefix_ipv4, .when = "0", .note = "IPv4 is one source" },
	{ .key = "source_prefix_ipv6", .write = write_source_prefix_ipv6, .when = "0", .note = "IPv6 is one source" },
	{ .key = "max_connections", .write = write_max_connections, .when = "0", .note = "no limit" },
	{ .key = "max_rate_per_source", .write = write_rate, .same = same_rate, .when = "0", .note = "no limit" },
	{ .key = "burst_per_source", .write = write_burst },
	{ .key = "refuse_with", .write = write_refuse_with },
	{ .key = "wedged_after", .write = write_wedged_after, .when = "0", .note = "not watched for" },
};
#define SETTING_COUNT (sizeof(settings) / sizeof(settings[0]))

/* The value as text, for the caller to free; NULL when the policy doesn't set it (or there is no memory). */
static char *setting_text(const struct setting *setting, const struct policy *policy)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool set;

	if (!out)
		return NULL;
	set = setting->write(out, policy);
	if (fclose(out) || !set) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- print ------------------------------------------------------------------------------------------------- */

static void print_policy(const struct policy *policy, FILE *out)
{
	fputs("  {\n    name = ", out);
	literal_string(out, policy->name);
	fputs(";\n", out);
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		const struct setting *setting = &settings[i];
		char *text CLEANUP_TEXT = setting_text(setting, policy);

		if (text) {
			bool note = setting->note && (!setting->when || strcmp(setting->when, text) == 0);

			fprintf(out, "    %s = %s;%s%s\n", setting->key, text, note ? "  # " : "",
				note ? setting->note : "");
		}
		if (setting->write == write_remote_ports) {
			fputs("    remotes = ", out);
			write_prefixes(out, policy->remotes, policy->remote_count);
			fputs(";\n", out);
		}
		if (setting->write == write_keepalive_mode && !text)
			fputs("    # keepalive: left to the system and the PBX\n", out);
	}
	fputs("  }", out);
}

void policy_print(const struct policy_set *set, FILE *out)
{
	fputs("cgroups = [", out);
	for (size_t i = 0; i < set->cgroup_count; i++) {
		fputs(i ? ", " : " ", out);
		literal_string(out, set->cgroups[i]);
	}
	fputs(" ];\n", out);
	fprintf(out, "mode = \"%s\";%s\n", set->observe ? "observe" : "enforce",
		set->observe ? "  # nothing is refused and nothing is set" : "");
	fprintf(out, "on_full = \"%s\";\n", set->on_full_refuse ? "refuse" : "admit");
	fprintf(out, "max_sources = %u;\n", set->max_sources);
	fputs("policies = (\n", out);
	for (size_t i = 0; i < set->policy_count; i++) {
		print_policy(&set->policies[i], out);
		fputs(i + 1 < set->policy_count ? ",\n" : "\n", out);
	}
	fputs(");\nexempt = ", out);
	write_prefixes(out, set->exempt, set->exempt_count);
	fputs(";\n", out);
	outlet_sinks_print(&set->outlets, out);
	outlet_actions_print(&set->outlets, out);
}

/* ---- difference -------------------------------------------------------------------------------------------- */

struct diff {
	void (*line)(void *arg, const char *text);
	void *arg;
	size_t count;
};

static void diff_line(struct diff *diff, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void diff_line(struct diff *diff, const char *format, ...)
{
	char *text CLEANUP_TEXT = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	va_list args;
	bool whole = false;

	if (out) {
		va_start(args, format);
		vfprintf(out, format, args);
		va_end(args);
		whole = fclose(out) == 0;
	}
	diff->count++;
	diff->line(diff->arg, whole ? text : "(a change that there is no memory to tell)");
}

/* policy: whose remotes these are; NULL: they are the exempt ones. */
static void diff_prefix(struct diff *diff, char sign, const struct policy *policy, const struct policy_prefix *prefix)
{
	char buf[POLICY_PREFIX_LEN];

	policy_prefix_format(prefix, buf);
	if (policy)
		diff_line(diff, "~ policy %s: remotes %c %s", policy->name, sign, buf);
	else
		diff_line(diff, "%c exempt %s", sign, buf);
}

/* Walks both lists, which are in policy_prefix_compare() order, side by side. */
static void diff_prefixes(struct diff *diff, const struct policy *policy, const struct policy_prefix *from,
			  size_t from_count, const struct policy_prefix *to, size_t to_count)
{
	size_t i = 0, j = 0;

	while (i < from_count || j < to_count) {
		int order = i == from_count ? 1 : j == to_count ? -1 : policy_prefix_compare(&from[i], &to[j]);

		if (order < 0)
			diff_prefix(diff, '-', policy, &from[i++]);
		else if (order > 0)
			diff_prefix(diff, '+', policy, &to[j++]);
		else
			i++, j++;
	}
}

static void diff_policy(struct diff *diff, const struct policy *from, const struct policy *to)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		const struct setting *setting = &settings[i];
		char *before CLEANUP_TEXT = setting_text(setting, from);
		char *after CLEANUP_TEXT = setting_text(setting, to);
		bool same = before && after ? strcmp(before, after) == 0 : !before && !after;

		if (!same && before && after && setting->same)
			same = setting->same(from, to);
		if (!same)
			diff_line(diff, "~ policy %s: %s %s -> %s", to->name, setting->key, before ? before : "unset",
				  after ? after : "unset");
	}
	diff_prefixes(diff, to, from->remotes, from->remote_count, to->remotes, to->remote_count);
}

static bool has_cgroup(const struct policy_set *set, const char *path)
{
	for (size_t i = 0; i < set->cgroup_count; i++)
		if (strcmp(set->cgroups[i], path) == 0)
			return true;
	return false;
}

static void diff_whole(struct diff *diff, const struct policy_set *from, const struct policy_set *to)
{
	static const char *const modes[] = { "enforce", "observe" };
	static const char *const full[] = { "admit", "refuse" };

	for (size_t i = 0; i < from->cgroup_count; i++)
		if (!has_cgroup(to, from->cgroups[i]))
			diff_line(diff, "- cgroup %s", from->cgroups[i]);
	for (size_t i = 0; i < to->cgroup_count; i++)
		if (!has_cgroup(from, to->cgroups[i]))
			diff_line(diff, "+ cgroup %s", to->cgroups[i]);
	if (from->observe != to->observe)
		diff_line(diff, "~ mode %s -> %s", modes[from->observe], modes[to->observe]);
	if (from->on_full_refuse != to->on_full_refuse)
		diff_line(diff, "~ on_full %s -> %s", full[from->on_full_refuse], full[to->on_full_refuse]);
	if (from->max_sources != to->max_sources)
		diff_line(diff, "~ max_sources %u -> %u", from->max_sources, to->max_sources);
}

size_t policy_diff(const struct policy_set *from, const struct policy_set *to,
		   void (*line)(void *arg, const char *text), void *arg)
{
	struct diff diff = { .line = line, .arg = arg };

	diff_whole(&diff, from, to);
	for (size_t i = 0; i < from->policy_count; i++)
		if (policy_find(to, from->policies[i].name) < 0)
			diff_line(&diff, "- policy %s", from->policies[i].name);
	for (size_t i = 0; i < to->policy_count; i++) {
		int before = policy_find(from, to->policies[i].name);

		if (before < 0)
			diff_line(&diff, "+ policy %s", to->policies[i].name);
		else
			diff_policy(&diff, &from->policies[before], &to->policies[i]);
	}
	diff_prefixes(&diff, NULL, from->exempt, from->exempt_count, to->exempt, to->exempt_count);
	return diff.count;
}
