// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include "destroy.h"
#include "policy.h"

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

int destroy_open(struct failure *failure)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		return failure_set(failure, -errno, "no sock_diag netlink socket: %s", strerror(errno));
	return fd;
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

int destroy_request(int fd, const struct sipkeep_tuple *tuple)
{
	struct request request;
	struct reply reply;
	int err;

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
