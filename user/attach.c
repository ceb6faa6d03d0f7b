// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "attach.h"
#include "attached.h"
#include "datapath_internal.h"

struct wanted {
	struct datapath_cgroup cgroup;
	int fd; /* -1: it is away */
	__u64 id;
	__u8 level;
	char hooks[128]; /* attached by this run */
};

struct reconcile {
	const struct datapath *datapath;
	void (*line)(void *arg, const char *text);
	void *arg;
	struct failure *failure;
	int lines;
	struct sipkeep_meta *meta; /* mapped */
	struct wanted wanted[SIPKEEP_MAX_CGROUPS];
	size_t wanted_count;
	struct netns_set namespaces;
	int programs[ATTACHED_CGROUP_HOOKS];
	struct attached_list pins; /* as they were at the start */
	bool attached; /* something new: what is open there is to be adopted */
	bool dropped;  /* a cgroup is guarded no more: what its sockets hold is to be given back */
};

static __attribute__((format(printf, 2, 3))) void tell(struct reconcile *r, const char *format, ...)
{
	char text[PATH_MAX + 512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	r->lines++;
	if (r->line)
		r->line(r->arg, text);
}

/* ---- what is wanted -------------------------------------------------------------------------------------------- */

static int wanted_read(struct reconcile *r)
{
	struct datapath_cgroup cgroups[SIPKEEP_MAX_CGROUPS];
	int fds[SIPKEEP_MAX_CGROUPS], count = datapath_cgroups(r->datapath, cgroups, r->failure);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		struct wanted *wanted = &r->wanted[r->wanted_count++];

		wanted->cgroup = cgroups[i];
		wanted->fd = host_cgroup_open(cgroups[i].path, &wanted->id, &wanted->level, r->failure);
		if (wanted->fd < 0 && wanted->fd != -ENOENT)
			return wanted->fd;
		fds[i] = wanted->fd;
	}
	return netns_scan(fds, r->wanted_count, &r->namespaces, r->failure);
}

static void programs_none(struct reconcile *r)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
		r->programs[hook] = -1;
}

static int programs_open(struct reconcile *r)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++) {
		char name[32];

		snprintf(name, sizeof(name), "on_%s", attached_hooks[hook]);
		r->programs[hook] = datapath_program(r->datapath, name, r->failure);
		if (r->programs[hook] < 0)
			return r->programs[hook];
	}
	return 0;
}

static bool is_wanted(const struct reconcile *r, __u64 id)
{
	for (size_t i = 0; i < r->wanted_count; i++)
		if (r->wanted[i].fd >= 0 && r->wanted[i].id == id)
			return true;
	return false;
}

/* Removed, but its sockets' ends are still seen. */
static bool is_lingering(const struct reconcile *r, __u64 id)
{
	const struct attached *watcher = id ? attached_find(&r->pins, ATTACHED_SOCKOPS, id) : NULL;

	return watcher && !watcher->place_exists && !is_wanted(r, id);
}

static bool has_slot(const struct sipkeep_meta *meta, __u64 id)
{
	for (__u32 i = 0; i < meta->cgroup_count; i++)
		if (meta->cgroup_ids[i] == id)
			return true;
	return false;
}

/* The ids of the cgroups as they are now, for the iterators. */
static void slots_update(struct reconcile *r)
{
	struct sipkeep_meta next = { .path_count = (__u32)r->wanted_count, .cgroup_count = (__u32)r->wanted_count };

	for (size_t i = 0; i < r->wanted_count; i++) {
		struct wanted *wanted = &r->wanted[i];
		bool away = wanted->fd < 0;

		next.cgroup_levels[i] = away ? r->meta->cgroup_levels[i] : wanted->level;
		next.cgroup_ids[i] = !away ? wanted->id : is_lingering(r, wanted->cgroup.id) ? wanted->cgroup.id : 0;
	}
	for (__u32 i = 0; i < r->meta->cgroup_count; i++) {
		if (has_slot(&next, r->meta->cgroup_ids[i]) || next.cgroup_count == SIPKEEP_CGROUP_SLOTS ||
		    !is_lingering(r, r->meta->cgroup_ids[i]))
			continue;
		next.cgroup_ids[next.cgroup_count] = r->meta->cgroup_ids[i];
		next.cgroup_levels[next.cgroup_count++] = r->meta->cgroup_levels[i];
	}
	for (__u32 i = 0; i < r->meta->cgroup_count; i++)
		if (!has_slot(&next, r->meta->cgroup_ids[i]))
			r->dropped = true;
	datapath_cgroups_store(r->meta, &next);
}

/* ---- attaching ------------------------------------------------------------------------------------------------- */

static int link_pin(struct reconcile *r, int link, enum attached_hook hook, __u64 at)
{
	char path[PATH_MAX + 64];
	int err;

	snprintf(path, sizeof(path), "%s/link_on_%s_%llu", r->datapath->dir, attached_hooks[hook], at);
	unlink(path); /* a dead one's */
	err = bpf_obj_pin(link, path);
	close(link);
	if (err)
		return failure_set(r->failure, err, "%s can't be pinned: %s", path, strerror(-err));
	r->attached = true;
	return 0;
}

static void link_drop(const struct reconcile *r, const struct attached *attached)
{
	char path[PATH_MAX + NAME_MAX + 2];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", r->datapath->dir, attached->pin);
	fd = bpf_obj_get(path);
	if (fd >= 0) {
		if (attached->alive)
			bpf_link_detach(fd); /* at once: after its last pin is gone, the kernel does it some time later */
		close(fd);
	}
	unlink(path);
}

static int link_renew(const struct reconcile *r, const struct attached *attached, int program)
{
	char path[PATH_MAX + NAME_MAX + 2];
	int fd, err;

	snprintf(path, sizeof(path), "%s/%s", r->datapath->dir, attached->pin);
	fd = bpf_obj_get(path);
	err = fd < 0 ? fd : bpf_link_update(fd, program, NULL);
	if (fd >= 0)
		close(fd);
	return err < 0 ? failure_set(r->failure, err, "%s can't be given another program: %s", path, strerror(-err)) : 0;
}

static int cgroup_hook_attach(struct reconcile *r, struct wanted *wanted, enum attached_hook hook)
{
	int link = bpf_link_create(r->programs[hook], wanted->fd, attached_types[hook], NULL), err;
	size_t used = strlen(wanted->hooks);
	char others[1024];

	if (link >= 0) {
		snprintf(wanted->hooks + used, sizeof(wanted->hooks) - used, "%s%s", used ? ", " : "",
			 attached_hooks[hook]);
		return link_pin(r, link, hook, wanted->id);
	}
	err = link;
	attached_names(wanted->fd, hook, others, sizeof(others));
	if (err == -EPERM && others[0])
		return failure_set(r->failure, err,
				   "on_%s can't be attached to cgroup %s: another program sits there, or above it, without "
				   "BPF_F_ALLOW_MULTI: %s; detach it (bpftool cgroup tree) or narrow 'cgroups'",
				   attached_hooks[hook], wanted->cgroup.path, others);
	return failure_set(r->failure, err, "on_%s can't be attached to cgroup %s: %s", attached_hooks[hook],
			   wanted->cgroup.path, strerror(-err));
}

static int cgroup_hook_reconcile(struct reconcile *r, struct wanted *wanted, enum attached_hook hook)
{
	const struct attached *attached = attached_find(&r->pins, hook, wanted->id);
	__u32 id = attached_program_id(r->programs[hook]);
	unsigned int times = attached_times(wanted->fd, hook, id);

	if (!attached)
		return times ? 0 : cgroup_hook_attach(r, wanted, hook);
	if (attached->program_id != id)
		return link_renew(r, attached, r->programs[hook]);
	if (times > 1)
		link_drop(r, attached); /* systemd attached it, too: once is enough */
	return 0;
}

static int hooks_reconcile(struct reconcile *r, enum attached_hook from, enum attached_hook to)
{
	for (enum attached_hook hook = from; hook < to; hook++)
		for (size_t i = 0; i < r->wanted_count; i++) {
			struct wanted *wanted = &r->wanted[i];
			int err = wanted->fd < 0 ? 0 : cgroup_hook_reconcile(r, wanted, hook);

			if (err)
				return err;
		}
	return 0;
}

static int sk_lookup_attach(struct reconcile *r, const struct netns *at)
{
	int program = datapath_sk_lookup_load(r->datapath, at->cookie, r->failure), link;

	if (program < 0)
		return program;
	link = bpf_link_create(program, at->fd, BPF_SK_LOOKUP, NULL);
	close(program);
	if (link < 0)
		return failure_set(r->failure, link, "sk_lookup can't be attached to network namespace %lu: %s",
				   (unsigned long)at->inode, strerror(-link));
	return link_pin(r, link, ATTACHED_SK_LOOKUP, at->cookie);
}

static int sk_lookups_reconcile(struct reconcile *r)
{
	for (size_t i = 0; i < r->namespaces.count; i++) {
		const struct netns *at = &r->namespaces.list[i];
		int err = attached_find(&r->pins, ATTACHED_SK_LOOKUP, at->cookie) ? 1 : sk_lookup_attach(r, at);

		if (err == 1)
			continue;
		if (err && i == 0)
			return err;
		if (err)
			tell(r, "! %s", r->failure->text);
		else
			tell(r, "+ sk_lookup in network namespace %lu", (unsigned long)at->inode);
	}
	return 0;
}

/*
 * See the ends of what the iterator found where it can't set the state callback; elsewhere, they aren't loaded. Such a
 * link takes no other program: it is replaced.
 */
static int watch_reconcile(struct reconcile *r)
{
	for (enum attached_hook hook = ATTACHED_SET_STATE; hook <= ATTACHED_SET_STATE_2; hook++) {
		const struct attached *attached = attached_find(&r->pins, hook, 0);
		char name[32];
		int program, link;

		snprintf(name, sizeof(name), "on_%s", attached_hooks[hook]);
		program = datapath_program(r->datapath, name, r->failure);
		if (program == -ENOENT)
			return 0;
		if (program < 0)
			return program;
		if (attached && attached->program_id == attached_program_id(program)) {
			close(program);
			continue;
		}
		link = bpf_link_create(program, 0, BPF_TRACE_RAW_TP, NULL);
		close(program);
		if (link < 0)
			return failure_set(r->failure, link, "%s can't be attached to its tracepoint: %s", name,
					   strerror(-link));
		link = link_pin(r, link, hook, 0);
		if (link)
			return link;
		tell(r, "+ %s for the whole host", attached_hooks[hook]);
	}
	return 0;
}

/* ---- detaching ------------------------------------------------------------------------------------------------- */

static bool is_leaving(const struct reconcile *r, const struct attached *attached)
{
	return attached->hook < ATTACHED_CGROUP_HOOKS && attached->alive && attached->place_exists &&
	       !is_wanted(r, attached->at);
}

/* From here on nothing new is counted there, and what ends still is. */
static int leaving_drain(struct reconcile *r)
{
	int program = datapath_program(r->datapath, "on_drain", r->failure), err = 0;

	if (program < 0)
		return program;
	for (size_t i = 0; !err && i < r->pins.count; i++) {
		const struct attached *attached = &r->pins.list[i];

		if (!is_leaving(r, attached))
			continue;
		r->dropped = true;
		if (attached->hook == ATTACHED_SOCKOPS)
			err = link_renew(r, attached, program);
		else if (attached->hook != ATTACHED_SOCK_RELEASE)
			link_drop(r, attached);
	}
	close(program);
	return err;
}

/* Systemd's in a cgroup that leaves: there is no link to take away. */
static void others_detach(const struct reconcile *r, int cgroup_fd)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
		bpf_prog_detach2(r->programs[hook], cgroup_fd, attached_types[hook]);
}

/* Gives back what the sockets of cgroups that are guarded no more hold, wherever their processes live. */
static int dropped_disown(struct reconcile *r)
{
	struct netns_set set CLEANUP_NETNS_SET = {};
	int fds[SIPKEEP_MAX_CGROUPS * 2], err;
	size_t count = 0;

	for (size_t i = 0; i < r->wanted_count; i++)
		fds[count++] = r->wanted[i].fd;
	for (size_t i = 0; i < r->pins.count && count < sizeof(fds) / sizeof(fds[0]); i++) {
		const struct attached *attached = &r->pins.list[i];
		char path[PATH_MAX];
		__u64 id;
		__u8 level;

		if (attached->hook != ATTACHED_SOCKOPS || !is_leaving(r, attached) || host_cgroup_path(attached->at, path))
			continue;
		fds[count] = host_cgroup_open(path, &id, &level, r->failure);
		if (fds[count] >= 0)
			others_detach(r, fds[count++]);
	}
	err = datapath_programs_wait(r->failure); /* what ran before the programs were changed has ended */
	err = err ?: netns_scan(fds, count, &set, r->failure);
	err = err ?: datapath_walk_all(r->datapath, "on_disown", &set, r->failure);
	for (size_t i = r->wanted_count; i < count; i++)
		close(fds[i]);
	return err;
}

static int leaving_detach(struct reconcile *r)
{
	int err = leaving_drain(r);

	if (!err && r->dropped)
		err = dropped_disown(r);
	for (size_t i = 0; !err && i < r->pins.count; i++) {
		const struct attached *attached = &r->pins.list[i];

		if (attached->hook == ATTACHED_HOOK_MAX || !attached->alive || is_leaving(r, attached))
			link_drop(r, attached);
	}
	return err;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static int reconcile_run(struct reconcile *r)
{
	int err;

	slots_update(r);
	/* First those that see a transport's end, so that nothing counted is missed; then what is open is adopted. */
	err = watch_reconcile(r);
	err = err ?: hooks_reconcile(r, ATTACHED_SOCKOPS, ATTACHED_FIRST_GATE);
	if (!err && r->attached)
		err = datapath_adopt_in(r->datapath, &r->namespaces, r->failure);
	err = err ?: hooks_reconcile(r, ATTACHED_FIRST_GATE, ATTACHED_CGROUP_HOOKS);
	for (size_t i = 0; i < r->wanted_count; i++)
		if (r->wanted[i].hooks[0])
			tell(r, "~ cgroup %s: attached %s", r->wanted[i].cgroup.path, r->wanted[i].hooks);
	err = err ?: sk_lookups_reconcile(r);
	/* At last what came in between. */
	if (!err && r->attached)
		err = datapath_adopt_in(r->datapath, &r->namespaces, r->failure);
	return err ?: leaving_detach(r);
}

static void reconcile_end(struct reconcile *r)
{
	for (int hook = 0; hook < ATTACHED_CGROUP_HOOKS; hook++)
		if (r->programs[hook] >= 0)
			close(r->programs[hook]);
	for (size_t i = 0; i < r->wanted_count; i++)
		if (r->wanted[i].fd >= 0)
			close(r->wanted[i].fd);
	attached_free(&r->pins);
	netns_set_free(&r->namespaces);
	if (r->meta)
		munmap(r->meta, sizeof(*r->meta));
}

int datapath_reconcile(const struct datapath *datapath, void (*line)(void *arg, const char *text), void *arg,
		       struct failure *failure)
{
	struct reconcile r = { .datapath = datapath, .line = line, .arg = arg, .failure = failure };
	int err;

	programs_none(&r);
	r.meta = datapath_meta_map(datapath);
	if (!r.meta)
		return failure_set(failure, -errno, "the meta map can't be written: %s", strerror(errno));
	err = wanted_read(&r);
	err = err ?: programs_open(&r);
	err = err ?: attached_read(datapath, &r.pins, failure);
	err = err ?: reconcile_run(&r);
	reconcile_end(&r);
	return err ? err : r.lines;
}

void datapath_detach_others(const struct datapath *datapath)
{
	struct failure ignored;
	struct reconcile r = { .datapath = datapath, .failure = &ignored };

	programs_none(&r);
	if (!wanted_read(&r) && !programs_open(&r))
		for (size_t i = 0; i < r.wanted_count; i++)
			if (r.wanted[i].fd >= 0)
				others_detach(&r, r.wanted[i].fd);
	reconcile_end(&r);
}
