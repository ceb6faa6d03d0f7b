/* SPDX-License-Identifier: GPL-2.0-only */
/* loading.h: what load, apply and run share: the config with what the command line changes of it, and applying it. */
#ifndef SIPKEEP_LOADING_H
#define SIPKEEP_LOADING_H

#include "command.h"
#include "datapath.h"
#include "policy.h"

struct loading_options {
	const char *cgroup; /* --cgroup: instead of the config's; NULL: the config's */
	bool observe;	    /* --observe */
	bool dry_run;
};

/* The verb's own options that fill it: vals from LOADING_OPTION on. */
enum { LOADING_CGROUP = 300, LOADING_OBSERVE, LOADING_DRY_RUN };
#define LOADING_LONG_OPTIONS                                                                                           \
	{ "cgroup", required_argument, NULL, LOADING_CGROUP }, { "observe", no_argument, NULL, LOADING_OBSERVE }

/* Takes one option into *options; false when it isn't one of these. */
bool loading_option(struct loading_options *options, int option, const char *argument);

/* 0 with *ret_set filled, or the exit code after telling every error. */
int loading_config(const struct command_context *context, const struct loading_options *options,
		   struct policy_set *ret_set);

/*
 * Makes a loaded, locked instance what the set says; each difference goes to line(). Returns the number of differences
 * or -errno with nothing changed.
 */
int loading_apply(const struct datapath *datapath, const struct policy_set *set, bool dry_run,
		  void (*line)(void *arg, const char *text), void *arg, struct failure *failure);

#endif
