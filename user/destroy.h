/* SPDX-License-Identifier: GPL-2.0-only */
/* destroy.h: SOCK_DESTROY for a request socket, over sock_diag netlink. */
#ifndef SIPKEEP_DESTROY_H
#define SIPKEEP_DESTROY_H

#include "failure.h"
#include "sipkeep.h"

/* A netlink socket for destroy_request(), or -errno. */
int destroy_open(struct failure *failure);

/*
 * Destroys the handshake (SYN_RECV) with these two ends, if it is still there, in the network namespace the socket was
 * opened in; an established connection with the same ends is left alone. Returns 0 or -errno (-ENOENT: none).
 */
int destroy_request(int fd, const struct sipkeep_tuple *tuple);

#endif
