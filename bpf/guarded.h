/* SPDX-License-Identifier: GPL-2.0-only */
/* guarded.h: does a socket belong to one of the guarded cgroups? For the iterators, which see the sockets of all. */
#ifndef SIPKEEP_GUARDED_H
#define SIPKEEP_GUARDED_H

#include "lookup.h"

/* The guarded cgroups, by their depth in the tree: set by the loader. */
BPF_INLINE bool cgroup_is_guarded(struct sock *sk)
{
	__u32 zero = 0;
	struct sipkeep_meta *about = bpf_map_lookup_elem(&meta, &zero);
	struct cgroup *own = sk->sk_cgrp_data.cgroup;

	if (!about || !own)
		return false;
	for (__u32 i = 0; i < SIPKEEP_CGROUP_SLOTS; i++) {
		struct cgroup *ancestor = NULL;
		__u32 level;

		if (i >= about->cgroup_count)
			break;
		level = about->cgroup_levels[i];
		if (level > (__u32)own->level)
			continue;
		bpf_core_read(&ancestor, sizeof(ancestor), (void *)own + bpf_core_field_offset(own->ancestors) +
							   level * sizeof(ancestor));
		if (ancestor && BPF_CORE_READ(ancestor, kn, id) == about->cgroup_ids[i])
			return true;
	}
	return false;
}

#endif
