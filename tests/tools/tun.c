#include "tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define UNREAD_MAX 20000

struct request {
	struct nlmsghdr head;
	union {
		struct ifaddrmsg addr;
		struct rtmsg route;
	};
	char attrs[128];
};

static void put_attr(struct request *r, int type, const void *data, size_t len)
{
	struct rtattr *attr = (void *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	attr->rta_type = type;
	attr->rta_len = RTA_LENGTH(len);
	memcpy(RTA_DATA(attr), data, len);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(attr->rta_len);
}

static void put_addr(struct request *r, int type, const union addr *a)
{
	if (a->sa.sa_family == AF_INET)
		put_attr(r, type, &a->in.sin_addr, 4);
	else
		put_attr(r, type, &a->in6.sin6_addr, 16);
}

/* 0 or -errno, as the kernel acknowledged it. */
static int ask_kernel(struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr err;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	ssize_t n;

	if (fd < 0)
		fail_errno("opening rtnetlink");
	r->head.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	if (send(fd, r, r->head.nlmsg_len, 0) != (ssize_t)r->head.nlmsg_len)
		fail_errno("asking rtnetlink");
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.err)) || answer.head.nlmsg_type != NLMSG_ERROR)
		fail("rtnetlink gave no proper answer");
	close(fd);
	return answer.err.error;
}

static bool same_host(const union addr *a, const union addr *b)
{
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
}

static bool is_local(const union addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	union addr any_port = *a;
	bool local;

	if (fd < 0)
		fail_errno("creating a socket");
	addr_set_port(&any_port, 0);
	local = !bind(fd, &any_port.sa, addr_len(&any_port));
	close(fd);
	return local;
}

static void add_addr(struct tun *t, const union addr *a)
{
	struct request r = { .head.nlmsg_type = RTM_NEWADDR, .head.nlmsg_len = NLMSG_LENGTH(sizeof(r.addr)) };

	r.addr.ifa_family = a->sa.sa_family;
	r.addr.ifa_prefixlen = a->sa.sa_family == AF_INET ? 32 : 128;
	r.addr.ifa_flags = IFA_F_NODAD;
	r.addr.ifa_index = t->ifindex;
	put_addr(&r, IFA_LOCAL, a);
	put_addr(&r, IFA_ADDRESS, a);
	errno = -ask_kernel(&r);
	if (errno)
		fail_errno("giving %s the address of %s", t->name, addr_text(a));
}

static void add_route(struct tun *t, const union addr *dst, unsigned prefix_len)
{
	struct request r = { .head.nlmsg_type = RTM_NEWROUTE, .head.nlmsg_len = NLMSG_LENGTH(sizeof(r.route)) };

	r.route.rtm_family = dst->sa.sa_family;
	r.route.rtm_dst_len = prefix_len;
	r.route.rtm_table = RT_TABLE_MAIN;
	r.route.rtm_protocol = RTPROT_STATIC;
	r.route.rtm_scope = dst->sa.sa_family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	r.route.rtm_type = RTN_UNICAST;
	put_addr(&r, RTA_DST, dst);
	put_attr(&r, RTA_OIF, &t->ifindex, sizeof(t->ifindex));
	errno = -ask_kernel(&r);
	if (errno == EEXIST)
		fail("a route to %s/%u is there already: another run of this tool?", addr_text(dst), prefix_len);
	if (errno)
		fail_errno("routing %s/%u to %s", addr_text(dst), prefix_len, t->name);
}

void tun_open(struct tun *t, unsigned queues)
{
	struct ifreq ifr = { 0 };
	int ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned q;

	if (ctl < 0)
		fail_errno("creating a socket");
	memcpy(ifr.ifr_name, "gen%d", 6);
	for (q = 0; q < queues; q++) {
		t->fds[q] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (t->fds[q] < 0)
			fail_errno("/dev/net/tun");
		ifr.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE;
		if (ioctl(t->fds[q], TUNSETIFF, &ifr))
			fail_errno("creating a TUN device (queue %u)", q);
	}
	t->queues = queues;
	snprintf(t->name, sizeof(t->name), "%s", ifr.ifr_name);
	if (ioctl(ctl, SIOCGIFINDEX, &ifr))
		fail_errno("%s: index", t->name);
	t->ifindex = ifr.ifr_ifindex;
	ifr.ifr_qlen = UNREAD_MAX;
	if (ioctl(ctl, SIOCSIFTXQLEN, &ifr))
		fail_errno("%s: queue length", t->name);
	ifr.ifr_flags = IFF_UP | IFF_RUNNING | IFF_NOARP | IFF_POINTOPOINT;
	if (ioctl(ctl, SIOCSIFFLAGS, &ifr))
		fail_errno("%s: up", t->name);
	close(ctl);
}

void tun_setup(struct tun *t, const union addr *target, const union addr *source, unsigned prefix_len)
{
	if (target->sa.sa_family != source->sa.sa_family)
		usage_error("%s and %s are of different families", addr_text(target), addr_text(source));
	if (addr_is_loopback(target) || addr_is_loopback(source))
		usage_error("the kernel takes no loopback addresses from a TUN device: choose others");
	if (same_host(target, source) || is_local(source))
		usage_error("the source %s is, or would be, a local address here", addr_text(source));
	if (!is_local(target))
		add_addr(t, target);
	add_route(t, source, prefix_len);
}

void tun_write(struct tun *t, unsigned queue, const void *packet, size_t len)
{
	ssize_t n;

	do {
		n = write(t->fds[queue], packet, len);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n != (ssize_t)len)
		fail_errno("writing a packet to %s", t->name);
}

bool tun_read(struct tun *t, unsigned queue, uint8_t *buf, struct segment *ret_segment)
{
	ssize_t n;

	for (;;) {
		n = read(t->fds[queue], buf, PACKET_MAX);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0 && errno != EINTR)
			fail_errno("reading from %s", t->name);
		if (n > 0 && packet_parse(buf, n, ret_segment))
			return true;
	}
}

bool tun_wait(struct tun *t, int extra_fd, int timeout_ms)
{
	struct pollfd fds[TUN_QUEUES_MAX + 1];
	unsigned q;

	for (q = 0; q < t->queues; q++)
		fds[q] = (struct pollfd){ .fd = t->fds[q], .events = POLLIN };
	fds[q] = (struct pollfd){ .fd = extra_fd, .events = POLLIN };
	if (poll(fds, q + 1, timeout_ms) < 0 && errno != EINTR)
		fail_errno("poll");
	return fds[q].revents;
}
