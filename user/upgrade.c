// SPDX-License-Identifier: GPL-2.0-only
/* upgrade.c: the layout of the maps being the same, the programs are replaced, one link after the other. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "attach.h"
#include "attached.h"
#include "datapath_internal.h"
#include "upgrade_internal.h"
#include "version.h"

/* Pinned under this name first, then renamed over the old one: there is always a program to be found. */
#define PIN_NEW "new_program"

struct replacing {
	const struct datapath *datapath;
	struct sipkeep_bpf *skel;
	int old[ATTACHED_CGROUP_HOOKS]; /* the programs before, -1: there was none */
	struct attached_list links;
	struct failure *failure;
};

/* A program's tag is a hash of its instructions. */
static bool tags_equal(int a, int b)
{
	struct bpf_prog_info one = {}, other = {};
	__u32 length = sizeof(one);

	if (bpf_obj_get_info_by_fd(a, &one, &length))
		return false;
	length = sizeof(other);
	return !bpf_obj_get_info_by_fd(b, &other, &length) && !memcmp(one.tag, other.tag, sizeof(one.tag));
}

static bool link_runs(const struct attached *link, int program)
{
	int running = bpf_prog_get_fd_by_id(link->program_id);
	bool same = running >= 0 && tags_equal(running, program);

	if (running >= 0)
		close(running);
	return same;
}

/* Do all the programs of the instance do what ours do? */
static bool runs_already(const struct replacing *r)
{
	struct bpf_program *program;
	char version[SIPKEEP_VERSION_LEN];

	version_copy(version);
	if (strcmp(version, r->datapath->meta.version))
		return false;
	bpf_object__for_each_program(program, r->skel->obj) {
		int pinned;
		bool same;

		if (program == r->skel->progs.on_sk_lookup || !bpf_program__autoload(program))
			continue;
		pinned = datapath_program(r->datapath, bpf_program__name(program), NULL);
		same = pinned >= 0 && tags_equal(pinned, bpf_program__fd(program));
		if (pinned >= 0)
			close(pinned);
		if (!same)
			return false;
	}
	for (size_t i = 0; i < r->links.count; i++)
		if (r->links.list[i].alive && r->links.list[i].hook == ATTACHED_SK_LOOKUP &&
		    !link_runs(&r->links.list[i], bpf_program__fd(r->skel->progs.on_sk_lookup)))
			return false;
	return true;
}

int upgrade_programs_pin(const char *dir, struct sipkeep_bpf *skel, struct failure *failure)
{
	char path[PATH_MAX + 64], fresh[PATH_MAX + 64];
	struct bpf_program *program;

	snprintf(fresh, sizeof(fresh), "%s/" PIN_NEW, dir);
	bpf_object__for_each_program(program, skel->obj) {
		int err;

		if (program == skel->progs.on_sk_lookup || !bpf_program__autoload(program))
			continue;
		snprintf(path, sizeof(path), "%s/prog_%s", dir, bpf_program__name(program));
		unlink(fresh); /* an interrupted upgrade's */
		err = bpf_obj_pin(bpf_program__fd(program), fresh);
		if (!err && rename(fresh, path))
			err = -errno;
		if (err)
			return failure_set(failure, err, "%s can't be pinned: %s; what runs still guards, run 'sipkeep "
					   "upgrade' again", path, strerror(-err));
	}
	return 0;
}

/* Those that our version hasn't any more. */
static void programs_unpin(const struct replacing *r)
{
	DIR *listing = opendir(r->datapath->dir);
	struct dirent *entry;

	while (listing && (entry = readdir(listing)))
		if (!strcmp(entry->d_name, PIN_NEW) ||
		    (!strncmp(entry->d_name, "prog_", 5) &&
		     !bpf_object__find_program_by_name(r->skel->obj, entry->d_name + 5)))
			unlinkat(dirfd(listing), entry->d_name, 0);
	if (listing)
		closedir(listing);
}

static int link_replace(const struct replacing *r, const struct attached *link)
{
	char path[PATH_MAX + NAME_MAX + 2], name[32];
	int program, fd, err;

	snprintf(name, sizeof(name), "on_%s", attached_hooks[link->hook]);
	if (link->hook == ATTACHED_SK_LOOKUP)
		program = datapath_sk_lookup_load(r->datapath, link->at, r->failure);
	else
		program = datapath_program(r->datapath, name, r->failure);
	if (program < 0)
		return program;
	snprintf(path, sizeof(path), "%s/%s", r->datapath->dir, link->pin);
	fd = bpf_obj_get(path);
	err = fd < 0 ? fd : bpf_link_update(fd, program, NULL);
	if (fd >= 0)
		close(fd);
	close(program);
	/* Its cgroup or namespace may have gone this moment: then there is nothing to guard there. */
	return err && err != -ENOLINK ? failure_set(r->failure, err, "%s can't be given its new program: %s; what runs still "
						    "guards, run 'sipkeep upgrade' again", path, strerror(-err)) : 0;
}

/* In the order of the hooks: first what watches, then what decides. Removed cgroups with open sockets are among them. */
static int links_replace(const struct replacing *r)
{
	int err = 0;

	for (enum attached_hook hook = 0; hook < ATTACHED_HOOK_MAX; hook++)
		for (size_t i = 0; !err && i < r->links.count; i++)
			if (r->links.list[i].hook == hook && r->links.list[i].alive)
				err = link_replace(r, &r->links.list[i]);
	return err;
}

void upgrade_programs_open(const struct datapath *datapath, int *ret_programs)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++) {
		char name[32];

		snprintf(name, sizeof(name), "on_%s", attached_hooks[hook]);
		ret_programs[hook] = datapath_program(datapath, name, NULL);
	}
}

void upgrade_programs_close(int *programs)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
		if (programs[hook] >= 0)
			close(programs[hook]);
}

/* Systemd's (BPFProgram=): by now there is a link of ours besides. */
void upgrade_others_detach(const struct datapath *datapath, const int *programs)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	struct failure ignored;
	int count = datapath_cgroups(datapath, cgroups, &ignored);

	for (int i = 0; i < count; i++) {
		__u64 id;
		__u8 level;
		int fd = host_cgroup_open(cgroups[i].path, &id, &level, &ignored);

		for (int hook = 0; fd >= 0 && hook < ATTACHED_CGROUP_HOOKS; hook++)
			if (programs[hook] >= 0)
				bpf_prog_detach2(programs[hook], fd, attached_types[hook]);
		if (fd >= 0)
			close(fd);
	}
}

int upgrade_version_store(const struct datapath *datapath, struct failure *failure)
{
	struct sipkeep_meta *meta = datapath_meta_map(datapath);

	if (!meta)
		return failure_set(failure, -errno, "the meta map can't be written: %s", strerror(errno));
	version_copy(meta->version);
	munmap(meta, sizeof(*meta));
	return 0;
}

static int programs_replace(struct replacing *r)
{
	int err;

	upgrade_programs_open(r->datapath, r->old);
	err = upgrade_programs_pin(r->datapath->dir, r->skel, r->failure);
	err = err ?: links_replace(r);
	/* What our version attaches and the old one didn't, and the other way round. */
	err = err ?: datapath_reconcile(r->datapath, NULL, NULL, r->failure);
	if (err >= 0) {
		upgrade_others_detach(r->datapath, r->old);
		programs_unpin(r);
		err = upgrade_version_store(r->datapath, r->failure);
	}
	upgrade_programs_close(r->old);
	return err;
}

/* Returns 1 when there was something to do. */
static int upgrade_in_place(const struct datapath *datapath, struct failure *failure)
{
	struct replacing r = { .datapath = datapath, .failure = failure };
	struct failure log;
	int err = skeleton_open(&r.skel, &log, failure);

	if (err)
		return err;
	skeleton_select(r.skel, datapath_ends());
	err = skeleton_reuse(r.skel, datapath, failure);
	err = err ?: skeleton_load(r.skel, &log, failure);
	err = err ?: attached_read(datapath, &r.links, failure);
	if (!err && runs_already(&r))
		err = datapath_reconcile(datapath, NULL, NULL, failure);
	else
		err = err ?: programs_replace(&r) ?: 1;
	attached_free(&r.links);
	sipkeep_bpf__destroy(r.skel);
	return err < 0 ? err : err > 0;
}

int datapath_upgrade(const char *instance, struct upgrade *ret_upgrade, struct failure *failure)
{
	struct datapath datapath CLEANUP_DATAPATH;
	struct upgrade upgrade = {};
	__u64 began = host_monotonic_ns();
	int err;

	datapath_init(&datapath);
	if (geteuid() != 0)
		return failure_set(failure, -EPERM, "loading BPF programs needs root; run it with sudo");
	err = datapath_open(instance, true, &datapath, failure);
	if (err == -EPROTO) {
		err = relayout(instance, upgrade.from, failure);
		upgrade.changed = upgrade.recounted = true;
		upgrade.took_ns = host_monotonic_ns() - began;
		*ret_upgrade = upgrade;
		return err;
	}
	if (err)
		return err;
	memcpy(upgrade.from, datapath.meta.version, sizeof(upgrade.from));
	upgrade.from[sizeof(upgrade.from) - 1] = '\0';
	err = upgrade_in_place(&datapath, failure);
	if (err < 0)
		return err;
	upgrade.changed = err;
	upgrade.took_ns = host_monotonic_ns() - began;
	*ret_upgrade = upgrade;
	return 0;
}
