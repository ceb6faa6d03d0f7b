/* SPDX-License-Identifier: GPL-2.0-only */
/* datapath_internal.h: shared by datapath*.c, attach*.c and status.c alone. */
#ifndef SIPKEEP_DATAPATH_INTERNAL_H
#define SIPKEEP_DATAPATH_INTERNAL_H

#include "datapath.h"
#include "host.h"

#define DATAPATH_ROOT HOST_BPFFS "/sipkeep"

/* What tells of the end of a socket that was open before load. */
enum datapath_ends {
	DATAPATH_ENDS_CALLBACK, /* its state callback, set by the iterator */
	DATAPATH_ENDS_WATCHED,	/* bpf/watch.bpf.c */
	DATAPATH_ENDS_UNSEEN,	/* nothing: it isn't counted */
};

/* On this kernel. */
enum datapath_ends datapath_ends(void);

extern const char *const datapath_map_names[DATAPATH_MAP_MAX];

/* A pinned program, prog_NAME: a descriptor the caller closes. failure: may be NULL. */
int datapath_program(const struct datapath *datapath, const char *name, struct failure *failure);

/*
 * A copy of on_sk_lookup for the network namespace with this cookie, on the instance's maps: a descriptor the caller
 * closes. It lives as long as its link.
 */
int datapath_sk_lookup_load(const struct datapath *datapath, __u64 netns_cookie, struct failure *failure);

/* Puts next's cgroups in force; meta: the mapped one. */
void datapath_cgroups_store(struct sipkeep_meta *meta, const struct sipkeep_meta *next);

/* Runs a pinned iterator that only does, and says nothing, over one namespace of the set, or over all of them. */
int datapath_walk(const struct datapath *datapath, const char *name, const struct netns_set *set, const struct netns *at,
		  struct failure *failure);
int datapath_walk_all(const struct datapath *datapath, const char *name, const struct netns_set *set,
		      struct failure *failure);

/* datapath_adopt(), over these namespaces. */
int datapath_adopt_in(const struct datapath *datapath, const struct netns_set *set, struct failure *failure);

/* Takes the lock on datapath->dir; waits up to two seconds, then says who holds it (-EBUSY). */
int datapath_lock(struct datapath *datapath, struct failure *failure);

/* Unlinks every pin in dir: links first, so that nothing half-attached acts without its maps. */
int datapath_remove_pins(const char *dir, struct failure *failure);

#endif
