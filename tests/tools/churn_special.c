/* The paths that need more than a close: full and closed listeners, CLOSING, a killed client, connects that fail. */
#include "churn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* TCP_INFO of a listener tells the length of its accept queue. */
static unsigned queued(struct lane *l)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(lane_listener(l), IPPROTO_TCP, TCP_INFO, &info, &len))
		churn_fail(l, "getsockopt TCP_INFO");
	return info.tcpi_unacked;
}

void path_listener_closed(struct lane *l, unsigned n)
{
	unsigned i;

	each(i, n) {
		l->pairs[i] = (struct pair){ .client = client_socket(l, 0), .server = -1 };
		client_connect(l, l->pairs[i].client);
		put(l, l->pairs[i].client, "ping");
	}
	while (queued(l) < n)
		sched_yield();
	l->tally->inbound += n;
	close(lane_listener(l));
	each(i, n) {
		expect_reset(l, l->pairs[i].client);
		close_client(l, i);
	}
	lane_relisten(l);
}

/* backlog N holds N + 1 connections; the SYNs of twice as many more are dropped and stay unanswered. */
void path_overflow(struct lane *l, unsigned n)
{
	unsigned fit = n < 8 ? n : 8, tries = fit * 3, i, accepted = 0;
	union addr to;
	int fd;

	if (listen(lane_listener(l), fit - 1))
		churn_fail(l, "listen");
	each(i, tries) {
		fd = l->pairs[i].client = client_socket(l, O_NONBLOCK);
		lane_target(l, socket_family(l, fd), lane_port(l), &to);
		if (connect(fd, &to.sa, addr_len(&to)) && errno != EINPROGRESS)
			churn_fail(l, "connecting to a full listener");
	}
	while (queued(l) < fit)
		sched_yield();
	each(i, tries) {
		if (net_tcp_state(l->pairs[i].client) == TCP_ESTABLISHED)
			l->tally->outbound++;
		else
			l->tally->failed++;
		close_client(l, i);
	}
	while ((fd = accept4(lane_listener(l), NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		expect_eof(l, fd);
		close(fd);
		accepted++;
	}
	if (errno != EAGAIN)
		churn_fail(l, "accept");
	l->tally->inbound += accepted;
	close(lane_listener(l));
	lane_relisten(l);
}

/* Writes until the peer's window and the own buffer are full, so that a FIN would have to wait behind that. */
static void fill(struct lane *l, int fd)
{
	static const char block[16384];
	int unsent;

	net_set(fd, SOL_SOCKET, SO_SNDBUF, 16384, "SO_SNDBUF");
	while (send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	if (errno != EAGAIN)
		churn_fail(l, "filling the window");
	if (ioctl(fd, SIOCOUTQNSD, &unsent))
		churn_fail(l, "SIOCOUTQNSD");
	if (!unsent)
		churn_unexpected(l, "the window was not filled");
}

/* The server's FIN waits behind unsent data, the client's FIN then meets a server in FIN_WAIT1: CLOSING, every time. */
void path_simultaneous(struct lane *l, unsigned n)
{
	char buf[65536];
	ssize_t got;
	unsigned i;

	each(i, n) {
		l->pairs[i] = (struct pair){ .client = client_socket(l, 0), .server = -1 };
		net_set(l->pairs[i].client, SOL_SOCKET, SO_RCVBUF, 8192, "SO_RCVBUF");
		client_connect(l, l->pairs[i].client);
	}
	accept_pairs(l, n);
	exchange(l, n);
	each(i, n) {
		fill(l, l->pairs[i].server);
		shut(l, l->pairs[i].server);
		shut(l, l->pairs[i].client);
		expect_eof(l, l->pairs[i].server);
		if (net_tcp_state(l->pairs[i].server) != TCP_CLOSING)
			churn_unexpected(l, "the server end is not in CLOSING");
	}
	each(i, n) {
		while ((got = recv(l->pairs[i].client, buf, sizeof(buf), 0)) > 0)
			;
		if (got < 0)
			churn_fail(l, "receiving");
		close_client(l, i);
		close_server(l, i);
	}
}

static void doomed_client(struct lane *l, unsigned n, int tell)
{
	unsigned i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	each(i, n) {
		l->pairs[i].client = client_socket(l, 0);
		client_connect(l, l->pairs[i].client);
	}
	each(i, n) {
		put(l, l->pairs[i].client, "ping");
		expect(l, l->pairs[i].client, "pong");
	}
	put(l, tell, "k");
	for (;;)
		pause();
}

/* The child counts the client ends: the tally is shared. */
void path_client_killed(struct lane *l, unsigned n)
{
	union addr peer;
	int tell[2];
	unsigned i;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, tell))
		churn_fail(l, "socketpair");
	pid = fork();
	if (pid < 0)
		churn_fail(l, "fork");
	if (!pid)
		doomed_client(l, n, tell[1]);
	l->seq += n;
	each(i, n) {
		l->pairs[i].server = accept_one(l, &peer);
		l->tally->inbound++;
	}
	each(i, n) {
		expect(l, l->pairs[i].server, "ping");
		put(l, l->pairs[i].server, "pong");
	}
	expect(l, tell[0], "k");
	if (kill(pid, SIGKILL) || waitpid(pid, NULL, 0) != pid)
		churn_fail(l, "killing the client process");
	close(tell[0]);
	close(tell[1]);
	each(i, n) {
		expect_eof(l, l->pairs[i].server);
		close_server(l, i);
	}
}

static void connect_refused(struct lane *l, int fd)
{
	union addr to;

	lane_target(l, socket_family(l, fd), l->cfg->dead_port, &to);
	if (!connect(fd, &to.sa, addr_len(&to)))
		churn_unexpected(l, "a connect to the dead port succeeded");
	if (errno != ECONNREFUSED)
		churn_fail(l, "connecting to the dead port");
	l->tally->failed++;
}

/* Networks for documentation: unroutable here, or from the loopback address it is bound to. */
static void connect_unroutable(struct lane *l, int fd)
{
	union addr to, v4;

	if (l->cfg->family == FAMILY_6) {
		addr_parse("2001:db8::1", lane_port(l), &to);
	} else {
		addr_parse("192.0.2.1", lane_port(l), &v4);
		addr_parse("::ffff:192.0.2.1", lane_port(l), &to);
		if (socket_family(l, fd) == AF_INET)
			to = v4;
	}
	if (!connect(fd, &to.sa, addr_len(&to)))
		churn_unexpected(l, "a connect to an unroutable address succeeded");
	if (errno != ENETUNREACH && errno != EADDRNOTAVAIL && errno != EHOSTUNREACH && errno != EINVAL)
		churn_fail(l, "connecting to an unroutable address");
	l->tally->failed++;
}

static void failing(struct lane *l, unsigned n, void (*attempt)(struct lane *, int), bool reuse)
{
	unsigned i;

	each(i, n) {
		l->pairs[i] = (struct pair){ .client = client_socket(l, 0), .server = -1 };
		attempt(l, l->pairs[i].client);
		if (reuse)
			client_connect(l, l->pairs[i].client);
	}
	if (reuse) {
		accept_pairs(l, n);
		exchange(l, n);
	}
	each(i, n) {
		close_client(l, i);
		if (!reuse)
			continue;
		expect_eof(l, l->pairs[i].server);
		close_server(l, i);
	}
}

void path_refused(struct lane *l, unsigned n)
{
	failing(l, n, connect_refused, false);
}

void path_refused_reuse(struct lane *l, unsigned n)
{
	failing(l, n, connect_refused, true);
}

void path_unroutable(struct lane *l, unsigned n)
{
	failing(l, n, connect_unroutable, false);
}

void path_unroutable_reuse(struct lane *l, unsigned n)
{
	failing(l, n, connect_unroutable, true);
}

