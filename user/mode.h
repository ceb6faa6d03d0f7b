/* SPDX-License-Identifier: GPL-2.0-only */
/* mode.h: observing or enforcing, for good or for a time. The time runs out in the kernel: nobody need live for it. */
#ifndef SIPKEEP_MODE_H
#define SIPKEEP_MODE_H

#include "datapath.h"

struct mode {
	bool observe;
	__u64 until_ns; /* CLOCK_MONOTONIC: then the other mode; 0: for good */
};

/* What the word `live` of the config map means at now_ns. */
void mode_read(__u64 live, __u64 now_ns, struct mode *ret_mode);

/*
 * Puts it in force, tells it as a `mode` event, and gives open transports the keepalive of that mode. until_ns: 0 for
 * good. The caller holds the lock.
 */
int mode_set(const struct datapath *datapath, const struct mode *mode, struct failure *failure);

/*
 * A time has run out: programs act by that already, this tells it as an event and does the rest. The caller holds the lock.
 * Returns 1 when one had, 0 when not, or -errno; *ret_mode is the mode in force.
 */
int mode_expire(const struct datapath *datapath, struct mode *ret_mode, struct failure *failure);

/* Has one run out that mode_expire() wasn't called for yet? */
bool mode_is_over(__u64 live, __u64 now_ns);

const char *mode_name(bool observe); /* "observe", "enforce" */

#endif
