// SPDX-License-Identifier: GPL-2.0-only
/* version.c: a file of its own, so that another version compiles one file. */
#include "version.h"

#ifndef SIPKEEP_VERSION
#define SIPKEEP_VERSION "unknown"
#endif

const char sipkeep_version[] = SIPKEEP_VERSION;
