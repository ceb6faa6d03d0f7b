// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "attach.h"
#include "config_report.h"
#include "host.h"
#include "loading.h"
#include "maps.h"
#include "mode.h"
#include "recount.h"

bool loading_option(struct loading_options *options, int option, const char *argument)
{
	switch (option) {
	case LOADING_CGROUP:
		options->cgroup = argument;
		return true;
	case LOADING_OBSERVE:
		options->observe = true;
		return true;
	case LOADING_DRY_RUN:
		options->dry_run = true;
		return true;
	}
	return false;
}

/* "/system.slice/x", or the same with the cgroup2 mount in front; no trailing slash. NULL when it is neither. */
static char *cgroup_path(const char *given)
{
	char root[PATH_MAX], *path;
	struct failure ignored;
	size_t length;

	if (!host_cgroup2(root, &ignored) && !strncmp(given, root, strlen(root)) &&
	    (given[strlen(root)] == '/' || !given[strlen(root)]))
		given += strlen(root);
	path = strdup(*given ? given : "/");
	if (!path || path[0] != '/' || strstr(path, "/../") || strstr(path, "//")) {
		free(path);
		return NULL;
	}
	length = strlen(path);
	if (length > 1 && path[length - 1] == '/')
		path[length - 1] = '\0';
	return path;
}

int loading_config(const struct command_context *context, const struct loading_options *options,
		   struct policy_set *ret_set)
{
	int exit_code = config_load_or_report(context->config_path, context->json, ret_set);
	char *path;

	if (exit_code)
		return exit_code;
	if (options->observe)
		ret_set->observe = true;
	if (!options->cgroup)
		return 0;
	path = cgroup_path(options->cgroup);
	if (!path) {
		command_error("--cgroup '%s': give the path below the cgroup2 mount, as in /system.slice/kamailio.service",
			      options->cgroup);
		policy_set_free(ret_set);
		return SIPKEEP_EXIT_USAGE;
	}
	for (size_t i = 0; i < ret_set->cgroup_count; i++)
		free(ret_set->cgroups[i]);
	ret_set->cgroups[0] = path; /* there is always one */
	ret_set->cgroup_count = 1;
	return 0;
}

static bool cgroups_equal(const struct policy_set *a, const struct policy_set *b)
{
	if (a->cgroup_count != b->cgroup_count)
		return false;
	for (size_t i = 0; i < a->cgroup_count; i++) {
		size_t j = 0;

		while (j < b->cgroup_count && strcmp(a->cgroups[i], b->cgroups[j]))
			j++;
		if (j == b->cgroup_count)
			return false;
	}
	return true;
}

/*
 * Attaches to the cgroups of the set, adopts, and only then leaves those that aren't in it; mends what else is amiss.
 * Returns the number of lines told of the latter, or -errno with the cgroups as they were.
 */
static int cgroups_apply(const struct datapath *datapath, const struct policy_set *running, const struct policy_set *set,
			 void (*line)(void *arg, const char *text), void *arg, struct failure *failure)
{
	struct failure ignored;
	int err;

	if (cgroups_equal(running, set))
		return datapath_reconcile(datapath, line, arg, failure);
	err = datapath_cgroups_set(datapath, set->cgroups, set->cgroup_count, false, failure);
	if (err)
		return err;
	err = datapath_reconcile(datapath, NULL, NULL, failure);
	if (err >= 0)
		return 0;
	datapath_cgroups_set(datapath, running->cgroups, running->cgroup_count, true, &ignored);
	datapath_reconcile(datapath, NULL, NULL, &ignored);
	return err;
}

/* A time that `enforce --for` has set ends with what the file says. */
static int mode_diff(const struct mode *mode, bool observe, void (*line)(void *arg, const char *text), void *arg)
{
	char text[128], until[HOST_TIME_LEN];

	if (!mode->until_ns)
		return 0;
	snprintf(text, sizeof(text), "~ mode %s until %s -> %s", mode_name(mode->observe),
		 host_time_format(mode->until_ns, until), mode_name(observe));
	line(arg, text);
	return 1;
}

int loading_apply(const struct datapath *datapath, const struct policy_set *set, bool dry_run,
		  void (*line)(void *arg, const char *text), void *arg, struct failure *failure)
{
	struct policy_set running CLEANUP_POLICY_SET = {};
	int err = maps_read_set(datapath, &running, failure), changes, mended;
	struct sipkeep_config config;
	struct mode mode;
	__u64 live, uncounted;

	err = err ?: maps_config(datapath, &config, failure);
	if (err)
		return err;
	mode_read(config.live, host_monotonic_ns(), &mode);
	if (running.max_sources != set->max_sources)
		return failure_set(failure, -ENOTSUP, "'max_sources' is %u in the running instance and can't change while "
				   "loaded: 'sipkeep unload', then 'sipkeep load'", running.max_sources);
	changes = (int)policy_diff(&running, set, line, arg);
	changes += mode_diff(&mode, set->observe, line, arg);
	if (dry_run)
		return changes;
	mended = cgroups_apply(datapath, &running, set, line, arg, failure);
	if (mended < 0)
		return mended;
	if (!changes) {
		err = maps_uncounted(datapath, &uncounted);
		if (!err && uncounted)
			err = datapath_adopt(datapath, failure); /* what could not be counted when it came */
		return err ? err : mended;
	}
	err = maps_write_set(datapath, set, &live, failure);
	err = err ?: recount_switch(datapath, live, policy_set_moves(&running, set), failure);
	if (!err && (mode.observe != set->observe || mode.until_ns))
		datapath_mode_tell(datapath, set->observe, 0);
	return err ? err : changes + mended;
}
