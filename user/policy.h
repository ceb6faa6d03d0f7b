/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * policy.h: the model of a configuration. Knows neither libconfig nor BPF.
 *
 * config_parse() makes a `struct policy_set` from text, maps.c writes it into the kernel's maps and reads it back,
 * policy_diff() tells what `apply` will change.
 */
#ifndef SIPKEEP_POLICY_H
#define SIPKEEP_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "outlet.h"
#include "sipkeep.h"

/* A prefix as the maps know it: 16 bytes, IPv4 mapped; `len` counts within the family (0..32 or 0..128). */
struct policy_prefix {
	struct sipkeep_addr addr; /* host bits are 0 */
	__u8 family;		  /* 4 or 6 */
	__u8 len;
};

/* Where a thing stands in the file, for messages; 0 where it doesn't come from one. */
struct policy {
	char name[SIPKEEP_NAME_LEN]; /* [A-Za-z0-9_.-], starts with a letter or digit */
	int line;
	enum sipkeep_direction direction;
	__u16 *ports; /* host order, ascending, no doubles; inbound: local_ports, outbound: remote_ports */
	size_t port_count; /* 0: any port */
	struct policy_prefix *remotes; /* never empty (default 0.0.0.0/0 and ::/0); in policy_prefix_compare() order */
	size_t remote_count;
	/* How the kernel acts on it. */
	struct sipkeep_policy kernel;
	/* As written, for printing: what the kernel form rounds. 0 where it was read back from the kernel. */
	double max_rate_per_source;
	__u32 burst_per_source;
};

struct policy_set {
	char **cgroups; /* paths relative to the cgroup2 mount, each starting with '/', no trailing '/' but in "/" */
	size_t cgroup_count;
	bool observe;
	bool on_full_refuse;
	__u32 max_sources;
	struct policy *policies;
	size_t policy_count;
	struct policy_prefix *exempt; /* in policy_prefix_compare() order, no doubles */
	size_t exempt_count;
	struct outlets outlets; /* of the file; the kernel knows none */
};

/* Frees what the set owns and zeroes it; a zeroed set may be freed again. */
void policy_set_free(struct policy_set *set);

static inline void policy_set_cleanup(struct policy_set *set)
{
	policy_set_free(set);
}
#define CLEANUP_POLICY_SET __attribute__((cleanup(policy_set_cleanup)))

/*
 * Parses "192.0.2.0/24", "2001:db8::/32" or a bare address (/32, /128). v4-mapped IPv6 becomes IPv4 (prefix >= 96).
 * Returns 0, or -EINVAL with *ret_why pointing to a static sentence fragment ("host bits are set", …).
 * *ret_prefix is untouched on failure.
 */
int policy_prefix_parse(const char *text, struct policy_prefix *ret_prefix, const char **ret_why);

/* The same with host bits allowed and cleared: what the writer of "192.0.2.7/24" meant. */
int policy_prefix_correct(const char *text, struct policy_prefix *ret_prefix);

/* Order of the model's prefix lists: IPv4 first, then by address, then shortest first. As qsort() wants it. */
int policy_prefix_compare(const void *a, const void *b);

/* Sorts ports and remotes and drops doubles: for a policy read back from maps, which know no order. */
void policy_normalize(struct policy *policy);

/*
 * Fills the rate fields, the kernel's and those as written. rate: 0 (no limit) or POLICY_RATE_MIN..POLICY_RATE_MAX
 * connections a second; burst: 1..POLICY_BURST_MAX, 0: the default, max(1, ceil(rate)).
 */
#define POLICY_RATE_MIN 0.001
#define POLICY_RATE_MAX 1000000.0
#define POLICY_BURST_MAX 1000000
void policy_set_rate(struct policy *policy, double rate, __u32 burst);

/* Writes "192.0.2.0/24" into buf (at least POLICY_PREFIX_LEN bytes); returns buf. */
#define POLICY_PREFIX_LEN 64
char *policy_prefix_format(const struct policy_prefix *prefix, char *buf);

/* Writes an address without brackets, IPv4 unmapped, into buf (at least POLICY_PREFIX_LEN bytes); returns buf. */
char *policy_addr_format(const struct sipkeep_addr *addr, char *buf);

/* True for ::ffff:0:0/96. */
bool policy_addr_is_ipv4(const struct sipkeep_addr *addr);

/* Index of the policy called name in the set, or -1. */
int policy_find(const struct policy_set *set, const char *name);

/* True when two policies could match one connection equally well: same direction, one port and one remote prefix in
 * common. *ret_port (0: any) and *ret_prefix say which. */
bool policy_overlap(const struct policy *a, const struct policy *b, __u16 *ret_port, struct policy_prefix *ret_prefix);

/*
 * What changes from `from` to `to`, one line each, in the words of the config file:
 *   "+ policy trunks"   "- policy old"   "~ policy phones: max_connections_per_source 20 -> 30"
 *   "~ policy phones: remotes + 203.0.113.0/24"   "~ mode observe -> enforce"   "- exempt 192.0.2.10/32"
 * Calls line() for each with `arg`. Returns the number of lines; 0 means equal.
 */
size_t policy_diff(const struct policy_set *from, const struct policy_set *to,
		   void (*line)(void *arg, const char *text), void *arg);

/*
 * May a transport that `from` counts in some source belong to another by `to`? True when policies come, go or change
 * their ports, remotes or source prefixes; false when only limits, keepalive, exempts or the mode change.
 */
bool policy_set_moves(const struct policy_set *from, const struct policy_set *to);

/* Prints the set as it will act, one setting a line, for `check`. What it prints, config_parse() reads. */
void policy_print(const struct policy_set *set, FILE *out);

#endif
