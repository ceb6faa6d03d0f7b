// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "carry.h"
#include "convert.h"
#include "datapath_internal.h"
#include "match.h"

static int add(int program, const struct sipkeep_carry *carry)
{
	struct sipkeep_carry copy = *carry;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &copy, .ctx_size_in = sizeof(copy));

	return bpf_prog_test_run_opts(program, &opts) ? -errno : 0;
}

/* As bpf/count.h makes it. A full map: what the source counted is in its policy's totals. */
static int source_make(const struct datapath *new, const struct sipkeep_source_key *key)
{
	struct sipkeep_source fresh = { .count = source_tag(key) | SIPKEEP_QUEUED };

	if (!bpf_map_update_elem(new->maps[DATAPATH_SOURCES], key, &fresh, BPF_NOEXIST))
		return bpf_map_update_elem(new->maps[DATAPATH_SOURCE_QUEUE], NULL, key, BPF_ANY) ? -errno : 0;
	return errno == EEXIST || errno == E2BIG || errno == ENOMEM ? 0 : -errno;
}

static int failed(int err, struct failure *failure)
{
	return err ? failure_set(failure, err, "the counters of the version before can't be taken on: %s", strerror(-err)) : 0;
}

/* rates: only that. */
static int sources_carry(const struct datapath *old, const struct datapath *new, int program, bool rates)
{
	char key[512], next[512], value[1024];
	struct failure ignored;
	struct convert c;
	int fd = old->maps[DATAPATH_SOURCES], err;
	bool more = !bpf_map_get_next_key(fd, NULL, next);

	err = convert_open(fd, new->maps[DATAPATH_SOURCES], &c, &ignored);
	if (!err && (c.old_key_size > sizeof(key) || c.old_value_size > sizeof(value)))
		err = -EOVERFLOW;
	while (!err && more) {
		struct sipkeep_carry carry = {};

		memcpy(key, next, c.old_key_size);
		more = !bpf_map_get_next_key(fd, key, next);
		if (bpf_map_lookup_elem(fd, key, value))
			continue;
		err = convert_key(&c, key, &carry.key);
		err = err ?: convert_value(&c, value, &carry.source);
		if (rates && !carry.source.tat_ns)
			continue;
		if (rates)
			carry.source = (struct sipkeep_source){ .tat_ns = carry.source.tat_ns };
		err = err ?: source_make(new, &carry.key);
		err = err ?: add(program, &carry);
		if (!err && !rates)
			bpf_map_delete_elem(fd, key); /* killed, and done once more: not a second time */
	}
	convert_close(&c);
	return err;
}

/*
 * Made in ours first, so that a connect() to one is known before the old programs go; what failed of it is added when
 * they have. One that ours has no more was reached meanwhile.
 */
static int contacts_carry(const struct datapath *old, const struct datapath *new, int program, bool make)
{
	int fd = old->maps[DATAPATH_CONTACTS], err;
	char key[64], next[64], value[64];
	struct failure ignored;
	struct convert c;
	bool more;

	if (fd < 0)
		return 0; /* a version that knows of none */
	more = !bpf_map_get_next_key(fd, NULL, next);
	err = convert_open(fd, new->maps[DATAPATH_CONTACTS], &c, &ignored);
	if (!err && (c.old_key_size > sizeof(key) || c.old_value_size > sizeof(value)))
		err = -EOVERFLOW;
	while (!err && more) {
		struct sipkeep_carry carry = { .kind = SIPKEEP_CARRY_CONTACT };
		const __u64 none = 0;

		memcpy(key, next, c.old_key_size);
		more = !bpf_map_get_next_key(fd, key, next);
		if (bpf_map_lookup_elem(fd, key, value))
			continue;
		err = convert_key(&c, key, &carry.contact);
		err = err ?: convert_value(&c, value, &carry.failures);
		if (!err && make && bpf_map_update_elem(new->maps[DATAPATH_CONTACTS], &carry.contact, &none, BPF_NOEXIST))
			err = errno == EEXIST ? 0 : -errno;
		if (!err && !make && carry.failures)
			err = add(program, &carry);
		if (!err && !make)
			bpf_map_delete_elem(fd, key); /* killed, and done once more: not a second time */
	}
	convert_close(&c);
	return err;
}

/* Taken on: the next one that ends our work, should we be killed, finds nothing there. */
static void element_clear(const struct datapath *old, enum datapath_map map, __u32 key)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char *zeroes;

	if (bpf_obj_get_info_by_fd(old->maps[map], &info, &length))
		return;
	zeroes = calloc((size_t)libbpf_num_possible_cpus(), (info.value_size + 7) / 8 * 8);
	if (zeroes)
		bpf_map_update_elem(old->maps[map], &key, zeroes, BPF_ANY);
	free(zeroes);
}

/* One element, summed over the CPUs: words of 64 bits, in our layout. */
static int element_sum(const struct datapath *old, const struct datapath *new, enum datapath_map map, __u32 key,
		       __u64 *ret_sum, size_t words)
{
	int cpus = libbpf_num_possible_cpus(), err;
	__u64 one[256] = {};
	struct failure ignored;
	struct convert c;
	char *values;

	err = convert_open(old->maps[map], new->maps[map], &c, &ignored);
	if (err)
		return err;
	values = calloc((size_t)cpus, c.old_value_size);
	if (!values || words > 256)
		err = -ENOMEM;
	else if (bpf_map_lookup_elem(c.old_fd, &key, values))
		err = errno == ENOENT ? 0 : -errno;
	for (int cpu = 0; !err && cpu < cpus; cpu++) {
		err = convert_value(&c, values + (size_t)cpu * c.old_value_size, one);
		for (size_t i = 0; i < words; i++)
			ret_sum[i] += one[i];
	}
	free(values);
	convert_close(&c);
	return err;
}

static int value_read(const struct datapath *old, const struct datapath *new, enum datapath_map map, __u32 key,
		      void *ret_value)
{
	struct failure ignored;
	char value[4096];
	struct convert c;
	int err = convert_open(old->maps[map], new->maps[map], &c, &ignored);

	if (err)
		return err;
	if (bpf_map_lookup_elem(c.old_fd, &key, value))
		err = -errno;
	err = err ?: convert_value(&c, value, ret_value);
	convert_close(&c);
	return err;
}

/* The sequence: each event has its number once, those that nobody will read are lost. */
static int sequence_carry(const struct datapath *old, const struct datapath *new, bool read, __u64 emitted,
			  __u64 *ret_lost)
{
	struct sipkeep_meta *meta = datapath_meta_map(new), before;
	struct sipkeep_shared shared;
	int err = meta ? 0 : -errno;

	err = err ?: value_read(old, new, DATAPATH_META, 0, &before);
	err = err ?: value_read(old, new, DATAPATH_SHARED, 0, &shared);
	if (!err && read) {
		*ret_lost = shared.lost;
		meta->delivered = emitted - shared.lost - before.dropped;
		meta->lost_told = shared.lost + before.dropped;
	} else if (!err) {
		*ret_lost = emitted - before.delivered - before.dropped;
		meta->delivered = before.delivered;
		meta->lost_told = before.lost_told;
	}
	if (!err) {
		meta->dropped = before.dropped;
		meta->derived = before.derived;
		meta->taken_before = meta->delivered + meta->dropped;
	}
	if (meta)
		munmap(meta, sizeof(*meta));
	return err;
}

static int totals_carry(const struct datapath *old, const struct datapath *new, int program, bool read)
{
	int err = 0;

	for (__u32 id = 0; !err && id < SIPKEEP_MAX_POLICIES; id++) {
		struct sipkeep_carry carry = { .kind = SIPKEEP_CARRY_TOTALS, .key.policy = (__u16)id };

		err = element_sum(old, new, DATAPATH_POLICY_STATS, id, (__u64 *)&carry.policy, sizeof(carry.policy) / 8);
		err = err ?: value_read(old, new, DATAPATH_POLICY_COUNTS, id, &carry.count);
		if (!err && id == 0) {
			err = element_sum(old, new, DATAPATH_STATS, 0, (__u64 *)&carry.total, sizeof(carry.total) / 8);
			if (!err && carry.total.emitted) /* none: it was taken on already */
				err = sequence_carry(old, new, read, carry.total.emitted, &carry.lost);
		}
		err = err ?: add(program, &carry);
		if (!err && id == 0)
			element_clear(old, DATAPATH_STATS, 0);
		if (!err) {
			element_clear(old, DATAPATH_POLICY_STATS, id);
			element_clear(old, DATAPATH_POLICY_COUNTS, id);
		}
	}
	return err;
}

int carry_rates(const struct datapath *old, const struct datapath *new, struct failure *failure)
{
	int program = datapath_program(new, "on_carry", failure), err;

	if (program < 0)
		return program;
	err = sources_carry(old, new, program, true);
	err = err ?: contacts_carry(old, new, program, true);
	close(program);
	return failed(err, failure);
}

int carry_counters(const struct datapath *old, const struct datapath *new, bool read, struct failure *failure)
{
	int program = datapath_program(new, "on_carry", failure), err;

	if (program < 0)
		return program;
	err = totals_carry(old, new, program, read);
	err = err ?: sources_carry(old, new, program, false);
	err = err ?: contacts_carry(old, new, program, false);
	close(program);
	return failed(err, failure);
}
