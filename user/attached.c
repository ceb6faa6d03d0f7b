// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "attached.h"
#include "datapath_internal.h"

const char *const attached_hooks[] = {
	[ATTACHED_SOCKOPS] = "sockops",
	[ATTACHED_SOCK_RELEASE] = "sock_release",
	[ATTACHED_SETSOCKOPT] = "setsockopt",
	[ATTACHED_POST_BIND4] = "post_bind4",
	[ATTACHED_POST_BIND6] = "post_bind6",
	[ATTACHED_INGRESS] = "ingress",
	[ATTACHED_CONNECT4] = "connect4",
	[ATTACHED_CONNECT6] = "connect6",
	[ATTACHED_SK_LOOKUP] = "sk_lookup",
	[ATTACHED_SET_STATE] = "set_state",
	[ATTACHED_SET_STATE_2] = "set_state_2",
};
_Static_assert(sizeof(attached_hooks) / sizeof(attached_hooks[0]) == ATTACHED_HOOK_MAX, "a name for each hook");

const enum bpf_attach_type attached_types[] = {
	[ATTACHED_SOCKOPS] = BPF_CGROUP_SOCK_OPS,
	[ATTACHED_SOCK_RELEASE] = BPF_CGROUP_INET_SOCK_RELEASE,
	[ATTACHED_SETSOCKOPT] = BPF_CGROUP_SETSOCKOPT,
	[ATTACHED_POST_BIND4] = BPF_CGROUP_INET4_POST_BIND,
	[ATTACHED_POST_BIND6] = BPF_CGROUP_INET6_POST_BIND,
	[ATTACHED_INGRESS] = BPF_CGROUP_INET_INGRESS,
	[ATTACHED_CONNECT4] = BPF_CGROUP_INET4_CONNECT,
	[ATTACHED_CONNECT6] = BPF_CGROUP_INET6_CONNECT,
};
_Static_assert(sizeof(attached_types) / sizeof(attached_types[0]) == ATTACHED_CGROUP_HOOKS, "a type for each hook");

static void name_parse(struct attached *attached)
{
	const char *name = attached->pin + strlen("link_on_"), *number = strrchr(name, '_');
	char *end;

	attached->hook = ATTACHED_HOOK_MAX;
	if (strncmp(attached->pin, "link_on_", strlen("link_on_")) || !number || !number[1])
		return;
	attached->at = strtoull(number + 1, &end, 10);
	if (*end)
		return;
	for (int hook = 0; hook < ATTACHED_HOOK_MAX; hook++)
		if (strlen(attached_hooks[hook]) == (size_t)(number - name) &&
		    !strncmp(attached_hooks[hook], name, (size_t)(number - name)))
			attached->hook = hook;
}

static void link_read(struct attached *attached, const char *dir)
{
	char path[PATH_MAX + NAME_MAX + 2], where[PATH_MAX];
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, attached->pin);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length)) {
		attached->program_id = info.prog_id;
		if (info.type == BPF_LINK_TYPE_NETNS) {
			attached->netns_inode = info.netns.netns_ino;
			attached->alive = info.netns.netns_ino != 0;
			attached->place_exists = attached->alive;
		} else if (info.type == BPF_LINK_TYPE_CGROUP) {
			attached->alive = info.cgroup.cgroup_id && info.cgroup.cgroup_id == attached->at;
			attached->place_exists = attached->alive && !host_cgroup_path(attached->at, where);
		} else if (info.type == BPF_LINK_TYPE_RAW_TRACEPOINT) {
			attached->alive = attached->hook == ATTACHED_SET_STATE || attached->hook == ATTACHED_SET_STATE_2;
			attached->place_exists = attached->alive;
		}
	}
	close(fd);
}

static int is_link(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "link_", 5);
}

int attached_read(const struct datapath *datapath, struct attached_list *ret_list, struct failure *failure)
{
	struct attached_list list = {};
	struct dirent **names;
	int count = scandir(datapath->dir, &names, is_link, alphasort);

	if (count < 0)
		return failure_set(failure, -errno, "%s: %s", datapath->dir, strerror(errno));
	list.list = calloc((size_t)count + 1, sizeof(*list.list));
	for (int i = 0; i < count; i++) {
		if (list.list) {
			struct attached *attached = &list.list[list.count++];

			snprintf(attached->pin, sizeof(attached->pin), "%s", names[i]->d_name);
			name_parse(attached);
			link_read(attached, datapath->dir);
		}
		free(names[i]);
	}
	free(names);
	if (!list.list)
		return failure_set(failure, -ENOMEM, "out of memory");
	*ret_list = list;
	return 0;
}

void attached_free(struct attached_list *list)
{
	free(list->list);
	memset(list, 0, sizeof(*list));
}

const struct attached *attached_find(const struct attached_list *list, enum attached_hook hook, __u64 at)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->list[i].hook == hook && list->list[i].at == at && list->list[i].alive)
			return &list->list[i];
	return NULL;
}

unsigned int attached_times(int cgroup_fd, enum attached_hook hook, __u32 program_id)
{
	__u32 ids[64], count = sizeof(ids) / sizeof(ids[0]), flags;
	unsigned int times = 0;

	if (bpf_prog_query(cgroup_fd, attached_types[hook], 0, &flags, ids, &count))
		return 0;
	for (__u32 i = 0; i < count; i++)
		times += ids[i] == program_id;
	return times;
}

void attached_names(int cgroup_fd, enum attached_hook hook, char *text, size_t size)
{
	__u32 ids[64], count = 64, flags = 0;

	text[0] = '\0';
	if (bpf_prog_query(cgroup_fd, attached_types[hook], BPF_F_QUERY_EFFECTIVE, &flags, ids, &count))
		return;
	for (__u32 i = 0; i < count && i < 64; i++) {
		struct bpf_prog_info info = {};
		__u32 length = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(ids[i]);
		size_t used = strlen(text);

		if (fd < 0)
			continue;
		if (!bpf_obj_get_info_by_fd(fd, &info, &length))
			snprintf(text + used, size - used, "%s%s (id %u)", used ? ", " : "", info.name, ids[i]);
		close(fd);
	}
}

__u32 attached_program_id(int program_fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(program_fd, &info, &length) ? 0 : info.id;
}
