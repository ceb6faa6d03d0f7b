// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include "convert.h"

struct side {
	const struct btf *btf;
	const struct btf_type *type;
};

static struct side side_at(const struct btf *btf, __u32 id)
{
	int real = btf__resolve_type(btf, id);

	return (struct side){ btf, btf__type_by_id(btf, real < 0 ? id : (__u32)real) };
}

static int convert_type(struct side from, const char *in, struct side to, char *out);

/* Enums are numbers. */
static bool is_number(const struct btf_type *type)
{
	return btf_is_int(type) || btf_is_any_enum(type);
}

static int convert_number(struct side from, const char *in, struct side to, char *out)
{
	__u64 value = 0, back = 0;

	if (from.type->size > sizeof(value) || to.type->size > sizeof(value))
		return -EUCLEAN;
	memcpy(&value, in, from.type->size); /* none of ours is negative; BPF's hosts with big ends aren't ours */
	memcpy(out, &value, to.type->size);
	memcpy(&back, out, to.type->size);
	return back == value ? 0 : -ERANGE;
}

static bool all_zero(const char *bytes, size_t count)
{
	while (count && !*bytes)
		bytes++, count--;
	return !count;
}

static int convert_array(struct side from, const char *in, struct side to, char *out)
{
	const struct btf_array *old = btf_array(from.type), *new = btf_array(to.type);
	struct side old_element = side_at(from.btf, old->type), new_element = side_at(to.btf, new->type);
	__u32 common = old->nelems < new->nelems ? old->nelems : new->nelems;
	__s64 old_size = btf__resolve_size(from.btf, old->type), new_size = btf__resolve_size(to.btf, new->type);
	int err = 0;

	if (old_size <= 0 || new_size <= 0)
		return -EUCLEAN;
	for (__u32 i = 0; !err && i < common; i++)
		err = convert_type(old_element, in + i * old_size, new_element, out + i * new_size);
	if (!err && !all_zero(in + common * old_size, (old->nelems - common) * (size_t)old_size))
		err = -ERANGE;
	return err;
}

static int convert_struct(struct side from, const char *in, struct side to, char *out)
{
	const struct btf_member *old = btf_members(from.type), *new = btf_members(to.type);
	int err = 0;

	for (__u32 i = 0; !err && i < btf_vlen(to.type); i++) {
		const char *name = btf__name_by_offset(to.btf, new[i].name_off);

		for (__u32 j = 0; j < btf_vlen(from.type); j++) {
			if (strcmp(name, btf__name_by_offset(from.btf, old[j].name_off)))
				continue;
			if (btf_member_bitfield_size(from.type, j) || btf_member_bitfield_size(to.type, i))
				return -EUCLEAN;
			err = convert_type(side_at(from.btf, old[j].type), in + btf_member_bit_offset(from.type, j) / 8,
					   side_at(to.btf, new[i].type), out + btf_member_bit_offset(to.type, i) / 8);
			break;
		}
	}
	return err;
}

static int convert_type(struct side from, const char *in, struct side to, char *out)
{
	if (!from.type || !to.type)
		return -EUCLEAN;
	if (is_number(from.type) && is_number(to.type))
		return convert_number(from, in, to, out);
	if (btf_is_array(from.type) && btf_is_array(to.type))
		return convert_array(from, in, to, out);
	if (btf_is_struct(from.type) && btf_is_struct(to.type))
		return convert_struct(from, in, to, out);
	if (btf_is_union(from.type) && btf_is_union(to.type) && from.type->size == to.type->size) {
		memcpy(out, in, to.type->size);
		return 0;
	}
	return -EUCLEAN;
}

static int side_open(int fd, struct btf **ret_btf, __u32 *ret_key, __u32 *ret_value, __u32 *ret_key_size,
		     __u32 *ret_value_size)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return -errno;
	*ret_btf = btf__load_from_kernel_by_id(info.btf_id);
	if (!*ret_btf)
		return -errno;
	*ret_key = info.btf_key_type_id;
	*ret_value = info.btf_value_type_id;
	*ret_key_size = info.key_size;
	*ret_value_size = info.type == BPF_MAP_TYPE_PERCPU_ARRAY ? (info.value_size + 7) / 8 * 8 : info.value_size;
	return 0;
}

int convert_open(int old_fd, int new_fd, struct convert *ret_convert, struct failure *failure)
{
	struct convert *c = ret_convert;
	int err;

	memset(c, 0, sizeof(*c));
	c->old_fd = old_fd;
	c->new_fd = new_fd;
	err = side_open(old_fd, &c->old, &c->old_key, &c->old_value, &c->old_key_size, &c->old_value_size);
	err = err ?: side_open(new_fd, &c->new, &c->new_key, &c->new_value, &c->new_key_size, &c->new_value_size);
	if (!err)
		return 0;
	convert_close(c);
	return failure_set(failure, err, "the types of the running maps can't be read: %s", strerror(-err));
}

void convert_close(struct convert *convert)
{
	btf__free(convert->old);
	btf__free(convert->new);
	convert->old = convert->new = NULL;
}

int convert_key(const struct convert *convert, const void *old, void *ret_new)
{
	memset(ret_new, 0, convert->new_key_size);
	return convert_type(side_at(convert->old, convert->old_key), old, side_at(convert->new, convert->new_key), ret_new);
}

int convert_value(const struct convert *convert, const void *old, void *ret_new)
{
	memset(ret_new, 0, convert->new_value_size);
	return convert_type(side_at(convert->old, convert->old_value), old, side_at(convert->new, convert->new_value),
			    ret_new);
}

int convert_map(const struct convert *convert, const char *name, struct failure *failure)
{
	char key[512], next[512], new_key[512], old[4096], new[4096];
	bool more = !bpf_map_get_next_key(convert->old_fd, NULL, next);
	int err = 0;

	if (convert->old_key_size > sizeof(key) || convert->new_key_size > sizeof(key) ||
	    convert->old_value_size > sizeof(old) || convert->new_value_size > sizeof(new))
		err = -EOVERFLOW;
	while (!err && more) {
		memcpy(key, next, convert->old_key_size);
		more = !bpf_map_get_next_key(convert->old_fd, key, next);
		if (bpf_map_lookup_elem(convert->old_fd, key, old))
			continue;
		err = convert_key(convert, key, new_key);
		err = err ?: convert_value(convert, old, new);
		if (!err && bpf_map_update_elem(convert->new_fd, new_key, new, BPF_ANY) &&
		    !all_zero(old, convert->old_value_size)) /* an array's unused element may find no place */
			err = -errno;
	}
	return err ? failure_set(failure, err, "what the running map '%s' holds can't be brought into this version's: %s; "
				 "nothing was changed", name, strerror(-err)) : 0;
}
