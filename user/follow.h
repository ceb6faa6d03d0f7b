/* SPDX-License-Identifier: GPL-2.0-only */
/* follow.h: the loop of `run` and `events -f`: events to stdout until a signal ends it. */
#ifndef SIPKEEP_FOLLOW_H
#define SIPKEEP_FOLLOW_H

#include "datapath.h"

/* Blocks the signals the loop takes (SIGINT, SIGTERM, SIGHUP): call it before anything they must not interrupt. */
void follow_block_signals(void);

/* What the verb does besides; each but tell may be NULL. */
struct follow_calls {
	void (*tell)(void *arg, const char *what, const char *why); /* to the person */
	void (*reload)(void *arg);			     /* on SIGHUP */
	void (*tick)(void *arg);			     /* ten times a second */
	void (*listener)(void *arg, __u64 netns_cookie); /* a listener has come up in this network namespace */
};

/*
 * Prints events as JSON lines on stdout until SIGINT or SIGTERM, and makes the calls with arg. notify: tells systemd
 * READY=1 and STOPPING=1. Returns 0, or -errno with *failure set; -EPIPE when stdout is gone and -ESTALE when the instance
 * was unloaded, or replaced by an upgrade, meanwhile, all of which are normal ends.
 */
int follow_events(const struct datapath *datapath, const struct follow_calls *calls, void *arg, bool notify,
		  struct failure *failure);

#endif
