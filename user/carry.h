/* SPDX-License-Identifier: GPL-2.0-only */
/* carry.h: what the programs of another layout counted, into ours; never the counts that limits go by. */
#ifndef SIPKEEP_CARRY_H
#define SIPKEEP_CARRY_H

#include "datapath.h"

/* What must be known before the old gates go: how much of its rate each source has used, and which contacts there are. */
int carry_rates(const struct datapath *old, const struct datapath *new, struct failure *failure);

/*
 * All counters, once the old programs run no more, and the place in the events' sequence. read: somebody reads the old
 * ring, and will to its end; otherwise what it holds is counted as lost.
 */
int carry_counters(const struct datapath *old, const struct datapath *new, bool read, struct failure *failure);

#endif
