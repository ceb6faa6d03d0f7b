/* SPDX-License-Identifier: GPL-2.0-only */
/* destroy.h: SOCK_DESTROY for a request socket, over sock_diag netlink, in whatever network namespace it is. */
#ifndef SIPKEEP_DESTROY_H
#define SIPKEEP_DESTROY_H

#include "datapath.h"

struct destroy;

/* Returns 0, the caller frees *ret_destroy with destroy_close(), or -errno. The datapath must outlive it. */
int destroy_open(const struct datapath *datapath, struct destroy **ret_destroy, struct failure *failure);
void destroy_close(struct destroy *destroy);

/*
 * Destroys the handshake (SYN_RECV) with these two ends, if it is still there, in the network namespace with this
 * cookie; an established connection with the same ends is left alone. Returns 0 or -errno (-ENOENT: none; -ESRCH: no
 * process of the guarded cgroups lives in such a namespace).
 */
int destroy_request(struct destroy *destroy, __u64 netns_cookie, const struct sipkeep_tuple *tuple);

/* Closes what wasn't needed for some seconds: it would keep the namespace of a container that has ended. */
void destroy_tidy(struct destroy *destroy, __u64 now_ns);

#endif
