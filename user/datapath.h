/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * datapath.h: the one owner of the BPF objects: load, attach, pin, lock, unload; and the programs a verb runs.
 *
 * An instance lives in HOST_BPFFS/sipkeep/NAME, as pins: its maps under their names, its links as link_*, the programs
 * that verbs run as prog_*. `meta` is pinned last: a directory without it is what an interrupted load left behind, and
 * the next load or unload removes it.
 */
#ifndef SIPKEEP_DATAPATH_H
#define SIPKEEP_DATAPATH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>
#include "failure.h"
#include "netns.h"
#include "policy.h"
#include "sipkeep.h"

enum datapath_map {
	DATAPATH_CONFIG,
	DATAPATH_POLICIES,
	DATAPATH_POLICY_NAMES,
	DATAPATH_RULES,
	DATAPATH_EXEMPTS,
	DATAPATH_GUARDED_PORTS,
	DATAPATH_SOURCES,
	DATAPATH_SOURCE_QUEUE,
	DATAPATH_POLICY_COUNTS,
	DATAPATH_POLICY_STATS,
	DATAPATH_STATS,
	DATAPATH_SHARED,
	DATAPATH_TRANSPORTS,
	DATAPATH_PENDINGS,
	DATAPATH_CONDEMNED,
	DATAPATH_CONTACTS,
	DATAPATH_REDIALS,
	DATAPATH_LISTENERS,
	DATAPATH_CGROUP_PATHS,
	DATAPATH_FINDINGS,
	DATAPATH_EVENTS,
	DATAPATH_ABORTS,
	DATAPATH_META, /* the last to be pinned */
	DATAPATH_MAP_MAX,
};

struct datapath {
	char dir[PATH_MAX];
	int lock_fd;		    /* -1: not locked */
	int maps[DATAPATH_MAP_MAX]; /* descriptors */
	struct sipkeep_meta meta;   /* as read at open */
	bool quiet;		    /* its programs count, and say nothing: another generation does */
	ino_t meta_inode;	    /* of its pin: another one is another load */
};

static inline void datapath_init(struct datapath *datapath)
{
	datapath->dir[0] = '\0';
	datapath->lock_fd = -1;
	datapath->quiet = false;
	datapath->meta_inode = 0;
	for (int i = 0; i < DATAPATH_MAP_MAX; i++)
		datapath->maps[i] = -1;
}

/* Letters, digits, '_', '-' and '.', not starting with '.', at most 64: it becomes a directory's name. */
bool datapath_instance_ok(const char *instance);

/*
 * Loads, attaches to set->cgroups and to the network namespaces in use there, adopts what is open, pins. Either
 * everything is there afterwards or nothing is. -EEXIST when the instance is loaded already.
 */
int datapath_load(const char *instance, const struct policy_set *set, struct failure *failure);

/*
 * Opens a loaded instance; with `lock`, waits up to two seconds to be the only writer, and ends what a writer that was
 * killed left undone. -ENOENT when it isn't loaded.
 * datapath_close() it in any case but -ENOENT; a datapath_init()ed one may be closed.
 */
int datapath_open(const char *instance, bool lock, struct datapath *ret_datapath, struct failure *failure);
void datapath_close(struct datapath *datapath);
#define CLEANUP_DATAPATH __attribute__((cleanup(datapath_close)))

/* For an instance opened without its lock: takes it unless another has it (-EBUSY); -EAGAIN when it was unloaded. */
int datapath_trylock(struct datapath *datapath, struct failure *failure);
void datapath_unlock(struct datapath *datapath);

/* Has the instance that was opened been unloaded since (and maybe another been loaded), or upgraded to another layout? */
bool datapath_is_gone(const struct datapath *datapath);

/* Does somebody hold its lock? Does somebody read its events? */
bool datapath_is_changing(const struct datapath *datapath);
bool datapath_is_read(const struct datapath *datapath);

/* Detaches and removes everything; also what an interrupted load left. -ENOENT when there is nothing. */
int datapath_unload(const char *instance, struct failure *failure);

/*
 * Counts what is open and not counted, moves what the running policies count elsewhere: in each namespace of
 * datapath_namespaces().
 */
int datapath_adopt(const struct datapath *datapath, struct failure *failure);

/* The network namespace of this process, and those that the processes of the guarded cgroups live in now. */
int datapath_namespaces(const struct datapath *datapath, struct netns_set *ret_set, struct failure *failure);

/*
 * Calls each() for every guarded socket in those namespaces, and every listener on a guarded port outside the attached
 * cgroups, until it returns non-zero. datapath_list_in(): of one namespace of a set.
 */
int datapath_list_in(const struct datapath *datapath, const struct netns_set *set, const struct netns *at,
		     int (*each)(void *arg, const struct sipkeep_listing *listing), void *arg, struct failure *failure);
int datapath_list(const struct datapath *datapath, int (*each)(void *arg, const struct sipkeep_listing *listing),
		  void *arg, struct failure *failure);

/* Removes sources that hold nothing and weren't seen for idle_ns; *ret_removed may be NULL. */
int datapath_sweep(const struct datapath *datapath, __u64 idle_ns, __u64 *ret_removed);

/* Has the kernel emit what is untold of this source's refusals. */
int datapath_flush(const struct datapath *datapath, const struct sipkeep_source_key *key, __u32 cause);

/* Has the kernel emit a `mode` event; until_ns: CLOCK_MONOTONIC, 0: for good. */
int datapath_mode_tell(const struct datapath *datapath, bool observe, __u64 until_ns);

/*
 * An exclusive flock() on the directory at path; waits up to two seconds, then -EBUSY with who holds it. doing: what the
 * holder does ("the events are being read"). *ret_fd: close() it to release.
 */
int datapath_flock(const char *path, const char *doing, int *ret_fd, struct failure *failure);

/* A cgroup that is to be guarded. */
struct datapath_cgroup {
	char path[SIPKEEP_CGROUP_PATH];
	__u64 id; /* of the one that is attached to; 0: it was never there */
};

/* Fills at most SIPKEEP_MAX_CGROUPS entries; returns how many, or -errno. */
int datapath_cgroups(const struct datapath *datapath, struct datapath_cgroup *ret_cgroups, struct failure *failure);

/*
 * Makes these the cgroups that are to be guarded; datapath_reconcile() attaches. Those that weren't up to now must
 * exist, unless may_be_away. Changes nothing when it fails.
 */
int datapath_cgroups_set(const struct datapath *datapath, char *const *paths, size_t count, bool may_be_away,
			 struct failure *failure);

/*
 * What this kernel can do. Calls each() with a name, whether it is there, and what sipkeep does without it (essential
 * ones: it can't run). Returns the number of essential ones that are missing. Needs no instance.
 */
int datapath_probe(void (*each)(void *arg, const char *name, bool present, bool essential, const char *without),
		   void *arg);

/*
 * Changes the word `live` of the config map in one store, for all programs at once: see include/sipkeep.h. The word
 * itself is read with maps_config().
 */
int datapath_live_store(const struct datapath *datapath, __u64 live, struct failure *failure);

/* Waits until every BPF program that runs now has ended: those after it see what was stored before. */
int datapath_programs_wait(struct failure *failure);

/* So long (CLOCK_MONOTONIC) SIPKEEP_LIVE_FROZEN holds. */
int datapath_frozen_store(const struct datapath *datapath, __u64 until_ns, struct failure *failure);

/* A writable view of the instance's meta map (the reader's place in the sequence); munmap() it. NULL on failure. */
struct sipkeep_meta *datapath_meta_map(const struct datapath *datapath);

#endif
