/* The table of paths, and those that end a pair by a close, a shutdown or a disconnect. */
#include "churn.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

static void client_fin(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		close_client(l, i);
	each(i, n) {
		expect_eof(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void server_fin(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		close_server(l, i);
	each(i, n) {
		expect_eof(l, l->pairs[i].client);
		close_client(l, i);
	}
}

static void client_rst(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n) {
		linger_zero(l, l->pairs[i].client);
		close_client(l, i);
	}
	each(i, n) {
		expect_reset(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void server_rst(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n) {
		linger_zero(l, l->pairs[i].server);
		close_server(l, i);
	}
	each(i, n) {
		expect_reset(l, l->pairs[i].client);
		close_client(l, i);
	}
}

void shut(struct lane *l, int fd)
{
	if (shutdown(fd, SHUT_WR))
		churn_fail(l, "shutdown");
}

static void client_half(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		shut(l, l->pairs[i].client);
	each(i, n) {
		expect_eof(l, l->pairs[i].server);
		put(l, l->pairs[i].server, "late");
		close_server(l, i);
	}
	each(i, n) {
		expect(l, l->pairs[i].client, "late");
		expect_eof(l, l->pairs[i].client);
		close_client(l, i);
	}
}

static void server_half(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		shut(l, l->pairs[i].server);
	each(i, n) {
		expect_eof(l, l->pairs[i].client);
		put(l, l->pairs[i].client, "late");
		close_client(l, i);
	}
	each(i, n) {
		expect(l, l->pairs[i].server, "late");
		expect_eof(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void await_readable(struct lane *l, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	while (poll(&pfd, 1, -1) < 0)
		if (errno != EINTR)
			churn_fail(l, "poll");
}

/* A close with data unread is a RST, not a FIN. */
static void client_unread(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		put(l, l->pairs[i].server, "unread");
	each(i, n) {
		await_readable(l, l->pairs[i].client);
		close_client(l, i);
	}
	each(i, n) {
		expect_reset(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void server_unread(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		put(l, l->pairs[i].client, "unread");
	each(i, n) {
		await_readable(l, l->pairs[i].server);
		close_server(l, i);
	}
	each(i, n) {
		expect_reset(l, l->pairs[i].client);
		close_client(l, i);
	}
}

static void disconnect(struct lane *l, int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (connect(fd, &none, sizeof(none)))
		churn_fail(l, "connect(AF_UNSPEC)");
}

static void disconnect_all(struct lane *l, unsigned n)
{
	unsigned i;

	each(i, n)
		disconnect(l, l->pairs[i].client);
	each(i, n) {
		expect_reset(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void client_disconnect(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	disconnect_all(l, n);
	each(i, n)
		close_client(l, i);
}

/* The same sockets, so the same cookies, live through two connections. */
static void disconnect_reuse(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	disconnect_all(l, n);
	each(i, n)
		client_connect(l, l->pairs[i].client);
	accept_pairs(l, n);
	exchange(l, n);
	disconnect_all(l, n);
	each(i, n)
		close_client(l, i);
}

static void server_disconnect(struct lane *l, unsigned n)
{
	unsigned i;

	open_pairs(l, n);
	each(i, n)
		disconnect(l, l->pairs[i].server);
	each(i, n) {
		expect_reset(l, l->pairs[i].client);
		close_client(l, i);
		close_server(l, i);
	}
}

const struct path paths[] = {
	{ "client_fin", "client", "fin", 1, client_fin },
	{ "server_fin", "server", "fin", 1, server_fin },
	{ "client_rst", "client", "rst", 1, client_rst },
	{ "server_rst", "server", "rst", 1, server_rst },
	{ "client_half", "client", "fin", 1, client_half },
	{ "server_half", "server", "fin", 1, server_half },
	{ "client_unread", "client", "rst", 1, client_unread },
	{ "server_unread", "server", "rst", 1, server_unread },
	{ "listener_closed", "server", "rst", 1, path_listener_closed },
	{ "overflow", "client", "fin", 1, path_overflow },
	{ "client_disconnect", "client", "rst", 1, client_disconnect },
	{ "disconnect_reuse", "client", "rst", 2, disconnect_reuse },
	{ "server_disconnect", "server", "rst", 1, server_disconnect },
	{ "simultaneous", "both", "fin", 1, path_simultaneous },
	{ "client_killed", "client", "fin", 1, path_client_killed },
	{ "refused", "none", "refused", 0, path_refused },
	{ "refused_reuse", "client", "fin", 1, path_refused_reuse },
	{ "unroutable", "none", "unroutable", 0, path_unroutable },
	{ "unroutable_reuse", "client", "fin", 1, path_unroutable_reuse },
};

const unsigned n_paths = sizeof(paths) / sizeof(paths[0]);

_Static_assert(sizeof(paths) / sizeof(paths[0]) <= PATHS_MAX, "PATHS_MAX is too small");
