// SPDX-License-Identifier: GPL-2.0-only
/*
 * diagnose_nat.c: ends that a NAT or a firewall on the way brings about, having forgotten a connection that was quiet
 * for too long.
 *
 * A single such end may be a phone without power. A second one from the same network is taken for a sign: /24 (a NAT's
 * pool of addresses, a carrier's farm of proxies) or /64 (a site), by policy.
 */
#include <stdlib.h>
#include <string.h>
#include "diagnose_internal.h"
#include "policy.h"

/* No middlebox drops a TCP connection sooner; a reset after less is somebody's decision. */
#define QUIET_MIN_MS 20000

static struct prefix *prefix_make(struct diagnose *diagnose, const struct prefix_key *key)
{
	struct prefix *prefix;

	if (diagnose->prefixes.count < DIAGNOSE_PREFIXES_MAX) {
		prefix = calloc(1, sizeof(*prefix));
		if (!prefix)
			return NULL;
	} else {
		prefix = TAILQ_FIRST(&diagnose->prefix_order);
		TAILQ_REMOVE(&diagnose->prefix_order, prefix, order);
		table_remove(&diagnose->prefixes, &prefix->node);
		memset(prefix, 0, sizeof(*prefix));
	}
	prefix->key = *key;
	table_add(&diagnose->prefixes, &prefix->node);
	TAILQ_INSERT_TAIL(&diagnose->prefix_order, prefix, order);
	return prefix;
}

bool nat_expired(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct prefix_key key = { .addr = record->remote, .policy = record->policy };
	struct prefix *prefix;

	if (record->reason != SIPKEEP_REASON_KEEPALIVE_TIMEOUT &&
	    (record->reason != SIPKEEP_REASON_PEER_RESET || record->quiet_ms < QUIET_MIN_MS))
		return false;
	if (policy_addr_is_ipv4(&key.addr))
		key.addr.b[15] = 0;
	else
		memset(key.addr.b + 8, 0, 8);
	prefix = table_find(&diagnose->prefixes, &key);
	if (!prefix)
		prefix = prefix_make(diagnose, &key);
	if (!prefix)
		return false;
	TAILQ_REMOVE(&diagnose->prefix_order, prefix, order);
	TAILQ_INSERT_TAIL(&diagnose->prefix_order, prefix, order);
	if (record->quiet_ms && (!prefix->quiet_ms || record->quiet_ms < prefix->quiet_ms))
		prefix->quiet_ms = record->quiet_ms;
	prefix->ends += prefix->ends < 3;
	if (prefix->ends == 1)
		return false;
	if (diagnose->nat)
		diagnose->nat(diagnose->nat_arg, record->policy, prefix->ends == 2 ? 2 : 1, prefix->quiet_ms);
	return true;
}

void nat_free(struct diagnose *diagnose)
{
	struct prefix *prefix;

	while ((prefix = TAILQ_FIRST(&diagnose->prefix_order))) {
		TAILQ_REMOVE(&diagnose->prefix_order, prefix, order);
		free(prefix);
	}
	table_free(&diagnose->prefixes);
}
