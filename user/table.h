/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * table.h: a hash table of elements that bring their own node. It owns none of them, allocates nothing per element, and
 * its hash is seeded, so that an outsider who picks keys can't pick collisions.
 */
#ifndef SIPKEEP_TABLE_H
#define SIPKEEP_TABLE_H

#include <stddef.h>
#include <linux/types.h>

/* The element's first member; its key follows at once, without padding inside. */
struct table_node {
	struct table_node *next;
	__u64 hash;
};

struct table {
	struct table_node **buckets;
	size_t size; /* of buckets, a power of two; grows with count */
	size_t count;
	size_t key_size; /* bytes, a multiple of 8 */
	__u64 seed;
};

/* 0 or -ENOMEM. table_free() leaves the elements to their owner. */
int table_init(struct table *table, size_t key_size);
void table_free(struct table *table);

/* NULL when there is none. */
void *table_find(const struct table *table, const void *key);

/* Its key must not be in the table yet, and must not change until table_remove(). */
void table_add(struct table *table, struct table_node *node);
void table_remove(struct table *table, struct table_node *node);

#endif
