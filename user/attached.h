/* SPDX-License-Identifier: GPL-2.0-only */
/* attached.h: what sits where: an instance's pinned links, and its programs that others attached. */
#ifndef SIPKEEP_ATTACHED_H
#define SIPKEEP_ATTACHED_H

#include <linux/bpf.h>
#include "datapath.h"

/* The hooks of a cgroup, in the order they are attached: those that watch, then the gates, which decide by counts. */
enum attached_hook {
	ATTACHED_SOCKOPS,
	ATTACHED_SOCK_RELEASE,
	ATTACHED_SETSOCKOPT,
	ATTACHED_POST_BIND4,
	ATTACHED_POST_BIND6,
	ATTACHED_INGRESS,
	ATTACHED_CONNECT4,
	ATTACHED_CONNECT6,
	ATTACHED_CGROUP_HOOKS,
	ATTACHED_SK_LOOKUP = ATTACHED_CGROUP_HOOKS, /* of a network namespace */
	ATTACHED_SET_STATE,			    /* of the whole host, where needed: see bpf/watch.bpf.c */
	ATTACHED_SET_STATE_2,
	ATTACHED_HOOK_MAX,
};
#define ATTACHED_FIRST_GATE ATTACHED_INGRESS

extern const char *const attached_hooks[ATTACHED_HOOK_MAX]; /* "sockops"; the program is on_sockops */
extern const enum bpf_attach_type attached_types[ATTACHED_CGROUP_HOOKS];

/* A pinned link: link_on_HOOK_AT. */
struct attached {
	enum attached_hook hook; /* ATTACHED_HOOK_MAX: none of ours */
	__u64 at;		 /* the cgroup's id, the network namespace's cookie, or 0: the whole host */
	bool alive;		 /* the kernel lets go of a link when its cgroup or namespace is gone */
	bool place_exists;	 /* false: a removed cgroup; alive until its last socket has ended */
	ino_t netns_inode;
	__u32 program_id;
	char pin[NAME_MAX + 1];
};

struct attached_list {
	struct attached *list; /* in the order of their pins' names */
	size_t count;
};

/* All pinned links; attached_free() the list. */
int attached_read(const struct datapath *datapath, struct attached_list *ret_list, struct failure *failure);
void attached_free(struct attached_list *list);
#define CLEANUP_ATTACHED __attribute__((cleanup(attached_free)))

/* The live one of this hook at this cgroup or namespace; NULL when there is none. */
const struct attached *attached_find(const struct attached_list *list, enum attached_hook hook, __u64 at);

/* How often a program sits at this hook of the cgroup itself, by whomever: 0, 1, or 2 with a link and systemd's. */
unsigned int attached_times(int cgroup_fd, enum attached_hook hook, __u32 program_id);

/* Writes the programs that sit at this hook of the cgroup or its ancestors: "guard (id 41), other (id 7)". */
void attached_names(int cgroup_fd, enum attached_hook hook, char *text, size_t size);

/* The id of a program; 0 when it can't be told. */
__u32 attached_program_id(int program_fd);

#endif
