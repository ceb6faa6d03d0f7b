/* Helpers shared by the traffic generators: errors, numbers, addresses, sockets, checksums. */
#ifndef TOOLS_NET_H
#define TOOLS_NET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE	/* net.h comes before any system header */
#endif

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

union addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Each prints "TOOL: message" to stderr and exits: 1 for a failure, 2 for wrong usage. */
void fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void fail_errno(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void usage_error(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Prints the help text and exits 0. */
void print_help(const char *text) __attribute__((noreturn));

/* Parses a whole decimal number in [min, max] or ends with a usage error that names it. */
unsigned long number(const char *what, const char *text, unsigned long min, unsigned long max);

/* "192.0.2.1" or "2001:db8::1", with the port in host order. */
void addr_parse(const char *text, unsigned port, union addr *ret_addr);
/* "192.0.2.1:5060" or "[2001:db8::1]:5060". */
void addr_port_parse(const char *text, union addr *ret_addr);
socklen_t addr_len(const union addr *a);
unsigned addr_port(const union addr *a);
void addr_set_port(union addr *a, unsigned port);
bool addr_is_loopback(const union addr *a);
/* "192.0.2.1:5060" or "[2001:db8::1]:5060" in one of a few static buffers. */
const char *addr_text(const union addr *a);

uint64_t now_ns(void);		/* CLOCK_MONOTONIC */
uint64_t now_ms(void);
uint32_t random_u32(void);

/* Raises RLIMIT_NOFILE to its hard limit and returns that. */
unsigned raise_nofile(void);

/* A nonblocking listener, SO_REUSEADDR set; v6only is ignored for IPv4. */
int net_listen(const union addr *a, int backlog, bool v6only);
/* A TCP socket for connecting, nonblocking if asked, bound to from (its port left to connect()) unless from is NULL. */
int net_client(int family, const union addr *from, bool nonblock);
void net_set(int fd, int level, int option, int value, const char *what);
/* The TCP state (TCP_ESTABLISHED ...) the kernel reports for fd. */
int net_tcp_state(int fd);

/* Internet checksum over data, added to sum; fold with csum_fold(). */
uint32_t csum_add(uint32_t sum, const void *data, size_t len);
uint16_t csum_fold(uint32_t sum);

#endif
