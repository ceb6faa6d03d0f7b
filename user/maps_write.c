// SPDX-License-Identifier: GPL-2.0-only
/* maps_write.c: a policy set into the kernel's maps. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "maps.h"
#include "match.h"

static int put(const struct datapath *datapath, enum datapath_map map, const void *key, const void *value,
	       struct failure *failure)
{
	if (!bpf_map_update_elem(datapath->maps[map], key, value, BPF_ANY))
		return 0;
	return failure_set(failure, -errno, "a policy map can't be written: %s", strerror(errno));
}

static __u32 policy_count_word(const struct datapath *datapath, __u32 id)
{
	struct sipkeep_policy_count count = {};

	bpf_map_lookup_elem(datapath->maps[DATAPATH_POLICY_COUNTS], &id, &count);
	return count_active(count.count) + count_reserved(count.count);
}

/* The id a policy has by its name, or a free one: never used, or drained. */
static int policy_id(const struct datapath *datapath, const struct policy_set *set, const bool *taken, const char *name)
{
	char known[SIPKEEP_NAME_LEN];
	int unused = -1, drained = -1;

	for (int id = 0; id < SIPKEEP_MAX_POLICIES; id++) {
		maps_policy_name(datapath, id, known);
		if (!strcmp(known, name))
			return id;
		if (taken[id])
			continue;
		if (!known[0] && unused < 0)
			unused = id;
		else if (known[0] && drained < 0 && policy_find(set, known) < 0 && !policy_count_word(datapath, id))
			drained = id;
	}
	return unused >= 0 ? unused : drained;
}

/* A slot that another policy had starts with counters of its own. */
static int policy_slot_init(const struct datapath *datapath, __u32 id, const char *name, struct failure *failure)
{
	int cpus = libbpf_num_possible_cpus();
	char text[SIPKEEP_NAME_LEN] = "";
	struct sipkeep_policy_count none = {};
	struct sipkeep_finding nothing = {};
	struct sipkeep_policy_stats *zeroes;
	int err;

	maps_policy_name(datapath, id, text);
	if (!strcmp(text, name))
		return 0;
	zeroes = calloc(cpus, sizeof(*zeroes));
	if (!zeroes)
		return failure_set(failure, -ENOMEM, "out of memory");
	err = put(datapath, DATAPATH_POLICY_STATS, &id, zeroes, failure);
	free(zeroes);
	memset(text, 0, sizeof(text));
	snprintf(text, sizeof(text), "%s", name);
	err = err ?: put(datapath, DATAPATH_POLICY_COUNTS, &id, &none, failure);
	err = err ?: put(datapath, DATAPATH_FINDINGS, &id, &nothing, failure);
	return err ?: put(datapath, DATAPATH_POLICY_NAMES, &id, text, failure);
}

static __u32 prefix_bits(const struct policy_prefix *prefix)
{
	return prefix->family == 4 ? MATCH_IPV4_BITS + prefix->len : prefix->len;
}

static int rules_write(const struct datapath *datapath, const struct policy *policy, __u32 id, __u32 bank,
		       struct failure *failure)
{
	size_t ports = policy->port_count ? policy->port_count : 1;
	int err = 0;

	for (size_t p = 0; !err && p < ports; p++) {
		__u16 port = policy->port_count ? policy->ports[p] : 0;
		__u32 guarded = bank << 16 | port;
		__u8 yes = 1;

		if (policy->direction == SIPKEEP_INBOUND)
			err = put(datapath, DATAPATH_GUARDED_PORTS, &guarded, &yes, failure);
		for (size_t r = 0; !err && r < policy->remote_count; r++) {
			const struct policy_prefix *remote = &policy->remotes[r];
			struct sipkeep_rule_key key = {
				.prefixlen = SIPKEEP_RULE_FIXED_BITS + prefix_bits(remote),
				.bank = bank,
				.direction = policy->direction,
				.family = remote->family,
				.port_be = htons(port),
				.addr = remote->addr,
			};

			err = put(datapath, DATAPATH_RULES, &key, &id, failure);
		}
	}
	return err;
}

static int exempts_write(const struct datapath *datapath, const struct policy_set *set, __u32 bank,
			 struct failure *failure)
{
	__u32 yes = 1;
	int err = 0;

	for (size_t i = 0; !err && i < set->exempt_count; i++) {
		struct sipkeep_exempt_key key = {
			.prefixlen = SIPKEEP_EXEMPT_FIXED_BITS + prefix_bits(&set->exempt[i]),
			.bank = bank,
			.family = set->exempt[i].family,
			.addr = set->exempt[i].addr,
		};

		err = put(datapath, DATAPATH_EXEMPTS, &key, &yes, failure);
	}
	return err;
}

/* Deletes every key of a map for which is_old() says so. key_size at most 64. */
static int keys_delete(int fd, size_t key_size, bool (*is_old)(const void *key, __u32 bank), __u32 bank)
{
	char key[64], next[64];
	bool more = bpf_map_get_next_key(fd, NULL, next) == 0;

	while (more) {
		memcpy(key, next, key_size);
		more = bpf_map_get_next_key(fd, key, next) == 0;
		if (is_old(key, bank))
			bpf_map_delete_elem(fd, key);
	}
	return 0;
}

static bool rule_in_bank(const void *key, __u32 bank)
{
	return ((const struct sipkeep_rule_key *)key)->bank == bank;
}

static bool exempt_in_bank(const void *key, __u32 bank)
{
	return ((const struct sipkeep_exempt_key *)key)->bank == bank;
}

static bool port_in_bank(const void *key, __u32 bank)
{
	return *(const __u32 *)key >> 16 == bank;
}

static int bank_clear(const struct datapath *datapath, __u32 bank, struct failure *failure)
{
	struct sipkeep_policy none = {};
	int err = 0;

	keys_delete(datapath->maps[DATAPATH_RULES], sizeof(struct sipkeep_rule_key), rule_in_bank, bank);
	keys_delete(datapath->maps[DATAPATH_EXEMPTS], sizeof(struct sipkeep_exempt_key), exempt_in_bank, bank);
	keys_delete(datapath->maps[DATAPATH_GUARDED_PORTS], sizeof(__u32), port_in_bank, bank);
	for (__u32 id = 0; !err && id < SIPKEEP_MAX_POLICIES; id++) {
		__u32 index = bank * SIPKEEP_MAX_POLICIES + id;

		err = put(datapath, DATAPATH_POLICIES, &index, &none, failure);
	}
	return err;
}

static int bank_write(const struct datapath *datapath, const struct policy_set *set, __u32 bank, struct failure *failure)
{
	bool taken[SIPKEEP_MAX_POLICIES] = {};
	int err = 0;

	for (size_t i = 0; !err && i < set->policy_count; i++) {
		const struct policy *policy = &set->policies[i];
		struct sipkeep_policy kernel = policy->kernel;
		int id = policy_id(datapath, set, taken, policy->name);
		__u32 index;

		if (id < 0)
			return failure_set(failure, -ENOSPC, "policy '%s' finds no room: %d policies are alive, some of them "
					   "still draining; apply again when their transports have ended", policy->name,
					   SIPKEEP_MAX_POLICIES);
		taken[id] = true;
		kernel.in_use = 1;
		index = bank * SIPKEEP_MAX_POLICIES + id;
		err = policy_slot_init(datapath, id, policy->name, failure);
		err = err ?: put(datapath, DATAPATH_POLICIES, &index, &kernel, failure);
		err = err ?: rules_write(datapath, policy, id, bank, failure);
	}
	return err ?: exempts_write(datapath, set, bank, failure);
}

int maps_write_set(const struct datapath *datapath, const struct policy_set *set, __u64 *ret_live,
		   struct failure *failure)
{
	struct sipkeep_config config;
	__u64 live;
	__u32 old;
	int err;

	err = maps_config(datapath, &config, failure);
	if (err)
		return err;
	old = config.live & SIPKEEP_LIVE_BANK;
	err = bank_clear(datapath, !old, failure);
	err = err ?: bank_write(datapath, set, !old, failure);
	if (err) {
		struct failure ignored;

		bank_clear(datapath, !old, &ignored);
		return err;
	}
	live = old ? 0 : SIPKEEP_LIVE_BANK;
	live |= set->observe ? SIPKEEP_LIVE_OBSERVE : 0;
	live |= set->on_full_refuse ? SIPKEEP_LIVE_FULL_REFUSE : 0;
	*ret_live = live;
	return 0;
}
