/* endings: TCP connections that end in every way that can be brought about, and what each must be called. */
#include "endings.h"

#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: endings --peer PATH --count N [--case NAME] [--here ADDR4,ADDR6] [--there PREFIX4,PREFIX6]\n"
	"\n"
	"Opens N connections of each case, in both directions and over both address families, between its own network\n"
	"namespace, which is the side that is looked at, and another one (--peer: a file to setns() to). All of them are\n"
	"open at once. Connections that are accepted here come to port 5060 (5062 where nobody accepts), those made from\n"
	"here go to port 5061 (5063).\n"
	"\n"
	"The peer's addresses are PREFIX1 to PREFIX5, by what the caller does to the path:\n"
	"  1  nothing\n"
	"  2  cut: packets to it vanish\n"
	"  3  cut: they are answered by ICMP errors\n"
	"  4  the sockets here are destroyed (ss -K)\n"
	"  5  the sockets there are\n"
	"\n"
	"Prints a line of JSON for each connection, what its end must be, then \"open\". Goes on after a line on stdin, when\n"
	"the paths are as above: ends what it is to end. Holds the rest until the next line.\n";

static unsigned count_each = 1;
static int netns_here, netns_there;
static char *here_text[2] = { "192.0.2.1", "2001:db8:a::1" };
static char *there_text[2] = { "198.51.100.", "2001:db8:c::" };

/* ---- opening them */

static void enter(int netns)
{
	if (setns(netns, CLONE_NEWNET))
		fail_errno("setns");
}

static void ends_of(struct batch *b, unsigned family, union addr *ret_server, union addr *ret_client)
{
	unsigned port = (b->inbound ? 5060 : 5061) + (b->ending->unaccepted ? 2 : 0);
	union addr here, there;
	char text[64];

	snprintf(text, sizeof(text), "%s%d", there_text[family], b->ending->path);
	addr_parse(here_text[family], b->inbound ? port : 0, &here);
	addr_parse(text, b->inbound ? 0 : port, &there);
	*ret_server = b->inbound ? here : there;
	*ret_client = b->inbound ? there : here;
}

static const char *closed_by(const char *reason)
{
	if (!strncmp(reason, "peer_", 5))
		return "\"remote\"";
	if (!strncmp(reason, "local_", 6) || !strcmp(reason, "killed"))
		return "\"local\"";
	return "null";
}

static void print(const struct batch *b, int client)
{
	const char *reason = !b->inbound && b->ending->reason_outbound ? b->ending->reason_outbound : b->ending->reason;
	union addr from, to;
	socklen_t from_len = sizeof(from), to_len = sizeof(to);

	if (getsockname(client, &from.sa, &from_len) || getpeername(client, &to.sa, &to_len))
		fail_errno("reading a connection's addresses");
	printf("{\"case\":\"%s\",\"direction\":\"%s\",\"family\":%d,\"local\":\"%s\",\"remote\":\"%s\","
	       "\"reason\":\"%s\",\"closed_by\":%s}\n",
	       b->ending->name, b->inbound ? "inbound" : "outbound", from.sa.sa_family == AF_INET ? 4 : 6,
	       addr_text(b->inbound ? &to : &from), addr_text(b->inbound ? &from : &to), reason, closed_by(reason));
}

static int accept_one(int listener)
{
	int fd;

	readable(listener);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		fail_errno("accept");
	return fd;
}

static void open_one(struct batch *b, const union addr *server, const union addr *client, struct pair *p)
{
	int from, to = -1;

	enter(b->inbound ? netns_there : netns_here);
	from = net_client(client->sa.sa_family, client, false);
	if (connect(from, &server->sa, addr_len(server)))
		fail_errno("connecting to %s", addr_text(server));
	print(b, from);
	if (!b->ending->unaccepted) {
		to = accept_one(b->listener);
		put(from, "there");
		take(to);
		put(to, "and back");
		take(from);
	}
	p->here = b->inbound ? to : from;
	p->there = b->inbound ? from : to;
}

static void batch_open(struct batch *b, const struct ending *ending, bool inbound, unsigned family)
{
	union addr server, client;

	b->ending = ending;
	b->inbound = inbound;
	b->count = count_each;
	b->pairs = calloc(count_each, sizeof(*b->pairs));
	if (!b->pairs)
		fail("out of memory");
	ends_of(b, family, &server, &client);
	enter(inbound ? netns_here : netns_there);
	b->listener = net_listen(&server, count_each, true);
	each(b, p)
		open_one(b, &server, &client, p);
	if (!ending->unaccepted)
		shut(&b->listener);
	if (ending->prepare)
		ending->prepare(b);
}

static int netns_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_errno("%s", path);
	return fd;
}

static void split(char *text, char **ret)
{
	char *comma = strchr(text, ',');

	if (!comma)
		usage_error("\"%s\" is not one for IPv4, a comma, one for IPv6", text);
	*comma = '\0';
	ret[0] = text;
	ret[1] = comma + 1;
}

static const char *read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "peer", required_argument, NULL, 'p' },  { "count", required_argument, NULL, 'n' },
		{ "case", required_argument, NULL, 'c' },  { "here", required_argument, NULL, 'a' },
		{ "there", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *peer = NULL, *only = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (option) {
		case 'p': peer = optarg; break;
		case 'n': count_each = number("--count", optarg, 1, 1000); break;
		case 'c': only = optarg; break;
		case 'a': split(optarg, here_text); break;
		case 't': split(optarg, there_text); break;
		case 'h': print_help(help);
		default: exit(2);
		}
	}
	if (!peer || optind < argc)
		usage_error("--peer, --count and nothing else");
	netns_here = netns_open("/proc/self/ns/net");
	netns_there = netns_open(peer);
	return only;
}

int main(int argc, char **argv)
{
	const char *only = read_options(argc, argv);
	struct batch *batches, *b;
	char line[16];

	raise_nofile();
	signal(SIGPIPE, SIG_IGN);
	b = batches = calloc(endings_count * 4, sizeof(*batches));
	if (!batches)
		fail("out of memory");
	for (const struct ending *e = endings; e < endings + endings_count; e++)
		for (unsigned i = 0; i < 4 && (!only || !strcmp(only, e->name)); i++)
			batch_open(b++, e, i & 1, i >> 1);
	if (b == batches)
		usage_error("there is no case \"%s\"", only);
	puts("open");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		fail("stdin ended before the paths were as they should be");
	for (struct batch *end = b; batches < end; batches++)
		if (batches->ending->finish)
			batches->ending->finish(batches);
	if (!fgets(line, sizeof(line), stdin) && ferror(stdin))
		fail_errno("stdin");
	return 0;
}
