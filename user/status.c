// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "attached.h"
#include "datapath_internal.h"
#include "events.h"
#include "host.h"
#include "maps.h"
#include "mode.h"
#include "status.h"
#include "version.h"

struct view {
	json_t *attached; /* of {"hook","where","program"} */
	json_t *degraded; /* of sentences */
	json_t *cgroups;
	struct attached_list pins;
	struct netns_set namespaces;
	const struct netns *listed; /* the one whose listeners are being judged */
	unsigned int missing[ATTACHED_CGROUP_HOOKS]; /* cgroups that are there and lack the hook */
	struct mode mode;
	bool full_refuse;
	struct maps_totals totals;
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	int policy_count;
};

static __attribute__((format(printf, 2, 3))) void degraded_add(struct view *view, const char *format, ...)
{
	char text[SIPKEEP_CGROUP_PATH + 512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_array_append_new(view->degraded, json_string(text));
}

static void attached_add(struct view *view, enum attached_hook hook, const char *where, __u32 program_id)
{
	json_array_append_new(view->attached, json_pack("{s:s, s:s, s:i}", "hook", attached_hooks[hook], "where", where,
							"program", (int)program_id));
}

/* A hook without a link of ours may have the program from systemd (BPFProgram=). */
static void hook_judge(struct view *view, const struct datapath *datapath, const struct datapath_cgroup *cgroup, int fd,
		       enum attached_hook hook)
{
	const struct attached *attached = attached_find(&view->pins, hook, cgroup->id);
	char name[32], where[SIPKEEP_CGROUP_PATH + 64];
	__u32 id = 0;
	int program;

	if (attached) {
		attached_add(view, hook, cgroup->path, attached->program_id);
		return;
	}
	snprintf(name, sizeof(name), "on_%s", attached_hooks[hook]);
	program = datapath_program(datapath, name, NULL);
	if (program >= 0) {
		id = attached_program_id(program);
		close(program);
	}
	if (!id || !attached_times(fd, hook, id)) {
		view->missing[hook]++;
		return;
	}
	snprintf(where, sizeof(where), "%.*s, by another than sipkeep", SIPKEEP_CGROUP_PATH, cgroup->path);
	attached_add(view, hook, where, id);
}

static void cgroup_judge(struct view *view, const struct datapath *datapath, const struct datapath_cgroup *cgroup)
{
	struct failure ignored;
	__u64 id;
	__u8 level;
	int fd = host_cgroup_open(cgroup->path, &id, &level, &ignored);

	json_array_append_new(view->cgroups, json_string(cgroup->path));
	if (fd < 0) {
		degraded_add(view, "cgroup %s is gone: there is nothing to guard until it comes back, when 'sipkeep run' "
			     "attaches to it within a second ('sipkeep apply' does it, too)", cgroup->path);
		return;
	}
	if (id != cgroup->id)
		degraded_add(view, "cgroup %s was made anew and isn't attached to: its services are unguarded; 'sipkeep run' "
			     "or 'sipkeep apply' attaches to it", cgroup->path);
	else
		for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
			hook_judge(view, datapath, cgroup, fd, hook);
	close(fd);
}

/* Loaded only where the iterator can't set the state callback: the two are one to whoever reads this. */
static void watch_judge(struct view *view, const struct datapath *datapath)
{
	int program = datapath_program(datapath, "on_set_state", NULL);

	if (program >= 0) {
		const struct attached *attached = attached_find(&view->pins, ATTACHED_SET_STATE, 0);

		if (attached && attached_find(&view->pins, ATTACHED_SET_STATE_2, 0))
			attached_add(view, attached->hook, "the whole host, for the state callbacks that can't be set",
				     attached->program_id);
		else
			degraded_add(view, "set_state is not attached: the ends of transports that were open before load may "
				     "be missed; 'sipkeep apply' attaches it, 'sipkeep verify' tells");
		close(program);
	}
	if (datapath->meta.missing & SIPKEEP_MISSING_ENDS)
		degraded_add(view, "this kernel can't tell the ends of transports that were open before load: they aren't "
			     "counted; load before the PBX starts");
}

static int hooks_judge(struct view *view, const struct datapath *datapath, struct failure *failure)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	bool sk_lookup = false;
	int count = datapath_cgroups(datapath, cgroups, failure);

	for (int i = 0; i < count; i++)
		cgroup_judge(view, datapath, &cgroups[i]);
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
		if (view->missing[hook])
			degraded_add(view, "%s is attached to %d of %d cgroups; 'sipkeep apply' attaches it",
				     attached_hooks[hook], count - (int)view->missing[hook], count);
	for (size_t i = 0; i < view->pins.count; i++) {
		const struct attached *attached = &view->pins.list[i];
		char where[64];

		if (attached->hook != ATTACHED_SK_LOOKUP || !attached->alive)
			continue;
		snprintf(where, sizeof(where), "network namespace %lu", (unsigned long)attached->netns_inode);
		attached_add(view, attached->hook, where, attached->program_id);
		sk_lookup = true;
	}
	if (!sk_lookup)
		degraded_add(view, "sk_lookup is not attached: refusals are by drop, not by RST; 'sipkeep apply' attaches it");
	watch_judge(view, datapath);
	if (view->namespaces.unseen)
		degraded_add(view, "the network namespaces of %zu guarded processes can't be looked at (CAP_SYS_PTRACE): what is "
			     "open there isn't adopted, refusals are by drop", view->namespaces.unseen);
	return count < 0 ? count : 0;
}

/* A verb that needs one says so itself; but a hook's is only needed when its cgroup comes back. */
static void pins_judge(struct view *view, const struct datapath *datapath)
{
	static const char *const programs[] = { "adopt", "adopt_udp", "list", "sweep", "flush", "mode", "carry", "disown", "drain", "sockops",
						"sock_release", "setsockopt", "post_bind4", "post_bind6", "ingress", "connect4",
						"connect6" };

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		struct failure failure;
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "on_%s", programs[i]);
		fd = datapath_program(datapath, name, &failure);
		if (fd < 0)
			degraded_add(view, "%s (what is attached goes on)", failure.text);
		else
			close(fd);
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

/* " in network namespace 4026532281" when it isn't this process's own. text: 64 bytes; returns it. */
static const char *where_format(const struct view *view, const struct netns *at, char *text)
{
	text[0] = '\0';
	if (at != &view->namespaces.list[0])
		snprintf(text, 64, " in network namespace %lu", (unsigned long)at->inode);
	return text;
}

/* Socket activation, or a process moved into its cgroup after it had opened the listener. */
static int listener_judge(void *arg, const struct sipkeep_listing *listing)
{
	struct view *view = arg;
	char local[80], where[64];

	if (listing->listener && listing->guarded && listing->outside)
		degraded_add(view, "the listener at %s%s is in none of the attached cgroups: what it accepts is unguarded; start "
			     "its service anew, or add its cgroup to 'cgroups'",
			     events_endpoint(&listing->tuple.local, listing->tuple.local_port, local),
			     where_format(view, view->listed, where));
	return 0;
}

/* One sentence for each namespace. */
static int uncovered_judge(struct view *view, const struct datapath *datapath)
{
	struct sipkeep_listener_key key, *previous = NULL;
	__u64 told[32];
	size_t count = 0;

	while (count < sizeof(told) / sizeof(told[0]) &&
	       !bpf_map_get_next_key(datapath->maps[DATAPATH_LISTENERS], previous, &key)) {
		const struct netns *at = netns_find(&view->namespaces, key.netns_cookie);
		char local[80], where[64];
		size_t i = 0;

		previous = &key;
		while (i < count && told[i] != key.netns_cookie)
			i++;
		if (i < count || attached_find(&view->pins, ATTACHED_SK_LOOKUP, key.netns_cookie))
			continue;
		told[count++] = key.netns_cookie;
		degraded_add(view, "the listener at %s%s has no sk_lookup in its network namespace: refusals are by drop, not "
			     "by RST, and what was open there before isn't counted; %s",
			     events_endpoint(&key.addr, key.port, local), at ? where_format(view, at, where) : "",
			     at ? "'sipkeep run' or 'sipkeep apply' attaches it" :
				  "no process of the guarded cgroups lives there");
	}
	return 0;
}

static int listeners_judge(struct view *view, const struct datapath *datapath, struct failure *failure)
{
	int err = uncovered_judge(view, datapath);

	for (size_t i = 0; !err && i < view->namespaces.count; i++) {
		view->listed = &view->namespaces.list[i];
		err = datapath_list_in(datapath, &view->namespaces, view->listed, listener_judge, view, failure);
	}
	return err;
}

static int view_fill(struct view *view, const struct datapath *datapath, struct failure *failure)
{
	struct sipkeep_config config;
	int err = maps_config(datapath, &config, failure);

	err = err ?: maps_totals(datapath, &view->totals, failure);
	err = err ?: attached_read(datapath, &view->pins, failure);
	err = err ?: datapath_namespaces(datapath, &view->namespaces, failure);
	if (err)
		return err;
	mode_read(config.live, host_monotonic_ns(), &view->mode);
	view->full_refuse = config.live & SIPKEEP_LIVE_FULL_REFUSE;
	view->policy_count = maps_policies(datapath, view->policies, failure);
	if (view->policy_count < 0)
		return view->policy_count;
	err = hooks_judge(view, datapath, failure);
	pins_judge(view, datapath);
	counters_judge(view);
	return err ?: listeners_judge(view, datapath, failure);
}

static void view_text(const struct view *view, const struct command_context *context, const struct datapath *datapath)
{
	time_t loaded = (time_t)(datapath->meta.loaded_at_ns / 1000000000);
	unsigned int active = 0;
	const char *bad = context->color ? "\033[31m" : "", *good = context->color ? "\033[32m" : "",
		   *plain = context->color ? "\033[0m" : "";
	char when[32], until[HOST_TIME_LEN], version[SIPKEEP_VERSION_LEN];
	struct tm utc;
	json_t *item;
	size_t i;

	version_copy(version);
	gmtime_r(&loaded, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
	for (int p = 0; p < view->policy_count; p++)
		active += view->policies[p].active;
	printf("instance %s: loaded %s, mode %s", context->instance, when, mode_name(view->mode.observe));
	if (view->mode.until_ns)
		printf(" until %s", host_time_format(view->mode.until_ns, until));
	printf(", on_full %s\n", view->full_refuse ? "refuse" : "admit");
	printf("  programs of version %s%s\n", datapath->meta.version, strcmp(datapath->meta.version, version) ?
	       "; 'sipkeep upgrade' puts this one's in" : "");
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
	char until[HOST_TIME_LEN];
	struct failure failure;
	int exit_code;

	if (view_fill(&view, datapath, &failure)) {
		exit_code = command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	} else {
		exit_code = json_array_size(view.degraded) ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
		if (context->json)
			exit_code = command_json(json_pack("{s:i, s:s, s:s, s:b, s:s, s:s?, s:s, s:O, s:O, s:O}", "v", 1, "instance",
					       context->instance, "version", datapath->meta.version, "ok", !exit_code, "mode",
					       mode_name(view.mode.observe), "mode_until", view.mode.until_ns ?
						       host_time_format(view.mode.until_ns, until) : NULL,
					       "on_full", view.full_refuse ? "refuse" : "admit", "cgroups", view.cgroups,
					       "attached", view.attached, "degraded", view.degraded)) ?: exit_code;
		else
			view_text(&view, context, datapath);
	}
	json_decref(view.attached);
	json_decref(view.degraded);
	json_decref(view.cgroups);
	attached_free(&view.pins);
	netns_set_free(&view.namespaces);
	return exit_code;
}
