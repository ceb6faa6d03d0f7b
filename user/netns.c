// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "host.h"
#include "netns.h"

void netns_set_free(struct netns_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		close(set->list[i].fd);
	free(set->list);
	memset(set, 0, sizeof(*set));
}

const struct netns *netns_find(const struct netns_set *set, __u64 cookie)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->list[i].cookie == cookie)
			return &set->list[i];
	return NULL;
}

int netns_call(const struct netns_set *set, const struct netns *at, int (*call)(void *arg), void *arg,
	       struct failure *failure)
{
	int result;

	if (at == &set->list[0])
		return call(arg);
	if (setns(at->fd, CLONE_NEWNET))
		return failure_set(failure, -errno, "network namespace %lu can't be entered: %s; CAP_SYS_ADMIN is needed",
				   (unsigned long)at->inode, strerror(errno));
	result = call(arg);
	if (setns(set->list[0].fd, CLONE_NEWNET))
		abort(); /* never go on in another's namespace */
	return result;
}

/* Takes the descriptor. */
static int set_add(struct netns_set *set, int fd, ino_t inode)
{
	struct netns *list = realloc(set->list, (set->count + 1) * sizeof(*list));

	if (!list) {
		close(fd);
		return -ENOMEM;
	}
	set->list = list;
	set->list[set->count++] = (struct netns){ .inode = inode, .fd = fd };
	return 0;
}

static int cookie_read(void *arg)
{
	struct failure ignored;

	return host_netns_cookie(arg, &ignored);
}

/* A process that is gone by now is no error; one that may not be looked at is counted. */
static int process_add(struct netns_set *set, long pid, struct failure *failure)
{
	char path[64];
	struct stat st;
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%ld/ns/net", pid);
	if (!stat(path, &st)) {
		for (size_t i = 0; i < set->count; i++)
			if (set->list[i].inode == st.st_ino)
				return 0;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		err = errno;
		if (fd >= 0)
			close(fd);
		snprintf(path, sizeof(path), "/proc/%ld", pid);
		set->unseen += (err == EACCES || err == EPERM) && !access(path, F_OK);
		return 0;
	}
	err = set_add(set, fd, st.st_ino);
	if (err)
		return failure_set(failure, err, "out of memory");
	err = netns_call(set, &set->list[set->count - 1], cookie_read, &set->list[set->count - 1].cookie, failure);
	if (err) {
		close(set->list[--set->count].fd);
		set->unseen++;
	}
	return 0;
}

static int processes_add(struct netns_set *set, int cgroup_fd, struct failure *failure)
{
	int fd = openat(cgroup_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC), err = 0;
	FILE *procs = fd < 0 ? NULL : fdopen(fd, "r");
	long pid;

	if (!procs) {
		if (fd >= 0)
			close(fd);
		return 0; /* the cgroup was removed meanwhile */
	}
	/* 0: outside of our process namespace. A threaded cgroup can't be read: its domain lists the process. */
	while (!err && fscanf(procs, "%ld", &pid) == 1)
		err = pid > 0 ? process_add(set, pid, failure) : 0;
	fclose(procs);
	return err;
}

static int cgroup_add(struct netns_set *set, int cgroup_fd, struct failure *failure)
{
	int fd = openat(cgroup_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *below = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int err;

	if (!below) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	err = processes_add(set, fd, failure);
	while (!err && (entry = readdir(below))) {
		int child;

		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (child < 0)
			continue;
		err = cgroup_add(set, child, failure);
		close(child);
	}
	closedir(below);
	return err;
}

static int own_add(struct netns_set *set, struct failure *failure)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return failure_set(failure, err, "/proc/self/ns/net: %s; is /proc mounted?", strerror(-err));
	}
	if (set_add(set, fd, st.st_ino))
		return failure_set(failure, -ENOMEM, "out of memory");
	return host_netns_cookie(&set->list[0].cookie, failure);
}

int netns_scan(const int *cgroup_fds, size_t cgroup_count, struct netns_set *ret_set, struct failure *failure)
{
	struct netns_set set = {};
	int err = own_add(&set, failure);

	for (size_t i = 0; !err && i < cgroup_count; i++)
		if (cgroup_fds[i] >= 0)
			err = cgroup_add(&set, cgroup_fds[i], failure);
	if (err)
		netns_set_free(&set);
	else
		*ret_set = set;
	return err;
}
