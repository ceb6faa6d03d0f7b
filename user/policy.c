/* SPDX-License-Identifier: GPL-2.0-only */
/* policy.c: what the model is made of: prefixes, ports, rates, and which policies get in each other's way. */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "policy.h"

static const __u8 mapped_head[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

void policy_set_free(struct policy_set *set)
{
	for (size_t i = 0; i < set->cgroup_count; i++)
		free(set->cgroups[i]);
	free(set->cgroups);
	for (size_t i = 0; i < set->policy_count; i++) {
		free(set->policies[i].ports);
		free(set->policies[i].remotes);
	}
	free(set->policies);
	free(set->exempt);
	outlets_free(&set->outlets);
	memset(set, 0, sizeof(*set));
}

bool policy_addr_is_ipv4(const struct sipkeep_addr *addr)
{
	return memcmp(addr->b, mapped_head, sizeof(mapped_head)) == 0;
}

/* The digits after the slash: no sign, no blank, no leading zero. */
static int prefix_length_parse(const char *text, unsigned int max, unsigned int *ret_len)
{
	unsigned int len = 0;

	if (!*text || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		len = len * 10 + (unsigned int)(*text - '0');
		if (len > max)
			return -ERANGE;
	}
	*ret_len = len;
	return 0;
}

/* Clears what lies behind the first `bits` bits; true when something did. */
static bool clear_host_bits(struct sipkeep_addr *addr, unsigned int bits)
{
	bool found = false;

	for (unsigned int i = 0; i < sizeof(addr->b); i++) {
		unsigned int keep = bits > i * 8 ? bits - i * 8 : 0;
		__u8 mask = keep >= 8 ? 0xff : (__u8)(0xff << (8 - keep));

		found |= addr->b[i] & ~mask;
		addr->b[i] &= mask;
	}
	return found;
}

/* Address and length as written, host bits and all. */
static int prefix_read(const char *text, struct policy_prefix *ret_prefix, const char **ret_why)
{
	struct policy_prefix prefix = { 0 };
	const char *slash = strchr(text, '/');
	size_t addr_len = slash ? (size_t)(slash - text) : strlen(text);
	char addr[INET6_ADDRSTRLEN];
	unsigned int max, len;

	*ret_why = "not an IPv4 or IPv6 address";
	if (addr_len >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, text, addr_len);
	addr[addr_len] = '\0';
	if (inet_pton(AF_INET, addr, prefix.addr.b + 12) == 1) {
		memcpy(prefix.addr.b, mapped_head, sizeof(mapped_head));
		prefix.family = 4;
		max = 32;
	} else if (inet_pton(AF_INET6, addr, prefix.addr.b) == 1) {
		prefix.family = 6;
		max = 128;
	} else {
		return -EINVAL;
	}

	len = max;
	if (slash && prefix_length_parse(slash + 1, max, &len)) {
		*ret_why = max == 32 ? "the prefix length must be a number from 0 to 32"
				     : "the prefix length must be a number from 0 to 128";
		return -EINVAL;
	}
	if (prefix.family == 6 && len >= 96 && policy_addr_is_ipv4(&prefix.addr)) {
		prefix.family = 4;
		len -= 96;
	}
	prefix.len = (__u8)len;
	*ret_prefix = prefix;
	return 0;
}

static unsigned int prefix_bits(const struct policy_prefix *prefix)
{
	return prefix->len + (prefix->family == 4 ? 96U : 0U);
}

int policy_prefix_parse(const char *text, struct policy_prefix *ret_prefix, const char **ret_why)
{
	struct policy_prefix prefix;
	int err = prefix_read(text, &prefix, ret_why);

	if (err)
		return err;
	if (clear_host_bits(&prefix.addr, prefix_bits(&prefix))) {
		*ret_why = "host bits are set";
		return -EINVAL;
	}
	*ret_prefix = prefix;
	return 0;
}

int policy_prefix_correct(const char *text, struct policy_prefix *ret_prefix)
{
	struct policy_prefix prefix;
	const char *why;
	int err = prefix_read(text, &prefix, &why);

	if (err)
		return err;
	clear_host_bits(&prefix.addr, prefix_bits(&prefix));
	*ret_prefix = prefix;
	return 0;
}

char *policy_addr_format(const struct sipkeep_addr *addr, char *buf)
{
	if (policy_addr_is_ipv4(addr))
		inet_ntop(AF_INET, addr->b + 12, buf, POLICY_PREFIX_LEN);
	else
		inet_ntop(AF_INET6, addr->b, buf, POLICY_PREFIX_LEN);
	return buf;
}

char *policy_prefix_format(const struct policy_prefix *prefix, char *buf)
{
	size_t used;

	/* By its family, not by its bits: ::ffff:0:0/90 isn't IPv4. */
	if (prefix->family == 4)
		inet_ntop(AF_INET, prefix->addr.b + 12, buf, POLICY_PREFIX_LEN);
	else
		inet_ntop(AF_INET6, prefix->addr.b, buf, POLICY_PREFIX_LEN);
	used = strlen(buf);
	snprintf(buf + used, POLICY_PREFIX_LEN - used, "/%u", prefix->len);
	return buf;
}

int policy_prefix_compare(const void *a, const void *b)
{
	const struct policy_prefix *x = a, *y = b;
	int order;

	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	order = memcmp(x->addr.b, y->addr.b, sizeof(x->addr.b));
	return order ? order : (int)x->len - (int)y->len;
}

static int port_compare(const void *a, const void *b)
{
	return (int)*(const __u16 *)a - (int)*(const __u16 *)b;
}

/* Sorts count elements of size bytes; returns how many are left without the doubles. */
static size_t sort_unique(void *list, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	char *base = list;
	size_t kept = 0;

	if (!count)
		return 0;
	qsort(list, count, size, compare);
	for (size_t i = 1; i < count; i++) {
		if (compare(base + kept * size, base + i * size) == 0)
			continue;
		kept++;
		memmove(base + kept * size, base + i * size, size);
	}
	return kept + 1;
}

void policy_normalize(struct policy *policy)
{
	policy->port_count = sort_unique(policy->ports, policy->port_count, sizeof(*policy->ports), port_compare);
	policy->remote_count = sort_unique(policy->remotes, policy->remote_count, sizeof(*policy->remotes),
					   policy_prefix_compare);
}

void policy_set_rate(struct policy *policy, double rate, __u32 burst)
{
	if (rate <= 0) {
		policy->max_rate_per_source = 0;
		policy->burst_per_source = 0;
		policy->kernel.rate_interval_ns = 0;
		policy->kernel.rate_burst_ns = 0;
		return;
	}
	if (!burst)
		burst = rate > 1 ? (__u32)ceil(rate) : 1;
	policy->max_rate_per_source = rate;
	policy->burst_per_source = burst;
	policy->kernel.rate_interval_ns = (__u64)llround(1e9 / rate);
	policy->kernel.rate_burst_ns = burst * policy->kernel.rate_interval_ns;
}

int policy_find(const struct policy_set *set, const char *name)
{
	for (size_t i = 0; i < set->policy_count; i++)
		if (strcmp(set->policies[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* The first port both name; "any" meets only "any", since an exact port beats it. */
static bool port_in_common(const struct policy *a, const struct policy *b, __u16 *ret_port)
{
	if (!a->port_count || !b->port_count) {
		*ret_port = 0;
		return a->port_count == b->port_count;
	}
	for (size_t i = 0, j = 0; i < a->port_count && j < b->port_count;) {
		if (a->ports[i] == b->ports[j]) {
			*ret_port = a->ports[i];
			return true;
		}
		if (a->ports[i] < b->ports[j])
			i++;
		else
			j++;
	}
	return false;
}

bool policy_overlap(const struct policy *a, const struct policy *b, __u16 *ret_port, struct policy_prefix *ret_prefix)
{
	__u16 port;

	if (a->direction != b->direction || !port_in_common(a, b, &port))
		return false;
	/* Of two prefixes of one length that have an address in common, both are the same. */
	for (size_t i = 0, j = 0; i < a->remote_count && j < b->remote_count;) {
		int order = policy_prefix_compare(&a->remotes[i], &b->remotes[j]);

		if (order == 0) {
			*ret_port = port;
			*ret_prefix = a->remotes[i];
			return true;
		}
		if (order < 0)
			i++;
		else
			j++;
	}
	return false;
}

static bool policy_moves(const struct policy *from, const struct policy *to)
{
	return from->direction != to->direction || from->port_count != to->port_count ||
	       from->remote_count != to->remote_count ||
	       from->kernel.source_prefix_ipv4 != to->kernel.source_prefix_ipv4 ||
	       from->kernel.source_prefix_ipv6 != to->kernel.source_prefix_ipv6 ||
	       (from->port_count && memcmp(from->ports, to->ports, from->port_count * sizeof(*from->ports))) ||
	       (from->remote_count && memcmp(from->remotes, to->remotes, from->remote_count * sizeof(*from->remotes)));
}

bool policy_set_moves(const struct policy_set *from, const struct policy_set *to)
{
	if (from->policy_count != to->policy_count)
		return true;
	for (size_t i = 0; i < from->policy_count; i++) {
		int index = policy_find(to, from->policies[i].name);

		if (index < 0 || policy_moves(&from->policies[i], &to->policies[index]))
			return true;
	}
	return false;
}
