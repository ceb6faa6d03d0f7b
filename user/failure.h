/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * failure.h: why something didn't work, in a sentence for a person. Set once, where it is known best; printed once, by
 * the verb.
 */
#ifndef SIPKEEP_FAILURE_H
#define SIPKEEP_FAILURE_H

#include <stdarg.h>
#include <stdio.h>

struct failure {
	char text[4096];
};

/* Writes the sentence ("what, which object: why; what to do") and returns `error` (a -errno), to be passed on. */
static inline __attribute__((format(printf, 3, 4))) int failure_set(struct failure *failure, int error,
								    const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(failure->text, sizeof(failure->text), format, args);
	va_end(args);
	return error;
}

#endif
