// SPDX-License-Identifier: GPL-2.0-only
/*
 * relayout.c: an instance whose maps have another layout becomes one with ours.
 *
 * The new generation is loaded beside the old one, in NAME+next. Its programs are quiet at first: they count and
 * decide, but tell nothing and keep no statistics. Attached besides the old ones (a connection must pass both), they adopt what
 * is open. Then the two directories are exchanged, and each link of the old generation gets the new program, loud: each
 * event is told by the one or the other. What quiet programs meet after a loud one in the same callback is done already,
 * by the socket's phase. Then the quiet links go, and what the old generation counted is added.
 *
 * Killed before the exchange, the old generation holds whole and NAME+next is thrown away; after it, the new one holds,
 * its meta has no version yet, and relayout_repair() does the rest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "attach.h"
#include "attached.h"
#include "carry.h"
#include "convert.h"
#include "datapath_internal.h"
#include "maps.h"
#include "upgrade_internal.h"
#include "version.h"

struct relayout {
	struct datapath old, new; /* both locked */
	struct sipkeep_bpf *loud, *quiet;
	int reader_fd; /* nobody reads the new ring before its place in the sequence is known */
	struct failure *failure;
};

static int pinned_open(struct datapath *datapath, struct failure *failure)
{
	for (int i = 0; i < DATAPATH_MAP_MAX; i++) {
		char path[PATH_MAX + 64];

		snprintf(path, sizeof(path), "%s/%s", datapath->dir, datapath_map_names[i]);
		datapath->maps[i] = bpf_obj_get(path);
		/* Only what is carried over must be there. */
		if (datapath->maps[i] < 0 && (datapath->maps[i] != -ENOENT || i <= DATAPATH_SOURCES ||
					      (i >= DATAPATH_POLICY_COUNTS && i <= DATAPATH_SHARED) || i == DATAPATH_META))
			return failure_set(failure, -EUCLEAN, "%s can't be opened: %s; the instance is damaged, 'sipkeep "
					   "unload' removes it", path, strerror(-datapath->maps[i]));
	}
	return 0;
}

static void next_remove(const char *dir)
{
	struct failure ignored;

	if (access(dir, F_OK))
		return;
	datapath_remove_pins(dir, &ignored);
	rmdir(dir);
}

static int entries_copy(const struct relayout *r, struct bpf_map *map, enum datapath_map which)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(r->old.maps[which], &info, &length))
		return -errno;
	return bpf_map__set_max_entries(map, info.max_entries);
}

static int generation_load(struct relayout *r)
{
	char path[PATH_MAX + 64];
	enum datapath_ends ends = datapath_ends();
	struct failure log;
	int err = skeleton_open(&r->loud, &log, r->failure);

	if (err)
		return err;
	bpf_program__set_autoload(r->loud->progs.on_sk_lookup, false);
	skeleton_select(r->loud, ends);
	err = entries_copy(r, r->loud->maps.sources, DATAPATH_SOURCES);
	err = err ?: entries_copy(r, r->loud->maps.source_queue, DATAPATH_SOURCES);
	if (err)
		failure_set(r->failure, err, "the size of the source map can't be read: %s", strerror(-err));
	bpf_map__set_max_entries(r->loud->maps.pendings, (__u32)libbpf_num_possible_cpus());
	err = err ?: skeleton_load(r->loud, &log, r->failure);
	for (int i = 0; !err && i < DATAPATH_MAP_MAX; i++) {
		r->new.maps[i] = dup(bpf_map__fd(skeleton_map(r->loud, i)));
		snprintf(path, sizeof(path), "%s/%s", r->new.dir, datapath_map_names[i]);
		if (i != DATAPATH_META && bpf_obj_pin(r->new.maps[i], path))
			err = failure_set(r->failure, -errno, "%s can't be pinned: %s", path, strerror(errno));
	}
	err = err ?: skeleton_open(&r->quiet, &log, r->failure);
	if (err)
		return err;
	bpf_program__set_autoload(r->quiet->progs.on_sk_lookup, false);
	skeleton_select(r->quiet, ends);
	r->quiet->rodata->quiet = 1;
	err = skeleton_reuse(r->quiet, &r->new, r->failure);
	err = err ?: skeleton_load(r->quiet, &log, r->failure);
	r->new.quiet = true;
	return err ?: upgrade_programs_pin(r->new.dir, r->quiet, r->failure);
}

/* What says how to act, and what the reader found. Where the programs' own notes come from, see carry.h. */
static int settings_convert(struct relayout *r)
{
	static const enum datapath_map settings[] = { DATAPATH_CONFIG, DATAPATH_POLICIES, DATAPATH_POLICY_NAMES,
						      DATAPATH_RULES, DATAPATH_EXEMPTS, DATAPATH_GUARDED_PORTS,
						      DATAPATH_CGROUP_PATHS, DATAPATH_FINDINGS, DATAPATH_META };
	struct sipkeep_config config;
	struct sipkeep_meta *meta;
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct convert convert;

		if (r->old.maps[settings[i]] < 0)
			continue;
		err = convert_open(r->old.maps[settings[i]], r->new.maps[settings[i]], &convert, r->failure);
		err = err ?: convert_map(&convert, datapath_map_names[settings[i]], r->failure);
		convert_close(&convert);
	}
	err = err ?: maps_config(&r->new, &config, r->failure);
	config.live &= ~(__u64)(SIPKEEP_LIVE_RECOUNT | SIPKEEP_LIVE_FROZEN); /* one that was under way counted in theirs */
	err = err ?: datapath_live_store(&r->new, config.live, r->failure);
	if (err)
		return err;
	meta = datapath_meta_map(&r->new);
	if (!meta)
		return failure_set(r->failure, -errno, "the meta map can't be written: %s", strerror(errno));
	meta->abi = SIPKEEP_ABI;
	meta->cgroup_count = meta->path_count;
	meta->delivered = meta->dropped = meta->taken_before = meta->lost_told = meta->derived = 0;
	memset(meta->version, 0, sizeof(meta->version)); /* not done yet */
	munmap(meta, sizeof(*meta));
	return 0;
}

static int reader_keep_out(struct relayout *r)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/reader", r->new.dir);
	mkdir(path, 0700);
	return datapath_flock(path, "the events are being read", &r->reader_fd, r->failure);
}

/* From here on the new generation is the instance. */
static int generations_exchange(struct relayout *r)
{
	char path[PATH_MAX + 64], dir[PATH_MAX];
	int err = upgrade_programs_pin(r->new.dir, r->loud, r->failure);

	r->new.quiet = false;
	err = err ?: reader_keep_out(r);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/%s", r->new.dir, datapath_map_names[DATAPATH_META]);
	if (bpf_obj_pin(r->new.maps[DATAPATH_META], path))
		return failure_set(r->failure, -errno, "%s can't be pinned: %s", path, strerror(errno));
	if (renameat2(AT_FDCWD, r->new.dir, AT_FDCWD, r->old.dir, RENAME_EXCHANGE))
		return failure_set(r->failure, -errno, "%s can't be exchanged with %s: %s", r->new.dir, r->old.dir,
				   strerror(errno));
	memcpy(dir, r->new.dir, sizeof(dir));
	memcpy(r->new.dir, r->old.dir, sizeof(dir));
	memcpy(r->old.dir, dir, sizeof(dir));
	return 0;
}

/* The old link, with the new program, in the place of the quiet one; where there is no old one, the quiet one is told. */
static int link_take_over(const struct relayout *r, const struct attached *link)
{
	char ours[PATH_MAX + NAME_MAX + 2], theirs[PATH_MAX + NAME_MAX + 2], name[32];
	int program, quiet, old, err;

	snprintf(name, sizeof(name), "on_%s", attached_hooks[link->hook]);
	program = link->hook == ATTACHED_SK_LOOKUP ? datapath_sk_lookup_load(&r->new, link->at, r->failure) :
						     datapath_program(&r->new, name, r->failure);
	if (program < 0)
		return program;
	snprintf(ours, sizeof(ours), "%s/%s", r->new.dir, link->pin);
	snprintf(theirs, sizeof(theirs), "%s/%s", r->old.dir, link->pin);
	quiet = bpf_obj_get(ours);
	old = bpf_obj_get(theirs);
	err = old < 0 ? old : bpf_link_update(old, program, NULL);
	if (!err && !rename(theirs, ours))
		bpf_link_detach(quiet);
	else
		err = bpf_link_update(quiet, program, NULL);
	if (old >= 0)
		close(old);
	close(quiet);
	close(program);
	return err && err != -ENOLINK ? failure_set(r->failure, err, "%s can't be given its new program: %s", ours,
						    strerror(-err)) : 0;
}

/* The gates first: theirs go by counts that nobody keeps any more when what watches is ours. */
static int links_take_over(const struct relayout *r)
{
	static const enum attached_hook order[] = { ATTACHED_INGRESS, ATTACHED_CONNECT4, ATTACHED_CONNECT6,
						    ATTACHED_SK_LOOKUP, ATTACHED_SOCKOPS, ATTACHED_SOCK_RELEASE,
						    ATTACHED_SETSOCKOPT, ATTACHED_POST_BIND4, ATTACHED_POST_BIND6 };
	struct attached_list links CLEANUP_ATTACHED = {};
	int err = attached_read(&r->new, &links, r->failure);

	for (size_t o = 0; !err && o < sizeof(order) / sizeof(order[0]); o++)
		for (size_t i = 0; !err && i < links.count; i++)
			if (links.list[i].hook == order[o] && links.list[i].alive)
				err = link_take_over(r, &links.list[i]);
	return err;
}

/* What is left of theirs: hooks that we haven't, cgroups that are removed. */
static void links_drop(const struct relayout *r)
{
	struct attached_list links CLEANUP_ATTACHED = {};
	struct failure ignored;

	if (attached_read(&r->old, &links, &ignored))
		return;
	for (size_t i = 0; i < links.count; i++) {
		char path[PATH_MAX + NAME_MAX + 2];
		int fd;

		snprintf(path, sizeof(path), "%s/%s", r->old.dir, links.list[i].pin);
		fd = bpf_obj_get(path);
		if (fd >= 0) {
			bpf_link_detach(fd);
			close(fd);
		}
		unlink(path);
	}
}

/* After the exchange. */
static int finish(struct relayout *r)
{
	int programs[ATTACHED_CGROUP_HOOKS], err;

	upgrade_programs_open(&r->old, programs);
	err = links_take_over(r);
	err = err < 0 ? err : datapath_reconcile(&r->new, NULL, NULL, r->failure);
	if (err >= 0) {
		upgrade_others_detach(&r->new, programs);
		links_drop(r);
		err = datapath_programs_wait(r->failure); /* theirs have ended */
		err = err ?: carry_counters(&r->old, &r->new, datapath_is_read(&r->old), r->failure);
	}
	upgrade_programs_close(programs);
	err = err ?: upgrade_version_store(&r->new, r->failure);
	if (!err)
		next_remove(r->old.dir);
	return err;
}

static int relayout_locked(struct relayout *r, char *ret_from)
{
	struct sipkeep_meta meta = {};
	struct convert convert;
	char value[4096] = {};
	__u32 zero = 0;
	int err = generation_load(r);

	err = err ?: settings_convert(r);
	err = err ?: datapath_reconcile(&r->new, NULL, NULL, r->failure);
	err = err < 0 ? err : carry_rates(&r->old, &r->new, r->failure);
	err = err ?: generations_exchange(r);
	if (err) {
		next_remove(r->new.dir);
		return err;
	}
	if (!convert_open(r->old.maps[DATAPATH_META], r->new.maps[DATAPATH_META], &convert, r->failure)) {
		if (convert.old_value_size <= sizeof(value) &&
		    !bpf_map_lookup_elem(convert.old_fd, &zero, value) && !convert_value(&convert, value, &meta))
			memcpy(ret_from, meta.version, SIPKEEP_VERSION_LEN);
		convert_close(&convert);
	}
	return finish(r);
}

static void relayout_end(struct relayout *r)
{
	sipkeep_bpf__destroy(r->quiet);
	sipkeep_bpf__destroy(r->loud);
	if (r->reader_fd >= 0)
		close(r->reader_fd);
	datapath_close(&r->old);
	datapath_close(&r->new);
}

int relayout(const char *instance, char *ret_from, struct failure *failure)
{
	struct relayout r = { .reader_fd = -1, .failure = failure };
	int err;

	datapath_init(&r.old);
	datapath_init(&r.new);
	snprintf(r.old.dir, sizeof(r.old.dir), "%s/%s", DATAPATH_ROOT, instance);
	snprintf(r.new.dir, sizeof(r.new.dir), "%s/%s" RELAYOUT_SUFFIX, DATAPATH_ROOT, instance);
	err = datapath_lock(&r.old, failure);
	err = err ?: pinned_open(&r.old, failure);
	if (!err) {
		next_remove(r.new.dir);
		if (mkdir(r.new.dir, 0700))
			err = failure_set(failure, -errno, "%s can't be made: %s", r.new.dir, strerror(errno));
	}
	err = err ?: datapath_lock(&r.new, failure);
	err = err ?: relayout_locked(&r, ret_from);
	relayout_end(&r);
	return err;
}

int relayout_repair(const struct datapath *datapath, struct failure *failure)
{
	struct relayout r = { .new = *datapath, .reader_fd = -1, .failure = failure };
	char path[PATH_MAX + 64];
	int err;

	datapath_init(&r.old);
	snprintf(path, sizeof(path), "%s" RELAYOUT_SUFFIX, datapath->dir);
	if (access(path, F_OK))
		return 0;
	snprintf(r.old.dir, sizeof(r.old.dir), "%.*s", PATH_MAX - 1, path);
	if (datapath->meta.version[0]) { /* it ended before the exchange, or all but the last step after it */
		next_remove(path);
		return 0;
	}
	err = pinned_open(&r.old, failure);
	err = err ?: reader_keep_out(&r);
	err = err ?: finish(&r);
	datapath_init(&r.new); /* the caller's */
	relayout_end(&r);
	return err;
}
