// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "table.h"

#define SIZE_MIN 64

int table_init(struct table *table, size_t key_size)
{
	*table = (struct table){ .size = SIZE_MIN, .key_size = key_size };
	table->buckets = calloc(table->size, sizeof(*table->buckets));
	/* Early at boot there may be no randomness: then the seed is what it is. */
	if (getrandom(&table->seed, sizeof(table->seed), GRND_NONBLOCK) != sizeof(table->seed))
		table->seed = (__u64)(unsigned long)table->buckets;
	return table->buckets ? 0 : -ENOMEM;
}

void table_free(struct table *table)
{
	free(table->buckets);
	*table = (struct table){};
}

static __u64 mix(__u64 hash)
{
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL;
	return hash ^ hash >> 32;
}

static __u64 hash_of(const struct table *table, const void *key)
{
	const char *at = key;
	__u64 hash = table->seed, word;

	for (size_t i = 0; i < table->key_size; i += sizeof(word)) {
		memcpy(&word, at + i, sizeof(word));
		hash = mix(hash ^ word) + table->seed;
	}
	return mix(hash);
}

static struct table_node **bucket_of(const struct table *table, __u64 hash)
{
	return &table->buckets[hash & (table->size - 1)];
}

void *table_find(const struct table *table, const void *key)
{
	__u64 hash = hash_of(table, key);
	struct table_node *node = *bucket_of(table, hash);

	while (node && (node->hash != hash || memcmp(node + 1, key, table->key_size)))
		node = node->next;
	return node;
}

/* Without memory for it, the chains only get longer. */
static void grow(struct table *table)
{
	struct table larger = *table;

	larger.size *= 2;
	larger.buckets = calloc(larger.size, sizeof(*larger.buckets));
	if (!larger.buckets)
		return;
	for (size_t i = 0; i < table->size; i++) {
		struct table_node *node = table->buckets[i], *next;

		for (; node; node = next) {
			struct table_node **bucket = bucket_of(&larger, node->hash);

			next = node->next;
			node->next = *bucket;
			*bucket = node;
		}
	}
	free(table->buckets);
	*table = larger;
}

void table_add(struct table *table, struct table_node *node)
{
	struct table_node **bucket;

	if (table->count >= table->size)
		grow(table);
	node->hash = hash_of(table, node + 1);
	bucket = bucket_of(table, node->hash);
	node->next = *bucket;
	*bucket = node;
	table->count++;
}

void table_remove(struct table *table, struct table_node *node)
{
	struct table_node **at = bucket_of(table, node->hash);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	table->count--;
}
