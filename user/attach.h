/* SPDX-License-Identifier: GPL-2.0-only */
/* attach.h: bringing the links to what is to be guarded. */
#ifndef SIPKEEP_ATTACH_H
#define SIPKEEP_ATTACH_H

#include "datapath.h"

/*
 * Brings the links of a locked instance to what datapath_cgroups_set() and the network namespaces of the guarded
 * processes want. One that is alive stays, and gets the pinned program if it has another (bpf_link_update); one that
 * is missing or dead is attached and pinned, and what is open there adopted; one that is wanted no more is detached,
 * and what its sockets hold in the counts given back. A removed cgroup's links stay until its last socket has ended.
 * Where a program sits without a link of ours (systemd's BPFProgram=), it is left there and no second one attached.
 *
 * Each change goes to line() (NULL: to nobody): "~ cgroup /x: attached ingress", "+ sk_lookup in network namespace
 * 4026532281". Returns the number of lines, or -errno when something wanted couldn't be attached; what was attached by
 * then stays. A namespace other than this process's that can't be attached to is told and no failure.
 */
int datapath_reconcile(const struct datapath *datapath, void (*line)(void *arg, const char *text), void *arg,
		       struct failure *failure);

/* Takes the programs from the guarded cgroups where another than sipkeep attached them: unloading ends all of it. */
void datapath_detach_others(const struct datapath *datapath);

#endif
