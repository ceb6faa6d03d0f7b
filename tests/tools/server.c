/* A TCP echo server for tests: one process, epoll, everything accepted, connections kept until the peer closes. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char help[] =
"usage: server ADDR PORT [options]\n"
"A TCP echo server: accepts everything, echoes every byte, keeps each connection until the peer closes it.\n"
"\n"
"  --backlog N                  listen backlog (default 4096; the kernel caps it at net.core.somaxconn)\n"
"  --count-file F               keep F's only line equal to the counts below (padded with spaces)\n"
"  --setsockopt-after-accept L  set options on each accepted socket, as a PBX does\n"
"  --setsockopt-on-listener L   set options on the listener, before listen()\n"
"      L: keepalive=0|1,keepidle=S,keepintvl=S,keepcnt=N,user_timeout=MS, any of them, set in L's order\n"
"  --no-accept                  only listen; each SIGUSR2 accepts what is queued then and prints the counts\n"
"  --v6only                     an IPv6 listener takes no IPv4 (off: dual-stack)\n"
"\n"
"PORT 0 takes a free port. stdout: {\"listening\":true,\"port\":N} first, then on each SIGUSR1, and last, the counts:\n"
"  {\"accepted\":N,\"open\":M,\"peak\":P,\"source_peak\":Q,\"bytes\":B,\"setsockopt_failed\":F}\n"
"  peak: most ever open at once; source_peak: from one source address. SIGHUP: both start anew from what is open.\n"
"SIGTERM or SIGINT: prints the counts and exits 0. 1: something failed (said on stderr), 2: wrong usage.\n";

struct option_value {
	const char *name;
	int level, option, value;
};

static const struct option_value known_options[] = {
	{ "keepalive", SOL_SOCKET, SO_KEEPALIVE, 0 },
	{ "keepidle", IPPROTO_TCP, TCP_KEEPIDLE, 0 },
	{ "keepintvl", IPPROTO_TCP, TCP_KEEPINTVL, 0 },
	{ "keepcnt", IPPROTO_TCP, TCP_KEEPCNT, 0 },
	{ "user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 0 },
};

struct option_list {
	struct option_value values[16];
	unsigned count;
};

#define SOURCES_MAX 65536 /* a power of two */

/* A peer's address and how many of its connections are open. Never removed. */
struct source {
	unsigned char addr[16];
	bool used;
	unsigned open;
};

/* rest: bytes that the peer's window did not take yet; nothing more is read before they are gone. */
struct conn {
	char *rest;
	size_t off, len;
	struct source *source;
	bool open;
};

struct server {
	union addr addr;
	int backlog, listener, epoll, signals, count_file;
	bool no_accept, v6only, changed;
	struct option_list on_accept, on_listener;
	struct conn *conns;	/* by file descriptor */
	unsigned max_conns;
	struct source sources[SOURCES_MAX];
	unsigned long accepted, open, peak, source_peak, bytes, setsockopt_failed;
};

static void parse_options(const char *text, struct option_list *ret_list)
{
	char *copy = strdup(text), *save = NULL, *word, *eq;
	const struct option_value *known;
	size_t i;

	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		eq = strchr(word, '=');
		if (!eq)
			usage_error("socket option \"%s\" is not NAME=VALUE", word);
		*eq = '\0';
		known = NULL;
		for (i = 0; i < sizeof(known_options) / sizeof(known_options[0]); i++)
			if (!strcmp(word, known_options[i].name))
				known = &known_options[i];
		if (!known)
			usage_error("unknown socket option \"%s\"", word);
		if (ret_list->count == 16)
			usage_error("more than 16 socket options");
		ret_list->values[ret_list->count] = *known;
		ret_list->values[ret_list->count++].value = number(word, eq + 1, 0, 0x7fffffff);
	}
	free(copy);
}

static unsigned set_options(int fd, const struct option_list *list)
{
	unsigned i, failed = 0;

	for (i = 0; i < list->count; i++) {
		const struct option_value *v = &list->values[i];

		if (!setsockopt(fd, v->level, v->option, &v->value, sizeof(v->value)))
			continue;
		fprintf(stderr, "server: setsockopt %s=%d: %s\n", v->name, v->value, strerror(errno));
		failed++;
	}
	return failed;
}

static int counts_line(const struct server *s, char *buf, size_t size)
{
	return snprintf(buf, size, "{\"accepted\":%lu,\"open\":%lu,\"peak\":%lu,\"source_peak\":%lu,"
			"\"bytes\":%lu,\"setsockopt_failed\":%lu}",
			s->accepted, s->open, s->peak, s->source_peak, s->bytes, s->setsockopt_failed);
}

static void print_counts(const struct server *s)
{
	char line[200];

	counts_line(s, line, sizeof(line));
	puts(line);
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

/* One pwrite of a fixed length: a reader never meets half a line. */
static void write_count_file(struct server *s)
{
	char line[201];
	int len;

	s->changed = false;
	if (s->count_file < 0)
		return;
	len = counts_line(s, line, sizeof(line));
	memset(line + len, ' ', sizeof(line) - len);
	line[sizeof(line) - 1] = '\n';
	if (pwrite(s->count_file, line, sizeof(line), 0) != sizeof(line))
		fail_errno("writing the count file");
}

static void watch(struct server *s, int fd, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	if (epoll_ctl(s->epoll, op, fd, &ev))
		fail_errno("epoll_ctl");
}

static struct source *source_of(struct server *s, const union addr *peer)
{
	unsigned char key[16] = { 0 };
	uint32_t hash = 2166136261;
	unsigned i;

	if (peer->sa.sa_family == AF_INET6)
		memcpy(key, &peer->in6.sin6_addr, 16);
	else
		memcpy(key + 12, &peer->in.sin_addr, 4);
	for (i = 0; i < 16; i++)
		hash = (hash ^ key[i]) * 16777619;
	for (i = 0; i < SOURCES_MAX; i++) {
		struct source *source = &s->sources[(hash + i) % SOURCES_MAX];

		if (source->used && memcmp(source->addr, key, 16))
			continue;
		source->used = true;
		memcpy(source->addr, key, 16);
		return source;
	}
	fail("more than %u sources", SOURCES_MAX);
}

static void peaks_renew(struct server *s)
{
	unsigned i;

	s->peak = s->open;
	s->source_peak = 0;
	for (i = 0; i < SOURCES_MAX; i++)
		if (s->sources[i].open > s->source_peak)
			s->source_peak = s->sources[i].open;
}

static void conn_close(struct server *s, int fd)
{
	s->conns[fd].source->open--;
	free(s->conns[fd].rest);
	memset(&s->conns[fd], 0, sizeof(s->conns[fd]));
	close(fd);
	s->open--;
	s->changed = true;
}

static void accept_all(struct server *s)
{
	for (;;) {
		union addr peer = { 0 };
		socklen_t len = sizeof(peer);
		int fd = accept4(s->listener, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			fail_errno("accepting connection %lu", s->accepted + 1);
		s->setsockopt_failed += set_options(fd, &s->on_accept);
		s->conns[fd].open = true;
		watch(s, fd, EPOLL_CTL_ADD, EPOLLIN);
		s->accepted++;
		if (++s->open > s->peak)
			s->peak = s->open;
		s->conns[fd].source = source_of(s, &peer);
		if (++s->conns[fd].source->open > s->source_peak)
			s->source_peak = s->conns[fd].source->open;
		s->changed = true;
	}
}

/* Sends what it can; what is left waits in the connection for EPOLLOUT. False: the connection is gone. */
static bool conn_send(struct server *s, int fd, const char *data, size_t len)
{
	struct conn *c = &s->conns[fd];
	ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		conn_close(s, fd);
		return false;
	}
	if (n > 0) {
		s->bytes += n;
		s->changed = true;
		data += n;
		len -= n;
	}
	if (!len)
		return true;
	c->rest = malloc(len);
	if (!c->rest)
		fail("out of memory");
	memcpy(c->rest, data, len);
	c->off = 0;
	c->len = len;
	watch(s, fd, EPOLL_CTL_MOD, EPOLLOUT);
	return true;
}

static void conn_flush(struct server *s, int fd)
{
	struct conn *c = &s->conns[fd];
	char *rest = c->rest;
	size_t off = c->off, len = c->len;

	c->rest = NULL;
	if (conn_send(s, fd, rest + off, len) && !c->rest)
		watch(s, fd, EPOLL_CTL_MOD, EPOLLIN);
	free(rest);
}

static void conn_event(struct server *s, int fd)
{
	char buf[16384];
	ssize_t n;

	if (!s->conns[fd].open)
		return;
	if (s->conns[fd].rest) {
		conn_flush(s, fd);
		return;
	}
	n = recv(fd, buf, sizeof(buf), 0);
	if (n > 0)
		conn_send(s, fd, buf, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		conn_close(s, fd);
}

static void on_signal(struct server *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != sizeof(info))
		fail_errno("reading a signal");
	if (info.ssi_signo == SIGUSR2)
		accept_all(s);
	if (info.ssi_signo == SIGHUP)
		peaks_renew(s);
	write_count_file(s);
	if (info.ssi_signo == SIGHUP)
		return;
	print_counts(s);
	if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
		exit(0);
}

static void serve(struct server *s)
{
	struct epoll_event events[256];
	int i, n;

	for (;;) {
		n = epoll_wait(s->epoll, events, 256, -1);
		if (n < 0 && errno != EINTR)
			fail_errno("epoll_wait");
		for (i = 0; i < n; i++) {
			if (events[i].data.fd == s->signals)
				on_signal(s);
			else if (events[i].data.fd == s->listener)
				accept_all(s);
			else
				conn_event(s, events[i].data.fd);
		}
		if (s->changed)
			write_count_file(s);
	}
}

static void setup(struct server *s)
{
	socklen_t len = sizeof(s->addr);
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->signals < 0 || s->epoll < 0)
		fail_errno("creating signalfd and epoll");
	s->max_conns = raise_nofile();
	s->conns = calloc(s->max_conns, sizeof(*s->conns));
	if (!s->conns)
		fail("out of memory");
	s->listener = net_listen(&s->addr, s->backlog, s->v6only);
	if (set_options(s->listener, &s->on_listener))
		fail("the listener's options could not be set");
	if (getsockname(s->listener, &s->addr.sa, &len))
		fail_errno("getsockname");
	watch(s, s->signals, EPOLL_CTL_ADD, EPOLLIN);
	if (!s->no_accept)
		watch(s, s->listener, EPOLL_CTL_ADD, EPOLLIN);
	write_count_file(s);
	printf("{\"listening\":true,\"port\":%u}\n", addr_port(&s->addr));
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static void parse_args(struct server *s, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "backlog", required_argument, NULL, 'b' },
		{ "count-file", required_argument, NULL, 'f' },
		{ "setsockopt-after-accept", required_argument, NULL, 's' },
		{ "setsockopt-on-listener", required_argument, NULL, 'l' },
		{ "no-accept", no_argument, NULL, 'n' },
		{ "v6only", no_argument, NULL, '6' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'b': s->backlog = number("--backlog", optarg, 0, 1 << 20); break;
		case 'f':
			s->count_file = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
			if (s->count_file < 0)
				fail_errno("%s", optarg);
			break;
		case 's': parse_options(optarg, &s->on_accept); break;
		case 'l': parse_options(optarg, &s->on_listener); break;
		case 'n': s->no_accept = true; break;
		case '6': s->v6only = true; break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (argc - optind != 2)
		usage_error("ADDR and PORT are needed");
	addr_parse(argv[optind], number("PORT", argv[optind + 1], 0, 65535), &s->addr);
}

int main(int argc, char **argv)
{
	static struct server s = { .backlog = 4096, .count_file = -1 };

	parse_args(&s, argc, argv);
	setup(&s);
	serve(&s);
}
