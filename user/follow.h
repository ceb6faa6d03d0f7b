/* SPDX-License-Identifier: GPL-2.0-only */
/* follow.h: the loop of `run` and `events -f`: events to the sinks until a signal ends it. */
#ifndef SIPKEEP_FOLLOW_H
#define SIPKEEP_FOLLOW_H

#include "datapath.h"
#include "outlet.h"

/* Blocks the signals the loop takes (SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD): before anything they must not interrupt. */
void follow_block_signals(void);

/* What the verb does besides; each but tell may be NULL. */
struct follow_calls {
	void (*tell)(void *arg, const char *what, const char *why); /* to the person */
	void (*reload)(void *arg);			     /* on SIGHUP */
	void (*tick)(void *arg);			     /* ten times a second */
	void (*listener)(void *arg, __u64 netns_cookie); /* a listener has come up in this network namespace */
};

struct follow_options {
	const char *instance;
	const struct outlets *outlets; /* must outlive it, or be replaced */
	const struct follow_calls *calls;
	void *arg;
	bool service; /* tells systemd READY=1 and STOPPING=1, and has the socket that `events` reads from */
};

struct follow;

/* Opens the sinks and readies the actions. 0, or -errno with *failure set. */
int follow_new(const struct follow_options *options, struct follow **ret_follow, struct failure *failure);
void follow_free(struct follow *follow); /* NULL is fine */

/* Goes over to other sinks and actions; on an error, nothing has changed. */
int follow_outlets(struct follow *follow, const struct outlets *outlets, struct failure *failure);

/*
 * Follows this instance until SIGINT or SIGTERM. Returns 0, or -errno with *failure set; -EPIPE when stdout is gone and
 * -ESTALE when the instance was unloaded, or replaced by an upgrade, meanwhile, all of which are normal ends. After
 * -ESTALE it may be called again, with what came in its place.
 */
int follow_run(struct follow *follow, const struct datapath *datapath, struct failure *failure);

#endif
