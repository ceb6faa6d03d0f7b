/* SPDX-License-Identifier: GPL-2.0-only */
/* upgrade.h: this command's programs in place of those of a loaded instance, its counts and policies kept. */
#ifndef SIPKEEP_UPGRADE_H
#define SIPKEEP_UPGRADE_H

#include "datapath.h"

struct upgrade {
	char from[SIPKEEP_VERSION_LEN]; /* the version that was loaded; empty when it didn't say */
	bool changed;			/* false: these programs were running already */
	bool recounted;			/* the layout of the maps was another: what is open was counted anew */
	__u64 took_ns;
};

/*
 * Takes the instance's lock. At each moment the old programs decide, or the new ones, or both: a limit always holds.
 * Killed at any point it leaves an instance that the next upgrade ends, and that every other verb can use.
 * -ENOENT when it isn't loaded.
 */
int datapath_upgrade(const char *instance, struct upgrade *ret_upgrade, struct failure *failure);

#endif
