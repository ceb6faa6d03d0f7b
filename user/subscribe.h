/* SPDX-License-Identifier: GPL-2.0-only */
/* subscribe.h: the other end of the socket that `run` has for its instance: `events` while `run` has the ring. */
#ifndef SIPKEEP_SUBSCRIBE_H
#define SIPKEEP_SUBSCRIBE_H

#include "failure.h"

#define SUBSCRIBE_DIRECTORY "/run/sipkeep"
#define SUBSCRIBE_PATH_LEN 108

/* "/run/sipkeep/INSTANCE.sock"; path: SUBSCRIBE_PATH_LEN bytes. Returns it. */
char *subscribe_path(const char *instance, char *path);

/* Connects. *ret_fd is the caller's to close. -ENOENT or -ECONNREFUSED: no `run` of this instance is there. */
int subscribe_open(const char *instance, int *ret_fd, struct failure *failure);

/*
 * Copies whole lines from fd to `out` until SIGINT or SIGTERM, which must be blocked: 0. -ENOTCONN: the other end is
 * gone, all it sent is copied; -EPIPE: nobody reads `out` any more; another -errno: `out` can't be written, or the other end
 * refused us. All with *failure set.
 */
int subscribe_copy(int fd, int out, struct failure *failure);

/* Removes the socket of a `run` that was killed; leaves one that listens alone. */
void subscribe_tidy(const char *instance);

#endif
