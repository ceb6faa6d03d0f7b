/* SPDX-License-Identifier: GPL-2.0-only */
/* host.h: what sipkeep needs of the host: the cgroup2 tree, a bpffs, this network namespace. */
#ifndef SIPKEEP_HOST_H
#define SIPKEEP_HOST_H

#include "failure.h"
#include "sipkeep.h"

#define HOST_BPFFS "/sys/fs/bpf"

/* Where cgroup2 is mounted, from /proc/self/mountinfo. path: PATH_MAX bytes. 0 or -ENOENT with the reason. */
int host_cgroup2(char *path, struct failure *failure);

/* Mounts a bpffs at HOST_BPFFS unless there is one. */
int host_bpffs(struct failure *failure);

/*
 * Opens the cgroup at `path` relative to the cgroup2 mount. Returns a file descriptor the caller closes, with its
 * kernel id and its depth in the tree (0: the root).
 */
int host_cgroup_open(const char *path, __u64 *ret_id, __u8 *ret_level, struct failure *failure);

/* The kernel id of the directory at `path` below root, a cgroup2 mount; 0 when there is none. */
__u64 host_cgroup_id(const char *root, const char *path);

/* The path, relative to the cgroup2 mount, of the cgroup with this id; -ENOENT when it is gone. path: PATH_MAX. */
int host_cgroup_path(__u64 id, char *path);

/* The kernel's number for the network namespace of this process. */
int host_netns_cookie(__u64 *ret_cookie, struct failure *failure);

/* Length of the kernel's tick in nanoseconds: the resolution of the coarse clock. */
__u64 host_jiffy_ns(void);

/* What CLOCK_REALTIME - CLOCK_MONOTONIC is now, in nanoseconds. */
__s64 host_realtime_offset_ns(void);

__u64 host_monotonic_ns(void);

/* "2026-03-01T09:12:44Z" of a CLOCK_MONOTONIC time. text: HOST_TIME_LEN bytes; returns it. */
#define HOST_TIME_LEN 32
char *host_time_format(__u64 monotonic_ns, char *text);

/*
 * May root start it: a regular file, executable, which nobody but its owner may write, and who is root or us? 0, or
 * -errno, with *ret_why (what is wrong; what to do) where the errno doesn't tell (else NULL).
 */
int host_executable(const char *path, const char **ret_why);

#endif
