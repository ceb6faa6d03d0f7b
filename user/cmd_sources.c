// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "command.h"
#include "host.h"
#include "maps.h"
#include "match.h"

enum { OPT_TOP = 256 };

struct entry {
	struct sipkeep_source_key key;
	struct sipkeep_source source;
};

struct entries {
	struct entry *list;
	size_t count, room;
};

static int entry_add(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source)
{
	struct entries *entries = arg;

	/* Of a handshake that came to nothing: the next connections remove it (bpf/clock.h). */
	if (!source->admitted && !source->refused && !count_active(source->count) && !count_reserved(source->count))
		return 0;
	if (entries->count == entries->room) {
		size_t room = entries->room ? entries->room * 2 : 1024;
		struct entry *list = realloc(entries->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		entries->list = list;
		entries->room = room;
	}
	entries->list[entries->count].key = *key;
	entries->list[entries->count++].source = *source;
	return 0;
}

/* Most active first, then most refused, then by address. */
static int entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	__u32 active_x = count_active(x->source.count), active_y = count_active(y->source.count);

	if (active_x != active_y)
		return active_x < active_y ? 1 : -1;
	if (x->source.refused != y->source.refused)
		return x->source.refused < y->source.refused ? 1 : -1;
	return memcmp(&x->key.addr, &y->key.addr, sizeof(x->key.addr));
}

/* A kernel time as RFC 3339 UTC to the second. text: 32 bytes. */
static char *time_format(__u64 monotonic_ns, char *text)
{
	return monotonic_ns ? host_time_format(monotonic_ns, text) : NULL;
}

struct policies {
	struct maps_policy list[SIPKEEP_MAX_POLICIES];
	int count;
};

static const struct maps_policy *policy_of(const struct policies *policies, __u16 id)
{
	static const struct maps_policy unknown = { .name = "?" };

	for (int i = 0; i < policies->count; i++)
		if (policies->list[i].id == id)
			return &policies->list[i];
	return &unknown;
}

static int print_json(const struct entries *entries, size_t top, const struct policies *policies)
{
	json_t *array = json_array();

	for (size_t i = 0; i < entries->count && i < top; i++) {
		const struct entry *entry = &entries->list[i];
		const struct maps_policy *policy = policy_of(policies, entry->key.policy);
		char source[MAPS_SOURCE_LEN], seen[32];

		json_array_append_new(
			array, json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:s?}", "source",
					 maps_source_format(&entry->key, &policy->kernel, source), "policy",
					 policy->name, "active", (int)count_active(entry->source.count), "peak",
					 (int)entry->source.peak, "admitted", (json_int_t)entry->source.admitted,
					 "refused", (json_int_t)entry->source.refused, "limit",
					 (json_int_t)policy->kernel.max_connections_per_source, "last_seen",
					 time_format(entry->source.last_seen_ns, seen)));
	}
	return command_json(json_pack("{s:i, s:o}", "v", 1, "sources", array));
}

static int print_table(const struct entries *entries, size_t top, const struct policies *policies)
{
	printf("%-44s %-16s %7s %7s %10s %10s %7s  %s\n", "SOURCE", "POLICY", "ACTIVE", "PEAK", "ADMITTED", "REFUSED",
	       "LIMIT", "LAST SEEN");
	for (size_t i = 0; i < entries->count && i < top; i++) {
		const struct entry *entry = &entries->list[i];
		const struct maps_policy *policy = policy_of(policies, entry->key.policy);
		char source[MAPS_SOURCE_LEN], seen[32] = "", limit[16] = "-";

		if (policy->kernel.max_connections_per_source)
			snprintf(limit, sizeof(limit), "%u", policy->kernel.max_connections_per_source);
		time_format(entry->source.last_seen_ns, seen);
		printf("%-44s %-16s %7u %7u %10llu %10llu %7s  %s\n",
		       maps_source_format(&entry->key, &policy->kernel, source), policy->name,
		       count_active(entry->source.count), entry->source.peak, entry->source.admitted,
		       entry->source.refused, limit, seen);
	}
	return command_flush();
}

int cmd_sources(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { { "top", required_argument, NULL, OPT_TOP }, {} };
	struct datapath datapath CLEANUP_DATAPATH;
	struct policies policies;
	struct entries entries = {};
	unsigned long top = ~0UL;
	struct failure failure;
	int option, err;
	char *end;

	datapath_init(&datapath);
	while ((option = command_option(context, self, own, NULL, argc, argv)) != -1) {
		if (option != OPT_TOP)
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
		errno = 0;
		top = strtoul(optarg, &end, 10);
		if (errno || *end || end == optarg || *optarg == '-' || !top) {
			command_error("--top '%s': a number from 1 up", optarg);
			return SIPKEEP_EXIT_USAGE;
		}
	}
	err = command_no_operands(self, argc, argv);
	err = err ?: command_open(context, false, &datapath);
	if (err)
		return err;
	policies.count = maps_policies(&datapath, policies.list, &failure);
	if (policies.count < 0 || maps_sources(&datapath, entry_add, &entries, &failure)) {
		free(entries.list);
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	}
	if (entries.count)
		qsort(entries.list, entries.count, sizeof(*entries.list), entry_compare);
	err = context->json ? print_json(&entries, top, &policies) : print_table(&entries, top, &policies);
	free(entries.list);
	return err;
}
