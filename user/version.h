/* SPDX-License-Identifier: GPL-2.0-only */
/* version.h: the version of this command, and so of the programs it carries. */
#ifndef SIPKEEP_VERSION_H
#define SIPKEEP_VERSION_H

#include <string.h>
#include "sipkeep.h"

extern const char sipkeep_version[];

/* Into a field of the meta map: cut if need be, the rest zeroes. */
static inline void version_copy(char *field)
{
	strncpy(field, sipkeep_version, SIPKEEP_VERSION_LEN - 1);
	field[SIPKEEP_VERSION_LEN - 1] = '\0';
}

#endif
