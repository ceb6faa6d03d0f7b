/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_file.c: JSON lines into a file, or on standard output. FILE is rotated into FILE.1, FILE.2 ... at the end of a
 * line; before each rotation the oldest are removed, until all of them together with a new file of max_size stay within
 * max_total.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "directory.h"
#include "sink_internal.h"

#define FILE_MODE 0640

struct sink_file {
	struct sink sink;
	struct sink_file *next; /* of `opened` */
	struct output *output;
	char *path;	  /* NULL: standard output */
	const char *name; /* in path */
	__u64 max_size, max_total;
	int directory;
	int fd;	    /* -1: it is rotated, and no new one could be made yet */
	__u64 size; /* as we know it */
	bool cut;   /* it ends in the middle of a line that isn't ours to end */
	int error;  /* of what isn't the lines' writing */
};

/* All of this process. */
static struct sink_file *opened;

/* ---- the file -------------------------------------------------------------------------------------------------- */

/* One that we make has our mode, whatever the umask; one that is there keeps its own. */
static int file_create(int directory, const char *name)
{
	const int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = openat(directory, name, flags | O_CREAT | O_EXCL, FILE_MODE);

	if (fd >= 0)
		fchmod(fd, FILE_MODE);
	else if (errno == EEXIST)
		fd = openat(directory, name, flags);
	return fd;
}

/* A file of a sink of ours, whose config is about to be replaced, is shared with it: the same lock, the same end. */
static bool share_own(int *fd, const struct stat *st)
{
	for (const struct sink_file *file = opened; file; file = file->next) {
		struct stat other;
		int shared;

		if (file->fd < 0 || fstat(file->fd, &other) || other.st_ino != st->st_ino || other.st_dev != st->st_dev)
			continue;
		shared = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
		if (shared < 0)
			return false;
		close(*fd);
		*fd = shared;
		return true;
	}
	return false;
}

static int file_check(int *fd, const struct stat *st, struct failure *failure)
{
	if (!S_ISREG(st->st_mode))
		return failure_set(failure, -EINVAL,
				   "is no regular file; name one, or leave 'path' out for standard output");
	/* Where two rotate, lines are lost. */
	if (flock(*fd, LOCK_EX | LOCK_NB) && !share_own(fd, st))
		return failure_set(failure, -EBUSY,
				   "another process writes this file; give each instance one of its own");
	return 0;
}

/* Opens file->name in `directory` into file->fd. The old one is the caller's. */
static int file_open(struct sink_file *file, int directory, struct failure *failure)
{
	int fd = file_create(directory, file->name), err = 0;
	struct stat st = {};
	char last = '\n';

	if (fd < 0)
		return failure_set(failure, -errno, "can't be opened: %s",
				   errno == ELOOP ? "it is a symbolic link; name the file that it leads to" :
						    strerror(errno));
	if (fstat(fd, &st))
		err = failure_set(failure, -errno, "can't be examined: %s", strerror(errno));
	err = err ? err : file_check(&fd, &st, failure);
	/* What was killed, or cut off from its power, may not have ended its line. */
	if (!err && st.st_size && pread(fd, &last, 1, st.st_size - 1) != 1)
		err = failure_set(failure, -EIO, "can't be read");
	if (err) {
		close(fd);
		return err;
	}
	file->fd = fd;
	file->size = (__u64)st.st_size;
	file->cut = last != '\n';
	output_redirect(file->output, fd);
	return 0;
}

/* Does the name still lead to what we write? */
static bool is_in_place(const struct sink_file *file, int directory)
{
	struct stat ours, there;

	return file->fd >= 0 && !fstat(file->fd, &ours) &&
	       !fstatat(directory, file->name, &there, AT_SYMLINK_NOFOLLOW) && ours.st_ino == there.st_ino &&
	       ours.st_dev == there.st_dev;
}

/* ---- rotation -------------------------------------------------------------------------------------------------- */

static char *rotated_name(const struct sink_file *file, unsigned int number, char *name)
{
	snprintf(name, NAME_MAX + 1, "%s.%u", file->name, number);
	return name;
}

/* The size of FILE.number; false: there is none. */
static bool rotated_size(const struct sink_file *file, unsigned int number, __u64 *ret_size)
{
	char name[NAME_MAX + 1];
	struct stat st;

	if (fstatat(file->directory, rotated_name(file, number, name), &st, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISREG(st.st_mode))
		return false;
	*ret_size = (__u64)st.st_size;
	return true;
}

/* Removes the oldest until the others, with `more` bytes, are within max_total. */
static int rotated_trim(const struct sink_file *file, __u64 more)
{
	__u64 total = more, size;
	char name[NAME_MAX + 1];

	for (unsigned int number = 1; number <= OUTLET_ROTATED_MAX; number++)
		if (rotated_size(file, number, &size))
			total += size;
	for (unsigned int number = OUTLET_ROTATED_MAX; number && total > file->max_total; number--) {
		if (!rotated_size(file, number, &size))
			continue;
		if (unlinkat(file->directory, rotated_name(file, number, name), 0))
			return -errno;
		total -= size;
	}
	return 0;
}

/* FILE -> FILE.1 -> FILE.2 ..., up to the first number that is free: killed half-way, the next time goes on there. */
static int rotated_shift(const struct sink_file *file)
{
	char from[NAME_MAX + 1], to[NAME_MAX + 1];
	unsigned int number = 1;
	__u64 size;

	while (number < OUTLET_ROTATED_MAX && rotated_size(file, number, &size))
		number++;
	for (; number > 1; number--)
		if (renameat(file->directory, rotated_name(file, number - 1, from), file->directory,
			     rotated_name(file, number, to)))
			return -errno;
	return renameat(file->directory, file->name, file->directory, rotated_name(file, 1, to)) ? -errno : 0;
}

/* To be called between two lines. On error it can be tried again. */
static int file_rotate(struct sink_file *file)
{
	int err = 0;

	/* Somebody else has moved it already. */
	if (is_in_place(file, file->directory)) {
		err = rotated_trim(file, file->size + file->max_size);
		/* One file may be more than all may have, when it was written with other sizes. */
		if (!err && file->size + file->max_size > file->max_total)
			err = unlinkat(file->directory, file->name, 0) ? -errno : 0;
		else if (!err)
			err = rotated_shift(file);
	}
	if (err)
		return err;
	close(file->fd);
	file->fd = -1;
	return 0;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* Makes it ready for a line: it is open, and what stands in it ends with a newline. */
static int file_prepare(struct sink_file *file)
{
	struct failure failure;
	struct stat st;
	int err = file->fd < 0 ? file_open(file, file->directory, &failure) : 0;

	if (err)
		return err;
	if (!fstat(file->fd, &st)) {
		/* Emptied under our feet (copytruncate): what was begun begins anew. */
		if ((__u64)st.st_size < file->size) {
			output_rewind(file->output);
			file->cut = false;
		}
		file->size = (__u64)st.st_size;
	}
	if (!file->cut)
		return 0;
	if (write(file->fd, "\n", 1) != 1)
		return errno ? -errno : -EIO;
	file->size++;
	file->cut = false;
	return 0;
}

static int lines_write(struct sink_file *file, struct output_mark *ret_mark)
{
	size_t before = output_waiting(file->output);
	__u64 room = UINT64_MAX;
	int err;

	if (file->max_size) /* which is more than a line */
		room = file->size < file->max_size ? file->max_size - file->size : 0;
	err = output_write_within(file->output, room, ret_mark);
	file->size += before - output_waiting(file->output);
	return err;
}

static int file_write(struct sink *sink, struct output_mark *ret_mark)
{
	struct sink_file *file = (struct sink_file *)sink;

	if (!file->path)
		return output_write(file->output, ret_mark);
	file->error = 0;
	while (output_waiting(file->output)) {
		int err = file_prepare(file);

		if (!err) {
			err = lines_write(file, ret_mark);
			if (err <= 0)
				return err;
			err = file_rotate(file);
		}
		/* Whatever it is, somebody can put it right: a full disk, a read-only one, a directory that is gone. */
		if (err) {
			file->error = -err;
			return -EAGAIN;
		}
	}
	return 0;
}

static int file_put(struct sink *sink, const struct event *event, const char *line, size_t length,
		    struct output_mark mark)
{
	(void)event;
	return output_add(((struct sink_file *)sink)->output, line, length, mark);
}

static int file_error(const struct sink *sink)
{
	const struct sink_file *file = (const struct sink_file *)sink;

	return file->error ? file->error : output_error(file->output);
}

static size_t file_waiting(const struct sink *sink)
{
	return output_waiting(((const struct sink_file *)sink)->output);
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

/* A line that a full disk has cut in two is written whole into the new file, so the old one doesn't need its part. */
static void part_remove(struct sink_file *file, int fd, __u64 size)
{
	size_t part = output_rewind(file->output);

	if (part && ftruncate(fd, (off_t)(size - part)))
		file->error = errno;
}

static int file_reopen(struct sink *sink, struct failure *failure)
{
	struct sink_file *file = (struct sink_file *)sink;
	int directory, fd = file->fd, err;
	__u64 size = file->size;
	const char *name;

	if (!file->path)
		return 0;
	err = directory_open(file->path, &directory, &name, failure);
	if (err)
		return err;
	if (!is_in_place(file, directory)) {
		err = file_open(file, directory, failure);
		if (!err && fd >= 0) {
			part_remove(file, fd, size);
			close(fd);
		}
	}
	if (err) {
		close(directory);
		return err;
	}
	close(file->directory);
	file->directory = directory;
	return 0;
}

static __u64 file_close(struct sink *sink)
{
	struct sink_file *file = (struct sink_file *)sink, **at = &opened;

	while (*at && *at != file)
		at = &(*at)->next;
	if (*at)
		*at = file->next;
	output_free(file->output);
	if (file->path) {
		if (file->fd >= 0)
			close(file->fd);
		if (file->directory >= 0)
			close(file->directory);
	}
	free(file->path);
	free(file);
	return 0;
}

static const struct sink_calls file_calls = {
	.close = file_close,
	.put = file_put,
	.write = file_write,
	.error = file_error,
	.waiting = file_waiting,
	.reopen = file_reopen,
};

static int path_open(struct sink_file *file, struct failure *failure)
{
	int err = directory_open(file->path, &file->directory, &file->name, failure);

	if (err)
		return err;
	if (strlen(file->name) > NAME_MAX - strlen(".1000"))
		return failure_set(failure, -ENAMETOOLONG, "the file's name is too long");
	file->fd = -1;
	err = file_open(file, file->directory, failure);
	if (err || !file->max_size)
		return err;
	/* The sizes may have been others when this was written. */
	if (file->size > file->max_size)
		err = file_rotate(file);
	else
		err = rotated_trim(file, file->max_size);
	return err ? failure_set(failure, err, "older files can't be moved or removed: %s", strerror(-err)) : 0;
}

int sink_file_open(const struct outlet_sink *settings, struct sink **ret_sink, struct failure *failure)
{
	struct sink_file *file = calloc(1, sizeof(*file));
	int err = 0;

	if (!file)
		return failure_set(failure, -ENOMEM, "out of memory");
	file->sink.calls = &file_calls;
	file->max_size = settings->max_size;
	file->max_total = settings->max_total;
	file->directory = -1;
	file->fd = STDOUT_FILENO;
	file->path = settings->path ? strdup(settings->path) : NULL;
	file->output = output_new(file->fd);
	if (!file->output || (settings->path && !file->path))
		err = failure_set(failure, -ENOMEM, "out of memory");
	else if (file->path)
		err = path_open(file, failure);
	if (err) {
		if (file->fd == STDOUT_FILENO)
			file->fd = -1;
		file_close(&file->sink);
		return err;
	}
	file->next = opened;
	opened = file;
	*ret_sink = &file->sink;
	return 0;
}
