// SPDX-License-Identifier: GPL-2.0-only
/* datapath_cgroups.c: which cgroups are to be guarded, as the instance's maps keep it. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "datapath_internal.h"

int datapath_cgroups(const struct datapath *datapath, struct datapath_cgroup *ret_cgroups, struct failure *failure)
{
	struct sipkeep_meta *meta = datapath_meta_map(datapath);
	__u32 count;

	if (!meta)
		return failure_set(failure, -errno, "the meta map can't be read: %s", strerror(errno));
	count = meta->path_count < SIPKEEP_MAX_CGROUPS ? meta->path_count : SIPKEEP_MAX_CGROUPS;
	for (__u32 i = 0; i < count; i++) {
		if (bpf_map_lookup_elem(datapath->maps[DATAPATH_CGROUP_PATHS], &i, ret_cgroups[i].path)) {
			munmap(meta, sizeof(*meta));
			return failure_set(failure, -errno, "the cgroups' paths can't be read: %s", strerror(errno));
		}
		ret_cgroups[i].path[SIPKEEP_CGROUP_PATH - 1] = '\0';
		ret_cgroups[i].id = meta->cgroup_ids[i];
	}
	munmap(meta, sizeof(*meta));
	return (int)count;
}

/* Where it is guarded already: its place in the meta map; else -1. */
static int known_index(const struct datapath_cgroup *known, int count, const char *path)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(known[i].path, path))
			return i;
	return -1;
}

/* The id and depth of the cgroup; a known one may be away, and keeps what it had. */
static int slot_fill(struct sipkeep_meta *next, __u32 slot, const struct sipkeep_meta *now,
		     const struct datapath_cgroup *known, int known_count, const char *path, bool may_be_away,
		     struct failure *failure)
{
	int index = known_index(known, known_count, path), fd;

	if (strlen(path) >= SIPKEEP_CGROUP_PATH)
		return failure_set(failure, -ENAMETOOLONG, "cgroup %.100s…: a path may have %d bytes at most", path,
				   SIPKEEP_CGROUP_PATH - 1);
	fd = host_cgroup_open(path, &next->cgroup_ids[slot], &next->cgroup_levels[slot], failure);
	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (fd != -ENOENT || (index < 0 && !may_be_away))
		return fd;
	next->cgroup_ids[slot] = index < 0 ? 0 : now->cgroup_ids[index];
	next->cgroup_levels[slot] = index < 0 ? 0 : now->cgroup_levels[index];
	return 0;
}

static int paths_write(const struct datapath *datapath, char *const *paths, size_t count, struct failure *failure)
{
	for (__u32 i = 0; i < count; i++) {
		char path[SIPKEEP_CGROUP_PATH] = "";

		snprintf(path, sizeof(path), "%s", paths[i]);
		if (bpf_map_update_elem(datapath->maps[DATAPATH_CGROUP_PATHS], &i, path, 0))
			return failure_set(failure, -errno, "the cgroups' paths can't be written: %s", strerror(errno));
	}
	return 0;
}

void datapath_cgroups_store(struct sipkeep_meta *meta, const struct sipkeep_meta *next)
{
	if (meta->cgroup_count == next->cgroup_count && meta->path_count == next->path_count &&
	    !memcmp(meta->cgroup_ids, next->cgroup_ids, sizeof(meta->cgroup_ids)) &&
	    !memcmp(meta->cgroup_levels, next->cgroup_levels, sizeof(meta->cgroup_levels)))
		return;
	meta->cgroup_count = 0; /* a walk that reads them meanwhile takes sockets for unguarded, not for guarded */
	memcpy(meta->cgroup_ids, next->cgroup_ids, sizeof(meta->cgroup_ids));
	memcpy(meta->cgroup_levels, next->cgroup_levels, sizeof(meta->cgroup_levels));
	meta->path_count = next->path_count;
	__atomic_store_n(&meta->cgroup_count, next->cgroup_count, __ATOMIC_SEQ_CST);
}

int datapath_cgroups_set(const struct datapath *datapath, char *const *paths, size_t count, bool may_be_away,
			 struct failure *failure)
{
	struct datapath_cgroup known[SIPKEEP_MAX_CGROUPS];
	int known_count = datapath_cgroups(datapath, known, failure), err = 0;
	struct sipkeep_meta *meta, next = {};

	if (known_count < 0)
		return known_count;
	meta = datapath_meta_map(datapath);
	if (!meta)
		return failure_set(failure, -errno, "the meta map can't be written: %s", strerror(errno));
	for (__u32 i = 0; !err && i < count; i++)
		err = slot_fill(&next, i, meta, known, known_count, paths[i], may_be_away, failure);
	err = err ?: paths_write(datapath, paths, count, failure);
	next.path_count = next.cgroup_count = (__u32)count;
	for (__u32 i = meta->path_count; !err && i < meta->cgroup_count; i++) {
		if (next.cgroup_count == SIPKEEP_CGROUP_SLOTS)
			break;
		next.cgroup_ids[next.cgroup_count] = meta->cgroup_ids[i];
		next.cgroup_levels[next.cgroup_count++] = meta->cgroup_levels[i];
	}
	if (!err)
		datapath_cgroups_store(meta, &next);
	munmap(meta, sizeof(*meta));
	return err;
}
