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

/* Writes the programs' names that sit at this hook of the cgroup or its ancestors. */
static void programs_in_the_way(int cgroup_fd, enum bpf_attach_type type, char *text, size_t size)
{
	__u32 ids[64], count = 64, flags = 0;

	text[0] = '\0';
	if (bpf_prog_query(cgroup_fd, type, BPF_F_QUERY_EFFECTIVE, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count && i < 64; i++) {
		struct bpf_prog_info info = {};
		__u32 length = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(ids[i]);
		size_t used = strlen(text);

		if (fd < 0)
			continue;
		if (!bpf_obj_get_info_by_fd(fd, &info, &length))
			snprintf(text + used, size - used, "%s%s (id %u)", used ? ", " : "", info.name, ids[i]);
		close(fd);
	}
}

struct loading {
	const char *dir;
	struct sipkeep_bpf *skel;
	struct bpf_link *links[SIPKEEP_MAX_CGROUPS * 8];
	size_t link_count;
	int cgroups[SIPKEEP_MAX_CGROUPS];
	size_t cgroup_count;
	struct sipkeep_meta meta;
	struct failure *failure;
};

static int link_keep(struct loading *loading, struct bpf_link *link, const char *name)
{
	char path[PATH_MAX];
	int err;

	snprintf(path, sizeof(path), "%s/link_%s", loading->dir, name);
	loading->links[loading->link_count++] = link;
	err = bpf_link__pin(link, path);
	if (err)
		return failure_set(loading->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	return 0;
}

static int attach_cgroup(struct loading *loading, struct bpf_program *program, size_t index, const char *path)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	struct bpf_link *link = bpf_program__attach_cgroup(program, loading->cgroups[index]);
	char others[1024], name[64];
	int err = -errno;

	if (link) {
		snprintf(name, sizeof(name), "%s_%zu", bpf_program__name(program), index);
		return link_keep(loading, link, name);
	}
	programs_in_the_way(loading->cgroups[index], type, others, sizeof(others));
	if (err == -EPERM && others[0])
		return failure_set(loading->failure, err,
				   "%s can't be attached to cgroup %s: another program sits there, or above it, without "
				   "BPF_F_ALLOW_MULTI: %s; detach it (bpftool cgroup tree) or narrow 'cgroups'",
				   bpf_program__name(program), path, others);
	return failure_set(loading->failure, err, "%s can't be attached to cgroup %s: %s", bpf_program__name(program), path,
			   strerror(-err));
}

static int attach_each(struct loading *loading, const struct policy_set *set, struct bpf_program *program)
{
	for (size_t i = 0; i < loading->cgroup_count; i++) {
		int err = attach_cgroup(loading, program, i, set->cgroups[i]);

		if (err)
			return err;
	}
	return 0;
}

static int attach_sk_lookup(struct loading *loading)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), err;
	struct bpf_link *link;

	if (fd < 0)
		return failure_set(loading->failure, -errno, "/proc/self/ns/net: %s", strerror(errno));
	link = bpf_program__attach_netns(loading->skel->progs.on_sk_lookup, fd);
	err = -errno;
	close(fd);
	if (!link)
		return failure_set(loading->failure, err, "sk_lookup can't be attached to this network namespace: %s",
				   strerror(-err));
	return link_keep(loading, link, "on_sk_lookup");
}

/*
 * First those that watch a transport's end, so that nothing counted is missed; then what is open is adopted; only then
 * the gates, which decide by the counts; at last what came in between is adopted.
 */
static int attach_all(struct loading *loading, const struct policy_set *set, struct datapath *datapath)
{
	struct sipkeep_bpf *skel = loading->skel;
	int err;

	err = attach_each(loading, set, skel->progs.on_sockops);
	err = err ?: attach_each(loading, set, skel->progs.on_sock_release);
	err = err ?: attach_each(loading, set, skel->progs.on_setsockopt);
	err = err ?: datapath_adopt(datapath, loading->failure);
	err = err ?: attach_each(loading, set, skel->progs.on_ingress);
	err = err ?: attach_each(loading, set, skel->progs.on_connect4);
	err = err ?: attach_each(loading, set, skel->progs.on_connect6);
	err = err ?: attach_sk_lookup(loading);
	return err ?: datapath_adopt(datapath, loading->failure);
}

static struct bpf_map *skel_map(struct sipkeep_bpf *skel, enum datapath_map map)
{
	return bpf_object__find_map_by_name(skel->obj, datapath_map_names[map]);
}

static int pin_objects(struct loading *loading, struct datapath *datapath)
{
	struct bpf_program *programs[] = { loading->skel->progs.on_adopt, loading->skel->progs.on_list,
					   loading->skel->progs.on_sweep, loading->skel->progs.on_flush };
	char path[PATH_MAX];
	int err;

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		snprintf(path, sizeof(path), "%s/prog_%s", loading->dir, bpf_program__name(programs[i]));
		err = bpf_program__pin(programs[i], path);
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

static int open_cgroups(struct loading *loading, const struct policy_set *set)
{
	for (size_t i = 0; i < set->cgroup_count; i++) {
		int fd = host_cgroup_open(set->cgroups[i], &loading->meta.cgroup_ids[i], &loading->meta.cgroup_levels[i],
					  loading->failure);

		if (fd < 0)
			return fd;
		loading->cgroups[loading->cgroup_count++] = fd;
	}
	loading->meta.cgroup_count = loading->cgroup_count;
	return 0;
}

static int skeleton_load(struct loading *loading, const struct policy_set *set)
{
	struct failure log = {};
	int err;

	libbpf_set_print(libbpf_print);
	libbpf_log = &log;
	loading->skel = sipkeep_bpf__open();
	if (!loading->skel) {
		err = -errno;
		libbpf_log = NULL;
		return failure_set(loading->failure, err, "the built-in BPF object can't be opened: %s", strerror(-err));
	}
	bpf_map__set_max_entries(loading->skel->maps.sources, set->max_sources);
	bpf_map__set_max_entries(loading->skel->maps.pendings, libbpf_num_possible_cpus());
	loading->skel->rodata->ring_wake_bytes = bpf_map__max_entries(loading->skel->maps.events) / 4;
	err = sipkeep_bpf__load(loading->skel);
	libbpf_log = NULL;
	return err ? load_failed(loading->failure, err, &log) : 0;
}

static int load_locked(struct loading *loading, const struct policy_set *set, struct datapath *datapath)
{
	struct sipkeep_config config = { .jiffy_ns = host_jiffy_ns() };
	char path[PATH_MAX];
	__u32 zero = 0;
	int err;

	err = open_cgroups(loading, set);
	/* First: when the kernel is too old, it tells all that is missing. */
	err = err ?: skeleton_load(loading, set);
	err = err ?: host_netns_cookie(&config.netns_cookie, loading->failure);
	err = err ?: pin_objects(loading, datapath);
	if (err)
		return err;
	loading->meta.abi = SIPKEEP_ABI;
	loading->meta.loaded_at_ns = host_monotonic_ns() + host_realtime_offset_ns();
	datapath->meta = loading->meta;
	if (bpf_map_update_elem(datapath->maps[DATAPATH_META], &zero, &loading->meta, 0) ||
	    bpf_map_update_elem(datapath->maps[DATAPATH_CONFIG], &zero, &config, 0))
		return failure_set(loading->failure, -errno, "the config map can't be written: %s", strerror(errno));
	err = maps_write_set(datapath, set, loading->failure);
	err = err ?: attach_all(loading, set, datapath);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/%s", loading->dir, datapath_map_names[DATAPATH_META]);
	err = bpf_map__pin(loading->skel->maps.meta, path);
	if (err)
		return failure_set(loading->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	return 0;
}

static void loading_end(struct loading *loading)
{
	for (size_t i = 0; i < loading->link_count; i++)
		bpf_link__destroy(loading->links[i]);
	for (size_t i = 0; i < loading->cgroup_count; i++)
		close(loading->cgroups[i]);
	sipkeep_bpf__destroy(loading->skel);
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
	loading_end(&loading);
	close(datapath.lock_fd);
	return err;
}
