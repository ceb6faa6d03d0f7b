/* SPDX-License-Identifier: GPL-2.0-only */
/* follow.h: the loop of `run` and `events -f`: events to stdout until a signal ends it. */
#ifndef SIPKEEP_FOLLOW_H
#define SIPKEEP_FOLLOW_H

#include "datapath.h"

/* Blocks the signals the loop takes (SIGINT, SIGTERM, SIGHUP): call it before anything they must not interrupt. */
void follow_block_signals(void);

/*
 * Prints events as JSON lines on stdout until SIGINT or SIGTERM. On SIGHUP calls reload(arg) (NULL: nothing). notify: tells
 * systemd READY=1 and STOPPING=1. Returns 0, or -errno with *failure set; -EPIPE when stdout is gone and -ESTALE
 * when the instance was unloaded meanwhile, both of which are normal ends.
 */
int follow_events(const struct datapath *datapath, void (*reload)(void *arg), void *arg, bool notify,
		  struct failure *failure);

#endif
