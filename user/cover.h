/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cover.h: what `run` does besides reading: attaches where a guarded cgroup comes back, or guarded processes live in a
 * network namespace that is new, and takes away what is dead.
 */
#ifndef SIPKEEP_COVER_H
#define SIPKEEP_COVER_H

#include "datapath.h"

struct cover;

/* line() is told what changes, and each failure once. Returns 0 or -errno. The datapath must outlive it. */
int cover_open(const struct datapath *datapath, void (*line)(void *arg, const char *text), void *arg,
	       struct cover **ret_cover, struct failure *failure);
void cover_close(struct cover *cover);

/*
 * Looks for cgroups that have come back, for a mode whose time is over, and every COVER_RESCAN_NS at everything. Cheap; to be called every 100 ms.
 * While another process changes the instance, it does nothing and tries again the next time.
 */
void cover_tick(struct cover *cover);
#define COVER_RESCAN_NS (10ULL * 1000000000)

/* A listener has come up in this network namespace: the next tick looks at it if it is new. */
void cover_listener(struct cover *cover, __u64 netns_cookie);

#endif
