/* SPDX-License-Identifier: GPL-2.0-only */
/* upgrade_internal.h: shared by upgrade.c, relayout.c and datapath_open.c alone. */
#ifndef SIPKEEP_UPGRADE_INTERNAL_H
#define SIPKEEP_UPGRADE_INTERNAL_H

#include "skeleton.h"
#include "upgrade.h"

/* Pins the loaded programs as prog_*, each in one step in the place of the one that was there. */
int upgrade_programs_pin(const char *dir, struct sipkeep_bpf *skel, struct failure *failure);

/* The pinned programs of the cgroup hooks: ATTACHED_CGROUP_HOOKS descriptors, -1 where there is none. */
void upgrade_programs_open(const struct datapath *datapath, int *ret_programs);
void upgrade_programs_close(int *programs);

/* Takes them from the guarded cgroups, where they sit without a link (systemd's BPFProgram=). */
void upgrade_others_detach(const struct datapath *datapath, const int *programs);

/* Says that it is done. */
int upgrade_version_store(const struct datapath *datapath, struct failure *failure);

/* An instance with another layout of its maps becomes one with ours. ret_from: the version it had. */
int relayout(const char *instance, char *ret_from, struct failure *failure);

/* Ends what an interrupted relayout() left beside a locked instance; does nothing when there is none. */
int relayout_repair(const struct datapath *datapath, struct failure *failure);

/* Where the other generation is pinned: no instance's name has a '+'. */
#define RELAYOUT_SUFFIX "+next"

#endif
