/* SPDX-License-Identifier: GPL-2.0-only */
/* config.h: text -> struct policy_set. The only code that knows libconfig, which owns names like config_read(). */
#ifndef SIPKEEP_CONFIG_H
#define SIPKEEP_CONFIG_H

#include "policy.h"

/* Every error of one file, in the order of its lines. Zero-initialise; config_errors_free() when done. */
struct config_errors {
	struct config_error {
		int line;   /* 0: the file as a whole */
		char *text; /* what is wrong, and what to write instead */
	} *list;
	size_t count;
};
void config_errors_free(struct config_errors *errors);

/*
 * Reads and checks the file at path. Returns 0 with *ret_set filled (policy_set_free() it), -EINVAL with at least one
 * entry in *errors when the file is wrong, another -errno (and one entry) when it can't be read. Refuses a file that
 * isn't a regular file or that group or others may write, or that belongs to neither root nor the caller.
 * *ret_set is untouched on failure.
 */
int config_load(const char *path, struct policy_set *ret_set, struct config_errors *errors);

/* The same for text in memory. `@include` is refused: nothing but this text makes the configuration. */
int config_parse(const char *text, struct policy_set *ret_set, struct config_errors *errors);

/*
 * Adds an error for each executable of `actions` that could not be started as it is now. Not a matter of the file, which
 * is right whatever this host has installed: so only `check` asks.
 */
void config_check_executables(const struct policy_set *set, struct config_errors *errors);

#endif
