/* SPDX-License-Identifier: GPL-2.0-only */
/* datapath_internal.h: shared by datapath*.c alone. */
#ifndef SIPKEEP_DATAPATH_INTERNAL_H
#define SIPKEEP_DATAPATH_INTERNAL_H

#include "datapath.h"
#include "host.h"

#define DATAPATH_ROOT HOST_BPFFS "/sipkeep"

extern const char *const datapath_map_names[DATAPATH_MAP_MAX];

/* Takes the lock on datapath->dir; waits up to two seconds, then says who holds it (-EBUSY). */
int datapath_lock(struct datapath *datapath, struct failure *failure);

/* Unlinks every pin in dir: links first, so that nothing half-attached acts without its maps. */
int datapath_remove_pins(const char *dir, struct failure *failure);

#endif
