// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "host.h"
#include "maps.h"
#include "recount.h"

/* So long may no handshake complete, should we die in between. */
#define FROZEN_NS 1000000000ULL
#define FREEZES 5

#define STEPS (SIPKEEP_LIVE_RECOUNT | SIPKEEP_LIVE_FROZEN)

bool recount_pending(__u64 live)
{
	return live & STEPS;
}

/*
 * Waits until every program that may have read the word before its change has ended: the kernel waits for them when an
 * element of a map of maps is replaced.
 */
static int programs_wait(struct failure *failure)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int inner, outer = -1, err = 0;
	__u32 zero = 0;

	inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "wait_inner", sizeof(zero), sizeof(zero), 1, NULL);
	if (inner >= 0) {
		opts.inner_map_fd = (__u32)inner;
		outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "wait", sizeof(zero), sizeof(zero), 1, &opts);
	}
	if (inner < 0 || outer < 0 || bpf_map_update_elem(outer, &zero, &inner, BPF_ANY))
		err = failure_set(failure, -errno, "no map of maps to wait for the running programs with: %s",
				  strerror(errno));
	if (outer >= 0)
		close(outer);
	if (inner >= 0)
		close(inner);
	return err;
}

static int step(const struct datapath *datapath, __u64 live, struct failure *failure)
{
	int err = datapath_live_store(datapath, live, failure);

	return err ?: programs_wait(failure);
}

/* The banks are switched: what the old one counted is given back. Twice: the iterator may miss what moves beneath it. */
static int settle(const struct datapath *datapath, __u64 live, struct failure *failure)
{
	int err = step(datapath, live | SIPKEEP_LIVE_SETTLE, failure);

	err = err ?: datapath_adopt(datapath, failure);
	err = err ?: datapath_adopt(datapath, failure);
	return err ?: step(datapath, live, failure);
}

static int cancel(const struct datapath *datapath, __u64 live, struct failure *failure)
{
	int err = step(datapath, live | SIPKEEP_LIVE_CANCEL, failure);

	err = err ?: datapath_adopt(datapath, failure);
	err = err ?: datapath_adopt(datapath, failure);
	return err ?: step(datapath, live, failure);
}

int recount_repair(const struct datapath *datapath, struct failure *failure)
{
	struct sipkeep_config config;
	int err = maps_config(datapath, &config, failure);

	if (err || !recount_pending(config.live))
		return err;
	return config.live & SIPKEEP_LIVE_SETTLE ? settle(datapath, config.live & ~STEPS, failure) :
						   cancel(datapath, config.live & ~STEPS, failure);
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
		cancel(datapath, config.live, &ignored);
		return err;
	}
	return settle(datapath, next, failure);
}
