/* SPDX-License-Identifier: GPL-2.0-only */
/* directory.h: the directory of a file that root makes: one where nobody else can have prepared anything. */
#ifndef SIPKEEP_DIRECTORY_H
#define SIPKEEP_DIRECTORY_H

#include "failure.h"

/*
 * Opens the directory that the absolute `path` (of a file in it) is in. On the way there, every directory and symbolic
 * link must belong to root or to us and not be writable by others (sticky ones such as /tmp may); the directory itself
 * not by its group either. *ret_fd (O_PATH) is the caller's to close, *ret_name points to the file's name in path.
 * 0, or -errno with the reason; -EPERM: not safe.
 */
int directory_open(const char *path, int *ret_fd, const char **ret_name, struct failure *failure);

#endif
