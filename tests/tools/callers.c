/* Sources that keep connecting, talking, staying a while and hanging up, until they are told to stop. */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const char help[] =
"usage: callers --to ADDR:PORT --from ADDR [options]\n"
"Each of many sources wants a number of connections. Every connection that comes about sends one byte, waits for its\n"
"echo, stays for a while and is closed, by FIN; then the next one is made. A refused one is tried again after a pause;\n"
"one that gets no echo in time, too, and is closed by RST.\n"
"\n"
"  --to ADDR:PORT     where to ([ADDR]:PORT for IPv6)\n"
"  --from ADDR        the first source; IPv4: the next ones count up from it, IPv6: by its /64\n"
"  --sources S        how many (default 20)\n"
"  --each K           connections that a source wants (default 4)\n"
"  --greedy G         the first G sources want more (default 0) ...\n"
"  --greedy-each M    ... namely so many (default 40)\n"
"  --stay MS          a connection stays between 0 and MS milliseconds (default 100)\n"
"  --pause MS         after a refusal (default 20)\n"
"  --timeout MS       for a connect, for the echo (default 2000)\n"
"  --once             each connection is tried once, and stays; prints when all are decided, ends with stdin\n"
"\n"
"SIGUSR2: stands still, and goes on with the next one: nothing is connected or closed that isn't under way.\n"
"Prints, on SIGTERM or SIGINT, after everything is closed, and on SIGUSR1 (--once: when all are decided):\n"
"  {\"attempts\":,\"served\":,\"refused\":,\"reset\":,\"mute\":,\"pending\":,\"other\":}\n"
"  served: echoed; refused: ECONNREFUSED; reset: established, then RST; mute: established, no echo in time;\n"
"  pending: no SYN-ACK in time; other: any other end (the first is told on stderr)\n"
"Exit: 0; 1 when something failed; 2 wrong usage.\n";

#define TICK_MS 2

enum state { WAITING, CONNECTING, TALKING, STAYING, DONE };

struct caller {
	int fd;
	unsigned source;
	enum state state;
	uint64_t due_ms;	/* WAITING: connect; CONNECTING, TALKING: give up; STAYING: close */
};

struct callers {
	union addr to, from;
	unsigned sources, each, greedy, greedy_each, stay_ms, pause_ms, timeout_ms, count, decided;
	bool once;
	int epoll;
	struct caller *list;
	unsigned long attempts, served, refused, reset, mute, pending, other;
};

static volatile sig_atomic_t stopped, asked, still;

static void on_stop(int signo)
{
	(void)signo;
	stopped = 1;
}

static void on_ask(int signo)
{
	(void)signo;
	asked = 1;
}

static void on_still(int signo)
{
	(void)signo;
	still = !still;
}

static void print_counts(const struct callers *c)
{
	printf("{\"attempts\":%lu,\"served\":%lu,\"refused\":%lu,\"reset\":%lu,\"mute\":%lu,\"pending\":%lu,"
	       "\"other\":%lu}\n", c->attempts, c->served, c->refused, c->reset, c->mute, c->pending, c->other);
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static union addr source_addr(const struct callers *c, unsigned index)
{
	union addr a = c->from;
	uint32_t value;

	if (a.sa.sa_family == AF_INET) {
		a.in.sin_addr.s_addr = htonl(ntohl(a.in.sin_addr.s_addr) + index);
	} else {
		memcpy(&value, a.in6.sin6_addr.s6_addr + 4, 4);
		value = htonl(ntohl(value) + index);
		memcpy(a.in6.sin6_addr.s6_addr + 4, &value, 4);
	}
	return a;
}

/*
 * By RST when the server has not answered yet: it may have no connection but a request, whose SYN-ACKs an orphan of ours
 * would go on to acknowledge until it gives up, without a word. A server that is let have the connection just then would
 * keep it, without a peer, until its keepalive finds out.
 */
static void caller_close(struct caller *caller)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (caller->state == TALKING && setsockopt(caller->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		fail_errno("setsockopt SO_LINGER");
	close(caller->fd);
	caller->fd = -1;
}

/* It is over: the next try comes after pause_ms. */
static void hang_up(struct callers *c, struct caller *caller, unsigned pause_ms)
{
	caller_close(caller);
	caller->state = c->once ? DONE : WAITING;
	caller->due_ms = now_ms() + pause_ms;
}

static void failed(struct callers *c, struct caller *caller, int err)
{
	bool connected = caller->state == TALKING;

	if (err == ECONNREFUSED && !connected)
		c->refused++;
	else if (err == ECONNRESET || err == EPIPE)
		c->reset++;
	else if (!c->other++)
		fprintf(stderr, "callers: %s: %s\n", connected ? "after it was established" : "connect",
			err ? strerror(err) : "closed, or answered with something else, by the server");
	c->decided++;
	hang_up(c, caller, c->pause_ms);
}

static void call(struct callers *c, struct caller *caller)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = caller };
	union addr from = source_addr(c, caller->source);

	caller->fd = net_client(c->to.sa.sa_family, &from, true);
	caller->state = CONNECTING;
	caller->due_ms = now_ms() + c->timeout_ms;
	c->attempts++;
	if (connect(caller->fd, &c->to.sa, addr_len(&c->to)) && errno != EINPROGRESS) {
		failed(c, caller, errno);
		return;
	}
	if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, caller->fd, &ev))
		fail_errno("epoll_ctl");
}

static void on_event(struct callers *c, struct caller *caller)
{
	socklen_t len = sizeof(int);
	char byte = 'x';
	int err = 0;
	ssize_t n;

	if (caller->state == CONNECTING) {
		if (getsockopt(caller->fd, SOL_SOCKET, SO_ERROR, &err, &len))
			fail_errno("getsockopt SO_ERROR");
		if (err) {
			failed(c, caller, err);
			return;
		}
		caller->state = TALKING;
		if (send(caller->fd, &byte, 1, MSG_NOSIGNAL) != 1) {
			failed(c, caller, errno);
			return;
		}
	}
	if (caller->state != TALKING)
		return; /* staying: whatever comes ends with its close */
	n = recv(caller->fd, &byte, 1, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != 1 || byte != 'x') {
		failed(c, caller, n < 0 ? errno : 0);
		return;
	}
	c->served++;
	c->decided++;
	caller->state = STAYING;
	caller->due_ms = c->once ? UINT64_MAX : now_ms() + random_u32() % (c->stay_ms + 1);
}

static void on_due(struct callers *c, struct caller *caller)
{
	if (still && (caller->state == WAITING || caller->state == STAYING))
		return;
	switch (caller->state) {
	case WAITING:
		call(c, caller);
		break;
	case CONNECTING:
	case TALKING:
		if (caller->state == CONNECTING)
			c->pending++;
		else
			c->mute++;
		c->decided++;
		hang_up(c, caller, c->pause_ms);
		break;
	case STAYING:
		hang_up(c, caller, 0);
		break;
	case DONE:
		break;
	}
}

static void follow(struct callers *c)
{
	struct epoll_event events[256];
	uint64_t now;
	unsigned i;
	int n;

	while (!stopped) {
		if (asked) {
			asked = 0;
			print_counts(c);
		}
		now = now_ms();
		for (i = 0; i < c->count; i++)
			if (c->list[i].due_ms <= now)
				on_due(c, &c->list[i]);
		if (c->once && c->decided == c->count)
			return;
		n = epoll_wait(c->epoll, events, 256, TICK_MS);
		if (n < 0 && errno != EINTR)
			fail_errno("epoll_wait");
		while (n-- > 0)
			on_event(c, events[n].data.ptr);
	}
}

static void setup(struct callers *c)
{
	struct sigaction stop = { .sa_handler = on_stop }, ask = { .sa_handler = on_ask };
	struct sigaction stand = { .sa_handler = on_still };
	unsigned source, i, wants;

	c->count = c->greedy * c->greedy_each + (c->sources - c->greedy) * c->each;
	c->list = calloc(c->count, sizeof(*c->list));
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!c->list || c->epoll < 0)
		fail_errno("setting up");
	if (raise_nofile() < c->count + 32)
		fail("more connections than open files are allowed");
	for (source = 0, i = 0; source < c->sources; source++)
		for (wants = source < c->greedy ? c->greedy_each : c->each; wants; wants--, i++) {
			c->list[i].fd = -1;
			c->list[i].source = source;
			c->list[i].due_ms = c->once ? 0 : now_ms() + random_u32() % (c->stay_ms + 1);
		}
	sigaction(SIGTERM, &stop, NULL); /* no SA_RESTART: it ends a read() of stdin, too */
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGUSR1, &ask, NULL);
	sigaction(SIGUSR2, &stand, NULL);
}

static void parse_args(struct callers *c, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "to", required_argument, NULL, 't' },
		{ "from", required_argument, NULL, 'f' },
		{ "sources", required_argument, NULL, 's' },
		{ "each", required_argument, NULL, 'e' },
		{ "greedy", required_argument, NULL, 'g' },
		{ "greedy-each", required_argument, NULL, 'G' },
		{ "stay", required_argument, NULL, 'S' },
		{ "pause", required_argument, NULL, 'p' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "once", no_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (o) {
		case 't': addr_port_parse(optarg, &c->to); break;
		case 'f': addr_parse(optarg, 0, &c->from); break;
		case 's': c->sources = number("--sources", optarg, 1, 65536); break;
		case 'e': c->each = number("--each", optarg, 0, 10000); break;
		case 'g': c->greedy = number("--greedy", optarg, 0, 65536); break;
		case 'G': c->greedy_each = number("--greedy-each", optarg, 1, 10000); break;
		case 'S': c->stay_ms = number("--stay", optarg, 0, 3600000); break;
		case 'p': c->pause_ms = number("--pause", optarg, 0, 3600000); break;
		case 'T': c->timeout_ms = number("--timeout", optarg, 1, 3600000); break;
		case 'o': c->once = true; break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (optind != argc || !c->to.sa.sa_family || !c->from.sa.sa_family)
		usage_error("--to ADDR:PORT and --from ADDR are needed, and nothing but options");
	if (c->from.sa.sa_family != c->to.sa.sa_family)
		usage_error("--from and --to are of different families");
	if (c->greedy > c->sources)
		usage_error("--greedy: more than --sources");
}

int main(int argc, char **argv)
{
	static struct callers c = { .sources = 20, .each = 4, .greedy_each = 40, .stay_ms = 100, .pause_ms = 20,
				    .timeout_ms = 2000 };
	unsigned i;
	char byte;

	parse_args(&c, argc, argv);
	setup(&c);
	follow(&c);
	if (c.once) {
		print_counts(&c);
		while (!stopped && read(STDIN_FILENO, &byte, 1) > 0)
			;
		return 0;
	}
	for (i = 0; i < c.count; i++)
		if (c.list[i].fd >= 0)
			caller_close(&c.list[i]);
	print_counts(&c);
	return 0;
}
