// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "host.h"
#include "maps.h"
#include "match.h"

int maps_config(const struct datapath *datapath, struct sipkeep_config *ret_config, struct failure *failure)
{
	__u32 zero = 0;

	if (bpf_map_lookup_elem(datapath->maps[DATAPATH_CONFIG], &zero, ret_config))
		return failure_set(failure, -errno, "the config map can't be read: %s", strerror(errno));
	return 0;
}

char *maps_policy_name(const struct datapath *datapath, __u16 id, char *name)
{
	__u32 key = id;

	strcpy(name, "?");
	bpf_map_lookup_elem(datapath->maps[DATAPATH_POLICY_NAMES], &key, name);
	name[SIPKEEP_NAME_LEN - 1] = '\0';
	return name;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static int grow(void **list, size_t count, size_t size)
{
	void *more;

	if (count & (count - 1)) /* room up to the next power of two */
		return 0;
	more = realloc(*list, (count ? count * 2 : 1) * size);
	if (!more)
		return -ENOMEM;
	*list = more;
	return 0;
}

static void prefix_from_bits(struct policy_prefix *prefix, const struct sipkeep_addr *addr, __u8 family, __u32 bits)
{
	prefix->addr = *addr;
	prefix->family = family;
	prefix->len = family == 4 ? bits - MATCH_IPV4_BITS : bits;
}

static int policy_add_rule(struct policy *policy, const struct sipkeep_rule_key *key)
{
	struct policy_prefix remote;
	__u16 port = ntohs(key->port_be);
	size_t i;

	prefix_from_bits(&remote, &key->addr, key->family, key->prefixlen - SIPKEEP_RULE_FIXED_BITS);
	for (i = 0; i < policy->port_count && policy->ports[i] != port; i++)
		;
	if (port && i == policy->port_count) {
		if (grow((void **)&policy->ports, policy->port_count, sizeof(*policy->ports)))
			return -ENOMEM;
		policy->ports[policy->port_count++] = port;
	}
	for (i = 0; i < policy->remote_count && memcmp(&policy->remotes[i], &remote, sizeof(remote)); i++)
		;
	if (i == policy->remote_count) {
		if (grow((void **)&policy->remotes, policy->remote_count, sizeof(*policy->remotes)))
			return -ENOMEM;
		policy->remotes[policy->remote_count++] = remote;
	}
	return 0;
}

static int policies_read(const struct datapath *datapath, struct policy_set *set, __u32 bank, int *index_of)
{
	set->policies = calloc(SIPKEEP_MAX_POLICIES, sizeof(*set->policies));
	if (!set->policies)
		return -ENOMEM;
	for (__u32 id = 0; id < SIPKEEP_MAX_POLICIES; id++) {
		__u32 index = bank * SIPKEEP_MAX_POLICIES + id;
		struct policy *policy = &set->policies[set->policy_count];

		index_of[id] = -1;
		if (bpf_map_lookup_elem(datapath->maps[DATAPATH_POLICIES], &index, &policy->kernel))
			return -errno;
		if (!policy->kernel.in_use)
			continue;
		policy->kernel.in_use = 0;
		policy->direction = policy->kernel.direction;
		maps_policy_name(datapath, id, policy->name);
		index_of[id] = (int)set->policy_count++;
	}
	return 0;
}

static int rules_read(const struct datapath *datapath, struct policy_set *set, __u32 bank, const int *index_of)
{
	struct sipkeep_rule_key key, next;
	int fd = datapath->maps[DATAPATH_RULES];
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		__u32 id;

		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (key.bank != bank || bpf_map_lookup_elem(fd, &key, &id) || id >= SIPKEEP_MAX_POLICIES ||
		    index_of[id] < 0)
			continue;
		if (policy_add_rule(&set->policies[index_of[id]], &key))
			return -ENOMEM;
	}
	return 0;
}

static int exempts_read(const struct datapath *datapath, struct policy_set *set, __u32 bank)
{
	struct sipkeep_exempt_key key, next;
	int fd = datapath->maps[DATAPATH_EXEMPTS];
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (key.bank != bank)
			continue;
		if (grow((void **)&set->exempt, set->exempt_count, sizeof(*set->exempt)))
			return -ENOMEM;
		prefix_from_bits(&set->exempt[set->exempt_count++], &key.addr, key.family,
				 key.prefixlen - SIPKEEP_EXEMPT_FIXED_BITS);
	}
	return 0;
}

static int cgroups_read(const struct datapath *datapath, struct policy_set *set)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	struct failure ignored;
	int count = datapath_cgroups(datapath, cgroups, &ignored);

	if (count < 0)
		return count;
	set->cgroups = calloc(SIPKEEP_MAX_CGROUPS, sizeof(*set->cgroups));
	if (!set->cgroups)
		return -ENOMEM;
	for (int i = 0; i < count; i++) {
		set->cgroups[set->cgroup_count] = strdup(cgroups[i].path);
		if (!set->cgroups[set->cgroup_count])
			return -ENOMEM;
		set->cgroup_count++;
	}
	return 0;
}

static int map_max_entries(int fd, __u32 *ret_entries)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return -errno;
	*ret_entries = info.max_entries;
	return 0;
}

int maps_read_set(const struct datapath *datapath, struct policy_set *ret_set, struct failure *failure)
{
	struct policy_set set = {};
	struct sipkeep_config config;
	int index_of[SIPKEEP_MAX_POLICIES];
	int err = maps_config(datapath, &config, failure);

	if (err)
		return err;
	set.observe = live_observes(config.live, host_monotonic_ns());
	set.on_full_refuse = config.live & SIPKEEP_LIVE_FULL_REFUSE;
	err = map_max_entries(datapath->maps[DATAPATH_SOURCES], &set.max_sources);
	err = err ?: cgroups_read(datapath, &set);
	err = err ?: policies_read(datapath, &set, config.live & SIPKEEP_LIVE_BANK, index_of);
	err = err ?: rules_read(datapath, &set, config.live & SIPKEEP_LIVE_BANK, index_of);
	err = err ?: exempts_read(datapath, &set, config.live & SIPKEEP_LIVE_BANK);
	if (err) {
		policy_set_free(&set);
		return failure_set(failure, err, "the running policies can't be read: %s", strerror(-err));
	}
	for (size_t i = 0; i < set.policy_count; i++)
		policy_normalize(&set.policies[i]);
	if (set.exempt_count)
		qsort(set.exempt, set.exempt_count, sizeof(*set.exempt), policy_prefix_compare);
	*ret_set = set;
	return 0;
}

/* ---- counters ------------------------------------------------------------------------------------------------- */

/* Sums `words` 64-bit counters of one element over the CPUs. */
static int percpu_sum(int fd, __u32 key, __u64 *ret_sum, size_t words)
{
	int cpus = libbpf_num_possible_cpus();
	__u64 *values = calloc(cpus, words * sizeof(__u64));
	int err = 0;

	if (!values)
		return -ENOMEM;
	memset(ret_sum, 0, words * sizeof(__u64));
	if (bpf_map_lookup_elem(fd, &key, values))
		err = -errno;
	for (int cpu = 0; !err && cpu < cpus; cpu++)
		for (size_t i = 0; i < words; i++)
			ret_sum[i] += values[(size_t)cpu * words + i];
	free(values);
	return err;
}

int maps_policies(const struct datapath *datapath, struct maps_policy *ret_policies, struct failure *failure)
{
	struct sipkeep_config config;
	int count = 0, err = maps_config(datapath, &config, failure);

	for (__u32 id = 0; !err && id < SIPKEEP_MAX_POLICIES; id++) {
		struct maps_policy policy = { .id = id };
		struct sipkeep_policy_count word = {};
		__u32 index = (config.live & SIPKEEP_LIVE_BANK) * SIPKEEP_MAX_POLICIES + id;

		maps_policy_name(datapath, id, policy.name);
		if (!policy.name[0])
			continue;
		if (bpf_map_lookup_elem(datapath->maps[DATAPATH_POLICIES], &index, &policy.kernel) ||
		    bpf_map_lookup_elem(datapath->maps[DATAPATH_POLICY_COUNTS], &id, &word) ||
		    percpu_sum(datapath->maps[DATAPATH_POLICY_STATS], id, (__u64 *)&policy.stats,
			       sizeof(policy.stats) / sizeof(__u64)) ||
		    bpf_map_lookup_elem(datapath->maps[DATAPATH_FINDINGS], &id, &policy.finding))
			return failure_set(failure, -errno, "the policy counters can't be read: %s", strerror(errno));
		policy.retired = !policy.kernel.in_use;
		policy.active = count_active(word.count);
		policy.reserved = count_reserved(word.count);
		if (policy.retired && !policy.active)
			continue;
		ret_policies[count++] = policy;
	}
	return err ? err : count;
}

int maps_finding_add(const struct datapath *datapath, __u16 policy, __u32 count, __u32 quiet_ms)
{
	struct sipkeep_finding finding;
	__u32 id = policy;

	if (bpf_map_lookup_elem(datapath->maps[DATAPATH_FINDINGS], &id, &finding))
		return -errno;
	finding.nat_count += count;
	if (quiet_ms && (!finding.nat_quiet_ms || quiet_ms < finding.nat_quiet_ms))
		finding.nat_quiet_ms = quiet_ms;
	return bpf_map_update_elem(datapath->maps[DATAPATH_FINDINGS], &id, &finding, BPF_EXIST) ? -errno : 0;
}

__u32 maps_suggested_keepidle(const struct maps_policy *policy)
{
	const struct sipkeep_policy *kernel = &policy->kernel;
	const __u32 set = SIPKEEP_SET_KEEPALIVE | SIPKEEP_SET_KEEPIDLE;
	__u32 seconds = policy->finding.nat_quiet_ms / 2000;

	if (!policy->finding.nat_quiet_ms || policy->retired)
		return 0;
	if (!seconds)
		seconds = 1;
	return (kernel->keepalive_set & set) == set && kernel->keepalive && kernel->keepidle <= seconds ? 0 : seconds;
}

static int count_one(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source)
{
	(void)key;
	(void)source;
	++*(__u32 *)arg;
	return 0;
}

int maps_ring_lost(const struct datapath *datapath, __u64 *ret_lost)
{
	struct sipkeep_shared shared;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(datapath->maps[DATAPATH_SHARED], &zero, &shared))
		return -errno;
	*ret_lost = shared.lost;
	return 0;
}

int maps_lost(const struct datapath *datapath, __u64 *ret_lost)
{
	struct sipkeep_meta meta;
	__u32 zero = 0;
	int err = maps_ring_lost(datapath, ret_lost);

	if (err || bpf_map_lookup_elem(datapath->maps[DATAPATH_META], &zero, &meta))
		return err ? err : -errno;
	*ret_lost += meta.dropped;
	return 0;
}

int maps_uncounted(const struct datapath *datapath, __u64 *ret_uncounted)
{
	struct sipkeep_stats stats;
	int err = percpu_sum(datapath->maps[DATAPATH_STATS], 0, (__u64 *)&stats, sizeof(stats) / sizeof(__u64));

	if (!err)
		*ret_uncounted = stats.storage_failed + stats.map_full;
	return err;
}

int maps_totals(const struct datapath *datapath, struct maps_totals *ret_totals, struct failure *failure)
{
	struct maps_totals totals = {};
	struct sipkeep_meta meta = {};
	__u32 zero = 0;
	int err;

	err = maps_lost(datapath, &totals.lost);
	if (!err && bpf_map_lookup_elem(datapath->maps[DATAPATH_META], &zero, &meta))
		err = -errno;
	totals.derived = meta.derived;
	err = err ?: percpu_sum(datapath->maps[DATAPATH_STATS], 0, (__u64 *)&totals.stats, sizeof(totals.stats) / sizeof(__u64));
	err = err ?: map_max_entries(datapath->maps[DATAPATH_SOURCES], &totals.max_sources);
	if (err)
		return failure_set(failure, err, "the counters can't be read: %s", strerror(-err));
	err = maps_sources(datapath, count_one, &totals.sources, failure);
	if (!err)
		*ret_totals = totals;
	return err;
}

#define BATCH 4096

int maps_sources(const struct datapath *datapath,
		 int (*each)(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source),
		 void *arg, struct failure *failure)
{
	struct sipkeep_source_key *keys = calloc(BATCH, sizeof(*keys));
	struct sipkeep_source *values = calloc(BATCH, sizeof(*values));
	__u32 position[16], *from = NULL; /* the kernel's cursor: as large as a key at most */
	bool more = true;
	int err = 0;

	if (!keys || !values)
		err = failure_set(failure, -ENOMEM, "out of memory");
	while (!err && more) {
		__u32 count = BATCH;

		if (bpf_map_lookup_batch(datapath->maps[DATAPATH_SOURCES], from, position, keys, values, &count, NULL)) {
			if (errno == EINTR)
				continue;
			if (errno != ENOENT) {
				err = failure_set(failure, -errno, "the sources can't be read: %s", strerror(errno));
				break;
			}
			more = false; /* the last batch */
		}
		from = position;
		for (__u32 i = 0; !err && i < count; i++)
			err = values[i].count & SIPKEEP_DEAD ? 0 : each(arg, &keys[i], &values[i]);
	}
	free(keys);
	free(values);
	return err;
}

int maps_source(const struct datapath *datapath, const struct sipkeep_source_key *key,
		struct sipkeep_source *ret_source)
{
	return bpf_map_lookup_elem(datapath->maps[DATAPATH_SOURCES], key, ret_source) ? -errno : 0;
}

char *maps_source_format(const struct sipkeep_source_key *key, const struct sipkeep_policy *policy, char *text)
{
	static const struct sipkeep_addr any;
	char addr[POLICY_PREFIX_LEN], remote[POLICY_PREFIX_LEN];
	bool ipv4 = policy_addr_is_ipv4(&key->addr);
	struct policy_prefix prefix = { .addr = key->addr, .family = ipv4 ? 4 : 6 };

	if (policy->direction == SIPKEEP_INBOUND) {
		prefix.len = ipv4 ? policy->source_prefix_ipv4 : policy->source_prefix_ipv6;
		if (prefix.len == (ipv4 ? 32 : 128))
			policy_addr_format(&key->addr, addr);
		else
			policy_prefix_format(&prefix, addr);
		snprintf(text, MAPS_SOURCE_LEN, "%s", addr);
		return text;
	}
	policy_addr_format(&key->destination, remote);
	if (!memcmp(&key->addr, &any, sizeof(any)) || (ipv4 && !memcmp(key->addr.b + 12, any.b, 4)))
		strcpy(addr, "*");
	else
		policy_addr_format(&key->addr, addr);
	snprintf(text, MAPS_SOURCE_LEN, policy_addr_is_ipv4(&key->destination) ? "%s > %s:%u" : "%s > [%s]:%u", addr,
		 remote, ntohs(key->port_be));
	return text;
}
