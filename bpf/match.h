/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * match.h: the pure decisions: what source a connection belongs to, is there a place for it, may it come now.
 * No helper and no map: compiles as BPF and as host C, so that the unit tests call the very same code.
 */
#ifndef SIPKEEP_MATCH_H
#define SIPKEEP_MATCH_H

#include "sipkeep.h"

#define MATCH static inline __attribute__((always_inline))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MATCH_HTONL(x) __builtin_bswap32(x)
#else
#define MATCH_HTONL(x) (x)
#endif

/* Does the instance observe only, by the word `live` of its config? */
MATCH _Bool live_observes(__u64 live, __u64 now_ns)
{
	__u64 until_ms = live >> SIPKEEP_LIVE_UNTIL_SHIFT;

	return !!(live & SIPKEEP_LIVE_OBSERVE) != (until_ms && now_ns / 1000000 >= until_ms);
}

/* Bits in front of an IPv4 prefix in its mapped form. */
#define MATCH_IPV4_BITS 96U

MATCH _Bool addr_is_ipv4(const struct sipkeep_addr *addr)
{
	return addr->w[0] == 0 && addr->w[1] == 0 && addr->w[2] == MATCH_HTONL(0xffff);
}

/* ipv4: in network order. */
MATCH void addr_from_ipv4(struct sipkeep_addr *addr, __u32 ipv4)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = MATCH_HTONL(0xffff);
	addr->w[3] = ipv4;
}

/* Keeps the first `bits` (0..128) of addr, zeroes the rest. By words: a branch a byte is too much for 6.1's verifier. */
MATCH void addr_mask(struct sipkeep_addr *addr, __u32 bits)
{
	for (__u32 i = 0; i < 4; i++) {
		__u32 keep = bits > i * 32 ? bits - i * 32 : 0;
		__u32 mask = keep >= 32 ? ~0U : (__u32)~(0xffffffffULL >> keep);

		addr->w[i] &= MATCH_HTONL(mask);
	}
}

MATCH _Bool tuple_equal(const struct sipkeep_tuple *a, const struct sipkeep_tuple *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	for (__u32 i = 0; i < sizeof(*a) / 8; i++)
		if (x[i] != y[i])
			return 0;
	return 1;
}

_Static_assert(sizeof(struct sipkeep_source_key) == sizeof(struct sipkeep_tuple), "compared alike");
MATCH _Bool source_key_equal(const struct sipkeep_source_key *a, const struct sipkeep_source_key *b)
{
	return tuple_equal((const struct sipkeep_tuple *)a, (const struct sipkeep_tuple *)b);
}

/* Bits of the 16-byte form that make up the source by this policy. */
MATCH __u32 source_bits(const struct sipkeep_policy *policy, const struct sipkeep_addr *addr)
{
	return addr_is_ipv4(addr) ? MATCH_IPV4_BITS + policy->source_prefix_ipv4 : policy->source_prefix_ipv6;
}

/* The hash of a source's key that its count word carries. Never 0 bits of meaning: any value is a good tag. */
MATCH __u64 source_tag(const struct sipkeep_source_key *key)
{
	const __u64 *word = (const __u64 *)key;
	__u64 hash = 0x9e3779b97f4a7c15ULL;

	for (__u32 i = 0; i < sizeof(*key) / 8; i++) {
		hash ^= word[i];
		hash *= 0xff51afd7ed558ccdULL;
		hash ^= hash >> 32;
	}
	hash *= 0x9e3779b97f4a7c15ULL; /* the last word's high bits, too */
	return hash & SIPKEEP_TAG_MASK;
}

/* Nothing is established, nothing under way. */
MATCH _Bool count_is_idle(__u64 word)
{
	return !(word & ((1ULL << SIPKEEP_TAG_SHIFT) - 1));
}

MATCH __u32 count_active(__u64 word)
{
	return (__u32)(word & 0xffffff);
}

MATCH __u32 count_reserved(__u64 word)
{
	return (__u32)(word >> 24) & 0xffff;
}

enum place {
	PLACE_FREE,
	PLACE_TAKEN, /* the limit is reached by established connections */
	PLACE_DOUBT, /* reached only with reservations that may yet come to nothing */
	PLACE_GONE,  /* the word isn't this source's (any more): look it up again */
	PLACE_NONE,  /* the source has no entry, and there is no room for one */
};

/* May one more come in? limit 0: no limit. */
MATCH enum place count_place(__u64 word, __u64 tag, __u32 limit)
{
	if ((word & (SIPKEEP_DEAD | SIPKEEP_TAG_MASK)) != tag)
		return PLACE_GONE;
	if (count_reserved(word) == 0xffff || count_active(word) == 0xffffff)
		return PLACE_DOUBT; /* the fields must not overflow into each other */
	if (limit == 0)
		return PLACE_FREE;
	if (count_active(word) >= limit)
		return PLACE_TAKEN;
	return count_active(word) + count_reserved(word) < limit ? PLACE_FREE : PLACE_DOUBT;
}

/*
 * The rate limit is a token bucket kept as one time (GCRA): tat, when the bucket will be full again. A connection
 * moves it by `interval`; it may not be further ahead of now than `burst`. Returns the new tat, 0 when refused.
 */
MATCH __u64 rate_next(__u64 tat_ns, __u64 now_ns, __u64 interval_ns, __u64 burst_ns)
{
	__u64 next = (tat_ns > now_ns ? tat_ns : now_ns) + interval_ns;

	return next - now_ns <= burst_ns ? next : 0;
}

#endif
