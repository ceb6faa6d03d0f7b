/* A flood of SYNs that are never followed up, from forged sources or from one victim's address. */
#include "tun.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
"usage: synflood --to ADDR:PORT [options]\n"
"Writes SYNs into the kernel through a TUN device of its own and never completes a handshake. Needs root; the device\n"
"is gone when it ends. ADDR must not be a loopback address; one that isn't local yet is put on the device.\n"
"\n"
"  --to ADDR:PORT          the listener ([ADDR]:PORT for IPv6)\n"
"  --count N               SYNs (default 100000)\n"
"  --sources forged|ADDR   forged (default): another address for each SYN, from 11.0.0.0/8, or another /64 of\n"
"                          fd11::/16 each; ADDR: all from this address, ports 1024 to 65535 in turn\n"
"  --acks                  follow each SYN with an ACK that carries a random ack number\n"
"  --timeout S             how long to wait for answers not yet seen (default 2; it ends earlier once all are there)\n"
"\n"
"Prints {\"sent\":N,\"acks\":A,\"synacks\":M,\"rsts\":R,\"repeats\":D,\"ms\":T}: SYNs and ACKs written; SYNs\n"
"answered by a SYN-ACK; RSTs read, to SYNs or ACKs; SYN-ACKs read again; the time until everything was written.\n"
"Nothing is lost on the device: it is emptied after every 256 packets. The kernel itself may drop SYNs.\n"
"Exit: 0 all was sent; 1 something failed; 2 wrong usage.\n";

struct flood {
	struct tun tun;
	union addr to, victim;
	bool forged, acks;
	unsigned long count, synacks, repeats, rsts, timeout_s;
	uint32_t isn_base;
	bool *answered;	/* by SYN: its number is found again in its sequence number */
};

/* An odd step through 2^24 addresses from a random start: none comes twice in 16 million. */
static void source_of(const struct flood *f, unsigned long i, union addr *ret_addr)
{
	uint32_t host = ((i + f->isn_base) * 2654435) & 0xffffff;

	*ret_addr = f->victim;
	if (!f->forged) {
		addr_set_port(ret_addr, 1024 + i % (65536 - 1024));
		return;
	}
	addr_set_port(ret_addr, 1024 + i % 60000);
	if (ret_addr->sa.sa_family == AF_INET) {
		ret_addr->in.sin_addr.s_addr = htonl(11u << 24 | host);
	} else {
		ret_addr->in6.sin6_addr.s6_addr[5] = host >> 16;
		ret_addr->in6.sin6_addr.s6_addr[6] = host >> 8;
		ret_addr->in6.sin6_addr.s6_addr[7] = host;
	}
}

static void drain(struct flood *f)
{
	uint8_t buf[PACKET_MAX];
	struct segment s;

	while (tun_read(&f->tun, 0, buf, &s)) {
		uint32_t i = s.ack - 1 - f->isn_base;

		if (s.flags & TH_RST) {
			f->rsts++;
		} else if ((s.flags & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK) && i < f->count) {
			if (f->answered[i])
				f->repeats++;
			else
				f->synacks++;
			f->answered[i] = true;
		}
	}
}

static void send_one(struct flood *f, unsigned long i)
{
	struct segment s = { .dst = f->to, .seq = f->isn_base + i, .flags = TH_SYN };
	uint8_t buf[PACKET_MAX];

	source_of(f, i, &s.src);
	tun_write(&f->tun, 0, buf, packet_build(buf, &s));
	if (!f->acks)
		return;
	s.seq++;
	s.ack = random();
	s.flags = TH_ACK;
	tun_write(&f->tun, 0, buf, packet_build(buf, &s));
}

static void parse_args(struct flood *f, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "to", required_argument, NULL, 't' },
		{ "count", required_argument, NULL, 'c' },
		{ "sources", required_argument, NULL, 's' },
		{ "acks", no_argument, NULL, 'a' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *sources = "forged";
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 't': addr_port_parse(optarg, &f->to); break;
		case 'c': f->count = number("--count", optarg, 1, 1 << 24); break;
		case 's': sources = optarg; break;
		case 'a': f->acks = true; break;
		case 'T': f->timeout_s = number("--timeout", optarg, 0, 3600); break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (optind != argc || !f->to.sa.sa_family)
		usage_error("--to ADDR:PORT is needed, and nothing but options");
	f->forged = !strcmp(sources, "forged");
	if (!f->forged)
		addr_parse(sources, 0, &f->victim);
	else
		addr_parse(f->to.sa.sa_family == AF_INET ? "11.0.0.0" : "fd11::", 0, &f->victim);
	if (f->forged && f->victim.sa.sa_family == AF_INET6)
		f->victim.in6.sin6_addr.s6_addr[15] = 1;
}

int main(int argc, char **argv)
{
	static struct flood f = { .count = 100000, .timeout_s = 2 };
	uint64_t start, end, deadline;
	unsigned long i;
	union addr net;

	parse_args(&f, argc, argv);
	f.answered = calloc(f.count, sizeof(*f.answered));
	if (!f.answered)
		fail("out of memory");
	f.isn_base = random_u32();
	srandom(f.isn_base);
	net = f.victim;
	if (f.forged && net.sa.sa_family == AF_INET6)
		net.in6.sin6_addr.s6_addr[15] = 0;
	tun_open(&f.tun, 1);
	if (net.sa.sa_family == AF_INET)
		tun_setup(&f.tun, &f.to, &net, f.forged ? 8 : 32);
	else
		tun_setup(&f.tun, &f.to, &net, f.forged ? 16 : 128);
	start = now_ms();
	for (i = 0; i < f.count; i++) {
		send_one(&f, i);
		if (i % 128 == 127)
			drain(&f);
	}
	end = now_ms();
	deadline = end + f.timeout_s * 1000;
	for (drain(&f); f.synacks + f.rsts < f.count + (f.acks ? f.count : 0) && now_ms() < deadline; drain(&f))
		tun_wait(&f.tun, -1, deadline - now_ms());
	printf("{\"sent\":%lu,\"acks\":%lu,\"synacks\":%lu,\"rsts\":%lu,\"repeats\":%lu,\"ms\":%llu}\n", f.count,
	       f.acks ? f.count : 0, f.synacks, f.rsts, f.repeats, (unsigned long long)(end - start));
	return fflush(stdout) ? 1 : 0;
}
