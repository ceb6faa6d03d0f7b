// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "attach.h"
#include "attached.h"
#include "cover.h"
#include "host.h"
#include "maps.h"
#include "mode.h"

#define RETRY_NS (1ULL * 1000000000) /* after a failure */

struct cover {
	struct datapath datapath; /* a copy, its descriptors another's: for the lock */
	void (*line)(void *arg, const char *text);
	void *arg;
	char root[PATH_MAX]; /* where cgroup2 is mounted */
	__u64 next_ns;	     /* when to look at everything */
	bool due;
	__u64 uncounted; /* maps_uncounted() at the last rescan */
	__u64 seen; /* the last namespace that a listener came up in: it has its sk_lookup, or can't be found */
	char told[sizeof(((struct failure *)0)->text)]; /* the last failure */
};

int cover_open(const struct datapath *datapath, void (*line)(void *arg, const char *text), void *arg,
	       struct cover **ret_cover, struct failure *failure)
{
	struct cover *cover = calloc(1, sizeof(*cover));
	int err;

	if (!cover)
		return failure_set(failure, -ENOMEM, "out of memory");
	err = host_cgroup2(cover->root, failure);
	if (err) {
		free(cover);
		return err;
	}
	cover->datapath = *datapath;
	cover->datapath.lock_fd = -1;
	cover->line = line;
	cover->arg = arg;
	cover->due = true;
	*ret_cover = cover;
	return 0;
}

void cover_close(struct cover *cover)
{
	free(cover);
}

/* One that is there and isn't the one that is attached to. */
static bool cgroup_is_back(struct cover *cover)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	struct failure ignored;
	int count = datapath_cgroups(&cover->datapath, cgroups, &ignored);

	for (int i = 0; i < count; i++) {
		__u64 id = host_cgroup_id(cover->root, cgroups[i].path);

		if (id && id != cgroups[i].id)
			return true;
	}
	return false;
}

void cover_listener(struct cover *cover, __u64 netns_cookie)
{
	struct attached_list pins CLEANUP_ATTACHED = {};
	struct failure ignored;

	if (netns_cookie == cover->seen || attached_read(&cover->datapath, &pins, &ignored))
		return;
	cover->seen = netns_cookie;
	if (!attached_find(&pins, ATTACHED_SK_LOOKUP, netns_cookie))
		cover->due = true;
}

/* A time that `enforce --for` set is over: the kernel acts by that already, the rest is done here. */
static void mode_tick(struct cover *cover)
{
	struct sipkeep_config config;
	struct failure failure;
	struct mode mode;
	char text[64];

	if (maps_config(&cover->datapath, &config, &failure) || !mode_is_over(config.live, host_monotonic_ns()) ||
	    datapath_trylock(&cover->datapath, &failure))
		return;
	if (mode_expire(&cover->datapath, &mode, &failure) > 0) {
		snprintf(text, sizeof(text), "the time is over: mode %s", mode_name(mode.observe));
		cover->line(cover->arg, text);
	}
	datapath_unlock(&cover->datapath);
}

/* What could not be counted when it came, for want of memory or of room in the map, may be by now. */
static int uncounted_adopt(struct cover *cover, struct failure *failure)
{
	__u64 uncounted;
	int err = maps_uncounted(&cover->datapath, &uncounted);

	if (err || uncounted == cover->uncounted)
		return err ? failure_set(failure, err, "the counters can't be read: %s", strerror(-err)) : 0;
	cover->uncounted = uncounted;
	return datapath_adopt(&cover->datapath, failure);
}

void cover_tick(struct cover *cover)
{
	__u64 now = host_monotonic_ns();
	struct failure failure;
	int err;

	mode_tick(cover);
	if (now >= cover->next_ns)
		cover->due = true;
	else if (cover->told[0])
		return; /* it failed a moment ago */
	if (!cover->due && !cgroup_is_back(cover))
		return;
	cover->due = true;
	err = datapath_trylock(&cover->datapath, &failure);
	if (err)
		return; /* the next tick tries again; gone for good, the reader ends */
	err = datapath_reconcile(&cover->datapath, cover->line, cover->arg, &failure);
	if (err >= 0)
		err = uncounted_adopt(cover, &failure);
	datapath_unlock(&cover->datapath);
	cover->due = false;
	cover->next_ns = now + (err < 0 ? RETRY_NS : COVER_RESCAN_NS);
	if (err >= 0)
		failure.text[0] = '\0';
	if (failure.text[0] && strcmp(failure.text, cover->told))
		cover->line(cover->arg, failure.text);
	strcpy(cover->told, failure.text);
}
