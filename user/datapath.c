// SPDX-License-Identifier: GPL-2.0-only
/* datapath.c: loading and unloading. datapath_open.c holds what works on a loaded instance. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "attach.h"
#include "datapath_internal.h"
#include "host.h"
#include "maps.h"
#include "sipkeep.skel.h"

/* Bytes of libbpf's words that a failure shows. */
#define LOG_SHOWN 3000

bool datapath_instance_ok(const char *instance)
{
	size_t length = strlen(instance);

	if (length == 0 || length > 64 || instance[0] == '.')
		return false;
	for (const char *c = instance; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return false;
	return true;
}

/* libbpf's warnings of the load under way: shown when it fails, not before. Of a long one, the verifier's log, the end. */
static __thread struct failure *libbpf_log;

static int libbpf_print(enum libbpf_print_level level, const char *format, va_list args)
{
	size_t used, length, room = sizeof(libbpf_log->text) - 1;
	char *text;

	if (level != LIBBPF_WARN || !libbpf_log || vasprintf(&text, format, args) < 0)
		return 0;
	length = strlen(text);
	used = strlen(libbpf_log->text);
	if (length > room) {
		memcpy(libbpf_log->text, text + length - room, room + 1);
	} else {
		size_t dropped = used + length > room ? used + length - room : 0;

		memmove(libbpf_log->text, libbpf_log->text + dropped, used - dropped);
		memcpy(libbpf_log->text + used - dropped, text, length + 1);
	}
	free(text);
	return 0;
}

static void missing_add(void *arg, const char *name, bool present, bool essential, const char *without)
{
	char *text = arg;
	size_t used = strlen(text);

	(void)without;
	if (!present && essential)
		snprintf(text + used, 512 - used, "%s%s", used ? ", " : "", name);
}

/* The skeleton could not be loaded: the kernel lacks something (named), or refuses (its own words). */
static int load_failed(struct failure *failure, int err, const struct failure *log)
{
	char missing[512] = "";

	if (geteuid() != 0)
		return failure_set(failure, err, "loading BPF programs needs root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON); "
				   "run it with sudo");
	if (datapath_probe(missing_add, missing) > 0)
		return failure_set(failure, err, "this kernel lacks what sipkeep can't do without: %s; "
				   "Linux 6.1 or later is needed ('sipkeep probe' lists all)", missing);
	return failure_set(failure, err, "the kernel refused the BPF programs: %s; its own words end with:\n%s",
			   strerror(-err), log->text + (strlen(log->text) > LOG_SHOWN ? strlen(log->text) - LOG_SHOWN : 0));
}

struct loading {
	const char *dir;
	struct sipkeep_bpf *skel;
	struct failure *failure;
};

static struct bpf_map *skel_map(struct sipkeep_bpf *skel, enum datapath_map map)
{
	return bpf_object__find_map_by_name(skel->obj, datapath_map_names[map]);
}

static int pin_objects(struct loading *loading, struct datapath *datapath)
{
	struct bpf_program *program;
	char path[PATH_MAX];
	int err;

	bpf_object__for_each_program(program, loading->skel->obj) {
		if (!bpf_program__autoload(program))
			continue;
		snprintf(path, sizeof(path), "%s/prog_%s", loading->dir, bpf_program__name(program));
		err = bpf_program__pin(program, path);
		if (err)
			return failure_set(loading->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	}
	for (int i = 0; i < DATAPATH_META; i++) {
		snprintf(path, sizeof(path), "%s/%s", loading->dir, datapath_map_names[i]);
		err = bpf_map__pin(skel_map(loading->skel, i), path);
		if (err)
			return failure_set(loading->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	}
	for (int i = 0; i < DATAPATH_MAP_MAX; i++)
		datapath->maps[i] = bpf_map__fd(skel_map(loading->skel, i));
	return 0;
}

/* Opened, but not loaded; the log gets what libbpf says of it until skeleton_load() ends. */
static int skeleton_open(struct sipkeep_bpf **ret_skel, struct failure *log, struct failure *failure)
{
	log->text[0] = '\0';
	libbpf_set_print(libbpf_print);
	libbpf_log = log;
	*ret_skel = sipkeep_bpf__open();
	if (*ret_skel)
		return 0;
	libbpf_log = NULL;
	return failure_set(failure, -errno, "the built-in BPF object can't be opened: %s", strerror(errno));
}

static int skeleton_load(struct sipkeep_bpf *skel, const struct failure *log, struct failure *failure)
{
	int err;

	skel->rodata->ring_wake_bytes = bpf_map__max_entries(skel->maps.events) / 4;
	err = sipkeep_bpf__load(skel);
	libbpf_log = NULL;
	return err ? load_failed(failure, err, log) : 0;
}

/* All programs but on_sk_lookup, of which each network namespace gets a copy, and those that aren't needed here. */
static int loading_skeleton(struct loading *loading, const struct policy_set *set, enum datapath_ends ends)
{
	struct failure log;
	int err = skeleton_open(&loading->skel, &log, loading->failure);

	if (err)
		return err;
	bpf_program__set_autoload(loading->skel->progs.on_sk_lookup, false);
	bpf_program__set_autoload(loading->skel->progs.on_set_state, ends == DATAPATH_ENDS_WATCHED);
	bpf_program__set_autoload(loading->skel->progs.on_set_state_2, ends == DATAPATH_ENDS_WATCHED);
	loading->skel->rodata->watching = ends == DATAPATH_ENDS_WATCHED;
	bpf_map__set_max_entries(loading->skel->maps.sources, set->max_sources);
	bpf_map__set_max_entries(loading->skel->maps.source_queue, set->max_sources);
	bpf_map__set_max_entries(loading->skel->maps.pendings, libbpf_num_possible_cpus());
	return skeleton_load(loading->skel, &log, loading->failure);
}

int datapath_sk_lookup_load(const struct datapath *datapath, __u64 netns_cookie, struct failure *failure)
{
	struct bpf_program *program;
	struct sipkeep_bpf *skel;
	struct failure log;
	int fd, err = skeleton_open(&skel, &log, failure);

	if (err)
		return err;
	bpf_object__for_each_program(program, skel->obj)
		bpf_program__set_autoload(program, program == skel->progs.on_sk_lookup);
	for (int i = 0; !err && i < DATAPATH_MAP_MAX; i++)
		err = bpf_map__reuse_fd(skel_map(skel, i), datapath->maps[i]);
	if (err)
		failure_set(failure, err, "the instance's maps can't be used: %s", strerror(-err));
	skel->rodata->netns_cookie = netns_cookie;
	err = err ?: skeleton_load(skel, &log, failure);
	libbpf_log = NULL;
	fd = err ? err : dup(bpf_program__fd(skel->progs.on_sk_lookup));
	if (!err && fd < 0)
		fd = failure_set(failure, -errno, "no more files can be opened: %s", strerror(errno));
	sipkeep_bpf__destroy(skel);
	return fd;
}

static int load_locked(struct loading *loading, const struct policy_set *set, struct datapath *datapath)
{
	struct sipkeep_config config = { .jiffy_ns = host_jiffy_ns() };
	enum datapath_ends ends = datapath_ends();
	struct sipkeep_meta meta = { .abi = SIPKEEP_ABI };
	char path[PATH_MAX];
	__u32 zero = 0;
	__u64 live;
	int err;

	err = loading_skeleton(loading, set, ends);
	err = err ?: pin_objects(loading, datapath);
	if (err)
		return err;
	meta.missing = ends == DATAPATH_ENDS_UNSEEN ? SIPKEEP_MISSING_ENDS : 0;
	meta.loaded_at_ns = host_monotonic_ns() + host_realtime_offset_ns();
	if (bpf_map_update_elem(datapath->maps[DATAPATH_META], &zero, &meta, 0) ||
	    bpf_map_update_elem(datapath->maps[DATAPATH_CONFIG], &zero, &config, 0))
		return failure_set(loading->failure, -errno, "the config map can't be written: %s", strerror(errno));
	err = datapath_cgroups_set(datapath, set->cgroups, set->cgroup_count, false, loading->failure);
	err = err ?: maps_write_set(datapath, set, &live, loading->failure);
	err = err ?: datapath_live_store(datapath, live, loading->failure);
	err = err ?: datapath_reconcile(datapath, NULL, NULL, loading->failure);
	if (err < 0)
		return err;
	snprintf(path, sizeof(path), "%s/%s", loading->dir, datapath_map_names[DATAPATH_META]);
	err = bpf_map__pin(loading->skel->maps.meta, path);
	if (err)
		return failure_set(loading->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	return 0;
}

static int directory_make(const char *path, struct failure *failure)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST)
		return failure_set(failure, -errno, "%s can't be made: %s%s", path, strerror(errno),
				   errno == EACCES || errno == EPERM ? "; sipkeep needs root, run it with sudo" : "");
	if (stat(path, &st) || st.st_uid != geteuid() || (st.st_mode & 077))
		return failure_set(failure, -EPERM, "%s must belong to root with mode 0700, or others could change the "
				   "limits; remove it or mend its owner and mode", path);
	return 0;
}

int datapath_load(const char *instance, const struct policy_set *set, struct failure *failure)
{
	struct loading loading = { .failure = failure };
	struct datapath datapath;
	char path[PATH_MAX];
	int err;

	datapath_init(&datapath);
	if (geteuid() != 0)
		return failure_set(failure, -EPERM, "loading BPF programs needs root; run it with sudo");
	err = host_bpffs(failure);
	err = err ?: directory_make(DATAPATH_ROOT, failure);
	if (err)
		return err;
	snprintf(datapath.dir, sizeof(datapath.dir), "%s/%s", DATAPATH_ROOT, instance);
	err = directory_make(datapath.dir, failure);
	err = err ?: datapath_lock(&datapath, failure);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/%s", datapath.dir, datapath_map_names[DATAPATH_META]);
	if (!access(path, F_OK)) {
		close(datapath.lock_fd);
		return failure_set(failure, -EEXIST, "instance '%s' is already loaded; 'sipkeep apply' changes its policies, "
				   "'sipkeep unload' removes it", instance);
	}
	loading.dir = datapath.dir;
	err = datapath_remove_pins(datapath.dir, failure); /* an interrupted load's */
	err = err ?: load_locked(&loading, set, &datapath);
	if (err) {
		struct failure ignored;

		datapath_remove_pins(datapath.dir, &ignored);
		rmdir(datapath.dir);
		rmdir(DATAPATH_ROOT);
	}
	sipkeep_bpf__destroy(loading.skel);
	close(datapath.lock_fd);
	return err;
}
