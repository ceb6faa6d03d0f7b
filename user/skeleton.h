/* SPDX-License-Identifier: GPL-2.0-only */
/* skeleton.h: the built-in BPF object: opened, loaded, on maps of its own or an instance's. For datapath*.c alone. */
#ifndef SIPKEEP_SKELETON_H
#define SIPKEEP_SKELETON_H

#include "datapath_internal.h"
#include "sipkeep.skel.h"

/* Opened, but not loaded; the log gets what libbpf says of it until skeleton_load() ends. */
int skeleton_open(struct sipkeep_bpf **ret_skel, struct failure *log, struct failure *failure);

/* Switches off what isn't needed where ends are seen this way: see datapath_ends(). Between opening and loading. */
void skeleton_select(struct sipkeep_bpf *skel, enum datapath_ends ends);

/* Has it use the maps of a loaded instance. */
int skeleton_reuse(struct sipkeep_bpf *skel, const struct datapath *datapath, struct failure *failure);

/* Loads what is to be loaded of it; *failure tells what the kernel lacks, or its own words. */
int skeleton_load(struct sipkeep_bpf *skel, const struct failure *log, struct failure *failure);

struct bpf_map *skeleton_map(struct sipkeep_bpf *skel, enum datapath_map map);

#endif
