#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void say(const char *fmt, va_list ap, int err)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	if (err)
		fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, text, strerror(err));
	else
		fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
}

void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap, 0);
	exit(1);
}

void fail_errno(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap, err);
	exit(1);
}

void usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap, 0);
	fprintf(stderr, "%s: try --help\n", program_invocation_short_name);
	exit(2);
}

void print_help(const char *text)
{
	fputs(text, stdout);
	if (fflush(stdout))
		fail_errno("writing the help text");
	exit(0);
}

unsigned long number(const char *what, const char *text, unsigned long min, unsigned long max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < min || value > max)
		usage_error("%s: \"%s\" is not a number from %lu to %lu", what, text, min, max);
	return value;
}

void addr_parse(const char *text, unsigned port, union addr *ret_addr)
{
	memset(ret_addr, 0, sizeof(*ret_addr));
	if (inet_pton(AF_INET, text, &ret_addr->in.sin_addr) == 1)
		ret_addr->sa.sa_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &ret_addr->in6.sin6_addr) == 1)
		ret_addr->sa.sa_family = AF_INET6;
	else
		usage_error("\"%s\" is not a numeric IPv4 or IPv6 address", text);
	addr_set_port(ret_addr, port);
}

void addr_port_parse(const char *text, union addr *ret_addr)
{
	const char *host = text, *colon = strrchr(text, ':');
	char buf[64];
	size_t len;

	if (!colon)
		usage_error("\"%s\" is not ADDR:PORT", text);
	len = colon - text;
	if (*host == '[' && len >= 2 && text[len - 1] == ']') {
		host++;
		len -= 2;
	} else if (memchr(host, ':', len)) {
		usage_error("\"%s\": an IPv6 address goes in brackets, [ADDR]:PORT", text);
	}
	if (len >= sizeof(buf))
		usage_error("\"%s\" is not ADDR:PORT", text);
	memcpy(buf, host, len);
	buf[len] = '\0';
	addr_parse(buf, number("port", colon + 1, 1, 65535), ret_addr);
}

socklen_t addr_len(const union addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

unsigned addr_port(const union addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET ? a->in.sin_port : a->in6.sin6_port);
}

void addr_set_port(union addr *a, unsigned port)
{
	if (a->sa.sa_family == AF_INET)
		a->in.sin_port = htons(port);
	else
		a->in6.sin6_port = htons(port);
}

bool addr_is_loopback(const union addr *a)
{
	if (a->sa.sa_family == AF_INET)
		return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

const char *addr_text(const union addr *a)
{
	static char bufs[4][INET6_ADDRSTRLEN + 16];
	static unsigned next;
	char host[INET6_ADDRSTRLEN], *buf = bufs[next++ % 4];

	if (a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host));
		snprintf(buf, sizeof(bufs[0]), "%s:%u", host, addr_port(a));
	} else {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host));
		snprintf(buf, sizeof(bufs[0]), "[%s]:%u", host, addr_port(a));
	}
	return buf;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

uint32_t random_u32(void)
{
	uint32_t value;

	if (getrandom(&value, sizeof(value), 0) != sizeof(value))
		fail_errno("getrandom");
	return value;
}

unsigned raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		fail_errno("reading RLIMIT_NOFILE");
	lim.rlim_cur = lim.rlim_max > 1000000 ? 1000000 : lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		fail_errno("raising RLIMIT_NOFILE to its hard limit");
	return lim.rlim_cur;
}

void net_set(int fd, int level, int option, int value, const char *what)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		fail_errno("setsockopt %s=%d", what, value);
}

int net_listen(const union addr *a, int backlog, bool v6only)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail_errno("creating a socket");
	net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
	if (a->sa.sa_family == AF_INET6)
		net_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only, "IPV6_V6ONLY");
	if (bind(fd, &a->sa, addr_len(a)))
		fail_errno("binding to %s", addr_text(a));
	if (listen(fd, backlog))
		fail_errno("listening on %s", addr_text(a));
	return fd;
}

int net_client(int family, const union addr *from, bool nonblock)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);

	if (fd < 0)
		fail_errno("creating a socket");
	if (!from)
		return fd;
	net_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT");
	if (bind(fd, &from->sa, addr_len(from)))
		fail_errno("binding to %s", addr_text(from));
	return fd;
}

int net_tcp_state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		fail_errno("getsockopt TCP_INFO");
	return info.tcpi_state;
}

uint32_t csum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len > 1; len -= 2, p += 2)
		sum += (uint32_t)p[0] << 8 | p[1];
	if (len)
		sum += (uint32_t)p[0] << 8;
	return sum;
}

uint16_t csum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum & 0xffff);
}
