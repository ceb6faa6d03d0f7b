// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include <linux/magic.h>
#include "host.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* linux/exportfs.h: a cgroup's file handle is its 64-bit id. */
#define FILEID_KERNFS 0xfe

int host_cgroup2(char *path, struct failure *failure)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *entry;

	if (!mounts)
		return failure_set(failure, -errno, "/proc/self/mounts can't be read: %s; is /proc mounted?",
				   strerror(errno));
	while ((entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_type, "cgroup2"))
			continue;
		snprintf(path, PATH_MAX, "%s", entry->mnt_dir);
		endmntent(mounts);
		return 0;
	}
	endmntent(mounts);
	return failure_set(failure, -ENOENT,
			   "no cgroup2 is mounted, and programs attach to one; "
			   "mount it: mount -t cgroup2 none /sys/fs/cgroup");
}

int host_bpffs(struct failure *failure)
{
	struct statfs fs;

	if (statfs(HOST_BPFFS, &fs))
		return failure_set(failure, -errno, "%s: %s; mount sysfs there first", HOST_BPFFS, strerror(errno));
	if (fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", HOST_BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
		return failure_set(failure, -errno, "no bpffs at %s and it can't be mounted: %s; try: mount -t bpf bpf %s",
				   HOST_BPFFS, strerror(errno), HOST_BPFFS);
	return 0;
}

static __u8 path_depth(const char *path)
{
	__u8 depth = 0;

	for (const char *p = path; *p; p++)
		if (*p == '/' && p[1] && p[1] != '/')
			depth++;
	return depth;
}

int host_cgroup_open(const char *path, __u64 *ret_id, __u8 *ret_level, struct failure *failure)
{
	char root[PATH_MAX], full[2 * PATH_MAX];
	struct statfs fs;
	struct stat st;
	int fd, err;

	err = host_cgroup2(root, failure);
	if (err)
		return err;
	snprintf(full, sizeof(full), "%s%s", root, path);
	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failure_set(failure, -errno,
				   "cgroup %s: %s: %s; 'cgroups' in the config names paths below %s "
				   "(systemd-cgls lists them)", path, full, strerror(errno), root);
	if (fstat(fd, &st) || fstatfs(fd, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC) {
		close(fd);
		return failure_set(failure, -EINVAL, "cgroup %s: %s is not in a cgroup2 tree", path, full);
	}
	*ret_id = st.st_ino;
	*ret_level = path_depth(path);
	return fd;
}

__u64 host_cgroup_id(const char *root, const char *path)
{
	char full[2 * PATH_MAX];
	struct stat st;

	snprintf(full, sizeof(full), "%s%s", root, path);
	return stat(full, &st) ? 0 : st.st_ino;
}

int host_cgroup_path(__u64 id, char *path)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(id)];
	} at = { .handle = { .handle_bytes = sizeof(id), .handle_type = FILEID_KERNFS } };
	char root[PATH_MAX], link[64], full[PATH_MAX];
	struct failure failure;
	int mount_fd, fd;
	ssize_t length;
	size_t skip;

	if (host_cgroup2(root, &failure))
		return -ENOENT;
	memcpy(at.handle.f_handle, &id, sizeof(id));
	mount_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount_fd < 0)
		return -errno;
	fd = open_by_handle_at(mount_fd, &at.handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(mount_fd);
	if (fd < 0)
		return -ENOENT;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, full, sizeof(full) - 1);
	close(fd);
	if (length < 0)
		return -errno;
	full[length] = '\0';
	skip = strlen(root);
	if (strncmp(full, root, skip))
		return -ENOENT;
	snprintf(path, PATH_MAX, "%s", full[skip] ? full + skip : "/");
	return 0;
}

int host_netns_cookie(__u64 *ret_cookie, struct failure *failure)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(*ret_cookie);
	int err = 0;

	if (fd < 0)
		return failure_set(failure, -errno, "a socket can't be made: %s", strerror(errno));
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret_cookie, &length))
		err = failure_set(failure, -errno, "this kernel doesn't number network namespaces (SO_NETNS_COOKIE, "
				  "Linux 5.14): %s", strerror(errno));
	close(fd);
	return err;
}

__u64 host_jiffy_ns(void)
{
	struct timespec tick = { .tv_nsec = 4000000 };

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	return (__u64)tick.tv_sec * 1000000000 + (__u64)tick.tv_nsec;
}

static __u64 clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

__u64 host_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

__s64 host_realtime_offset_ns(void)
{
	return (__s64)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC));
}

char *host_time_format(__u64 monotonic_ns, char *text)
{
	time_t seconds = (time_t)((monotonic_ns + (__u64)host_realtime_offset_ns()) / 1000000000);
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(text, HOST_TIME_LEN, "%Y-%m-%dT%H:%M:%SZ", &utc);
	return text;
}

int host_executable(const char *path, const char **ret_why)
{
	struct stat st;

	*ret_why = NULL;
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		*ret_why = "isn't a regular file";
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		*ret_why = "belongs to a user who is not root, and could be changed by them; chown root it";
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		*ret_why = "may be written by its group or by others; chmod go-w it";
	else if (!(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		*ret_why = "isn't executable; chmod +x it";
	else
		return 0;
	return -EACCES;
}
