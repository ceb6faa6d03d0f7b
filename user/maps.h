/* SPDX-License-Identifier: GPL-2.0-only */
/* maps.h: policy -> map entries and back, counters out. */
#ifndef SIPKEEP_MAPS_H
#define SIPKEEP_MAPS_H

#include "datapath.h"
#include "policy.h"

/*
 * Writes the policies of the set into the bank that isn't in force. *ret_live: the word that puts them in force, with
 * datapath_live_store() or recount_switch(). A policy keeps its counts by its name. Cgroups and max_sources are fixed at
 * load and aren't written here. On an error that bank is empty again.
 */
int maps_write_set(const struct datapath *datapath, const struct policy_set *set, __u64 *ret_live,
		   struct failure *failure);

/* What runs, as a set (policy_set_free() it): policies in name order, cgroups by their present path. */
int maps_read_set(const struct datapath *datapath, struct policy_set *ret_set, struct failure *failure);

/* One policy with its counters, summed over the CPUs. */
struct maps_policy {
	char name[SIPKEEP_NAME_LEN];
	__u16 id;
	bool retired; /* not in the running file any more; transports counted there are still open */
	struct sipkeep_policy kernel;
	__u32 active;
	__u32 reserved;
	struct sipkeep_policy_stats stats;
	struct sipkeep_finding finding;
};

/* Fills at most SIPKEEP_MAX_POLICIES entries; returns how many, or -errno. */
int maps_policies(const struct datapath *datapath, struct maps_policy *ret_policies, struct failure *failure);

/*
 * Adds count ends of connections that a NAT had forgotten, after quiet_ms at the least (0: not known), to the policy's
 * finding. For the reader of the events: one at a time. 0 or -errno.
 */
int maps_finding_add(const struct datapath *datapath, __u16 policy, __u32 count, __u32 quiet_ms);

/*
 * The tcp_keepidle, in seconds, that keeps such connections alive: half of the quiet that was too long, for one probe may
 * be lost. 0: nothing was found, or the policy has it, or a shorter one, already.
 */
__u32 maps_suggested_keepidle(const struct maps_policy *policy);

struct maps_totals {
	struct sipkeep_stats stats;
	__u64 lost;
	__u64 derived;	   /* lines of no record: see struct sipkeep_meta */
	__u32 sources;	   /* entries in use */
	__u32 max_sources;
};
int maps_totals(const struct datapath *datapath, struct maps_totals *ret_totals, struct failure *failure);

/* How often a transport or a listener could not be counted, since load: when it grows, a recount may mend it. */
int maps_uncounted(const struct datapath *datapath, __u64 *ret_uncounted);

/* Records that found no room in the ring since load; and with them those that a reader took and could not write. */
int maps_ring_lost(const struct datapath *datapath, __u64 *ret_lost);
int maps_lost(const struct datapath *datapath, __u64 *ret_lost);

/* Calls each() for every source until it returns non-zero; in no order. */
int maps_sources(const struct datapath *datapath,
		 int (*each)(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source),
		 void *arg, struct failure *failure);

/* -ENOENT when there is no such source. */
int maps_source(const struct datapath *datapath, const struct sipkeep_source_key *key,
		struct sipkeep_source *ret_source);

int maps_config(const struct datapath *datapath, struct sipkeep_config *ret_config, struct failure *failure);

/* The policy's name, "?" for an id out of range. name: SIPKEEP_NAME_LEN bytes; returns it. */
char *maps_policy_name(const struct datapath *datapath, __u16 id, char *name);

/*
 * A source as people write it: "192.0.2.7", "2001:db8:1:2::/64", outbound "* > 198.51.100.5:5061". text: at least
 * MAPS_SOURCE_LEN bytes; returns it. prefixes: the policy's.
 */
#define MAPS_SOURCE_LEN 160
char *maps_source_format(const struct sipkeep_source_key *key, const struct sipkeep_policy *policy, char *text);

#endif
