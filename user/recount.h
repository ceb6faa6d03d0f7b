/* SPDX-License-Identifier: GPL-2.0-only */
/* recount.h: from the policies in force to those of the other bank, with no moment in which a limit doesn't hold. */
#ifndef SIPKEEP_RECOUNT_USER_H
#define SIPKEEP_RECOUNT_USER_H

#include "datapath.h"

/*
 * Puts the word `next` (SIPKEEP_LIVE_*, naming the bank that isn't in force) in force. `moves`: it counts some transports
 * in other sources, so they are counted by both for a while (bpf/recount.h tells how). The caller holds the lock.
 * Killed at any point, it leaves a state in which one bank or the other holds whole, and which recount_repair() ends.
 * On an error the old bank is in force, or (after the switch) the new one, still to be repaired.
 */
int recount_switch(const struct datapath *datapath, __u64 next, bool moves, struct failure *failure);

/* Ends what an interrupted recount_switch() left; does nothing when there is none. The caller holds the lock. */
int recount_repair(const struct datapath *datapath, struct failure *failure);

#endif
