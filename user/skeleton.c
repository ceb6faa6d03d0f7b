// SPDX-License-Identifier: GPL-2.0-only
/* skeleton.c: the built-in BPF object, brought into the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "datapath_internal.h"
#include "skeleton.h"

/* Bytes of libbpf's words that a failure shows. */
#define LOG_SHOWN 3000

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

struct bpf_map *skeleton_map(struct sipkeep_bpf *skel, enum datapath_map map)
{
	return bpf_object__find_map_by_name(skel->obj, datapath_map_names[map]);
}

int skeleton_open(struct sipkeep_bpf **ret_skel, struct failure *log, struct failure *failure)
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

int skeleton_load(struct sipkeep_bpf *skel, const struct failure *log, struct failure *failure)
{
	int err;

	skel->rodata->ring_wake_bytes = bpf_map__max_entries(skel->maps.events) / 4;
	err = sipkeep_bpf__load(skel);
	libbpf_log = NULL;
	return err ? load_failed(failure, err, log) : 0;
}

void skeleton_select(struct sipkeep_bpf *skel, enum datapath_ends ends)
{
	bpf_program__set_autoload(skel->progs.on_set_state, ends == DATAPATH_ENDS_WATCHED);
	bpf_program__set_autoload(skel->progs.on_set_state_2, ends == DATAPATH_ENDS_WATCHED);
	skel->rodata->watching = ends == DATAPATH_ENDS_WATCHED;
}

int skeleton_reuse(struct sipkeep_bpf *skel, const struct datapath *datapath, struct failure *failure)
{
	int err = 0;

	for (int i = 0; !err && i < DATAPATH_MAP_MAX; i++)
		err = bpf_map__reuse_fd(skeleton_map(skel, i), datapath->maps[i]);
	return err ? failure_set(failure, err, "the instance's maps can't be used: %s", strerror(-err)) : 0;
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
	err = skeleton_reuse(skel, datapath, failure);
	skel->rodata->netns_cookie = netns_cookie;
	skel->rodata->quiet = datapath->quiet;
	err = err ?: skeleton_load(skel, &log, failure);
	fd = err ? err : dup(bpf_program__fd(skel->progs.on_sk_lookup));
	if (!err && fd < 0)
		fd = failure_set(failure, -errno, "no more files can be opened: %s", strerror(errno));
	sipkeep_bpf__destroy(skel);
	return fd;
}
