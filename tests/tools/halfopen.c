/* TCP handshakes held half open, whose final ACKs then all arrive at the same instant on several CPUs. */
#include "halfopen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
"usage: halfopen --to ADDR:PORT [options]\n"
"Its own TCP behind a TUN device: sends all SYNs of one source, collects all SYN-ACKs, then writes all final ACKs as\n"
"fast as it can from one thread per CPU and queue, sends a byte on each connection and waits for what becomes of it.\n"
"Unanswered SYNs and bytes are sent again, and repeated SYN-ACKs acknowledged, as a real client would.\n"
"Needs root. ADDR must not be a loopback address; one that isn't local yet is put on the device.\n"
"\n"
"  --to ADDR:PORT            the listener ([ADDR]:PORT for IPv6)\n"
"  --from ADDR               the source (default 10.99.0.2 or fd99::2)\n"
"  --count N                 handshakes, each from a port of its own (default 200)\n"
"  --first-port P            the first of these ports (default: random, from 10000 on)\n"
"  --threads T               threads and queues that send the ACKs (default: one per CPU, at least 2)\n"
"  --data-after-ms M         wait M ms between the ACKs and the bytes (default 0)\n"
"  --ack-with-data           the byte comes in the final ACK itself\n"
"  --dup-acks N              send each final ACK N times, from different threads\n"
"  --wrong-ack               before each final ACK, send one with a wrong ack number\n"
"  --timeout S               deadline for the SYN-ACKs, and again for the bytes (default 20)\n"
"  --hold-until-stdin-eof    print the result, then keep everything open until stdin ends; then all get a RST\n"
"\n"
"Prints {\"handshakes\":N,\"synacks\":,\"served\":,\"reset\":,\"mute\":,\"refused\":,\"pending\":,\"other\":,\n"
"...}; the last six add up to N:\n"
"  served   the byte came back                   reset    RST after the final ACK\n"
"  mute     nothing came before the deadline     refused  RST instead of a SYN-ACK\n"
"  pending  no answer to the SYN                 other    closed by the server, or something else came back\n"
"and early_resets (resets that came before the byte was sent), reset_max_ms (longest from the byte's first sending to\n"
"its RST), wrong_ack_rsts, synack_repeats, threads, ack_burst_us (how long the final ACKs took).\n"
"Exit: 0; 1 when other is not 0 or something failed; 2 wrong usage.\n";

static void send_syns(struct halfopen *h, bool again)
{
	unsigned i;

	for (i = 0; i < h->count; i++)
		if (h->shakes[i].state == SYN_SENT) {
			shake_send(h, i, 0, TH_SYN, h->shakes[i].isn, NULL);
			if (!again)
				h->undecided++;
		}
}

static void collect_synacks(struct halfopen *h)
{
	uint64_t now, again, deadline = now_ms() + h->timeout_ms;
	unsigned i;

	send_syns(h, false);
	for (again = now_ms() + 1000; h->waiting_synack && (now = now_ms()) < deadline; ) {
		if (now >= again) {
			send_syns(h, true);
			again = now + 1000;
		}
		tun_wait(&h->tun, -1, (again < deadline ? again : deadline) - now);
		halfopen_read(h);
	}
	for (i = 0; i < h->count; i++)
		if (h->shakes[i].state == SYN_SENT)
			shake_decide(h, i, PENDING);
}

static void send_data(struct halfopen *h)
{
	unsigned i;

	for (i = 0; i < h->count; i++) {
		struct shake *s = &h->shakes[i];

		if (s->state != ESTABLISHED)
			continue;
		s->data_ns = now_ns();
		s->rto_ms = 200;
		s->again_ms = now_ms() + s->rto_ms;
		s->state = DATA_SENT;
		shake_send(h, i, 0, TH_ACK | TH_PUSH, s->isn + 1, "x");
	}
}

static void retransmit(struct halfopen *h, uint64_t now)
{
	unsigned i;

	for (i = 0; i < h->count; i++) {
		struct shake *s = &h->shakes[i];

		if (s->state != DATA_SENT || now < s->again_ms)
			continue;
		s->rto_ms *= 2;
		s->again_ms = now + s->rto_ms;
		shake_send(h, i, 0, TH_ACK | TH_PUSH, s->isn + 1, "x");
	}
}

static void collect_outcomes(struct halfopen *h)
{
	uint64_t now, check, deadline = now_ms() + h->timeout_ms;
	unsigned i;

	for (check = now_ms() + 50; h->undecided && (now = now_ms()) < deadline; ) {
		if (now >= check) {
			retransmit(h, now);
			check = now + 50;
		}
		tun_wait(&h->tun, -1, (check < deadline ? check : deadline) - now);
		halfopen_read(h);
	}
	for (i = 0; i < h->count; i++)
		if (h->shakes[i].state != DECIDED)
			shake_decide(h, i, MUTE);
}

static void wait_ms(struct halfopen *h, unsigned ms)
{
	uint64_t now, until = now_ms() + ms;

	while ((now = now_ms()) < until) {
		tun_wait(&h->tun, -1, until - now);
		halfopen_read(h);
	}
}

static void hold(struct halfopen *h)
{
	char buf[256];
	ssize_t n;

	for (;;) {
		if (tun_wait(&h->tun, STDIN_FILENO, -1)) {
			n = read(STDIN_FILENO, buf, sizeof(buf));
			if (n == 0 || (n < 0 && errno != EINTR))
				return;
		}
		halfopen_read(h);
	}
}

static void reset_all(struct halfopen *h)
{
	unsigned i;

	for (i = 0; i < h->count; i++) {
		struct shake *s = &h->shakes[i];

		if (s->outcome == REFUSED || s->outcome == RESET)
			continue;
		/* The server takes a RST only at the very byte it waits for. */
		shake_send(h, i, 0, TH_RST | TH_ACK, s->isn + 1, NULL);
		shake_send(h, i, 0, TH_RST | TH_ACK, s->isn + 2, NULL);
	}
}

static void print_result(const struct halfopen *h)
{
	printf("{\"handshakes\":%u,\"synacks\":%u,\"served\":%u,"
	       "\"reset\":%u,\"mute\":%u,\"refused\":%u,\"pending\":%u,\"other\":%u,"
	       "\"early_resets\":%u,\"reset_max_ms\":%.3f,\"wrong_ack_rsts\":%u,\"synack_repeats\":%u,\"threads\":%u,"
	       "\"ack_burst_us\":%llu}\n",
	       h->count, h->synacks, h->outcomes[SERVED], h->outcomes[RESET], h->outcomes[MUTE], h->outcomes[REFUSED],
	       h->outcomes[PENDING], h->outcomes[OTHER], h->early_resets, h->reset_max_ns / 1e6, h->wrong_ack_rsts,
	       h->synack_repeats, h->tun.queues, (unsigned long long)h->ack_burst_ns / 1000);
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static void parse_args(struct halfopen *h, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "to", required_argument, NULL, 't' }, { "from", required_argument, NULL, 'f' },
		{ "count", required_argument, NULL, 'c' }, { "first-port", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 'q' }, { "data-after-ms", required_argument, NULL, 'a' },
		{ "ack-with-data", no_argument, NULL, 'w' }, { "dup-acks", required_argument, NULL, 'd' },
		{ "wrong-ack", no_argument, NULL, 'x' }, { "timeout", required_argument, NULL, 'T' },
		{ "hold-until-stdin-eof", no_argument, NULL, 'H' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 't': addr_port_parse(optarg, &h->to); break;
		case 'f': addr_parse(optarg, 0, &h->from); break;
		case 'c': h->count = number("--count", optarg, 1, 20000); break;
		case 'p': h->first_port = number("--first-port", optarg, 1, 65535); break;
		case 'q': h->threads = number("--threads", optarg, 1, TUN_QUEUES_MAX); break;
		case 'a': h->data_after_ms = number("--data-after-ms", optarg, 0, 3600000); break;
		case 'w': h->ack_with_data = true; break;
		case 'd': h->dup_acks = number("--dup-acks", optarg, 1, 64); break;
		case 'x': h->wrong_ack = true; break;
		case 'T': h->timeout_ms = number("--timeout", optarg, 1, 3600) * 1000; break;
		case 'H': h->hold = true; break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (optind != argc || !h->to.sa.sa_family)
		usage_error("--to ADDR:PORT is needed, and nothing but options");
	if (!h->from.sa.sa_family)
		addr_parse(h->to.sa.sa_family == AF_INET ? "10.99.0.2" : "fd99::2", 0, &h->from);
	if (!h->first_port)
		h->first_port = 10000 + random_u32() % (65536 - 10000 - h->count);
	if (h->first_port + h->count > 65536)
		usage_error("%u ports from %u on: there are not that many", h->count, h->first_port);
}

int main(int argc, char **argv)
{
	static struct halfopen h = { .count = 200, .dup_acks = 1, .timeout_ms = 20000 };
	cpu_set_t cpus;
	unsigned i;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		fail_errno("reading the CPU affinity");
	h.threads = CPU_COUNT(&cpus) < 2 ? 2 : CPU_COUNT(&cpus) > TUN_QUEUES_MAX ? TUN_QUEUES_MAX : CPU_COUNT(&cpus);
	parse_args(&h, argc, argv);
	h.shakes = calloc(h.count, sizeof(*h.shakes));
	if (!h.shakes)
		fail("out of memory");
	for (i = 0; i < h.count; i++)
		h.shakes[i].isn = random_u32();
	tun_open(&h.tun, h.threads);
	tun_setup(&h.tun, &h.to, &h.from, h.from.sa.sa_family == AF_INET ? 32 : 128);
	h.waiting_synack = h.count;
	collect_synacks(&h);
	halfopen_send_acks(&h, &cpus);
	halfopen_read(&h);
	wait_ms(&h, h.data_after_ms);
	send_data(&h);
	collect_outcomes(&h);
	print_result(&h);
	if (h.hold)
		hold(&h);
	reset_all(&h);
	return h.outcomes[OTHER] ? 1 : 0;
}
