/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * convert.h: an element of a map in another layout of the same struct, by the names of its members as the maps' own BTF
 * has them. What one side lacks is left 0; numbers change their width.
 */
#ifndef SIPKEEP_CONVERT_H
#define SIPKEEP_CONVERT_H

#include <stdbool.h>
#include "failure.h"
#include "sipkeep.h"

/* Between two maps: old and new. convert_close() it. */
struct convert {
	int old_fd, new_fd;
	struct btf *old, *new;
	__u32 old_key, new_key, old_value, new_value;			 /* BTF type ids; 0: a key without one */
	__u32 old_key_size, new_key_size, old_value_size, new_value_size; /* a CPU's share is rounded up to 8 */
};

int convert_open(int old_fd, int new_fd, struct convert *ret_convert, struct failure *failure);
void convert_close(struct convert *convert);

/* -ERANGE: a number doesn't fit; -EUCLEAN: the types have nothing in common. */
int convert_key(const struct convert *convert, const void *old, void *ret_new);
int convert_value(const struct convert *convert, const void *old, void *ret_new);

/* Every element of the old map into the new one. */
int convert_map(const struct convert *convert, const char *name, struct failure *failure);

#endif
