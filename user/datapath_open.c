// SPDX-License-Identifier: GPL-2.0-only
/* datapath_open.c: a loaded instance: opening, locking and removing its pins, running its programs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include <linux/magic.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "attach.h"
#include "datapath_internal.h"
#include "recount.h"
#include "upgrade_internal.h"

const char *const datapath_map_names[] = {
	[DATAPATH_CONFIG] = "config",
	[DATAPATH_POLICIES] = "policies",
	[DATAPATH_POLICY_NAMES] = "policy_names",
	[DATAPATH_RULES] = "rules",
	[DATAPATH_EXEMPTS] = "exempts",
	[DATAPATH_GUARDED_PORTS] = "guarded_ports",
	[DATAPATH_SOURCES] = "sources",
	[DATAPATH_SOURCE_QUEUE] = "source_queue",
	[DATAPATH_POLICY_COUNTS] = "policy_counts",
	[DATAPATH_POLICY_STATS] = "policy_stats",
	[DATAPATH_STATS] = "stats",
	[DATAPATH_SHARED] = "shared",
	[DATAPATH_TRANSPORTS] = "transports",
	[DATAPATH_PENDINGS] = "pendings",
	[DATAPATH_CONDEMNED] = "condemned",
	[DATAPATH_CONTACTS] = "contacts",
	[DATAPATH_REDIALS] = "redials",
	[DATAPATH_LISTENERS] = "listeners",
	[DATAPATH_CGROUP_PATHS] = "cgroup_paths",
	[DATAPATH_FINDINGS] = "findings",
	[DATAPATH_EVENTS] = "events",
	[DATAPATH_ABORTS] = "aborts",
	[DATAPATH_META] = "meta",
};
_Static_assert(sizeof(datapath_map_names) / sizeof(datapath_map_names[0]) == DATAPATH_MAP_MAX, "a name for each map");

#define LOCK_TRIES 40
#define DESCRIPTORS 64 /* what a verb may open at once, rounded up */
#define LOCK_PAUSE_NS (50 * 1000 * 1000)

/* Who holds a flock() on this inode: its pid from /proc/locks, 0 when it can't be told. */
static int lock_holder(int fd)
{
	FILE *locks = fopen("/proc/locks", "re");
	char line[256], device[64];
	struct stat st;
	int holder = 0;

	if (!locks)
		return 0;
	if (fstat(fd, &st)) {
		fclose(locks);
		return 0;
	}
	snprintf(device, sizeof(device), "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev), (unsigned long)st.st_ino);
	while (!holder && fgets(line, sizeof(line), locks)) {
		char kind[16], where[64];
		int pid;

		if (sscanf(line, "%*s %15s %*s %*s %d %63s", kind, &pid, where) == 3 && !strcmp(kind, "FLOCK") &&
		    !strcmp(where, device))
			holder = pid;
	}
	fclose(locks);
	return holder;
}

static int flock_try(const char *path, const char *doing, int tries, int *ret_fd, struct failure *failure)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	char by[64] = "another process";
	int fd, holder;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failure_set(failure, -errno, "%s: %s", path, strerror(errno));
	for (int i = 0; i < tries; i++) {
		if (i)
			nanosleep(&pause, NULL);
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			*ret_fd = fd;
			return 0;
		}
	}
	holder = lock_holder(fd);
	close(fd);
	if (holder)
		snprintf(by, sizeof(by), "process %d", holder);
	return failure_set(failure, -EBUSY, "%s: %s by %s; one at a time, wait for it to end", path, doing, by);
}

int datapath_flock(const char *path, const char *doing, int *ret_fd, struct failure *failure)
{
	return flock_try(path, doing, LOCK_TRIES, ret_fd, failure);
}

static int lock_try(struct datapath *datapath, int tries, struct failure *failure)
{
	struct stat held, there;
	int fd, err = flock_try(datapath->dir, "it is being changed", tries, &fd, failure);

	if (err)
		return err;
	/* An unload may have removed the directory while we waited for it. */
	if (fstat(fd, &held) || stat(datapath->dir, &there) || held.st_ino != there.st_ino) {
		close(fd);
		return failure_set(failure, -EAGAIN, "%s was removed meanwhile; run it again", datapath->dir);
	}
	datapath->lock_fd = fd;
	return 0;
}

int datapath_lock(struct datapath *datapath, struct failure *failure)
{
	return lock_try(datapath, LOCK_TRIES, failure);
}

int datapath_trylock(struct datapath *datapath, struct failure *failure)
{
	int err = lock_try(datapath, 1, failure);

	if (!err && datapath_is_gone(datapath)) {
		datapath_unlock(datapath);
		return failure_set(failure, -EAGAIN, "%s was unloaded meanwhile", datapath->dir);
	}
	return err;
}

void datapath_unlock(struct datapath *datapath)
{
	close(datapath->lock_fd);
	datapath->lock_fd = -1;
}

/* At once: the kernel detaches a link whose last pin is gone only some time later. */
static void link_detach(const char *dir, const char *name)
{
	char path[PATH_MAX + 300];
	int fd;

	if (strncmp(name, "link_", 5))
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return; /* not a link: unlinking it is all there is to do */
	bpf_link_detach(fd);
	close(fd);
}

static int pins_unlink(const char *dir, const char *prefix, struct failure *failure)
{
	DIR *listing = opendir(dir);
	struct dirent *entry;
	int err = 0;

	if (!listing)
		return failure_set(failure, -errno, "%s: %s", dir, strerror(errno));
	while ((entry = readdir(listing))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		link_detach(dir, entry->d_name);
		/* `reader` is a directory: the readers' lock */
		if (unlinkat(dirfd(listing), entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) &&
		    errno != ENOENT)
			err = failure_set(failure, -errno, "%s/%s can't be removed: %s", dir, entry->d_name,
					  strerror(errno));
	}
	closedir(listing);
	return err;
}

int datapath_remove_pins(const char *dir, struct failure *failure)
{
	/* The gates first: a connection that none of them sees any more is still counted by sockops until it goes. */
	static const char *const order[] = { "link_on_sk_lookup", "link_on_ingress", "link_on_connect", "link_", "" };

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		int err = pins_unlink(dir, order[i], failure);

		if (err)
			return err;
	}
	return 0;
}

/* What the others' shape must be for their elements to fit where they are read to; meta's says its version. */
static const struct {
	__u32 key, value;
} map_shapes[] = {
	[DATAPATH_CONFIG] = { sizeof(__u32), sizeof(struct sipkeep_config) },
	[DATAPATH_POLICIES] = { sizeof(__u32), sizeof(struct sipkeep_policy) },
	[DATAPATH_POLICY_NAMES] = { sizeof(__u32), SIPKEEP_NAME_LEN },
	[DATAPATH_RULES] = { sizeof(struct sipkeep_rule_key), sizeof(__u32) },
	[DATAPATH_EXEMPTS] = { sizeof(struct sipkeep_exempt_key), sizeof(__u32) },
	[DATAPATH_GUARDED_PORTS] = { sizeof(__u32), sizeof(__u8) },
	[DATAPATH_SOURCES] = { sizeof(struct sipkeep_source_key), sizeof(struct sipkeep_source) },
	[DATAPATH_SOURCE_QUEUE] = { 0, sizeof(struct sipkeep_source_key) },
	[DATAPATH_POLICY_COUNTS] = { sizeof(__u32), sizeof(struct sipkeep_policy_count) },
	[DATAPATH_POLICY_STATS] = { sizeof(__u32), sizeof(struct sipkeep_policy_stats) },
	[DATAPATH_STATS] = { sizeof(__u32), sizeof(struct sipkeep_stats) },
	[DATAPATH_SHARED] = { sizeof(__u32), sizeof(struct sipkeep_shared) },
	[DATAPATH_TRANSPORTS] = { sizeof(int), sizeof(struct sipkeep_transport) },
	[DATAPATH_PENDINGS] = { sizeof(__u32), sizeof(struct sipkeep_pending) },
	[DATAPATH_CONDEMNED] = { sizeof(struct sipkeep_tuple), sizeof(__u64) },
	[DATAPATH_CONTACTS] = { sizeof(struct sipkeep_contact_key), sizeof(__u64) },
	[DATAPATH_REDIALS] = { sizeof(int), sizeof(__u32) },
	[DATAPATH_LISTENERS] = { sizeof(struct sipkeep_listener_key), sizeof(__u32) },
	[DATAPATH_CGROUP_PATHS] = { sizeof(__u32), SIPKEEP_CGROUP_PATH },
	[DATAPATH_FINDINGS] = { sizeof(__u32), sizeof(struct sipkeep_finding) },
	[DATAPATH_EVENTS] = { 0, 0 },
	[DATAPATH_ABORTS] = { 0, 0 },
	[DATAPATH_META] = { sizeof(__u32), 0 },
};
_Static_assert(sizeof(map_shapes) / sizeof(map_shapes[0]) == DATAPATH_MAP_MAX, "a shape for each map");

static bool map_fits(const struct bpf_map_info *info, enum datapath_map map)
{
	return info->key_size == map_shapes[map].key &&
	       (map == DATAPATH_META || info->value_size == map_shapes[map].value);
}

static int other_layout(const char *path, struct failure *failure)
{
	return failure_set(failure, -EPROTO, "%s was made by another version of sipkeep, with another layout of its maps; "
			   "'sipkeep upgrade' brings the instance to this version's, 'sipkeep unload' removes it", path);
}

static int map_open(struct datapath *datapath, enum datapath_map map, struct failure *failure)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char path[PATH_MAX + 64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", datapath->dir, datapath_map_names[map]);
	fd = bpf_obj_get(path);
	if (fd == -EMFILE || fd == -ENFILE)
		return failure_set(failure, fd, "%s can't be opened: %s; sipkeep needs %d descriptors, raise the limit "
				   "(ulimit -n, LimitNOFILE=)", path, strerror(-fd), DESCRIPTORS);
	if (fd < 0) /* never -ENOENT: it is loaded */
		return failure_set(failure, -EUCLEAN, "%s can't be opened: %s; the instance is damaged, 'sipkeep unload' "
				   "removes it", path, strerror(-fd));
	/* A program or another's map under our name? */
	if (bpf_obj_get_info_by_fd(fd, &info, &length) || strncmp(info.name, datapath_map_names[map], 15) ||
	    (!map_fits(&info, map) && !info.btf_id)) {
		close(fd);
		return failure_set(failure, -EINVAL, "%s is not a map of sipkeep's; the instance is damaged, "
				   "'sipkeep unload' removes it", path);
	}
	datapath->maps[map] = fd;
	return map_fits(&info, map) ? 0 : other_layout(path, failure);
}

static int meta_check(struct datapath *datapath, struct failure *failure)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), zero = 0;
	int fd = datapath->maps[DATAPATH_META];

	if (bpf_obj_get_info_by_fd(fd, &info, &length) || info.value_size < sizeof(__u32))
		return failure_set(failure, -EINVAL, "%s/meta can't be read", datapath->dir);
	if (info.value_size == sizeof(datapath->meta) && !bpf_map_lookup_elem(fd, &zero, &datapath->meta) &&
	    datapath->meta.abi == SIPKEEP_ABI)
		return 0;
	return other_layout(datapath->dir, failure);
}

/* 0 when there is no such pin. */
static ino_t meta_inode(const struct datapath *datapath)
{
	char path[PATH_MAX + 64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/meta", datapath->dir);
	return stat(path, &st) ? 0 : st.st_ino;
}

int datapath_open(const char *instance, bool lock, struct datapath *ret_datapath, struct failure *failure)
{
	struct datapath datapath;
	char path[PATH_MAX + 64];
	struct statfs fs;
	int err;

	datapath_init(&datapath);
	datapath_init(ret_datapath);
	snprintf(datapath.dir, sizeof(datapath.dir), "%s/%s", DATAPATH_ROOT, instance);
	if (statfs(HOST_BPFFS, &fs) || fs.f_type != BPF_FS_MAGIC)
		return failure_set(failure, -ENOENT, "instance '%s' is not loaded: no bpffs is mounted at %s; "
				   "'sipkeep load' mounts it and loads", instance, HOST_BPFFS);
	snprintf(path, sizeof(path), "%s/meta", datapath.dir);
	if (access(path, F_OK)) {
		if (errno == EACCES)
			return failure_set(failure, -EACCES, "%s can't be opened: %s; run it with sudo", datapath.dir,
					   strerror(errno));
		return failure_set(failure, -ENOENT, "instance '%s' is not loaded; 'sipkeep load' loads it", instance);
	}
	err = lock ? datapath_lock(&datapath, failure) : 0;
	datapath.meta_inode = meta_inode(&datapath);
	err = err ?: map_open(&datapath, DATAPATH_META, failure);
	err = err ?: meta_check(&datapath, failure);
	for (int i = 0; !err && i < DATAPATH_META; i++)
		err = map_open(&datapath, i, failure);
	if (!err && datapath_is_gone(&datapath))
		err = failure_set(failure, -EAGAIN, "%s was replaced meanwhile; run it again", datapath.dir);
	if (lock) {
		err = err ?: recount_repair(&datapath, failure);
		err = err ?: relayout_repair(&datapath, failure);
	}
	if (err)
		datapath_close(&datapath);
	else
		*ret_datapath = datapath;
	return err;
}

void datapath_close(struct datapath *datapath)
{
	for (int i = 0; i < DATAPATH_MAP_MAX; i++)
		if (datapath->maps[i] >= 0)
			close(datapath->maps[i]);
	if (datapath->lock_fd >= 0)
		close(datapath->lock_fd);
	datapath_init(datapath);
}

bool datapath_is_gone(const struct datapath *datapath)
{
	return meta_inode(datapath) != datapath->meta_inode;
}

static bool is_locked(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;

	if (fd >= 0)
		close(fd);
	return locked;
}

bool datapath_is_changing(const struct datapath *datapath)
{
	return is_locked(datapath->dir);
}

bool datapath_is_read(const struct datapath *datapath)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/reader", datapath->dir);
	return is_locked(path);
}

int datapath_unload(const char *instance, struct failure *failure)
{
	struct datapath datapath, opened;
	char path[PATH_MAX + 64];
	struct failure ignored;
	int err;

	datapath_init(&datapath);
	datapath_init(&opened);
	snprintf(datapath.dir, sizeof(datapath.dir), "%s/%s", DATAPATH_ROOT, instance);
	if (access(datapath.dir, F_OK))
		return errno == EACCES ?
			       failure_set(failure, -EACCES, "%s: %s; run it with sudo", datapath.dir, strerror(errno)) :
			       failure_set(failure, -ENOENT, "instance '%s' is not loaded", instance);
	err = datapath_lock(&datapath, failure);
	if (!err && !datapath_open(instance, false, &opened, &ignored))
		datapath_detach_others(&opened);
	datapath_close(&opened);
	snprintf(path, sizeof(path), "%s" RELAYOUT_SUFFIX, datapath.dir);
	if (!err && !access(path, F_OK)) { /* an interrupted upgrade's */
		err = datapath_remove_pins(path, failure);
		rmdir(path);
	}
	err = err ?: datapath_remove_pins(datapath.dir, failure);
	if (!err && rmdir(datapath.dir))
		err = failure_set(failure, -errno, "%s can't be removed: %s", datapath.dir, strerror(errno));
	if (!err)
		rmdir(DATAPATH_ROOT); /* stays while other instances are there */
	datapath_close(&datapath);
	return err;
}

int datapath_program(const struct datapath *datapath, const char *name, struct failure *failure)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	char path[PATH_MAX + 64];
	int fd;

	snprintf(path, sizeof(path), "%s/prog_%s", datapath->dir, name);
	fd = bpf_obj_get(path);
	if (fd < 0 && failure)
		return failure_set(failure, fd, "%s can't be opened: %s; the instance is damaged, 'sipkeep unload' removes "
				   "it", path, strerror(-fd));
	/* A map, or another's program under our name? */
	if (fd >= 0 && (bpf_obj_get_info_by_fd(fd, &info, &length) || strncmp(info.name, name, sizeof(info.name) - 1))) {
		close(fd);
		fd = -EINVAL;
		if (failure)
			failure_set(failure, fd, "%s is not a program of sipkeep's; the instance is damaged, 'sipkeep unload' "
				    "removes it", path);
	}
	return fd;
}

/* ret_value: what the program returned; may be NULL. */
static int program_run(const struct datapath *datapath, const char *name, void *argument, size_t size, __u32 *ret_value)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = argument, .ctx_size_in = size);
	int program = datapath_program(datapath, name, NULL), err;

	if (program < 0)
		return program;
	err = bpf_prog_test_run_opts(program, &opts);
	close(program);
	if (err)
		return -errno;
	if (ret_value)
		*ret_value = opts.retval;
	return 0;
}

int datapath_sweep(const struct datapath *datapath, __u64 idle_ns, __u64 *ret_removed)
{
	struct sipkeep_sweep sweep = { .idle_ns = idle_ns };
	__u32 removed;
	int err = program_run(datapath, "on_sweep", &sweep, sizeof(sweep), &removed);

	if (!err && ret_removed)
		*ret_removed = removed;
	return err;
}

int datapath_flush(const struct datapath *datapath, const struct sipkeep_source_key *key, __u32 cause)
{
	struct sipkeep_flush flush = { .key = *key, .cause = cause };

	return program_run(datapath, "on_flush", &flush, sizeof(flush), NULL);
}

int datapath_mode_tell(const struct datapath *datapath, bool observe, __u64 until_ns)
{
	struct sipkeep_mode mode = { .until_ns = until_ns, .observe = observe };

	return program_run(datapath, "on_mode", &mode, sizeof(mode), NULL);
}

static int config_store(const struct datapath *datapath, size_t offset, __u64 word, struct failure *failure)
{
	char *view = mmap(NULL, sizeof(struct sipkeep_config), PROT_READ | PROT_WRITE, MAP_SHARED,
			  datapath->maps[DATAPATH_CONFIG], 0);

	if (view == MAP_FAILED)
		return failure_set(failure, -errno, "the config map can't be written: %s", strerror(errno));
	__atomic_store_n((__u64 *)(view + offset), word, __ATOMIC_SEQ_CST);
	munmap(view, sizeof(struct sipkeep_config));
	return 0;
}

int datapath_live_store(const struct datapath *datapath, __u64 live, struct failure *failure)
{
	return config_store(datapath, offsetof(struct sipkeep_config, live), live, failure);
}

int datapath_frozen_store(const struct datapath *datapath, __u64 until_ns, struct failure *failure)
{
	return config_store(datapath, offsetof(struct sipkeep_config, frozen_until_ns), until_ns, failure);
}

struct sipkeep_meta *datapath_meta_map(const struct datapath *datapath)
{
	void *view = mmap(NULL, sizeof(struct sipkeep_meta), PROT_READ | PROT_WRITE, MAP_SHARED,
			  datapath->maps[DATAPATH_META], 0);

	return view == MAP_FAILED ? NULL : view;
}
