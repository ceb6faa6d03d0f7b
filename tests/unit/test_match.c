/* SPDX-License-Identifier: GPL-2.0-only */
/* test_match.c: the pure decisions of bpf/match.h, the very code that the kernel runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "match.h"
#include "policy.h"

/* Aligned as in the structs that hold one. */
union aligned_addr {
	struct sipkeep_addr addr;
	__u64 words[2];
};

static struct sipkeep_addr addr_of(const char *text)
{
	struct policy_prefix prefix;
	const char *why = "";

	if (policy_prefix_parse(text, &prefix, &why))
		fail_msg("%s: %s", text, why);
	return prefix.addr;
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static void ipv4_is_told_by_its_mapping(void **state)
{
	static const struct {
		const char *text;
		bool ipv4;
	} cases[] = {
		{ "0.0.0.0", true },	     { "192.0.2.1", true },  { "255.255.255.255", true },
		{ "::ffff:192.0.2.1", true }, { "::", false },	     { "::1", false },
		{ "::192.0.2.1", false },    { "1::ffff:c000:201", false }, { "::1:0:ffff:c000:201", false },
		{ "::1:ffff:c000:201", false }, { "::fffe:c000:201", false }, { "::ff:c000:201", false },
		{ "2001:db8::ffff:c000:201", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		union aligned_addr at = { .addr = addr_of(cases[i].text) };

		if (addr_is_ipv4(&at.addr) != cases[i].ipv4)
			fail_msg("%s is%s IPv4", cases[i].text, cases[i].ipv4 ? "n't" : "");
		/* The loader's own idea of it is the same. */
		assert_int_equal(policy_addr_is_ipv4(&at.addr), cases[i].ipv4);
	}
}

static void ipv4_is_mapped_whatever_was_there(void **state)
{
	union aligned_addr at;
	struct sipkeep_addr wanted = addr_of("192.0.2.7");
	__u32 ipv4;

	(void)state;
	memset(&at, 0xa5, sizeof(at));
	memcpy(&ipv4, wanted.b + 12, sizeof(ipv4));
	addr_from_ipv4(&at.addr, ipv4);
	assert_memory_equal(&at.addr, &wanted, sizeof(wanted));
}

static void addr_mask_keeps_the_first_bits(void **state)
{
	static const __u8 patterns[][16] = {
		{ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		{ 0x20, 0x01, 0x0d, 0xb8, 0xa5, 0x5a, 0x01, 0x80, 0xfe, 0x7f, 0x33, 0xcc, 0x81, 0x18, 0x42, 0x99 },
		{ 0 },
	};

	(void)state;
	for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++) {
		for (__u32 bits = 0; bits <= 128; bits++) {
			union aligned_addr at;

			memcpy(&at.addr, patterns[p], sizeof(at.addr));
			addr_mask(&at.addr, bits);
			for (__u32 bit = 0; bit < 128; bit++) {
				int before = patterns[p][bit / 8] >> (7 - bit % 8) & 1;
				int after = at.addr.b[bit / 8] >> (7 - bit % 8) & 1;

				if (after != (bit < bits ? before : 0))
					fail_msg("pattern %zu, %u bits: bit %u is %d", p, bits, bit, after);
			}
		}
	}
}

static void sources_are_cut_by_their_family(void **state)
{
	static const struct {
		__u8 ipv4, ipv6;
		const char *address, *source;
	} cases[] = {
		{ 32, 64, "192.0.2.7", "192.0.2.7" },
		{ 24, 64, "192.0.2.7", "192.0.2.0" },
		{ 25, 64, "192.0.2.200", "192.0.2.128" },
		{ 0, 64, "192.0.2.7", "0.0.0.0" }, /* all of IPv4 is one source, and isn't "::" */
		{ 32, 64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::" },
		{ 32, 128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6" },
		{ 32, 56, "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::" },
		{ 32, 0, "2001:db8:1:2:3:4:5:6", "::" },
		{ 8, 64, "::ffff:10.1.2.3", "10.0.0.0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sipkeep_policy policy = { .source_prefix_ipv4 = cases[i].ipv4,
						 .source_prefix_ipv6 = cases[i].ipv6 };
		union aligned_addr at = { .addr = addr_of(cases[i].address) };
		struct sipkeep_addr wanted = addr_of(cases[i].source);

		addr_mask(&at.addr, source_bits(&policy, &at.addr));
		if (memcmp(&at.addr, &wanted, sizeof(wanted)))
			fail_msg("case %zu: %s is not in %s", i, cases[i].address, cases[i].source);
	}
}

static void tuples_differ_in_every_byte(void **state)
{
	struct sipkeep_tuple a, b;

	(void)state;
	memset(&a, 0x5a, sizeof(a));
	b = a;
	assert_true(tuple_equal(&a, &b));
	for (size_t i = 0; i < sizeof(b); i++) {
		((__u8 *)&b)[i] ^= 1;
		if (tuple_equal(&a, &b))
			fail_msg("byte %zu is not compared", i);
		((__u8 *)&b)[i] ^= 1;
	}
}

/* ---- count words ---------------------------------------------------------------------------------------------------- */

#define TAG (0x2aaaaaULL << SIPKEEP_TAG_SHIFT)

static __u64 word_of(__u32 active, __u32 reserved)
{
	return TAG | reserved * SIPKEEP_RESERVED_ONE | active;
}

static void tags_stay_in_their_bits_and_tell_keys_apart(void **state)
{
	struct sipkeep_source_key key = { .policy = 3, .addr = addr_of("192.0.2.1") }, other;
	__u64 tag = source_tag(&key);
	unsigned int same = 0;

	(void)state;
	assert_int_equal(tag & ~SIPKEEP_TAG_MASK, 0);
	assert_true(source_tag(&key) == tag);
	/* Every bit of the key counts: of 320 single-bit changes, none (or, by bad luck, one) may hash to the same 22 bits. */
	for (size_t bit = 0; bit < sizeof(key) * 8; bit++) {
		other = key;
		((__u8 *)&other)[bit / 8] ^= (__u8)(1 << bit % 8);
		same += source_tag(&other) == tag;
	}
	assert_in_range(same, 0, 1);
}

static void the_fields_of_a_word_fill_it(void **state)
{
	(void)state;
	assert_true((SIPKEEP_DEAD ^ SIPKEEP_QUEUED ^ SIPKEEP_TAG_MASK ^ 0xffff * SIPKEEP_RESERVED_ONE ^ 0xffffff) == ~0ULL);
	assert_int_equal(count_active(word_of(0xabcdef, 0x1234)), 0xabcdef);
	assert_int_equal(count_reserved(word_of(0xabcdef, 0x1234)), 0x1234);
	assert_int_equal(count_active(word_of(1, 0) + SIPKEEP_ACTIVE_ONE), 2);
	assert_int_equal(count_reserved(word_of(1, 4) + SIPKEEP_RESERVED_ONE), 5);
	/* Settling: a reservation becomes an active one. */
	assert_true(word_of(1, 4) + (SIPKEEP_ACTIVE_ONE - SIPKEEP_RESERVED_ONE) == word_of(2, 3));
}

static void a_place_is_free_below_the_limit_only(void **state)
{
	static const struct {
		__u32 active, reserved, limit;
		enum place place;
	} cases[] = {
		{ 0, 0, 1, PLACE_FREE },	{ 0, 1, 1, PLACE_DOUBT },      { 1, 0, 1, PLACE_TAKEN },
		{ 1, 1, 1, PLACE_TAKEN },	{ 9, 0, 10, PLACE_FREE },      { 8, 1, 10, PLACE_FREE },
		{ 9, 1, 10, PLACE_DOUBT },	{ 0, 10, 10, PLACE_DOUBT },    { 10, 0, 10, PLACE_TAKEN },
		{ 11, 0, 10, PLACE_TAKEN }, /* the limit was lowered */
		{ 5, 100, 10, PLACE_DOUBT },	{ 0, 0, 0, PLACE_FREE },       { 1000000, 60000, 0, PLACE_FREE },
		{ 15999999, 0, 16000000, PLACE_FREE }, { 16000000, 0, 16000000, PLACE_TAKEN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum place place = count_place(word_of(cases[i].active, cases[i].reserved), TAG, cases[i].limit);

		if (place != cases[i].place)
			fail_msg("%u active, %u reserved, limit %u: %d", cases[i].active, cases[i].reserved,
				 cases[i].limit, place);
	}
}

/* Every pair around a limit, by what the header says. */
static void a_place_is_free_exactly_when_the_sum_says_so(void **state)
{
	(void)state;
	for (__u32 limit = 1; limit <= 6; limit++)
		for (__u32 active = 0; active <= 8; active++)
			for (__u32 reserved = 0; reserved <= 8; reserved++) {
				enum place place = count_place(word_of(active, reserved), TAG, limit);
				enum place wanted = active >= limit	       ? PLACE_TAKEN :
						    active + reserved < limit ? PLACE_FREE :
										PLACE_DOUBT;

				assert_int_equal(place, wanted);
			}
}

static void full_fields_let_nobody_in(void **state)
{
	static const __u32 limits[] = { 0, 1, 16000000, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		assert_int_not_equal(count_place(word_of(0, 0xffff), TAG, limits[i]), PLACE_FREE);
		assert_int_not_equal(count_place(word_of(0xffffff, 0), TAG, limits[i]), PLACE_FREE);
		assert_int_not_equal(count_place(word_of(0xffffff, 0xffff), TAG, limits[i]), PLACE_FREE);
	}
	/* The last that fits doesn't spill over. */
	assert_int_equal(count_place(word_of(0, 0xfffe), TAG, 0), PLACE_FREE);
	assert_int_equal(count_active(word_of(0, 0xfffe) + SIPKEEP_RESERVED_ONE), 0);
	assert_true(((word_of(0, 0xfffe) + SIPKEEP_RESERVED_ONE) & SIPKEEP_TAG_MASK) == TAG);
	assert_int_equal(count_place(word_of(0xfffffe, 0), TAG, 0), PLACE_FREE);
	assert_int_equal(count_reserved(word_of(0xfffffe, 0) + SIPKEEP_ACTIVE_ONE), 0);
}

static void dead_and_foreign_words_are_gone(void **state)
{
	(void)state;
	for (__u32 limit = 0; limit <= 2; limit++) {
		assert_int_equal(count_place(word_of(0, 0) | SIPKEEP_DEAD, TAG, limit), PLACE_GONE);
		assert_int_equal(count_place(word_of(5, 5) | SIPKEEP_DEAD, TAG, limit), PLACE_GONE);
		assert_int_equal(count_place(word_of(0, 0) ^ (1ULL << SIPKEEP_TAG_SHIFT), TAG, limit), PLACE_GONE);
		assert_int_equal(count_place(0, TAG, limit), PLACE_GONE);
		assert_int_equal(count_place(word_of(0, 0), 0, limit), PLACE_GONE);
		/* A full field of another's word says nothing about ours. */
		assert_int_equal(count_place(word_of(0xffffff, 0xffff) ^ (1ULL << 61), TAG, limit), PLACE_GONE);
	}
	/* Queued for its removal, it is counted in all the same: the clock finds that out. */
	assert_int_equal(count_place(word_of(1, 0) | SIPKEEP_QUEUED, TAG, 2), PLACE_FREE);
	assert_true(count_is_idle(word_of(0, 0) | SIPKEEP_QUEUED));
	assert_false(count_is_idle(word_of(1, 0)));
	assert_false(count_is_idle(word_of(0, 1)));
	/* A policy's word has no tag. */
	assert_int_equal(count_place(3, 0, 4), PLACE_FREE);
	assert_int_equal(count_place(4, 0, 4), PLACE_TAKEN);
}

/* ---- rate ------------------------------------------------------------------------------------------------------------ */

#define SECOND 1000000000ULL

/* How many of `tries` at this instant get through. */
static unsigned int taken_at(const struct sipkeep_policy *kernel, __u64 *tat, __u64 now, unsigned int tries)
{
	unsigned int taken = 0;

	while (tries--) {
		__u64 next = rate_next(*tat, now, kernel->rate_interval_ns, kernel->rate_burst_ns);

		if (!next)
			continue;
		*tat = next;
		taken++;
	}
	return taken;
}

static void the_burst_is_exact(void **state)
{
	static const struct {
		double rate;
		__u32 burst;
	} cases[] = { { 10, 20 }, { 10, 1 }, { 1, 1 }, { 0.5, 3 }, { 3, 7 }, { 0.001, 2 }, { 1000000, 1000 }, { 7.3, 13 } };
	static const __u64 starts[] = { 1, 12345, 3600 * SECOND, 400ULL * 86400 * SECOND };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
			struct policy policy = { 0 };
			__u64 tat = 0, interval, now = starts[s];

			policy_set_rate(&policy, cases[i].rate, cases[i].burst);
			interval = policy.kernel.rate_interval_ns;
			/* A new source has its whole burst, and not one more. */
			assert_int_equal(taken_at(&policy.kernel, &tat, now, cases[i].burst + 50), cases[i].burst);
			/* The next one comes with the interval, not a nanosecond sooner. */
			assert_int_equal(taken_at(&policy.kernel, &tat, now + interval - 1, 3), 0);
			assert_int_equal(taken_at(&policy.kernel, &tat, now + interval, 3), 1);
			assert_int_equal(taken_at(&policy.kernel, &tat, now + 2 * interval, 3), 1);
			/* Rest fills it up again, never beyond the burst. */
			now += (2 + cases[i].burst) * interval;
			assert_int_equal(taken_at(&policy.kernel, &tat, now, cases[i].burst + 50), cases[i].burst);
			now += 1000ULL * cases[i].burst * interval;
			assert_int_equal(taken_at(&policy.kernel, &tat, now, cases[i].burst + 50), cases[i].burst);
		}
}

static void the_rate_holds_for_long(void **state)
{
	struct policy policy = { 0 };
	__u64 tat = 0, start = 77 * SECOND;
	unsigned int taken = 0;

	(void)state;
	policy_set_rate(&policy, 10, 20);
	/* Ten seconds of a connect() each millisecond: the burst, and ten a second. */
	for (unsigned int ms = 0; ms < 10000; ms++)
		taken += taken_at(&policy.kernel, &tat, start + ms * 1000000ULL, 1);
	assert_in_range(taken, 20 + 99, 20 + 100);
	/* Within the rate nobody is ever refused. */
	tat = 0;
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(taken_at(&policy.kernel, &tat, start + i * policy.kernel.rate_interval_ns, 1), 1);
}

static void the_refused_cost_nothing(void **state)
{
	__u64 tat = 5 * SECOND + 3;

	(void)state;
	assert_int_equal(rate_next(tat, 5 * SECOND, SECOND, SECOND), 0);
	assert_int_equal(rate_next(tat, 5 * SECOND + 3, SECOND, SECOND), 6 * SECOND + 3);
	/* What was taken and came to nothing is given back by subtraction: the next one gets it. */
	tat = rate_next(0, SECOND, SECOND, SECOND);
	assert_int_equal(rate_next(tat, SECOND, SECOND, SECOND), 0);
	assert_int_not_equal(rate_next(tat - SECOND, SECOND, SECOND, SECOND), 0);
}

static void a_mode_turns_over_at_its_time(void **state)
{
	const __u64 ms = 1000000, until = 5000ULL << SIPKEEP_LIVE_UNTIL_SHIFT;

	(void)state;
	assert_false(live_observes(0, ~0ULL));
	assert_true(live_observes(SIPKEEP_LIVE_OBSERVE, ~0ULL));
	assert_false(live_observes(until | SIPKEEP_LIVE_BANK, 5000 * ms - 1));
	assert_true(live_observes(until | SIPKEEP_LIVE_BANK, 5000 * ms));
	assert_true(live_observes(until | SIPKEEP_LIVE_OBSERVE, 0));
	assert_true(live_observes(until | SIPKEEP_LIVE_OBSERVE | SIPKEEP_LIVE_FULL_REFUSE, 5000 * ms - 1));
	assert_false(live_observes(until | SIPKEEP_LIVE_OBSERVE, 5000 * ms));
	assert_false(live_observes(until | SIPKEEP_LIVE_OBSERVE, ~0ULL));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ipv4_is_told_by_its_mapping),
		cmocka_unit_test(ipv4_is_mapped_whatever_was_there),
		cmocka_unit_test(addr_mask_keeps_the_first_bits),
		cmocka_unit_test(sources_are_cut_by_their_family),
		cmocka_unit_test(tuples_differ_in_every_byte),
		cmocka_unit_test(tags_stay_in_their_bits_and_tell_keys_apart),
		cmocka_unit_test(the_fields_of_a_word_fill_it),
		cmocka_unit_test(a_place_is_free_below_the_limit_only),
		cmocka_unit_test(a_place_is_free_exactly_when_the_sum_says_so),
		cmocka_unit_test(full_fields_let_nobody_in),
		cmocka_unit_test(dead_and_foreign_words_are_gone),
		cmocka_unit_test(a_mode_turns_over_at_its_time),
		cmocka_unit_test(the_burst_is_exact),
		cmocka_unit_test(the_rate_holds_for_long),
		cmocka_unit_test(the_refused_cost_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
