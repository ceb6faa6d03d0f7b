// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "events.h"
#include "host.h"
#include "maps.h"
#include "match.h"
#include "status.h"

/* Per cgroup. */
static const char *const hooks[] = { "sockops", "sock_release", "setsockopt", "ingress", "connect4", "connect6" };
#define HOOK_COUNT (sizeof(hooks) / sizeof(hooks[0]))

struct view {
	json_t *attached; /* of {"hook","where","program"} */
	json_t *degraded; /* of sentences */
	json_t *cgroups;
	unsigned int seen[HOOK_COUNT];
	bool sk_lookup;
	bool observe, full_refuse;
	struct maps_totals totals;
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	int policy_count;
};

static void attached_add(void *arg, const char *hook, const char *where, __u32 program_id)
{
	struct view *view = arg;
	char name[32];

	snprintf(name, sizeof(name), "%s", hook);
	if (!strcmp(name, "sk_lookup")) {
		view->sk_lookup = true;
	} else if (strrchr(name, '_')) {
		*strrchr(name, '_') = '\0'; /* the cgroup's index */
		for (size_t i = 0; i < HOOK_COUNT; i++)
			view->seen[i] += !strcmp(name, hooks[i]);
	}
	json_array_append_new(view->attached, json_pack("{s:s, s:s, s:i}", "hook", name, "where", where, "program",
							(int)program_id));
}

static __attribute__((format(printf, 2, 3))) void degraded_add(struct view *view, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_array_append_new(view->degraded, json_string(text));
}

static void hooks_judge(struct view *view, const struct datapath *datapath)
{
	for (size_t i = 0; i < HOOK_COUNT; i++)
		if (view->seen[i] < datapath->meta.cgroup_count)
			degraded_add(view, "%s is attached to %u of %u cgroups; unload and load again", hooks[i],
				     view->seen[i], datapath->meta.cgroup_count);
	if (!view->sk_lookup)
		degraded_add(view, "sk_lookup is not attached: refusals are by drop, not by RST");
	for (__u32 i = 0; i < datapath->meta.cgroup_count; i++) {
		char path[PATH_MAX];

		if (!host_cgroup_path(datapath->meta.cgroup_ids[i], path)) {
			json_array_append_new(view->cgroups, json_string(path));
			continue;
		}
		degraded_add(view, "cgroup %llu that was attached to is gone; its services are unguarded: unload and load again",
			     datapath->meta.cgroup_ids[i]);
	}
}

static void counters_judge(struct view *view)
{
	const struct sipkeep_stats *stats = &view->totals.stats;

	if (stats->map_full)
		degraded_add(view, "the source map was full %llu times (%u of %u in use); raise max_sources",
			     stats->map_full, view->totals.sources, view->totals.max_sources);
	if (stats->storage_failed)
		degraded_add(view, "%llu sockets had no room for their state and are not counted (net.core.optmem_max, "
			     "memory); 'sipkeep apply' counts those still open", stats->storage_failed);
	if (view->totals.lost)
		degraded_add(view, "%llu events were lost: no reader, or too slow a one", view->totals.lost);
	if (stats->aborts_lost)
		degraded_add(view, "%llu clients refused at their final ACK were left to time out", stats->aborts_lost);
	for (int i = 0; i < view->policy_count; i++) {
		if (view->policies[i].stats.keepalive_failed)
			degraded_add(view, "policy %s: keepalive could not be set on %llu transports",
				     view->policies[i].name, view->policies[i].stats.keepalive_failed);
		if (view->policies[i].stats.uncounted)
			degraded_add(view, "policy %s: %llu transports were not counted", view->policies[i].name,
				     view->policies[i].stats.uncounted);
	}
}

/* Socket activation, or a process moved into its cgroup after it had opened the listener. */
static int listener_judge(void *arg, const struct sipkeep_listing *listing)
{
	char local[80];

	if (listing->listener && listing->guarded && listing->outside)
		degraded_add(arg, "the listener at %s is in none of the attached cgroups: what it accepts is unguarded",
			     events_endpoint(&listing->tuple.local, listing->tuple.local_port, local));
	return 0;
}

static int view_fill(struct view *view, const struct datapath *datapath, struct failure *failure)
{
	struct sipkeep_config config;
	int err = maps_config(datapath, &config, failure);

	err = err ?: maps_totals(datapath, &view->totals, failure);
	if (err)
		return err;
	view->observe = live_observes(config.live, host_monotonic_ns());
	view->full_refuse = config.live & SIPKEEP_LIVE_FULL_REFUSE;
	view->policy_count = maps_policies(datapath, view->policies, failure);
	if (view->policy_count < 0)
		return view->policy_count;
	datapath_attached(datapath, attached_add, view);
	hooks_judge(view, datapath);
	counters_judge(view);
	return datapath_list(datapath, listener_judge, view, failure);
}

static void view_text(const struct view *view, const struct command_context *context, const struct datapath *datapath)
{
	time_t loaded = (time_t)(datapath->meta.loaded_at_ns / 1000000000);
	unsigned int active = 0;
	const char *bad = context->color ? "\033[31m" : "", *good = context->color ? "\033[32m" : "",
		   *plain = context->color ? "\033[0m" : "";
	char when[32];
	struct tm utc;
	json_t *item;
	size_t i;

	gmtime_r(&loaded, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
	for (int p = 0; p < view->policy_count; p++)
		active += view->policies[p].active;
	printf("instance %s: loaded %s, mode %s, on_full %s\n", context->instance, when,
	       view->observe ? "observe" : "enforce", view->full_refuse ? "refuse" : "admit");
	json_array_foreach(view->attached, i, item)
		printf("  %-14s %s (program %d)\n", json_string_value(json_object_get(item, "hook")),
		       json_string_value(json_object_get(item, "where")),
		       (int)json_integer_value(json_object_get(item, "program")));
	printf("  %d policies, %u active transports, %u of %u sources\n", view->policy_count, active, view->totals.sources,
	       view->totals.max_sources);
	json_array_foreach(view->degraded, i, item)
		printf("%sdegraded%s: %s\n", bad, plain, json_string_value(item));
	if (!json_array_size(view->degraded))
		printf("%sall well%s\n", good, plain);
}

int status_print(const struct command_context *context, const struct datapath *datapath)
{
	struct view view = { .attached = json_array(), .degraded = json_array(), .cgroups = json_array() };
	struct failure failure;
	int exit_code;

	if (view_fill(&view, datapath, &failure)) {
		exit_code = command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	} else {
		exit_code = json_array_size(view.degraded) ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
		if (context->json)
			exit_code = command_json(json_pack("{s:i, s:s, s:b, s:s, s:s, s:O, s:O, s:O}", "v", 1, "instance",
					       context->instance, "ok", !exit_code, "mode",
					       view.observe ? "observe" : "enforce", "on_full",
					       view.full_refuse ? "refuse" : "admit", "cgroups", view.cgroups,
					       "attached", view.attached, "degraded", view.degraded)) ?: exit_code;
		else
			view_text(&view, context, datapath);
	}
	json_decref(view.attached);
	json_decref(view.degraded);
	json_decref(view.cgroups);
	return exit_code;
}
