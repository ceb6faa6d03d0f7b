// SPDX-License-Identifier: GPL-2.0-only
/*
 * cmd_verify.c: the counts against the kernel's own socket tables.
 *
 * Both change while they are read. A source is judged only by a pass in which its count and its number of admitted
 * transports were the same before and after the walk over the sockets; one that differs in such a pass is judged again,
 * and is drift when it differs in CONFIRMATIONS passes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "command.h"
#include "maps.h"
#include "match.h"

#define CONFIRMATIONS 3
#define PASSES 30

/* A policy's own count goes through the same comparison as a source's: key.pad tells them apart. */
#define KEY_OF_POLICY 1

struct tally {
	struct sipkeep_source_key key;
	__u64 admitted;
	__u32 count; /* what sipkeep says, or what was found open */
};

struct tallies {
	struct tally *list;
	size_t count, room;
	int err;
};

static struct tally *tally_add(struct tallies *tallies, const struct sipkeep_source_key *key)
{
	struct tally *tally;

	if (tallies->count == tallies->room) {
		size_t room = tallies->room ? tallies->room * 2 : 1024;
		struct tally *list = realloc(tallies->list, room * sizeof(*list));

		if (!list)
			return NULL;
		tallies->list = list;
		tallies->room = room;
	}
	tally = &tallies->list[tallies->count++];
	memset(tally, 0, sizeof(*tally));
	tally->key = *key;
	return tally;
}

static int tally_compare(const void *a, const void *b)
{
	return memcmp(&((const struct tally *)a)->key, &((const struct tally *)b)->key, sizeof(struct sipkeep_source_key));
}

static const struct tally *tally_find(const struct tallies *tallies, const struct sipkeep_source_key *key)
{
	struct tally wanted = { .key = *key };

	return tallies->count ? bsearch(&wanted, tallies->list, tallies->count, sizeof(wanted), tally_compare) : NULL;
}

static int source_tally(void *arg, const struct sipkeep_source_key *key, const struct sipkeep_source *source)
{
	struct tally *tally = tally_add(arg, key);

	if (!tally)
		return -ENOMEM;
	tally->count = count_active(source->count);
	tally->admitted = source->admitted;
	return 0;
}

/* What sipkeep counts, sorted. */
static int counts_take(const struct datapath *datapath, struct tallies *tallies, struct failure *failure)
{
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	int count, err;

	tallies->count = 0;
	err = maps_sources(datapath, source_tally, tallies, failure);
	count = err ? 0 : maps_policies(datapath, policies, failure);
	if (err || count < 0)
		return err ? err : count;
	for (int i = 0; i < count; i++) {
		struct sipkeep_source_key key = { .policy = policies[i].id, .pad = KEY_OF_POLICY };
		struct tally *tally = tally_add(tallies, &key);

		if (!tally)
			return failure_set(failure, -ENOMEM, "out of memory");
		tally->count = policies[i].active;
		tally->admitted = policies[i].stats.admitted;
	}
	if (tallies->count)
		qsort(tallies->list, tallies->count, sizeof(*tallies->list), tally_compare);
	return 0;
}

static int open_tally(void *arg, const struct sipkeep_listing *found)
{
	struct sipkeep_source_key policy = { .policy = found->expected.policy, .pad = KEY_OF_POLICY };

	if (found->listener || !found->guarded)
		return 0;
	return tally_add(arg, &found->expected) && tally_add(arg, &policy) ? 0 : -ENOMEM;
}

/* What is open by the kernel's tables, sorted, one tally a key. */
static int open_take(const struct datapath *datapath, struct tallies *tallies, struct failure *failure)
{
	size_t last = 0;
	int err;

	tallies->count = 0;
	err = datapath_list(datapath, open_tally, tallies, failure);
	if (err || !tallies->count)
		return err;
	qsort(tallies->list, tallies->count, sizeof(*tallies->list), tally_compare);
	for (size_t i = 0; i < tallies->count; i++) {
		if (i && !tally_compare(&tallies->list[last], &tallies->list[i])) {
			tallies->list[last].count++;
			continue;
		}
		last = i ? last + 1 : 0;
		tallies->list[last] = tallies->list[i];
		tallies->list[last].count = 1;
	}
	tallies->count = last + 1;
	return 0;
}

/* A key that has differed so far. */
struct suspect {
	struct sipkeep_source_key key;
	__u32 counted, open;
	int confirmed;
	bool settled; /* seen to agree, or confirmed often enough */
};

struct verification {
	struct tallies before, open, after;
	struct suspect *suspects;
	size_t suspect_count, suspect_room;
};

enum judgement { AGREES, DIFFERS, MOVING };

static enum judgement judge(const struct verification *v, const struct sipkeep_source_key *key, __u32 *ret_counted,
			    __u32 *ret_open)
{
	const struct tally *before = tally_find(&v->before, key), *after = tally_find(&v->after, key);
	const struct tally *open = tally_find(&v->open, key);

	*ret_counted = after ? after->count : 0;
	*ret_open = open ? open->count : 0;
	if (!before != !after || (before && (before->count != after->count || before->admitted != after->admitted)))
		return MOVING;
	return *ret_counted == *ret_open ? AGREES : DIFFERS;
}

static int suspect_add(struct verification *v, const struct sipkeep_source_key *key)
{
	struct suspect suspect = { .key = *key };

	if (judge(v, key, &suspect.counted, &suspect.open) == AGREES)
		return 0;
	if (v->suspect_count == v->suspect_room) {
		size_t room = v->suspect_room ? v->suspect_room * 2 : 64;
		struct suspect *list = realloc(v->suspects, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		v->suspects = list;
		v->suspect_room = room;
	}
	v->suspects[v->suspect_count++] = suspect;
	return 0;
}

static int pass(const struct datapath *datapath, struct verification *v, struct failure *failure)
{
	int err = counts_take(datapath, &v->before, failure);

	err = err ?: open_take(datapath, &v->open, failure);
	return err ?: counts_take(datapath, &v->after, failure);
}

/* The first pass looks at every key that either side knows; the next only at those that didn't agree. */
static int suspects_find(struct verification *v)
{
	for (size_t i = 0; i < v->after.count; i++)
		if (suspect_add(v, &v->after.list[i].key))
			return -ENOMEM;
	for (size_t i = 0; i < v->open.count; i++)
		if (!tally_find(&v->after, &v->open.list[i].key) && suspect_add(v, &v->open.list[i].key))
			return -ENOMEM;
	return 0;
}

static size_t suspects_judge(struct verification *v)
{
	size_t left = 0;

	for (size_t i = 0; i < v->suspect_count; i++) {
		struct suspect *suspect = &v->suspects[i];

		if (suspect->settled)
			continue;
		switch (judge(v, &suspect->key, &suspect->counted, &suspect->open)) {
		case AGREES:
			suspect->confirmed = 0;
			suspect->settled = true;
			break;
		case DIFFERS:
			suspect->settled = ++suspect->confirmed >= CONFIRMATIONS;
			break;
		case MOVING:
			break;
		}
		left += !suspect->settled;
	}
	return left;
}

static unsigned long drift_of(const struct suspect *suspect)
{
	if (suspect->confirmed < CONFIRMATIONS)
		return 0;
	return suspect->counted > suspect->open ? suspect->counted - suspect->open : suspect->open - suspect->counted;
}

static int report(const struct command_context *context, const struct datapath *datapath, const struct verification *v,
		  size_t unsettled)
{
	unsigned long drift = 0;
	json_t *sources = json_array();
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	struct failure failure;
	int count = maps_policies(datapath, policies, &failure);

	for (size_t i = 0; i < v->suspect_count; i++) {
		const struct suspect *suspect = &v->suspects[i];
		char text[MAPS_SOURCE_LEN] = "*", name[SIPKEEP_NAME_LEN];

		if (!drift_of(suspect))
			continue;
		drift += drift_of(suspect);
		maps_policy_name(datapath, suspect->key.policy, name);
		for (int p = 0; p < count && suspect->key.pad != KEY_OF_POLICY; p++)
			if (policies[p].id == suspect->key.policy)
				maps_source_format(&suspect->key, &policies[p].kernel, text);
		json_array_append_new(sources, json_pack("{s:s, s:s, s:i, s:i}", "source", text, "policy", name,
							 "counted", (int)suspect->counted, "open", (int)suspect->open));
		if (!context->json)
			printf("%s of policy %s: counted %u, open %u\n", text, name, suspect->counted, suspect->open);
	}
	if (context->json) {
		int err = command_json(json_pack("{s:i, s:I, s:I, s:o}", "v", 1, "drift", (json_int_t)drift, "unsettled",
						 (json_int_t)unsettled, "sources", sources));

		return err ? err : drift || unsettled ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
	}
	json_decref(sources);
	printf("drift %lu\n", drift);
	if (unsettled)
		printf("%zu sources changed too fast to be compared; run it again\n", unsettled);
	return command_flush() || drift || unsettled ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
}

int cmd_verify(struct command_context *context, const struct command *self, int argc, char **argv)
{
	struct datapath datapath CLEANUP_DATAPATH;
	struct verification v = {};
	struct failure failure = { "out of memory" };
	size_t left = 0;
	int err;

	datapath_init(&datapath);
	err = command_no_options(context, self, argc, argv);
	if (err >= 0)
		return err;
	err = command_open(context, true, &datapath);
	if (err)
		return err;
	err = pass(&datapath, &v, &failure);
	err = err ?: suspects_find(&v);
	left = v.suspect_count;
	for (int i = 0; !err && left && i < PASSES; i++) {
		err = pass(&datapath, &v, &failure);
		left = err ? left : suspects_judge(&v);
	}
	err = err ? command_fail(context, &failure, SIPKEEP_EXIT_FAILED) : report(context, &datapath, &v, left);
	free(v.before.list);
	free(v.open.list);
	free(v.after.list);
	free(v.suspects);
	return err;
}
