// SPDX-License-Identifier: GPL-2.0-only
#include "host.h"
#include "maps.h"
#include "match.h"
#include "mode.h"

#define MS_NS 1000000ULL

const char *mode_name(bool observe)
{
	return observe ? "observe" : "enforce";
}

bool mode_is_over(__u64 live, __u64 now_ns)
{
	__u64 until_ms = live >> SIPKEEP_LIVE_UNTIL_SHIFT;

	return until_ms && now_ns / MS_NS >= until_ms;
}

void mode_read(__u64 live, __u64 now_ns, struct mode *ret_mode)
{
	ret_mode->observe = live_observes(live, now_ns);
	ret_mode->until_ns = mode_is_over(live, now_ns) ? 0 : (live >> SIPKEEP_LIVE_UNTIL_SHIFT) * MS_NS;
}

int mode_set(const struct datapath *datapath, const struct mode *mode, struct failure *failure)
{
	struct sipkeep_config config;
	__u64 live;
	int err = maps_config(datapath, &config, failure);

	if (err)
		return err;
	live = config.live & ((1ULL << SIPKEEP_LIVE_UNTIL_SHIFT) - 1) & ~SIPKEEP_LIVE_OBSERVE;
	live |= mode->observe ? SIPKEEP_LIVE_OBSERVE : 0;
	live |= (mode->until_ns + MS_NS - 1) / MS_NS << SIPKEEP_LIVE_UNTIL_SHIFT;
	err = datapath_live_store(datapath, live, failure);
	if (err)
		return err;
	datapath_mode_tell(datapath, mode->observe, mode->until_ns);
	return datapath_adopt(datapath, failure);
}

int mode_expire(const struct datapath *datapath, struct mode *ret_mode, struct failure *failure)
{
	struct sipkeep_config config;
	__u64 now = host_monotonic_ns();
	int err = maps_config(datapath, &config, failure);

	if (err)
		return err;
	mode_read(config.live, now, ret_mode);
	if (!mode_is_over(config.live, now))
		return 0;
	err = mode_set(datapath, ret_mode, failure);
	return err ? err : 1;
}
