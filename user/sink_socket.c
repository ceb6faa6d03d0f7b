/* SPDX-License-Identifier: GPL-2.0-only */
/* sink_socket.c: lines to whoever connects to a Unix stream socket, from that moment on. Nobody waits for a reader. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "directory.h"
#include "sink_feed.h"
#include "sink_internal.h"

#define READERS_MAX 64
#define LISTENER READERS_MAX	  /* in epoll's data, where a reader has its number */
#define PUT_BYTES_MAX (64U << 10) /* taken in a row; then the readers get theirs */

struct reader {
	int fd;	    /* -1: none */
	bool waits; /* for room in its socket */
	struct feed_reader feed;
};

struct sink_socket {
	struct sink sink;
	struct sockaddr_un address;
	dev_t dev;
	ino_t ino; /* of the socket's file; 0: there is none yet */
	int listener, epoll;
	bool accepting;
	struct feed *feed;
	size_t put_bytes;
	struct reader readers[READERS_MAX];
};

/* ---- readers --------------------------------------------------------------------------------------------------- */

static int watch(struct sink_socket *sock, int operation, int fd, __u32 events, __u64 number)
{
	struct epoll_event event = { .events = events, .data.u64 = number };

	return epoll_ctl(sock->epoll, operation, fd, &event) ? -errno : 0;
}

static void reader_end(struct sink_socket *sock, struct reader *reader)
{
	feed_leave(sock->feed, &reader->feed);
	close(reader->fd); /* epoll forgets it */
	reader->fd = -1;
}

/* That it goes is always told (EPOLLHUP); that there is room, only where it waits for that. */
static void reader_send(struct sink_socket *sock, struct reader *reader)
{
	int err = feed_send(sock->feed, &reader->feed, reader->fd);
	bool waits = err == -EAGAIN;

	if (!err || waits) {
		err = 0;
		if (waits != reader->waits)
			err = watch(sock, EPOLL_CTL_MOD, reader->fd, waits ? EPOLLOUT : 0,
				    (__u64)(reader - sock->readers));
		reader->waits = waits;
	}
	if (err)
		reader_end(sock, reader);
}

static void readers_send(struct sink_socket *sock)
{
	sock->put_bytes = 0;
	for (size_t i = 0; i < READERS_MAX; i++)
		if (sock->readers[i].fd >= 0)
			reader_send(sock, &sock->readers[i]);
}

static struct reader *reader_free(struct sink_socket *sock)
{
	for (size_t i = 0; i < READERS_MAX; i++)
		if (sock->readers[i].fd < 0)
			return &sock->readers[i];
	return NULL;
}

static void reader_begin(struct sink_socket *sock, int fd)
{
	static const char full[] = "{\"v\":1,\"ok\":false,\"error\":\"this socket has 64 readers already; "
				   "end one of them first\"}\n";
	struct reader *reader = reader_free(sock);

	_Static_assert(READERS_MAX == 64, "as the text says");
	if (!reader || watch(sock, EPOLL_CTL_ADD, fd, 0, (__u64)(reader - sock->readers))) {
		send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	reader->fd = fd;
	reader->waits = false;
	feed_join(sock->feed, &reader->feed);
}

static void accept_all(struct sink_socket *sock)
{
	int fd;

	while ((fd = accept4(sock->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 || errno == EINTR)
		if (fd >= 0)
			reader_begin(sock, fd);
	/* Without descriptors or memory it would come again at once: it is left until the next write. */
	if (errno != EAGAIN && errno != ECONNABORTED && !watch(sock, EPOLL_CTL_MOD, sock->listener, 0, LISTENER))
		sock->accepting = false;
}

static void socket_ready(struct sink *sink)
{
	struct sink_socket *sock = (struct sink_socket *)sink;
	struct epoll_event events[READERS_MAX + 1];
	int count = epoll_wait(sock->epoll, events, READERS_MAX + 1, 0);

	for (int i = 0; i < count; i++) {
		struct reader *reader = &sock->readers[events[i].data.u64 % READERS_MAX];

		if (events[i].data.u64 == LISTENER)
			accept_all(sock);
		else if (reader->fd < 0)
			continue;
		else if (events[i].events & (EPOLLHUP | EPOLLERR))
			reader_end(sock, reader);
		else
			reader_send(sock, reader);
	}
}

/* ---- the sink -------------------------------------------------------------------------------------------------- */

static int socket_put(struct sink *sink, const struct event *event, const char *line, size_t length,
		      struct output_mark mark)
{
	struct sink_socket *sock = (struct sink_socket *)sink;
	__u64 more = event->kind == EVENTS_LOST && event->record.count ? event->record.count - 1 : 0;
	__u64 seq = output_mark_seq(&mark);
	int err;

	sock->put_bytes += length;
	if (sock->put_bytes > PUT_BYTES_MAX)
		readers_send(sock);
	err = feed_put(sock->feed, line, length, seq - more, seq);
	return err == -ENOMEM ? 0 : err; /* the readers are told */
}

static int socket_write(struct sink *sink, struct output_mark *ret_mark)
{
	struct sink_socket *sock = (struct sink_socket *)sink;

	(void)ret_mark;
	if (!sock->accepting && !watch(sock, EPOLL_CTL_MOD, sock->listener, EPOLLIN, LISTENER))
		sock->accepting = true;
	readers_send(sock);
	return 0;
}

static int socket_fd(const struct sink *sink)
{
	return ((const struct sink_socket *)sink)->epoll;
}

static __u64 socket_dropped(const struct sink *sink)
{
	return feed_lost(((const struct sink_socket *)sink)->feed);
}

/* Only ours: another process may have put its own there. */
static void path_remove(const struct sink_socket *sock)
{
	struct stat st;

	if (sock->ino && !lstat(sock->address.sun_path, &st) && st.st_ino == sock->ino && st.st_dev == sock->dev)
		unlink(sock->address.sun_path);
}

static __u64 socket_close(struct sink *sink)
{
	struct sink_socket *sock = (struct sink_socket *)sink;

	if (sock->feed)
		readers_send(sock);
	for (size_t i = 0; i < READERS_MAX; i++)
		if (sock->readers[i].fd >= 0)
			reader_end(sock, &sock->readers[i]);
	path_remove(sock);
	if (sock->listener >= 0)
		close(sock->listener);
	if (sock->epoll >= 0)
		close(sock->epoll);
	feed_free(sock->feed);
	free(sock);
	return 0;
}

static const struct sink_calls socket_calls = {
	.close = socket_close,
	.put = socket_put,
	.write = socket_write,
	.fd = socket_fd,
	.ready = socket_ready,
	.dropped = socket_dropped,
};

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* Somebody listens there. When that is us, by a config that is about to be replaced, the new one takes the place. */
static int refuse_used(int fd, struct failure *failure)
{
	struct ucred peer = {};
	socklen_t size = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	if (peer.pid == getpid())
		return 0;
	return failure_set(failure, -EADDRINUSE, "process %d listens there already; end it, or give each its own path",
			   peer.pid);
}

/* A socket that nobody listens at is removed; anything else stays, and is an error. */
static int path_clear(const struct sockaddr_un *address, struct failure *failure)
{
	int fd, err = 0;
	struct stat st;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : failure_set(failure, -errno, "can't be examined: %s", strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return failure_set(failure, -EEXIST,
				   "there is a file of this name that is no socket; remove or rename it");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failure_set(failure, -errno, "no socket can be had: %s", strerror(errno));
	/* EAGAIN: so many wait that no more can. */
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN)
		err = refuse_used(fd, failure);
	else if (errno != ECONNREFUSED)
		err = failure_set(failure, -errno, "who listens there can't be told: %s", strerror(errno));
	if (!err && unlink(address->sun_path))
		err = failure_set(failure, -errno, "the socket that is there can't be removed: %s", strerror(errno));
	close(fd);
	return err;
}

/* Born with its mode: at no moment may others connect. */
static int path_bind(struct sink_socket *sock, mode_t mode, struct failure *failure)
{
	mode_t before = umask(0777 & ~mode);
	int err = bind(sock->listener, (const struct sockaddr *)&sock->address, sizeof(sock->address)) ? -errno : 0;
	struct stat st;

	umask(before);
	if (!err && lstat(sock->address.sun_path, &st))
		err = -errno;
	if (err)
		return failure_set(failure, err, "can't be made: %s", strerror(-err));
	sock->dev = st.st_dev;
	sock->ino = st.st_ino;
	return 0;
}

static int listener_open(struct sink_socket *sock, const struct outlet_sink *settings, struct failure *failure)
{
	const char *name;
	int directory, err = directory_open(settings->path, &directory, &name, failure);

	if (err)
		return err;
	close(directory); /* safe, so its name will go on leading there */
	sock->address.sun_family = AF_UNIX;
	if (strlen(settings->path) > OUTLET_SOCKET_PATH_MAX)
		return failure_set(failure, -ENAMETOOLONG, "is too long for a socket: %d bytes at most",
				   OUTLET_SOCKET_PATH_MAX);
	strcpy(sock->address.sun_path, settings->path);
	err = path_clear(&sock->address, failure);
	if (err)
		return err;
	sock->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	sock->epoll = epoll_create1(EPOLL_CLOEXEC);
	sock->feed = feed_new();
	if (sock->listener < 0 || sock->epoll < 0 || !sock->feed)
		return failure_set(failure, -errno, "no socket can be had: %s", strerror(errno));
	err = path_bind(sock, settings->mode, failure);
	if (err)
		return err;
	if (listen(sock->listener, READERS_MAX) || watch(sock, EPOLL_CTL_ADD, sock->listener, EPOLLIN, LISTENER))
		return failure_set(failure, -errno, "nobody can be listened for: %s", strerror(errno));
	sock->accepting = true;
	return 0;
}

int sink_socket_open(const struct outlet_sink *settings, struct sink **ret_sink, struct failure *failure)
{
	struct sink_socket *sock = calloc(1, sizeof(*sock));
	int err;

	if (!sock)
		return failure_set(failure, -ENOMEM, "out of memory");
	sock->sink.calls = &socket_calls;
	sock->listener = sock->epoll = -1;
	for (size_t i = 0; i < READERS_MAX; i++)
		sock->readers[i].fd = -1;
	err = listener_open(sock, settings, failure);
	if (err) {
		socket_close(&sock->sink);
		return err;
	}
	*ret_sink = &sock->sink;
	return 0;
}
