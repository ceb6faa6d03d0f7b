// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include "destroy.h"
#include "host.h"
#include "policy.h"

#define CHANNELS_MAX 64
#define IDLE_NS (5ULL * 1000000000)
#define MISSING_NS (1ULL * 1000000000)

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 diag;
};

struct reply {
	struct nlmsghdr header;
	union {
		struct nlmsgerr error;
		struct inet_diag_msg diag;
		char room[4096];
	};
};

/* A netlink socket acts in the network namespace it was made in, and keeps it alive. */
struct channel {
	__u64 cookie;
	__u64 used_ns;
	int fd; /* -1: the namespace can't be found; asked again after a second */
};

struct destroy {
	const struct datapath *datapath;
	struct channel channels[CHANNELS_MAX]; /* [0]: this process's namespace, for good */
	size_t count;
};

static int channel_open(void *arg)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	(void)arg;
	return fd < 0 ? -errno : fd;
}

int destroy_open(const struct datapath *datapath, struct destroy **ret_destroy, struct failure *failure)
{
	struct destroy *destroy = calloc(1, sizeof(*destroy));
	int err;

	if (!destroy)
		return failure_set(failure, -ENOMEM, "out of memory");
	destroy->datapath = datapath;
	destroy->count = 1;
	destroy->channels[0].fd = channel_open(NULL);
	err = destroy->channels[0].fd;
	if (err < 0)
		failure_set(failure, err, "no sock_diag netlink socket: %s", strerror(-err));
	else
		err = host_netns_cookie(&destroy->channels[0].cookie, failure);
	if (err) {
		destroy_close(destroy);
		return err;
	}
	*ret_destroy = destroy;
	return 0;
}

static void channel_close(struct destroy *destroy, size_t index)
{
	if (destroy->channels[index].fd >= 0)
		close(destroy->channels[index].fd);
	destroy->channels[index] = destroy->channels[--destroy->count];
}

void destroy_tidy(struct destroy *destroy, __u64 now_ns)
{
	for (size_t i = destroy->count; i-- > 1;)
		if (now_ns - destroy->channels[i].used_ns > (destroy->channels[i].fd < 0 ? MISSING_NS : IDLE_NS))
			channel_close(destroy, i);
}

void destroy_close(struct destroy *destroy)
{
	if (!destroy)
		return;
	while (destroy->count)
		channel_close(destroy, destroy->count - 1);
	free(destroy);
}

static struct channel *channel_add(struct destroy *destroy, __u64 cookie)
{
	struct netns_set set CLEANUP_NETNS_SET = {};
	const struct netns *at;
	struct channel *channel;
	struct failure ignored;

	if (destroy->count == CHANNELS_MAX)
		channel_close(destroy, 1);
	channel = &destroy->channels[destroy->count++];
	*channel = (struct channel){ .cookie = cookie, .used_ns = host_monotonic_ns(), .fd = -1 };
	if (datapath_namespaces(destroy->datapath, &set, &ignored))
		return channel;
	at = netns_find(&set, cookie);
	if (at)
		channel->fd = netns_call(&set, at, channel_open, NULL, &ignored);
	return channel;
}

/* -1: none can be had. */
static int channel_fd(struct destroy *destroy, __u64 cookie)
{
	for (size_t i = 0; i < destroy->count; i++) {
		struct channel *channel = &destroy->channels[i];

		if (channel->cookie != cookie)
			continue;
		if (channel->fd >= 0)
			channel->used_ns = host_monotonic_ns();
		return channel->fd;
	}
	return channel_add(destroy, cookie)->fd;
}

static void request_fill(struct request *request, const struct sipkeep_tuple *tuple)
{
	bool ipv4 = policy_addr_is_ipv4(&tuple->remote);
	size_t skip = ipv4 ? 12 : 0, length = ipv4 ? 4 : 16;

	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = sizeof(*request);
	request->diag.sdiag_family = ipv4 ? AF_INET : AF_INET6;
	request->diag.sdiag_protocol = IPPROTO_TCP;
	request->diag.idiag_states = ~0U;
	request->diag.id.idiag_sport = htons(tuple->local_port);
	request->diag.id.idiag_dport = htons(tuple->remote_port);
	memcpy(request->diag.id.idiag_src, tuple->local.b + skip, length);
	memcpy(request->diag.id.idiag_dst, tuple->remote.b + skip, length);
	request->diag.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	request->diag.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
}

static int exchange(int fd, struct request *request, struct reply *reply)
{
	ssize_t got;

	if (send(fd, request, sizeof(*request), 0) != sizeof(*request))
		return -errno;
	do {
		got = recv(fd, reply, sizeof(*reply), 0);
	} while (got < 0 && errno == EINTR);
	if (got < (ssize_t)sizeof(reply->header))
		return got < 0 ? -errno : -EIO;
	return reply->header.nlmsg_type == NLMSG_ERROR ? reply->error.error : 0;
}

int destroy_request(struct destroy *destroy, __u64 netns_cookie, const struct sipkeep_tuple *tuple)
{
	int fd = channel_fd(destroy, netns_cookie);
	struct request request;
	struct reply reply;
	int err;

	if (fd < 0)
		return -ESRCH;
	/*
	 * A condemned request is never let in, but its ends may be those of a later connection by now: the state tells,
	 * and the cookie makes the second step mean the socket that the first one saw.
	 */
	request_fill(&request, tuple);
	request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	err = exchange(fd, &request, &reply);
	if (err)
		return err;
	if (reply.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -EIO;
	if (reply.diag.idiag_state != TCP_SYN_RECV)
		return -ENOENT;
	/* Not its addresses: below a dual-stack listener an IPv4 request is shown with mapped ones, and not found by them. */
	memcpy(request.diag.id.idiag_cookie, reply.diag.id.idiag_cookie, sizeof(request.diag.id.idiag_cookie));
	request.header.nlmsg_type = SOCK_DESTROY;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	return exchange(fd, &request, &reply);
}
