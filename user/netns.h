/* SPDX-License-Identifier: GPL-2.0-only */
/* netns.h: the network namespaces that the processes of cgroups live in, and doing something inside one of them. */
#ifndef SIPKEEP_NETNS_H
#define SIPKEEP_NETNS_H

#include <stddef.h>
#include <sys/types.h>
#include "failure.h"
#include "sipkeep.h"

struct netns {
	__u64 cookie; /* the kernel's number for it, as the programs see it */
	ino_t inode;  /* its number in /proc/PID/ns/net, as people see it */
	int fd;	      /* keeps it alive */
};

struct netns_set {
	struct netns *list; /* list[0]: the one of this process */
	size_t count;
	size_t unseen; /* processes whose namespace may not be looked at: CAP_SYS_PTRACE is missing */
};

/*
 * Finds the network namespace of this process and those of all processes in these cgroups (open directories) and below
 * them. Returns 0, the caller frees *ret_set with netns_set_free(), or -errno.
 */
int netns_scan(const int *cgroup_fds, size_t cgroup_count, struct netns_set *ret_set, struct failure *failure);

/* Closes what the set holds and zeroes it; a zeroed set may be freed again. */
void netns_set_free(struct netns_set *set);
#define CLEANUP_NETNS_SET __attribute__((cleanup(netns_set_free)))

/* NULL when the set has none with this cookie. */
const struct netns *netns_find(const struct netns_set *set, __u64 cookie);

/*
 * Calls call(arg) inside the namespace `at` of the set and returns what it returned; -errno with *failure set when it
 * can't be entered. Moves the calling thread there and back: sipkeep has but one.
 */
int netns_call(const struct netns_set *set, const struct netns *at, int (*call)(void *arg), void *arg,
	       struct failure *failure);

#endif
