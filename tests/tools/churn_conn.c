#include "churn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void churn_fail(struct lane *l, const char *what)
{
	fail_errno("path %s, process %u: %s", l->path, l->index, what);
}

void churn_unexpected(struct lane *l, const char *what)
{
	fail("path %s, process %u: %s", l->path, l->index, what);
}

unsigned lane_port(const struct lane *l)
{
	return l->cfg->port_lo + l->index + l->port * l->cfg->procs;
}

int lane_listener(const struct lane *l)
{
	return l->listeners[l->port];
}

void lane_relisten(struct lane *l)
{
	union addr a = l->cfg->listen;

	addr_set_port(&a, lane_port(l));
	l->listeners[l->port] = net_listen(&a, 4096, l->cfg->family == FAMILY_6);
}

/* The ports are dealt out to the processes in turn. */
void lane_open(struct lane *l)
{
	unsigned ports = l->cfg->port_hi - l->cfg->port_lo + 1;

	l->path = "setup";
	l->n_ports = (ports - l->index + l->cfg->procs - 1) / l->cfg->procs;
	for (l->port = 0; l->port < l->n_ports; l->port++)
		lane_relisten(l);
	l->port = 0;
}

static void to_mapped(union addr *a)
{
	union addr v6 = { .in6 = { .sin6_family = AF_INET6, .sin6_port = a->in.sin_port } };

	v6.in6.sin6_addr.s6_addr[10] = v6.in6.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&v6.in6.sin6_addr.s6_addr[12], &a->in.sin_addr, 4);
	*a = v6;
}

void lane_target(const struct lane *l, int family, unsigned port, union addr *ret_addr)
{
	*ret_addr = l->cfg->target;
	addr_set_port(ret_addr, port);
	if (ret_addr->sa.sa_family != family)
		to_mapped(ret_addr);
}

int socket_family(struct lane *l, int fd)
{
	int family;
	socklen_t len = sizeof(family);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len))
		churn_fail(l, "getsockopt SO_DOMAIN");
	return family;
}

/* FAMILY_MAPPED takes an IPv4 and an IPv6 socket in turn. */
int client_socket(struct lane *l, int extra_flags)
{
	unsigned k = l->seq++, host = k % l->cfg->sources;
	union addr from = { .in.sin_family = AF_INET };
	int family, fd;

	family = l->cfg->family == FAMILY_6 || (l->cfg->family == FAMILY_MAPPED && k % 2) ? AF_INET6 : AF_INET;
	if (l->cfg->family == FAMILY_6) {
		fd = net_client(family, NULL, false);
	} else {
		from.in.sin_addr.s_addr = htonl(127u << 24 | (1 + l->index) << 16 | host / 250 << 8 | (1 + host % 250));
		if (family == AF_INET6)
			to_mapped(&from);
		fd = net_client(family, &from, false);
	}
	if (extra_flags && fcntl(fd, F_SETFL, extra_flags))
		churn_fail(l, "fcntl");
	return fd;
}

void client_connect(struct lane *l, int fd)
{
	union addr to;

	lane_target(l, socket_family(l, fd), lane_port(l), &to);
	if (connect(fd, &to.sa, addr_len(&to)))
		churn_fail(l, "connecting to the own listener");
	l->tally->outbound++;
}

/* Port and IPv4 address (or the last four bytes of the IPv6 one): enough to tell this tool's clients apart. */
static uint64_t address_key(const union addr *a)
{
	uint32_t last;

	if (a->sa.sa_family == AF_INET)
		last = a->in.sin_addr.s_addr;
	else
		memcpy(&last, &a->in6.sin6_addr.s6_addr[12], 4);
	return (uint64_t)last << 16 | addr_port(a);
}

static uint64_t client_key(struct lane *l, unsigned i)
{
	union addr a;
	socklen_t len = sizeof(a);

	if (getsockname(l->pairs[i].client, &a.sa, &len))
		churn_fail(l, "getsockname");
	return address_key(&a);
}

int accept_one(struct lane *l, union addr *ret_peer)
{
	struct pollfd pfd = { .fd = lane_listener(l), .events = POLLIN };

	for (;;) {
		socklen_t len = sizeof(*ret_peer);
		int fd = accept4(pfd.fd, &ret_peer->sa, &len, SOCK_CLOEXEC);

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			churn_fail(l, "accept");
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
			churn_fail(l, "poll");
	}
}

void accept_pairs(struct lane *l, unsigned n)
{
	uint64_t keys[BATCH_MAX];
	union addr peer;
	unsigned i, k, at;

	for (i = 0; i < n; i++)
		keys[i] = client_key(l, i);
	for (i = 0; i < n; i++) {
		int fd = accept_one(l, &peer);

		/* They nearly always come in order. */
		for (k = 0, at = i; k < n && keys[at] != address_key(&peer); k++)
			at = (at + 1) % n;
		if (k == n || l->pairs[at].server >= 0)
			churn_unexpected(l, "accepted a connection that no client of this process made");
		l->pairs[at].server = fd;
		l->tally->inbound++;
	}
}

void put(struct lane *l, int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		churn_fail(l, "sending");
}

void expect(struct lane *l, int fd, const char *text)
{
	char buf[16];
	ssize_t n = recv(fd, buf, strlen(text), MSG_WAITALL);

	if (n < 0)
		churn_fail(l, "receiving");
	if (n != (ssize_t)strlen(text) || memcmp(buf, text, n))
		churn_unexpected(l, "received something else than was sent");
}

void exchange(struct lane *l, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		put(l, l->pairs[i].client, "ping");
	for (i = 0; i < n; i++) {
		expect(l, l->pairs[i].server, "ping");
		put(l, l->pairs[i].server, "pong");
	}
	for (i = 0; i < n; i++)
		expect(l, l->pairs[i].client, "pong");
}

void open_pairs(struct lane *l, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		l->pairs[i] = (struct pair){ .client = client_socket(l, 0), .server = -1 };
		client_connect(l, l->pairs[i].client);
	}
	accept_pairs(l, n);
	exchange(l, n);
}

void expect_eof(struct lane *l, int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	if (n < 0)
		churn_fail(l, "waiting for the end of the stream");
	if (n)
		churn_unexpected(l, "data instead of the end of the stream");
}

void expect_reset(struct lane *l, int fd)
{
	char buf[64];
	ssize_t n;

	do {
		n = recv(fd, buf, sizeof(buf), 0);
	} while (n > 0);
	if (!n)
		churn_unexpected(l, "the end of the stream instead of a reset");
	if (errno != ECONNRESET)
		churn_fail(l, "waiting for a reset");
}

void linger_zero(struct lane *l, int fd)
{
	struct linger lg = { .l_onoff = 1, .l_linger = 0 };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)))
		churn_fail(l, "setsockopt SO_LINGER");
}

void close_client(struct lane *l, unsigned i)
{
	if (close(l->pairs[i].client))
		churn_fail(l, "closing a client");
	l->pairs[i].client = -1;
}

void close_server(struct lane *l, unsigned i)
{
	if (close(l->pairs[i].server))
		churn_fail(l, "closing a server end");
	l->pairs[i].server = -1;
}
