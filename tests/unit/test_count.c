/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * test_count.c: bpf/count.h itself, on the host: taking, settling and giving back places, by one thread and by several.
 * What the kernel gives the programs is stood in for: the clock, and maps whose elements are reused at once, as those of
 * a preallocated hash map are. The decisions and the compare-and-swap loops are the real ones.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wattributes" /* preserve_access_index is clang's */
#include "kernel.h"
#include "../../bpf/maps.h" /* user/ has a maps.h too */

static void *map_lookup(void *map, const void *key);
static long map_update(void *map, const void *key, const void *value, __u64 flags);
static long map_delete(void *map, const void *key);
static long map_push(void *map, const void *value, __u64 flags);
static long map_pop(void *map, void *value);
static long loop(__u32 rounds, void *callback, void *arg, __u64 flags);
static __u64 now_ns;

#define bpf_map_lookup_elem map_lookup
#define bpf_map_update_elem map_update
#define bpf_map_delete_elem map_delete
#define bpf_map_push_elem map_push
#define bpf_map_pop_elem map_pop
#define bpf_loop loop
#define bpf_ktime_get_ns() (now_ns)
#define bpf_ringbuf_reserve(ring, size, flags) (NULL)
#define bpf_ringbuf_query(ring, what) (0ULL)
#define bpf_ringbuf_submit(record, flags) ((void)(record), (void)(flags))
#include "clock.h"

/* ---- the kernel's part --------------------------------------------------------------------------------------------- */

#define SOURCES_MAX 16

struct element {
	bool used;
	struct sipkeep_source_key key;
	struct sipkeep_source source;
};

static struct element elements[SOURCES_MAX];
static unsigned int free_list[SOURCES_MAX], free_count; /* the last freed is the next taken */
static pthread_mutex_t sources_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sipkeep_source_key clock_queue[2 * SOURCES_MAX];
static unsigned int clock_first, clock_count;
static struct sipkeep_config config_value;
static struct sipkeep_policy policy_values[2 * SIPKEEP_MAX_POLICIES];
static struct sipkeep_policy_count count_values[SIPKEEP_MAX_POLICIES];
static struct sipkeep_shared shared_value;
static __thread struct sipkeep_policy_stats policy_stats_values[SIPKEEP_MAX_POLICIES];
static __thread struct sipkeep_stats stats_value;

static struct element *element_find(const void *key)
{
	for (size_t i = 0; i < SOURCES_MAX; i++)
		if (elements[i].used && !memcmp(&elements[i].key, key, sizeof(elements[i].key)))
			return &elements[i];
	return NULL;
}

static void *map_lookup(void *map, const void *key)
{
	__u32 index = *(const __u32 *)key;
	struct element *element;

	if (map == &config)
		return &config_value;
	if (map == &policies)
		return index < 2 * SIPKEEP_MAX_POLICIES ? &policy_values[index] : NULL;
	if (map == &policy_counts)
		return index < SIPKEEP_MAX_POLICIES ? &count_values[index] : NULL;
	if (map == &policy_stats)
		return index < SIPKEEP_MAX_POLICIES ? &policy_stats_values[index] : NULL;
	if (map == &stats)
		return &stats_value;
	if (map == &shared)
		return &shared_value;
	assert_ptr_equal(map, &sources);
	pthread_mutex_lock(&sources_lock);
	element = element_find(key);
	pthread_mutex_unlock(&sources_lock);
	return element ? &element->source : NULL;
}

static long map_update(void *map, const void *key, const void *value, __u64 flags)
{
	const __u64 *from = value;
	struct element *element;
	long err = 0;

	assert_ptr_equal(map, &sources);
	assert_int_equal(flags, BPF_NOEXIST);
	pthread_mutex_lock(&sources_lock);
	if (element_find(key)) {
		err = -17; /* EEXIST */
	} else if (!free_count) {
		err = -7; /* E2BIG */
	} else {
		element = &elements[free_list[--free_count]];
		/* Word by word, as the kernel copies: whoever still holds the element that was here sees it change. */
		for (size_t i = 0; i < sizeof(element->source) / 8; i++)
			__atomic_store_n((__u64 *)&element->source + i, from[i], __ATOMIC_SEQ_CST);
		memcpy(&element->key, key, sizeof(element->key));
		element->used = true;
	}
	pthread_mutex_unlock(&sources_lock);
	return err;
}

static long map_delete(void *map, const void *key)
{
	struct element *element;

	assert_ptr_equal(map, &sources);
	pthread_mutex_lock(&sources_lock);
	element = element_find(key);
	if (element) {
		element->used = false;
		free_list[free_count++] = (unsigned int)(element - elements);
	}
	pthread_mutex_unlock(&sources_lock);
	return element ? 0 : -2;
}

static long map_push(void *map, const void *value, __u64 flags)
{
	long err = 0;

	assert_ptr_equal(map, &source_queue);
	assert_int_equal(flags, BPF_ANY);
	pthread_mutex_lock(&sources_lock);
	if (clock_count == 2 * SOURCES_MAX)
		err = -7; /* E2BIG */
	else
		memcpy(&clock_queue[(clock_first + clock_count++) % (2 * SOURCES_MAX)], value, sizeof(clock_queue[0]));
	pthread_mutex_unlock(&sources_lock);
	return err;
}

static long map_pop(void *map, void *value)
{
	long err = 0;

	assert_ptr_equal(map, &source_queue);
	pthread_mutex_lock(&sources_lock);
	if (!clock_count) {
		err = -2; /* ENOENT */
	} else {
		memcpy(value, &clock_queue[clock_first], sizeof(clock_queue[0]));
		clock_first = (clock_first + 1) % (2 * SOURCES_MAX);
		clock_count--;
	}
	pthread_mutex_unlock(&sources_lock);
	return err;
}

static __thread __u32 loop_steps; /* of the last loop */
static void (*meanwhile)(__u32 steps); /* what other CPUs do after so many steps of it */

static long loop(__u32 rounds, void *callback, void *arg, __u64 flags)
{
	long (*step)(__u32 index, void *arg) = callback;
	bool over = false;

	assert_int_equal(flags, 0);
	for (loop_steps = 0; !over && loop_steps < rounds; loop_steps++) {
		over = step(loop_steps, arg);
		if (meanwhile)
			meanwhile(loop_steps + 1);
	}
	return loop_steps;
}

static int set_up(void **state)
{
	(void)state;
	meanwhile = NULL;
	clock_first = clock_count = 0;
	memset(elements, 0, sizeof(elements));
	memset(&config_value, 0, sizeof(config_value));
	memset(policy_values, 0, sizeof(policy_values));
	memset(count_values, 0, sizeof(count_values));
	memset(&shared_value, 0, sizeof(shared_value));
	memset(policy_stats_values, 0, sizeof(policy_stats_values));
	memset(&stats_value, 0, sizeof(stats_value));
	for (free_count = 0; free_count < SOURCES_MAX; free_count++)
		free_list[free_count] = SOURCES_MAX - 1 - free_count;
	now_ns = 1000000000000ULL;
	return 0;
}

#define POLICY 3

static struct sipkeep_source_key key_of(unsigned int number)
{
	struct sipkeep_source_key key = { .policy = POLICY };

	addr_from_ipv4(&key.addr, bpf_htonl(0xcb007100 + number));
	return key;
}

static __u64 word_of(unsigned int number)
{
	struct sipkeep_source_key key = key_of(number);
	struct sipkeep_source *source = map_lookup(&sources, &key);

	assert_non_null(source);
	assert_true((source->count & (SIPKEEP_TAG_MASK | SIPKEEP_DEAD)) == source_tag(&key));
	return source->count & ~(SIPKEEP_TAG_MASK | SIPKEEP_QUEUED);
}

static bool is_known(unsigned int number)
{
	struct sipkeep_source_key key = key_of(number);

	return map_lookup(&sources, &key) != NULL;
}

static __u64 policy_word(void)
{
	return count_values[POLICY].count;
}

static __u32 live; /* SIPKEEP_LIVE_* */

static int take(struct places *places, unsigned int number, const struct sipkeep_policy *policy, int *ret_cause)
{
	memset(places, 0, sizeof(*places));
	places->key = key_of(number);
	return places_take_somehow(places, policy, false, live, ret_cause);
}

static void release(const struct places *places)
{
	places_release(&places->key, places->flags);
}

#define ACTIVE(n) ((n) * SIPKEEP_ACTIVE_ONE)
#define RESERVED(n) ((n) * SIPKEEP_RESERVED_ONE)

/* ---- one thread ------------------------------------------------------------------------------------------------------ */

static void a_place_is_taken_settled_and_released(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = 2, .max_connections = 5 };
	struct places a, b, c;
	int cause;

	(void)state;
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	assert_int_equal(cause, SIPKEEP_REFUSED_NONE);
	assert_true(word_of(1) == RESERVED(1));
	assert_true(policy_word() == RESERVED(1));
	assert_int_equal(take(&b, 1, &policy, &cause), ADMIT);
	/* Both places may yet come to nothing: the third must ask again. */
	assert_int_equal(take(&c, 1, &policy, &cause), DEFER);
	assert_int_equal(cause, SIPKEEP_REFUSED_NONE);
	places_settle(&a);
	assert_true(word_of(1) == ACTIVE(1) + RESERVED(1));
	assert_true(policy_word() == ACTIVE(1) + RESERVED(1));
	assert_int_equal(take(&c, 1, &policy, &cause), DEFER);
	places_settle(&b);
	assert_int_equal(take(&c, 1, &policy, &cause), REFUSE);
	assert_int_equal(cause, SIPKEEP_REFUSED_SOURCE);
	assert_true(word_of(1) == ACTIVE(2));
	assert_true(policy_word() == ACTIVE(2));
	/* Another source has its own. */
	assert_int_equal(take(&c, 2, &policy, &cause), ADMIT);
	places_undo(&c);
	release(&a);
	assert_true(word_of(1) == ACTIVE(1));
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	places_settle(&a);
	release(&a);
	release(&b);
	assert_true(word_of(1) == 0);
	assert_true(policy_word() == 0);
	assert_int_equal(((struct sipkeep_source *)map_lookup(&sources, &a.key))->peak, 2);
	assert_int_equal(((struct sipkeep_source *)map_lookup(&sources, &a.key))->admitted, 3);
	assert_int_equal(policy_stats_values[POLICY].admitted, 3);
}

static void what_comes_to_nothing_leaves_nothing(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = 3 };
	struct places a, b;
	int cause;

	(void)state;
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	assert_int_equal(take(&b, 1, &policy, &cause), ADMIT);
	places_undo(&a);
	assert_true(word_of(1) == RESERVED(1));
	places_undo(&b);
	assert_true(word_of(1) == 0);
	assert_true(policy_word() == 0);
	/* One that had a connection stays, for `sources` to show. */
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	places_settle(&a);
	release(&a);
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	places_undo(&a);
	assert_true(word_of(1) == 0);
}

static void the_policys_limit_gives_the_sources_place_back(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = 9, .max_connections = 1 };
	struct places a, b;
	int cause;

	(void)state;
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	assert_int_equal(take(&b, 2, &policy, &cause), DEFER);
	assert_true(word_of(2) == 0);
	places_settle(&a);
	assert_int_equal(take(&b, 2, &policy, &cause), REFUSE);
	assert_int_equal(cause, SIPKEEP_REFUSED_POLICY);
	assert_int_equal(b.flags, 0);
	assert_true(word_of(2) == 0);
	assert_int_equal(take(&b, 1, &policy, &cause), REFUSE);
	assert_true(word_of(1) == ACTIVE(1));
	assert_true(policy_word() == ACTIVE(1));
}

static void the_rate_is_taken_last_and_given_back(void **state)
{
	struct sipkeep_policy policy = { .rate_interval_ns = 1000, .rate_burst_ns = 2000 };
	struct places a, b, c;
	int cause;

	(void)state;
	assert_int_equal(take(&a, 1, &policy, &cause), ADMIT);
	assert_int_equal(take(&b, 1, &policy, &cause), ADMIT);
	places_settle(&a);
	assert_int_equal(take(&c, 1, &policy, &cause), REFUSE);
	assert_int_equal(cause, SIPKEEP_REFUSED_RATE);
	assert_true(word_of(1) == ACTIVE(1) + RESERVED(1));
	assert_true(policy_word() == ACTIVE(1) + RESERVED(1));
	/* b came to nothing: its token is there again, and only that one. */
	places_undo(&b);
	assert_int_equal(take(&b, 1, &policy, &cause), ADMIT);
	assert_int_equal(take(&c, 1, &policy, &cause), REFUSE);
	now_ns += 1000;
	assert_int_equal(take(&c, 1, &policy, &cause), ADMIT);
	assert_int_equal(take(&c, 1, &policy, &cause), REFUSE);
	/* A refusal by the limit costs no token. */
	policy.max_connections_per_source = 1;
	now_ns += 1000;
	assert_int_equal(take(&c, 1, &policy, &cause), REFUSE);
	assert_int_equal(cause, SIPKEEP_REFUSED_SOURCE);
	policy.max_connections_per_source = 0;
	assert_int_equal(take(&c, 1, &policy, &cause), ADMIT);
}

static void a_full_map_is_told_and_decided_by_on_full(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = 1, .max_connections = SOURCES_MAX + 1 };
	struct places places;
	int cause;

	(void)state;
	for (unsigned int i = 0; i < SOURCES_MAX; i++)
		assert_int_equal(take(&places, i, &policy, &cause), ADMIT);
	assert_int_equal(take(&places, 99, &policy, &cause), ADMIT);
	assert_int_equal(cause, SIPKEEP_REFUSED_FULL);
	/* In the policy's count all the same. */
	assert_int_equal(places.flags, SIPKEEP_TRANSPORT_IN_POLICY);
	assert_true(policy_word() == RESERVED(SOURCES_MAX + 1ULL));
	assert_int_equal(stats_value.map_full, 1);
	assert_int_equal(shared_value.lost, 1); /* the `full` event, which had no ring */
	places_settle(&places);
	assert_int_equal(policy_stats_values[POLICY].uncounted, 1);
	release(&places);
	assert_true(policy_word() == RESERVED(SOURCES_MAX + 0ULL));

	live = SIPKEEP_LIVE_FULL_REFUSE;
	assert_int_equal(take(&places, 99, &policy, &cause), REFUSE);
	live = 0;
	assert_int_equal(cause, SIPKEEP_REFUSED_FULL);
	assert_int_equal(stats_value.map_full, 2);
	assert_int_equal(shared_value.lost, 1); /* one a second */
	assert_true(policy_word() == RESERVED(SOURCES_MAX + 0ULL));
}

static void force_goes_over_every_limit_and_says_so(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = 1 }, whole = { .max_connections = 2 };
	struct places places = { .key = key_of(1) };
	int cause;

	(void)state;
	places_force(&places);
	assert_true(word_of(1) == ACTIVE(1));
	assert_int_equal(places_take(&places, &policy, true, 0, &cause), ADMIT);
	assert_int_equal(cause, SIPKEEP_REFUSED_SOURCE);
	places_settle(&places);
	assert_true(word_of(1) == ACTIVE(2));
	assert_int_equal(places_take(&places, &whole, true, 0, &cause), ADMIT);
	assert_int_equal(cause, SIPKEEP_REFUSED_POLICY);
	places_settle(&places);
	assert_true(word_of(1) == ACTIVE(3));
	assert_true(policy_word() == ACTIVE(3));
}

static void keys_of_sources(void **state)
{
	struct sipkeep_policy policy = { .source_prefix_ipv4 = 24, .source_prefix_ipv6 = 48 };
	struct sipkeep_source_key key;
	union {
		struct sipkeep_addr addr;
		__u64 words[2];
	} remote = { .addr = { .b = { 0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 } } }, local = { .words = { 0 } };
	const __u8 network[16] = { 0x20, 1, 0xd, 0xb8, 1, 2 };

	(void)state;
	memset(&key, 0xff, sizeof(key));
	source_key_inbound(&key, &policy, 7, &remote.addr);
	assert_int_equal(key.policy, 7);
	assert_memory_equal(&key.addr, network, 16);
	assert_int_equal(key.port_be, 0);
	assert_int_equal(key.pad, 0);
	addr_from_ipv4(&remote.addr, bpf_htonl(0xc0000207));
	source_key_inbound(&key, &policy, 7, &remote.addr);
	addr_from_ipv4(&local.addr, bpf_htonl(0xc0000200));
	assert_memory_equal(&key.addr, &local.addr, 16);

	/* Outbound: whole addresses, and the destination's port. */
	memset(&key, 0xff, sizeof(key));
	source_key_outbound(&key, 2, &local.addr, &remote.addr, 5061);
	assert_int_equal(key.policy, 2);
	assert_int_equal(key.port_be, bpf_htons(5061));
	assert_int_equal(key.pad, 0);
	assert_memory_equal(&key.addr, &local.addr, 16);
	assert_memory_equal(&key.destination, &remote.addr, 16);
}

/* ---- several threads -------------------------------------------------------------------------------------------------- */

#define THREADS 4
#define KEYS 6
#define LIMIT 3
#define POLICY_LIMIT 7

static atomic_int held[KEYS], held_in_all, overruns, admitted, denied;
static atomic_bool go;

struct work {
	const struct sipkeep_policy *policy;
	unsigned int seed, rounds, keys;
	bool settle; /* else every place is given back, and the entries with them */
};

static void note_held(unsigned int number, int change)
{
	int mine, all;

	if (change < 0) {
		atomic_fetch_sub(&held[number], 1);
		atomic_fetch_sub(&held_in_all, 1);
		return;
	}
	mine = atomic_fetch_add(&held[number], 1) + 1;
	all = atomic_fetch_add(&held_in_all, 1) + 1;
	if (mine > LIMIT || all > POLICY_LIMIT)
		atomic_fetch_add(&overruns, 1);
}

static void *worker(void *arg)
{
	const struct work *work = arg;
	unsigned int seed = work->seed;

	while (!go)
		sched_yield();
	for (unsigned int i = 0; i < work->rounds; i++) {
		struct places mine[2];
		unsigned int numbers[2];
		int count = 0, cause;

		for (int n = 0; n < 2; n++) {
			numbers[count] = (unsigned int)rand_r(&seed) % work->keys;
			if (take(&mine[count], numbers[count], work->policy, &cause) != ADMIT) {
				atomic_fetch_add(&denied, 1);
				continue;
			}
			note_held(numbers[count], 1);
			atomic_fetch_add(&admitted, 1);
			count++;
		}
		if (rand_r(&seed) % 4 == 0)
			sched_yield();
		while (count--) {
			note_held(numbers[count], -1);
			if (!work->settle || rand_r(&seed) % 3 == 0) {
				places_undo(&mine[count]);
				clock_walk(CLOCK_STEPS, SIPKEEP_SOURCE_IDLE_NS);
				continue;
			}
			places_settle(&mine[count]);
			release(&mine[count]);
		}
	}
	return NULL;
}

static void run_threads(const struct sipkeep_policy *policy, unsigned int keys, unsigned int rounds, bool settle)
{
	struct work work[THREADS];
	pthread_t threads[THREADS];

	overruns = admitted = denied = 0;
	go = false;
	for (unsigned int i = 0; i < THREADS; i++) {
		work[i] = (struct work){ .policy = policy, .seed = i + 1, .rounds = rounds, .keys = keys, .settle = settle };
		assert_int_equal(pthread_create(&threads[i], NULL, worker, &work[i]), 0);
	}
	go = true;
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(overruns, 0);
	/* Both ways were gone. */
	assert_true(admitted > 1000);
	assert_true(denied > 100);
	assert_true(policy_word() == 0);
}

static void threads_never_exceed_a_limit(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = LIMIT, .max_connections = POLICY_LIMIT };

	(void)state;
	run_threads(&policy, 2, 100000, true);
	assert_true(word_of(0) == 0);
	assert_true(word_of(1) == 0);
}

/* Entries come and go under the threads' hands, their memory going from one source to the next at once. */
static void threads_never_count_in_anothers_entry(void **state)
{
	struct sipkeep_policy policy = { .max_connections_per_source = LIMIT, .max_connections = POLICY_LIMIT };

	(void)state;
	run_threads(&policy, KEYS, 200000, false);
	clock_walk(2 * SOURCES_MAX, SIPKEEP_SOURCE_IDLE_NS);
	for (unsigned int i = 0; i < KEYS; i++)
		assert_false(is_known(i));
	assert_int_equal(clock_count, 0);
	assert_int_equal(free_count, SOURCES_MAX);
}

static atomic_uint tokens;

static void *rate_worker(void *arg)
{
	const struct sipkeep_policy *policy = arg;
	struct sipkeep_source_key key = key_of(1);
	struct sipkeep_source *source = map_lookup(&sources, &key);

	while (!go)
		sched_yield();
	for (unsigned int i = 0; i < 50000; i++)
		if (rate_take(source, policy, now_ns))
			atomic_fetch_add(&tokens, 1);
	return NULL;
}

static void threads_share_one_bucket(void **state)
{
	struct sipkeep_policy policy = { .rate_interval_ns = 1000000, .rate_burst_ns = 60000 * 1000000ULL };
	struct sipkeep_source_key key = key_of(1);
	pthread_t threads[THREADS];
	int made = MADE_NOT;

	(void)state;
	assert_non_null(source_make(&key, &made));
	assert_int_equal(made, MADE);
	tokens = 0;
	go = false;
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, rate_worker, &policy), 0);
	go = true;
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(tokens, 60000);
}

static void *peak_worker(void *arg)
{
	struct sipkeep_source *source = arg;

	while (!go)
		sched_yield();
	for (unsigned int i = 0; i < 100000; i++) {
		__sync_fetch_and_add(&source->count, SIPKEEP_ACTIVE_ONE);
		source_peak(source);
	}
	return NULL;
}

static void the_peak_is_not_lost_between_threads(void **state)
{
	struct sipkeep_source_key key = key_of(1);
	int made = MADE_NOT;
	struct sipkeep_source *source = source_make(&key, &made);
	pthread_t threads[THREADS];

	(void)state;
	go = false;
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, peak_worker, source), 0);
	go = true;
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(count_active(source->count), THREADS * 100000);
	assert_int_equal(source->peak, THREADS * 100000);
}

/* One connection that came and went, at `now_ns`. */
static void pass_through(unsigned int number)
{
	struct sipkeep_policy policy = {};
	struct places places;
	int cause;

	assert_int_equal(take(&places, number, &policy, &cause), ADMIT);
	places_settle(&places);
	release(&places);
}

static void the_clock_removes_what_holds_nothing(void **state)
{
	struct sipkeep_policy policy = {};
	struct places held;
	int cause;

	(void)state;
	assert_int_equal(take(&held, 1, &policy, &cause), ADMIT);
	assert_true(held.made);
	places_settle(&held);
	for (unsigned int i = 2; i < 6; i++)
		pass_through(i);
	assert_int_equal(clock_count, 5);
	assert_int_equal(clock_walk(100, SIPKEEP_SOURCE_IDLE_NS), 0); /* seen just now */
	assert_int_equal(clock_count, 4); /* the one that holds a place needn't stand there */
	now_ns += SIPKEEP_SOURCE_IDLE_NS;
	assert_int_equal(clock_walk(100, SIPKEEP_SOURCE_IDLE_NS), 4);
	assert_true(is_known(1)); /* it holds a place, however long */
	assert_int_equal(clock_count, 0);
	release(&held);
	assert_int_equal(clock_count, 1);
	now_ns += SIPKEEP_SOURCE_IDLE_NS - 1;
	assert_int_equal(clock_walk(100, SIPKEEP_SOURCE_IDLE_NS), 0);
	now_ns += 1;
	assert_int_equal(clock_walk(100, SIPKEEP_SOURCE_IDLE_NS), 1);
	assert_int_equal(clock_count, 0);
	assert_int_equal(free_count, SOURCES_MAX);
}

#define SOURCES_PASSED 10

static struct sipkeep_source_key met_first;

static bool gone_round(__u32 steps)
{
	return clock_walk(10000, SIPKEEP_SOURCE_IDLE_NS) == 0 && loop_steps >= steps && loop_steps <= 3 * steps;
}

static void connection_to_the_first(__u32 steps)
{
	struct sipkeep_policy policy = {};
	struct places places = { .key = met_first };
	int cause;

	if (steps != 3)
		return;
	assert_int_equal(places_take_somehow(&places, &policy, false, 0, &cause), ADMIT);
	places_settle(&places);
}

static void another_hand(__u32 steps)
{
	struct sipkeep_source_key key;

	if (steps > 1 && !memcmp(&clock_queue[clock_first], &met_first, sizeof(met_first)))
		map_pop(&source_queue, &key);
}

/* What the hand met first may not be there when it comes round. */
static void the_clock_goes_round_once(void **state)
{
	(void)state;
	for (unsigned int i = 1; i <= SOURCES_PASSED; i++)
		pass_through(i);
	assert_true(gone_round(SOURCES_PASSED));
	met_first = clock_queue[clock_first];
	meanwhile = connection_to_the_first;
	assert_true(gone_round(SOURCES_PASSED));
	met_first = clock_queue[clock_first];
	meanwhile = another_hand;
	assert_true(gone_round(SOURCES_PASSED - 1));
	/* It has left out none of the others. */
	meanwhile = NULL;
	now_ns += SIPKEEP_SOURCE_IDLE_NS;
	assert_int_equal(clock_walk(10000, SIPKEEP_SOURCE_IDLE_NS), SOURCES_PASSED - 2);
	assert_int_equal(clock_count, 0);
}

static void what_never_came_in_does_not_stay(void **state)
{
	struct sipkeep_policy policy = { .rate_interval_ns = ONE_SECOND_NS, .rate_burst_ns = 2 * ONE_SECOND_NS };
	struct places places;
	int cause;

	(void)state;
	assert_int_equal(take(&places, 1, &policy, &cause), ADMIT);
	places_undo(&places);
	assert_int_equal(clock_walk(CLOCK_STEPS, SIPKEEP_SOURCE_IDLE_NS), 1);
	/* One that owes to its rate stays until that is paid. */
	assert_int_equal(take(&places, 2, &policy, &cause), ADMIT);
	places_settle(&places);
	release(&places);
	assert_int_equal(clock_walk(100, 0), 0);
	now_ns += ONE_SECOND_NS;
	assert_int_equal(clock_walk(100, 0), 1);
}

static void a_full_map_makes_room(void **state)
{
	struct sipkeep_policy policy = {};
	struct places held[SOURCES_MAX], more;
	int cause;

	(void)state;
	for (unsigned int i = 0; i < SOURCES_MAX; i++) {
		assert_int_equal(take(&held[i], i, &policy, &cause), ADMIT);
		places_settle(&held[i]);
	}
	more = (struct places){ .key = key_of(99) };
	assert_int_equal(places_take_somehow(&more, &policy, false, 0, &cause), ADMIT);
	assert_int_equal(more.flags, SIPKEEP_TRANSPORT_IN_POLICY);
	assert_int_equal(stats_value.map_full, 1);
	places_undo(&more);
	release(&held[7]);
	more = (struct places){ .key = key_of(99) };
	assert_int_equal(places_take_somehow(&more, &policy, false, 0, &cause), ADMIT);
	assert_int_equal(cause, SIPKEEP_REFUSED_NONE);
	assert_int_equal(more.flags, SIPKEEP_TRANSPORT_IN);
	assert_int_equal(stats_value.map_full, 1);
	assert_false(is_known(7));
	assert_true(policy_word() == RESERVED(1) + ACTIVE(SOURCES_MAX - 1));
	assert_int_equal(clock_count, 1); /* the new one */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_place_is_taken_settled_and_released, set_up),
		cmocka_unit_test_setup(what_comes_to_nothing_leaves_nothing, set_up),
		cmocka_unit_test_setup(the_policys_limit_gives_the_sources_place_back, set_up),
		cmocka_unit_test_setup(the_rate_is_taken_last_and_given_back, set_up),
		cmocka_unit_test_setup(a_full_map_is_told_and_decided_by_on_full, set_up),
		cmocka_unit_test_setup(force_goes_over_every_limit_and_says_so, set_up),
		cmocka_unit_test_setup(the_clock_removes_what_holds_nothing, set_up),
		cmocka_unit_test_setup(the_clock_goes_round_once, set_up),
		cmocka_unit_test_setup(what_never_came_in_does_not_stay, set_up),
		cmocka_unit_test_setup(a_full_map_makes_room, set_up),
		cmocka_unit_test_setup(keys_of_sources, set_up),
		cmocka_unit_test_setup(threads_never_exceed_a_limit, set_up),
		cmocka_unit_test_setup(threads_never_count_in_anothers_entry, set_up),
		cmocka_unit_test_setup(threads_share_one_bucket, set_up),
		cmocka_unit_test_setup(the_peak_is_not_lost_between_threads, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
