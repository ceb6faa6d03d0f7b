/* Connections over every way a TCP connection can end, both ends in this tool. */
#include "churn.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
"usage: churn [options]\n"
"Opens and closes TCP connections over every path below, listeners and clients both its own, in batches; each\n"
"connection carries data both ways first (where anyone accepts it). Both ends check that they see what the path says.\n"
"\n"
"  --count N          connections, all paths together (default 20000)\n"
"  --paths all|A,B    which paths (default all)\n"
"  --family F         4 (default); 6; mapped: a dual-stack IPv6 listener, clients in turn IPv4 and ::ffff:127.x.y.z\n"
"  --to ADDR[:PORT]   the listeners' address (default 127.0.0.1 or ::1) and, with PORT, their only port\n"
"  --ports LO-HI      the listeners' ports, dealt out to the processes (default 15060-15075)\n"
"  --dead-port P      a port nobody listens on (default HI + 1)\n"
"  --procs P          processes, no more than there are ports (default 2)\n"
"  --concurrency B    connections of one process open at once (default 64, at most 1024)\n"
"  --sources S        IPv4 source addresses of each process: 127.1.0.1 and on, 127.2.0.1 ... (default 1000)\n"
"  --stall S          give up when one batch takes longer than this many seconds (default 30)\n"
"\n"
"path (who closes first, and how)\n"
"  client_fin, server_fin     close()\n"
"  client_rst, server_rst     close() with SO_LINGER 0\n"
"  client_half, server_half   shutdown(SHUT_WR); the other end still sends, then closes\n"
"  client_unread, server_unread   close() with data unread: a RST\n"
"  listener_closed    (server rst) the listener is closed before anything is accepted, and opened again\n"
"  overflow           (client fin) a backlog for 8, 24 connects: 8 come about, 16 are closed in SYN_SENT (\"failed\")\n"
"  client_disconnect, server_disconnect   connect(AF_UNSPEC): a RST\n"
"  disconnect_reuse   (client rst) client_disconnect, a second connection with the same socket, and again\n"
"  simultaneous       (both fin) both ends in FIN_WAIT1, one verified to reach CLOSING\n"
"  client_killed      (client fin) the process that holds the clients gets SIGKILL\n"
"  refused            connect to the dead port (\"failed\"), close\n"
"  refused_reuse      (client fin) the same socket then connects to a listener\n"
"  unroutable         connect to 192.0.2.1 or 2001:db8::1 (\"failed\"), close\n"
"  unroutable_reuse   (client fin) the same socket then connects to a listener\n"
"\n"
"Prints {\"connections\":N,\"failed\":F,\"ms\":T,\"by_path\":{NAME:{\"connections\":,\"inbound\":,\"outbound\":,\n"
"\"failed\":,\"first_closer\":\"client|server|both|none\",\"how\":\"fin|rst|refused|unroutable\"}}}.\n"
"connections = inbound: server ends that were established; outbound: client ends that were. N is --count, rounded up by\n"
"at most one for each process. With only refused and unroutable, --count is the number of attempts.\n"
"Exit: 0; 1 when anything went otherwise than the path says; 2 wrong usage.\n";

struct shared {
	struct tally tallies[PATHS_MAX];
};

static bool establishes(const struct config *cfg)
{
	unsigned p;

	for (p = 0; p < n_paths; p++)
		if (cfg->selected[p] && paths[p].per_pair)
			return true;
	return false;
}

/* One batch of one path; returns how much of the count that was. */
static unsigned long run_batch(struct lane *l, struct shared *shared, unsigned p, unsigned long left)
{
	struct tally *t = &shared->tallies[p], before = *t;
	unsigned per = paths[p].per_pair ? paths[p].per_pair : 1;
	unsigned long n = (left + per - 1) / per;

	l->path = paths[p].name;
	l->tally = t;
	l->port = (l->port + 1) % l->n_ports;
	alarm(l->cfg->stall_s);
	paths[p].run(l, n < l->cfg->batch ? n : l->cfg->batch);
	alarm(0);
	return paths[p].per_pair ? t->inbound - before.inbound : t->failed - before.failed;
}

static const char *volatile stalled_path = "setup";

static void on_alarm(int signo)
{
	static const char text[] = "churn: stalled in path ";

	(void)signo;
	if (write(2, text, sizeof(text) - 1) < 0 || write(2, stalled_path, strlen(stalled_path)) < 0 ||
	    write(2, "\n", 1) < 0)
		_exit(3);
	_exit(1);
}

static void lane_run(const struct config *cfg, struct shared *shared, unsigned index)
{
	static struct lane l;
	unsigned long left = cfg->count / cfg->procs + (index < cfg->count % cfg->procs), done;
	bool by_failures = !establishes(cfg);
	unsigned p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGALRM, on_alarm);
	l.cfg = cfg;
	l.index = index;
	lane_open(&l);
	while (left) {
		for (p = 0; p < n_paths && left; p++) {
			if (!cfg->selected[p])
				continue;
			stalled_path = paths[p].name;
			done = run_batch(&l, shared, p, left);
			if (!by_failures && !paths[p].per_pair)
				continue;
			left -= done < left ? done : left;
		}
	}
	exit(0);
}

static void print_result(const struct config *cfg, const struct shared *lanes, uint64_t ms)
{
	struct tally sums[PATHS_MAX] = { 0 }, all = { 0 };
	const char *comma = "";
	unsigned i, p;

	for (i = 0; i < cfg->procs; i++)
		for (p = 0; p < n_paths; p++) {
			const struct tally *t = &lanes[i].tallies[p];

			sums[p].inbound += t->inbound;
			sums[p].outbound += t->outbound;
			sums[p].failed += t->failed;
			all.inbound += t->inbound;
			all.failed += t->failed;
		}
	printf("{\"connections\":%lu,\"failed\":%lu,\"ms\":%llu,\"by_path\":{", all.inbound, all.failed,
	       (unsigned long long)ms);
	for (p = 0; p < n_paths; p++) {
		if (!cfg->selected[p])
			continue;
		printf("%s\"%s\":{\"connections\":%lu,\"inbound\":%lu,\"outbound\":%lu,\"failed\":%lu,"
		       "\"first_closer\":\"%s\",\"how\":\"%s\"}", comma, paths[p].name, sums[p].inbound,
		       sums[p].inbound, sums[p].outbound, sums[p].failed, paths[p].closer, paths[p].how);
		comma = ",";
	}
	puts("}}");
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static void select_paths(struct config *cfg, const char *list)
{
	char *copy = strdup(list), *save = NULL, *word;
	unsigned p;

	memset(cfg->selected, !strcmp(list, "all"), sizeof(cfg->selected));
	if (strcmp(list, "all"))
		for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
			for (p = 0; p < n_paths && strcmp(word, paths[p].name); p++)
				;
			if (p == n_paths)
				usage_error("unknown path \"%s\"", word);
			cfg->selected[p] = true;
		}
	free(copy);
}

static void set_ports(struct config *cfg, const char *text)
{
	char *copy = strdup(text), *dash = strchr(copy, '-');

	if (dash)
		*dash++ = '\0';
	cfg->port_lo = number("--ports", copy, 1, 65535);
	cfg->port_hi = dash ? number("--ports", dash, cfg->port_lo, 65535) : cfg->port_lo;
	free(copy);
}

static void set_to(struct config *cfg, const char *text)
{
	const char *colon = strrchr(text, ':');

	if (text[0] == '[' || (colon && strchr(text, ':') == colon)) {
		addr_port_parse(text, &cfg->target);
		cfg->port_lo = cfg->port_hi = addr_port(&cfg->target);
	} else {
		addr_parse(text, 0, &cfg->target);
	}
}

static void set_family(struct config *cfg, const char *text)
{
	if (!strcmp(text, "4"))
		cfg->family = FAMILY_4;
	else if (!strcmp(text, "6"))
		cfg->family = FAMILY_6;
	else if (!strcmp(text, "mapped"))
		cfg->family = FAMILY_MAPPED;
	else
		usage_error("--family: \"%s\" is not 4, 6 or mapped", text);
}

static void settle(struct config *cfg)
{
	unsigned ports = cfg->port_hi - cfg->port_lo + 1;

	if (!cfg->target.sa.sa_family)
		addr_parse(cfg->family == FAMILY_6 ? "::1" : "127.0.0.1", 0, &cfg->target);
	if ((cfg->target.sa.sa_family == AF_INET6) != (cfg->family == FAMILY_6))
		usage_error("--to and --family do not fit (mapped needs an IPv4 address)");
	cfg->listen = cfg->target;
	if (cfg->family == FAMILY_MAPPED)
		addr_parse("::", 0, &cfg->listen);
	if (ports > PORTS_MAX)
		usage_error("--ports: more than %u ports", PORTS_MAX);
	if (cfg->procs > ports)
		cfg->procs = ports;
	if (!cfg->dead_port)
		cfg->dead_port = cfg->port_hi + 1;
	if (cfg->dead_port > 65535 || (cfg->dead_port >= cfg->port_lo && cfg->dead_port <= cfg->port_hi))
		usage_error("--dead-port %u does not fit with --ports", cfg->dead_port);
}

static void parse_args(struct config *cfg, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "count", required_argument, NULL, 'c' }, { "paths", required_argument, NULL, 'P' },
		{ "family", required_argument, NULL, 'f' }, { "to", required_argument, NULL, 't' },
		{ "ports", required_argument, NULL, 'o' }, { "dead-port", required_argument, NULL, 'd' },
		{ "procs", required_argument, NULL, 'p' }, { "concurrency", required_argument, NULL, 'b' },
		{ "sources", required_argument, NULL, 's' }, { "stall", required_argument, NULL, 'T' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	int c;

	select_paths(cfg, "all");
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'c': cfg->count = number("--count", optarg, 1, 1000000000); break;
		case 'P': select_paths(cfg, optarg); break;
		case 'f': set_family(cfg, optarg); break;
		case 't': set_to(cfg, optarg); break;
		case 'o': set_ports(cfg, optarg); break;
		case 'd': cfg->dead_port = number("--dead-port", optarg, 1, 65535); break;
		case 'p': cfg->procs = number("--procs", optarg, 1, 64); break;
		case 'b': cfg->batch = number("--concurrency", optarg, 1, BATCH_MAX); break;
		case 's': cfg->sources = number("--sources", optarg, 1, 63750); break;
		case 'T': cfg->stall_s = number("--stall", optarg, 1, 3600); break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (optind != argc)
		usage_error("nothing but options is expected");
	settle(cfg);
}

int main(int argc, char **argv)
{
	static struct config cfg = { .count = 20000, .port_lo = 15060, .port_hi = 15075, .procs = 2, .batch = 64,
				     .sources = 1000, .stall_s = 30 };
	uint64_t start = now_ms();
	struct shared *lanes;
	unsigned i, bad = 0;
	int status;

	parse_args(&cfg, argc, argv);
	raise_nofile();
	lanes = mmap(NULL, cfg.procs * sizeof(*lanes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (lanes == MAP_FAILED)
		fail_errno("mmap");
	for (i = 0; i < cfg.procs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail_errno("starting process %u", i);
		if (!pid)
			lane_run(&cfg, &lanes[i], i);
	}
	for (i = 0; i < cfg.procs; i++)
		if (wait(&status) < 0 || status)
			bad++;
	print_result(&cfg, lanes, now_ms() - start);
	if (bad)
		fail("%u of %u processes did not end well", bad, cfg.procs);
	return 0;
}
