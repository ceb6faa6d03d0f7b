// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"

#define LINKS_MAX 20

struct walk {
	int fd;		     /* where we are */
	char done[PATH_MAX]; /* its name, for messages */
	char todo[PATH_MAX];
	int links;
};

static int too_long(struct failure *failure, const char *path)
{
	return failure_set(failure, -ENAMETOOLONG, "%s is too long", path);
}

static int step_into(struct walk *walk, int fd, const char *name, struct failure *failure)
{
	size_t used = strlen(walk->done);

	if (fd < 0)
		return failure_set(failure, -errno, "the directory %s/%s can't be opened: %s%s", walk->done, name,
				   strerror(errno), errno == ENOENT ? "; make it first" : "");
	if (walk->fd >= 0)
		close(walk->fd);
	walk->fd = fd;
	if ((size_t)snprintf(walk->done + used, sizeof(walk->done) - used, "%s%s", *name ? "/" : "", name) >=
	    sizeof(walk->done) - used)
		return too_long(failure, walk->done);
	return 0;
}

static int go_to_root(struct walk *walk, struct failure *failure)
{
	walk->done[0] = '\0';
	return step_into(walk, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "", failure);
}

static bool is_ours(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

static int check_owner(const struct walk *walk, const char *name, const struct stat *st, struct failure *failure)
{
	if (is_ours(st))
		return 0;
	return failure_set(failure, -EPERM,
			   "%s/%s belongs to user %u, who could lead sipkeep to any file; chown root it", walk->done,
			   name, st->st_uid);
}

/* Where we are. The last one holds the file. */
static int check_here(const struct walk *walk, bool last, struct failure *failure)
{
	const char *name = *walk->done ? walk->done : "/";
	struct stat st;

	if (fstat(walk->fd, &st))
		return failure_set(failure, -errno, "%s can't be examined: %s", name, strerror(errno));
	/* A group's right to write in one on the way is an administrator's choice: /var/log has it on some systems. */
	if ((st.st_mode & S_IWOTH && (last || !(st.st_mode & S_ISVTX))) || (last && st.st_mode & S_IWGRP))
		return failure_set(
			failure, -EPERM,
			"the directory %s may be written by others (mode %04o), who could prepare the file; chmod "
			"go-w it or take one that is root's alone",
			name, st.st_mode & 07777);
	return 0;
}

/* The link's target takes its place in what is to do. */
static int follow_link(struct walk *walk, const char *name, struct failure *failure)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t length = readlinkat(walk->fd, name, target, sizeof(target) - 1);

	if (length < 0 || ++walk->links > LINKS_MAX)
		return failure_set(failure, -ELOOP, "the symbolic link %s/%s can't be followed", walk->done, name);
	target[length] = '\0';
	snprintf(rest, sizeof(rest), "%s", walk->todo);
	if ((size_t)length + 1 + strlen(rest) >= sizeof(walk->todo))
		return too_long(failure, target);
	memcpy(walk->todo, target, (size_t)length);
	walk->todo[length] = '/';
	strcpy(walk->todo + length + 1, rest);
	return *target == '/' ? go_to_root(walk, failure) : 0;
}

/* The next name of what is to do, cut off its front; NULL at the end. name: NAME_MAX + 1 bytes. */
static char *next_name(struct walk *walk, char *name)
{
	char *begin = walk->todo + strspn(walk->todo, "/");
	size_t length = strcspn(begin, "/");

	if (!length)
		return NULL;
	snprintf(name, NAME_MAX + 1, "%.*s", (int)length, begin);
	memmove(walk->todo, begin + length, strlen(begin + length) + 1);
	return name;
}

static int walk_down(struct walk *walk, struct failure *failure)
{
	char name[NAME_MAX + 1];
	int err = go_to_root(walk, failure);

	while (!err && next_name(walk, name)) {
		struct stat st;

		err = check_here(walk, false, failure);
		if (err)
			return err;
		if (fstatat(walk->fd, name, &st, AT_SYMLINK_NOFOLLOW))
			return step_into(walk, -1, name, failure);
		err = check_owner(walk, name, &st, failure);
		if (err)
			return err;
		if (S_ISLNK(st.st_mode))
			err = follow_link(walk, name, failure);
		else
			err = step_into(walk, openat(walk->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
					name, failure);
	}
	return err ? err : check_here(walk, true, failure);
}

int directory_open(const char *path, int *ret_fd, const char **ret_name, struct failure *failure)
{
	const char *name = strrchr(path, '/');
	struct walk walk = { .fd = -1 };
	int err;

	if (!name || (size_t)(name - path) >= sizeof(walk.todo))
		return too_long(failure, path);
	memcpy(walk.todo, path, (size_t)(name - path));
	err = walk_down(&walk, failure);
	if (err) {
		if (walk.fd >= 0)
			close(walk.fd);
		return err;
	}
	*ret_fd = walk.fd;
	*ret_name = name + 1;
	return 0;
}
