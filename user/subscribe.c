// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "subscribe.h"

struct copy {
	int in, out, signals;
	size_t used;
	char text[64 * 1024]; /* many lines */
};

char *subscribe_path(const char *instance, char *path)
{
	snprintf(path, SUBSCRIBE_PATH_LEN, SUBSCRIBE_DIRECTORY "/%s.sock", instance);
	return path;
}

static int connect_to(const char *path, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		*ret_fd = fd;
		return 0;
	}
	err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

int subscribe_open(const char *instance, int *ret_fd, struct failure *failure)
{
	char path[SUBSCRIBE_PATH_LEN];
	int err = connect_to(subscribe_path(instance, path), ret_fd);

	return err ? failure_set(failure, err, "%s can't be connected to: %s", path, strerror(-err)) : 0;
}

void subscribe_tidy(const char *instance)
{
	char path[SUBSCRIBE_PATH_LEN];
	int fd, err = connect_to(subscribe_path(instance, path), &fd);

	if (!err)
		close(fd);
	else if (err == -ECONNREFUSED)
		unlink(path);
}

/* ---- copying --------------------------------------------------------------------------------------------------- */

/* 0: fd is readable, or its other end gone; 1: a signal came. */
static int wait_for(int fd, short events, int signals)
{
	struct pollfd fds[] = { { .fd = fd, .events = events }, { .fd = signals, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return fds[1].revents ? 1 : 0;
}

static int write_all(const struct copy *copy, const char *text, size_t length)
{
	while (length) {
		ssize_t wrote = write(copy->out, text, length);

		if (wrote < 0 && errno == EAGAIN) {
			int err = wait_for(copy->out, POLLOUT, copy->signals);

			if (err)
				return err;
		}
		if (wrote < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (wrote > 0) {
			text += wrote;
			length -= (size_t)wrote;
		}
	}
	return 0;
}

/* {"v":1,"ok":false,"error":...} instead of an event: why the other end will have none of us. */
static bool is_refusal(const struct copy *copy, size_t length, struct failure *failure)
{
	static const char head[] = "{\"v\":1,\"ok\":false,";
	json_t *line;
	const char *why;

	if (length < sizeof(head) || strncmp(copy->text, head, sizeof(head) - 1) != 0)
		return false;
	line = json_loadb(copy->text, length, JSON_DISABLE_EOF_CHECK, NULL);
	why = json_string_value(json_object_get(line, "error"));
	failure_set(failure, -EBUSY, "'sipkeep run' refused: %s", why ? why : "it gave no reason");
	json_decref(line);
	return true;
}

/* The whole lines of what is there; a line that is begun stays. */
static int lines_write(struct copy *copy, struct failure *failure)
{
	const char *last = memrchr(copy->text, '\n', copy->used);
	size_t length = last ? (size_t)(last - copy->text) + 1 : 0;
	int err;

	if (length == 0 && copy->used == sizeof(copy->text))
		return failure_set(failure, -EMSGSIZE, "what came from 'sipkeep run' is no line");
	if (is_refusal(copy, length, failure))
		return -EBUSY;
	err = write_all(copy, copy->text, length);
	if (err < 0)
		return failure_set(failure, err, "events can't be printed: %s", strerror(-err));
	copy->used -= length;
	memmove(copy->text, copy->text + length, copy->used);
	return err;
}

static int copy_on(struct copy *copy, struct failure *failure)
{
	for (;;) {
		int err = wait_for(copy->in, POLLIN, copy->signals);
		ssize_t got;

		if (err)
			return err < 0 ? failure_set(failure, err, "waiting for events: %s", strerror(-err)) : 0;
		got = read(copy->in, copy->text + copy->used, sizeof(copy->text) - copy->used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return failure_set(failure, -ENOTCONN, "'sipkeep run' has ended");
		copy->used += (size_t)got;
		err = lines_write(copy, failure);
		if (err)
			return err < 0 ? err : 0;
	}
}

int subscribe_copy(int fd, int out, struct failure *failure)
{
	struct copy copy = { .in = fd, .out = out };
	sigset_t stops;
	int err;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	copy.signals = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
	if (copy.signals < 0)
		return failure_set(failure, -errno, "signals can't be waited for: %s", strerror(errno));
	err = copy_on(&copy, failure);
	close(copy.signals);
	return err;
}
