// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include "host.h"
#include "maps.h"
#include "recount.h"

/* So long may no handshake complete, should we die in between. */
#define FROZEN_NS 1000000000ULL
#define FREEZES 5

#define STEPS (SIPKEEP_LIVE_RECOUNT | SIPKEEP_LIVE_FROZEN)

static int step(const struct datapath *datapath, __u64 live, struct failure *failure)
{
	int err = datapath_live_store(datapath, live, failure);

	return err ?: datapath_programs_wait(failure);
}

/*
 * The end of a recount: SETTLE, once the banks are switched, gives back what the old one counted, CANCEL what the new one
 * did. Twice: the iterator may miss what moves beneath it.
 */
static int end(const struct datapath *datapath, __u64 live, __u64 how, struct failure *failure)
{
	int err = step(datapath, live | how, failure);

	err = err ?: datapath_adopt(datapath, failure);
	err = err ?: datapath_adopt(datapath, failure);
	return err ?: step(datapath, live, failure);
}

int recount_repair(const struct datapath *datapath, struct failure *failure)
{
	struct sipkeep_config config;
	int err = maps_config(datapath, &config, failure);

	if (err || !(config.live & STEPS))
		return err;
	return end(datapath, config.live & ~STEPS,
		   config.live & SIPKEEP_LIVE_SETTLE ? SIPKEEP_LIVE_SETTLE : SIPKEEP_LIVE_CANCEL, failure);
}

/*
 * No handshake is under way when the banks are switched. Stopped for too long in between, we freeze again: the switch
 * must fall into the time that the programs keep to.
 */
static int frozen_switch(const struct datapath *datapath, __u64 prepared, __u64 next, struct failure *failure)
{
	for (int i = 0; i < FREEZES; i++) {
		__u64 until = host_monotonic_ns() + FROZEN_NS;
		int err = datapath_frozen_store(datapath, until, failure);

		err = err ?: step(datapath, prepared | SIPKEEP_LIVE_FROZEN, failure);
		if (err)
			return err;
		if (host_monotonic_ns() + FROZEN_NS / 2 < until)
			return datapath_live_store(datapath, next | SIPKEEP_LIVE_SETTLE, failure);
	}
	return failure_set(failure, -ETIMEDOUT, "the kernel took more than %llu ms, %d times, to let its running programs end; "
			   "nothing was changed, try again when the host is less busy", FROZEN_NS / 2000000, FREEZES);
}

int recount_switch(const struct datapath *datapath, __u64 next, bool moves, struct failure *failure)
{
	struct failure ignored;
	struct sipkeep_config config;
	int err = maps_config(datapath, &config, failure);

	if (err)
		return err;
	if (!moves) {
		err = step(datapath, next, failure);
		return err ?: datapath_adopt(datapath, failure); /* the keepalive of what is open */
	}
	err = step(datapath, config.live | SIPKEEP_LIVE_PREPARE, failure);
	err = err ?: datapath_adopt(datapath, failure);
	err = err ?: frozen_switch(datapath, config.live | SIPKEEP_LIVE_PREPARE, next, failure);
	if (err) {
		end(datapath, config.live, SIPKEEP_LIVE_CANCEL, &ignored);
		return err;
	}
	return end(datapath, next, SIPKEEP_LIVE_SETTLE, failure);
}
