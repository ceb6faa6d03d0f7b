/* SPDX-License-Identifier: GPL-2.0-only */
/* status.h: what is attached and what is degraded, for `status` and for run's first lines. */
#ifndef SIPKEEP_STATUS_H
#define SIPKEEP_STATUS_H

#include "command.h"

/*
 * Prints the state of the instance, for people or as JSON. Returns the exit code: 0 when all is well, 1 when something
 * is degraded (each named).
 */
int status_print(const struct command_context *context, const struct datapath *datapath);

#endif
