/* Many TCP connects at the same instant from several processes, and what became of each. */
#include "net.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
"usage: burst --to ADDR:PORT [options]\n"
"P processes start C simultaneous nonblocking connects each, all released by one barrier; every connection that comes\n"
"about sends one byte and waits for its echo. No connection is closed before every one of all processes is decided.\n"
"\n"
"  --to ADDR:PORT            where to ([ADDR]:PORT for IPv6)\n"
"  --from ADDR               source address (its port is left to the kernel)\n"
"  --procs P                 processes (default 4)\n"
"  --connects C              connects of each process (default 2000)\n"
"  --timeout S               deadline in seconds (default 20)\n"
"  --hold-until-stdin-eof    print the result, then keep the served connections open until stdin ends\n"
"\n"
"Prints {\"served\":,\"refused\":,\"reset\":,\"mute\":,\"pending\":,\"denied\":,\"other\":,\"ms\":}; all but ms\n"
"add up to P*C:\n"
"  served   established, and the server echoed the byte\n"
"  refused  ECONNREFUSED\n"
"  reset    established for the client, then RST before an echo\n"
"  mute     established for the client, but nothing came back before the deadline\n"
"  pending  still in SYN_SENT at the deadline\n"
"  denied   connect() failed with EPERM or EACCES\n"
"  other    any other end (the first one of each process is told on stderr)\n"
"  ms       from the release to the last decision\n"
"Exit: 0; 1 when other is not 0 or something failed; 2 wrong usage.\n";

enum outcome { UNDECIDED, SERVED, REFUSED, RESET, MUTE, PENDING, DENIED, OTHER, OUTCOME_MAX };

struct result {
	unsigned counts[OUTCOME_MAX];
	uint64_t start_ns, end_ns;
};

struct client {
	int fd;
	bool connected;
	enum outcome outcome;
};

struct burst {
	union addr to, from;
	bool have_from, hold;
	unsigned procs, connects, timeout_s;
	int report[2];		/* children to parent: a byte per phase done */
	int phase[3][2];	/* parent to children, by closing: connect; close the losers; end */
	struct result *results;
	/* in a child: */
	struct client *clients;
	unsigned undecided;
	struct result *mine;
};

static void decide(struct burst *b, struct client *c, enum outcome outcome, int err)
{
	c->outcome = outcome;
	b->undecided--;
	if (outcome == OTHER && !b->mine->counts[OTHER])
		fprintf(stderr, "burst: connection %u of process %d: %s%s\n", (unsigned)(c - b->clients), getpid(),
			c->connected ? "after it was established: " : "connect: ",
			err ? strerror(err) : "closed, or answered with something else, by the server");
	b->mine->counts[outcome]++;
}

static void decide_by_errno(struct burst *b, struct client *c, int err)
{
	if (err == ECONNREFUSED && !c->connected)
		decide(b, c, REFUSED, err);
	else if (err == ECONNRESET || err == EPIPE)
		decide(b, c, RESET, err);
	else if ((err == EPERM || err == EACCES) && !c->connected)
		decide(b, c, DENIED, err);
	else
		decide(b, c, OTHER, err);
}

static void on_event(struct burst *b, struct client *c)
{
	socklen_t len = sizeof(int);
	char byte = 'x';
	int err = 0;
	ssize_t n;

	if (c->outcome != UNDECIDED)
		return;
	if (!c->connected) {
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len))
			fail_errno("getsockopt SO_ERROR");
		if (err) {
			decide_by_errno(b, c, err);
			return;
		}
		c->connected = true;
		if (send(c->fd, &byte, 1, MSG_NOSIGNAL) != 1) {
			decide_by_errno(b, c, errno);
			return;
		}
	}
	n = recv(c->fd, &byte, 1, 0);
	if (n == 1 && byte == 'x')
		decide(b, c, SERVED, 0);
	else if (n >= 0)
		decide(b, c, OTHER, 0);
	else if (errno != EAGAIN && errno != EINTR)
		decide_by_errno(b, c, errno);
}

static void wait_for_release(struct burst *b, int phase)
{
	char byte = 'r';
	ssize_t n;

	if (write(b->report[1], &byte, 1) != 1)
		fail_errno("reporting to the parent");
	do {
		n = read(b->phase[phase][0], &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n)
		fail_errno("waiting for the parent");
}

static void connect_all(struct burst *b, int epoll)
{
	unsigned i;

	for (i = 0; i < b->connects; i++) {
		struct client *c = &b->clients[i];

		if (connect(c->fd, &b->to.sa, addr_len(&b->to)) && errno != EINPROGRESS)
			decide_by_errno(b, c, errno);
	}
	for (i = 0; i < b->connects; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &b->clients[i] };

		if (b->clients[i].outcome == UNDECIDED && epoll_ctl(epoll, EPOLL_CTL_ADD, b->clients[i].fd, &ev))
			fail_errno("epoll_ctl");
	}
}

static void follow_all(struct burst *b, int epoll)
{
	uint64_t now, deadline = now_ms() + b->timeout_s * 1000ULL;
	struct epoll_event events[256];
	unsigned i;
	int n;

	while (b->undecided && (now = now_ms()) < deadline) {
		n = epoll_wait(epoll, events, 256, deadline - now);
		if (n < 0 && errno != EINTR)
			fail_errno("epoll_wait");
		while (n-- > 0)
			on_event(b, events[n].data.ptr);
	}
	for (i = 0; i < b->connects; i++)
		if (b->clients[i].outcome == UNDECIDED)
			decide(b, &b->clients[i], b->clients[i].connected ? MUTE : PENDING, 0);
}

static void child(struct burst *b, unsigned index)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), i;
	unsigned n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(b->report[0]);
	for (i = 0; i < 3; i++)
		close(b->phase[i][1]);
	b->mine = &b->results[index];
	b->clients = calloc(b->connects, sizeof(*b->clients));
	if (epoll < 0 || !b->clients)
		fail_errno("setting up a process");
	for (n = 0; n < b->connects; n++)
		b->clients[n].fd = net_client(b->to.sa.sa_family, b->have_from ? &b->from : NULL, true);
	b->undecided = b->connects;
	wait_for_release(b, 0);
	b->mine->start_ns = now_ns();
	connect_all(b, epoll);
	follow_all(b, epoll);
	b->mine->end_ns = now_ns();
	wait_for_release(b, 1);
	for (n = 0; n < b->connects; n++)
		if (b->clients[n].outcome != SERVED)
			close(b->clients[n].fd);
	wait_for_release(b, 2);
	exit(0);
}

static void await_children(struct burst *b, const char *what)
{
	unsigned done = 0;
	char buf[64];
	ssize_t n;

	while (done < b->procs) {
		n = read(b->report[0], buf, sizeof(buf));
		if (n == 0)
			fail("a process died before %s", what);
		if (n < 0 && errno != EINTR)
			fail_errno("reading from the processes");
		if (n > 0)
			done += n;
	}
}

static unsigned print_result(const struct burst *b)
{
	uint64_t start = UINT64_MAX, end = 0;
	unsigned sum[OUTCOME_MAX] = { 0 }, p, o;

	for (p = 0; p < b->procs; p++) {
		const struct result *r = &b->results[p];

		for (o = 0; o < OUTCOME_MAX; o++)
			sum[o] += r->counts[o];
		start = r->start_ns < start ? r->start_ns : start;
		end = r->end_ns > end ? r->end_ns : end;
	}
	printf("{\"served\":%u,\"refused\":%u,\"reset\":%u,\"mute\":%u,"
	       "\"pending\":%u,\"denied\":%u,\"other\":%u,\"ms\":%llu}\n",
	       sum[SERVED], sum[REFUSED], sum[RESET], sum[MUTE], sum[PENDING], sum[DENIED], sum[OTHER],
	       (unsigned long long)(end - start) / 1000000);
	if (fflush(stdout))
		fail_errno("writing to stdout");
	return sum[OTHER];
}

static void wait_stdin_eof(void)
{
	char buf[256];
	ssize_t n;

	do {
		n = read(STDIN_FILENO, buf, sizeof(buf));
	} while (n > 0 || (n < 0 && errno == EINTR));
}

static unsigned run(struct burst *b)
{
	unsigned p, other, bad = 0;
	int status;

	await_children(b, "it had its sockets");
	close(b->phase[0][1]);
	await_children(b, "its connections were decided");
	close(b->phase[1][1]);
	await_children(b, "it had closed what was not served");
	other = print_result(b);
	if (b->hold)
		wait_stdin_eof();
	close(b->phase[2][1]);
	for (p = 0; p < b->procs; p++)
		if (wait(&status) < 0 || status)
			bad++;
	if (bad)
		fail("%u processes did not end well", bad);
	return other;
}

static void parse_args(struct burst *b, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "to", required_argument, NULL, 't' },
		{ "from", required_argument, NULL, 'f' },
		{ "procs", required_argument, NULL, 'p' },
		{ "connects", required_argument, NULL, 'c' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "hold-until-stdin-eof", no_argument, NULL, 'H' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned max = raise_nofile() - 32;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 't': addr_port_parse(optarg, &b->to); break;
		case 'f': addr_parse(optarg, 0, &b->from); b->have_from = true; break;
		case 'p': b->procs = number("--procs", optarg, 1, 256); break;
		case 'c': b->connects = number("--connects", optarg, 1, max); break;
		case 'T': b->timeout_s = number("--timeout", optarg, 1, 3600); break;
		case 'H': b->hold = true; break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (optind != argc || !b->to.sa.sa_family)
		usage_error("--to ADDR:PORT is needed, and nothing but options");
	if (b->have_from && b->from.sa.sa_family != b->to.sa.sa_family)
		usage_error("--from and --to are of different families");
}

int main(int argc, char **argv)
{
	static struct burst b = { .procs = 4, .connects = 2000, .timeout_s = 20 };
	unsigned p;
	int i;

	parse_args(&b, argc, argv);
	b.results = mmap(NULL, b.procs * sizeof(*b.results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b.results == MAP_FAILED || pipe(b.report))
		fail_errno("setting up");
	for (i = 0; i < 3; i++)
		if (pipe(b.phase[i]))
			fail_errno("creating a pipe");
	for (p = 0; p < b.procs; p++) {
		pid_t pid = fork();

		if (pid < 0)
			fail_errno("starting process %u", p);
		if (!pid)
			child(&b, p);
	}
	close(b.report[1]);
	return run(&b) ? 1 : 0;
}
