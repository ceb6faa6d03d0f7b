// SPDX-License-Identifier: GPL-2.0-only
/* datapath_walk.c: the iterators over the sockets of each network namespace that guarded processes live in. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "datapath_internal.h"

int datapath_namespaces(const struct datapath *datapath, struct netns_set *ret_set, struct failure *failure)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	int fds[SIPKEEP_MAX_CGROUPS], err, count = datapath_cgroups(datapath, cgroups, failure);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		struct failure ignored; /* away */
		__u64 id;
		__u8 level;

		fds[i] = host_cgroup_open(cgroups[i].path, &id, &level, &ignored);
	}
	err = netns_scan(fds, (size_t)count, ret_set, failure);
	for (int i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return err;
}

struct walk {
	int link;
	int fd;
};

/* The kernel walks the namespace of the process that creates the iterator. */
static int iterator_create(void *arg)
{
	struct walk *walk = arg;

	walk->fd = bpf_iter_create(walk->link);
	return walk->fd < 0 ? walk->fd : 0;
}

static int iterator_open(const struct datapath *datapath, const char *name, const struct netns_set *set,
			 const struct netns *at, struct failure *failure)
{
	int program = datapath_program(datapath, name, failure), err;
	struct walk walk;

	if (program < 0)
		return program;
	walk.link = bpf_link_create(program, 0, BPF_TRACE_ITER, NULL);
	err = walk.link < 0 ? walk.link : 0;
	close(program);
	if (err)
		return failure_set(failure, err, "the iterator over sockets can't be started: %s", strerror(-err));
	failure->text[0] = '\0';
	err = netns_call(set, at, iterator_create, &walk, failure);
	close(walk.link);
	if (err && !failure->text[0])
		failure_set(failure, err, "the iterator over sockets can't be started: %s", strerror(-err));
	return err ? err : walk.fd;
}

int datapath_walk(const struct datapath *datapath, const char *name, const struct netns_set *set, const struct netns *at,
		  struct failure *failure)
{
	char nothing[4096];
	ssize_t got;
	int fd = iterator_open(datapath, name, set, at, failure);

	if (fd < 0)
		return fd;
	do {
		got = read(fd, nothing, sizeof(nothing));
	} while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
	close(fd);
	return got < 0 ? failure_set(failure, -errno, "open transports can't be adopted: %s", strerror(errno)) : 0;
}

int datapath_walk_all(const struct datapath *datapath, const char *name, const struct netns_set *set,
		      struct failure *failure)
{
	int err = 0;

	for (size_t i = 0; !err && i < set->count; i++)
		err = datapath_walk(datapath, name, set, &set->list[i], failure);
	return err;
}

int datapath_adopt_in(const struct datapath *datapath, const struct netns_set *set, struct failure *failure)
{
	int err = datapath_walk_all(datapath, "on_adopt", set, failure);

	return err ?: datapath_walk_all(datapath, "on_adopt_udp", set, failure);
}

int datapath_adopt(const struct datapath *datapath, struct failure *failure)
{
	struct netns_set set CLEANUP_NETNS_SET = {};
	int err = datapath_namespaces(datapath, &set, failure);

	return err ?: datapath_adopt_in(datapath, &set, failure);
}

int datapath_list_in(const struct datapath *datapath, const struct netns_set *set, const struct netns *at,
		     int (*each)(void *arg, const struct sipkeep_listing *listing), void *arg, struct failure *failure)
{
	char buffer[64 * sizeof(struct sipkeep_listing)];
	size_t have = 0;
	ssize_t got;
	int fd = iterator_open(datapath, "on_list", set, at, failure), err = 0;

	if (fd < 0)
		return fd;
	while (!err) {
		size_t used = 0;

		got = read(fd, buffer + have, sizeof(buffer) - have);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			break;
		have += (size_t)got;
		while (!err && have - used >= sizeof(struct sipkeep_listing)) {
			struct sipkeep_listing listing;

			memcpy(&listing, buffer + used, sizeof(listing));
			used += sizeof(listing);
			err = each(arg, &listing);
		}
		memmove(buffer, buffer + used, have - used);
		have -= used;
	}
	if (!err && got < 0)
		err = failure_set(failure, -errno, "open transports can't be listed: %s", strerror(errno));
	close(fd);
	return err;
}

int datapath_list(const struct datapath *datapath, int (*each)(void *arg, const struct sipkeep_listing *listing),
		  void *arg, struct failure *failure)
{
	struct netns_set set CLEANUP_NETNS_SET = {};
	int err = datapath_namespaces(datapath, &set, failure);

	for (size_t i = 0; !err && i < set.count; i++)
		err = datapath_list_in(datapath, &set, &set.list[i], each, arg, failure);
	return err;
}

/* The kernel waits for them when an element of a map of maps is replaced. */
int datapath_programs_wait(struct failure *failure)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int inner, outer = -1, err = 0;
	__u32 zero = 0;

	inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "wait_inner", sizeof(zero), sizeof(zero), 1, NULL);
	if (inner >= 0) {
		opts.inner_map_fd = (__u32)inner;
		outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "wait", sizeof(zero), sizeof(zero), 1, &opts);
	}
	if (inner < 0 || outer < 0 || bpf_map_update_elem(outer, &zero, &inner, BPF_ANY))
		err = failure_set(failure, -errno, "no map of maps to wait for the running programs with: %s",
				  strerror(errno));
	if (outer >= 0)
		close(outer);
	if (inner >= 0)
		close(inner);
	return err;
}
