/* SPDX-License-Identifier: GPL-2.0-only */
/* literal.h: values as the config file writes them: what these print, libconfig reads as the same. */
#ifndef SIPKEEP_LITERAL_H
#define SIPKEEP_LITERAL_H

#include <stdio.h>

/* In quotes; what a string can't hold as it is becomes an escape. */
void literal_string(FILE *out, const char *text);

/* The shortest decimal that reads back as the same number; no exponent. */
void literal_number(FILE *out, double number);

#endif
