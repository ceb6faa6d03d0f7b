/* SPDX-License-Identifier: GPL-2.0-only */
/* maps.h: every map, once. __weak, so that the objects of all hooks link into one that has each map once. */
#ifndef SIPKEEP_MAPS_H
#define SIPKEEP_MAPS_H

#include "kernel.h"
#include "sipkeep.h"

#define MAP SEC(".maps") __weak

/* ---- what the loader writes ---- */

/* Memory-mapped by the loader, which changes `live` in one store. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sipkeep_config);
} config MAP;

/* bank * SIPKEEP_MAX_POLICIES + policy id */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * SIPKEEP_MAX_POLICIES);
	__type(key, __u32);
	__type(value, struct sipkeep_policy);
} policies MAP;

/* Policy id -> name: only the loader reads it, but it must outlive the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIPKEEP_MAX_POLICIES);
	__type(key, __u32);
	__type(value, char[SIPKEEP_NAME_LEN]);
} policy_names MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIPKEEP_MAX_RULES);
	__type(key, struct sipkeep_rule_key);
	__type(value, __u32); /* policy id */
} rules MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIPKEEP_MAX_RULES);
	__type(key, struct sipkeep_exempt_key);
	__type(value, __u32);
} exempts MAP;

/* bank << 16 | local port of an inbound policy (0: any): is a listener on this port ours to watch? */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 65536);
	__type(key, __u32);
	__type(value, __u8);
} guarded_ports MAP;

/* The cgroups that are to be guarded, whether they are there or not: only the loader reads it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIPKEEP_MAX_CGROUPS);
	__type(key, __u32);
	__type(value, char[SIPKEEP_CGROUP_PATH]);
} cgroup_paths MAP;

/* Policy id -> what was found of its ends: for `stats`, which is another process than the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIPKEEP_MAX_POLICIES);
	__type(key, __u32);
	__type(value, struct sipkeep_finding);
} findings MAP;

/* Memory-mapped by the reader, which keeps its place in the sequence there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sipkeep_meta);
} meta MAP;

/* ---- what the programs write ---- */

/*
 * Preallocated: an allocation that fails in the middle of a burst would leave connections uncounted. Never an LRU: an
 * eviction would be a bypass.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* max_sources, set by the loader */
	__type(key, struct sipkeep_source_key);
	__type(value, struct sipkeep_source);
} sources MAP;

/* Keys of entries of `sources` that may hold nothing, each once: see clock.h. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1); /* max_sources, set by the loader */
	__uint(key_size, 0);
	__type(value, struct sipkeep_source_key);
} source_queue MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIPKEEP_MAX_POLICIES);
	__type(key, __u32);
	__type(value, struct sipkeep_policy_count);
} policy_counts MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SIPKEEP_MAX_POLICIES);
	__type(key, __u32);
	__type(value, struct sipkeep_policy_stats);
} policy_stats MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sipkeep_stats);
} stats MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sipkeep_shared);
} shared MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sipkeep_transport);
} transports MAP;

/* Indexed by CPU. Not a per-CPU map: another CPU may have to take a stale reservation back. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct sipkeep_pending);
} pendings MAP;

/*
 * Handshakes refused at their final ACK: never to be let in again under that request socket. An LRU may forget one;
 * then it is only decided, and counted as refused, a second time.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct sipkeep_tuple);
	__type(value, __u64); /* when */
} condemned MAP;

/* Contacts, each with the connect()s to it that failed: forgetting one loses no limit. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIPKEEP_MAX_CONTACTS);
	__type(key, struct sipkeep_contact_key);
	__type(value, __u64);
} contacts MAP;

/* Sockets whose last connect() went to a contact: 1 until it has succeeded or failed. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} redials MAP;

/* Guarded listeners and how many sockets share each (SO_REUSEPORT). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct sipkeep_listener_key);
	__type(value, __u32);
} listeners MAP;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 * 1024 * 1024);
} events MAP;

/* Its own ring, so that refusals, which an outsider can cause, take no room from the life events. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} aborts MAP;

#endif
