/* SPDX-License-Identifier: GPL-2.0-only */
/* config_report.h: reads the config for a verb and tells the person what is wrong with it. */
#ifndef SIPKEEP_CONFIG_REPORT_H
#define SIPKEEP_CONFIG_REPORT_H

#include "config.h"

/*
 * Returns 0 with *ret_set filled (policy_set_free() it), or the exit code to end with (SIPKEEP_EXIT_USAGE; _FAILED
 * when there was no memory) after printing every error: "FILE:LINE: what" on stderr, one a line; as JSON on stdout:
 * {"v":1,"ok":false,"errors":[{"file","line","error"}]}. *ret_set is untouched then.
 */
int config_load_or_report(const char *path, bool json, struct policy_set *ret_set);

/* Prints errors like that. */
void config_report(const char *path, bool json, const struct config_errors *errors);

#endif
