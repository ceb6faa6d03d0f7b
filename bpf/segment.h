/* SPDX-License-Identifier: GPL-2.0-only */
/* segment.h: a TCP segment for a listener, read from the packet, and the socket that the kernel has for it. */
#ifndef SIPKEEP_SEGMENT_H
#define SIPKEEP_SEGMENT_H

#include "lookup.h"

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define EXTENSION_HEADERS_MAX 6

/* One TCP segment for a listener. */
struct segment {
	struct sipkeep_tuple tuple;
	__u32 ack;
	__u8 flags;
};

/* Offset of the TCP header, or -1 when the packet's headers can't be followed. */
BPF_CALLED int tcp_offset_ipv6(struct __sk_buff *skb, __u8 next)
{
	__u32 offset = 40;

	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		__u8 header[2];

		if (next == IPPROTO_TCP)
			return offset;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			return -1;
		if (bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
			return -1;
		if (next == IPPROTO_FRAGMENT)
			offset += 8;
		else if (next == IPPROTO_AH)
			offset += (header[1] + 2) * 4;
		else
			offset += (header[1] + 1) * 8;
		next = header[0];
	}
	return -1;
}

/* skb starts at its network header. */
BPF_CALLED int segment_parse(struct __sk_buff *skb, struct segment *segment)
{
	int offset;
	struct {
		__be16 source, dest;
		__be32 seq, ack;
		__u8 doff, flags;
		__u16 window;
	} tcp;

	if (!segment)
		return -1;
	if (skb->protocol == bpf_htons(0x0800)) {
		struct {
			__u8 version_ihl, tos;
			__u16 rest[5];
			__be32 source, dest;
		} ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return -1;
		addr_from_ipv4(&segment->tuple.remote, ip.source);
		addr_from_ipv4(&segment->tuple.local, ip.dest);
		offset = (ip.version_ihl & 0xf) * 4;
	} else {
		struct {
			__u32 flow;
			__u16 length;
			__u8 next, hops;
			struct sipkeep_addr source, dest;
		} ip6;

		if (bpf_skb_load_bytes(skb, 0, &ip6, sizeof(ip6)))
			return -1;
		segment->tuple.remote = ip6.source;
		segment->tuple.local = ip6.dest;
		offset = tcp_offset_ipv6(skb, ip6.next);
	}
	if (offset < 0 || bpf_skb_load_bytes(skb, offset, &tcp, sizeof(tcp)))
		return -1;
	segment->tuple.remote_port = bpf_ntohs(tcp.source);
	segment->tuple.local_port = bpf_ntohs(tcp.dest);
	segment->tuple.pad = 0;
	segment->ack = bpf_ntohl(tcp.ack);
	segment->flags = tcp.flags;
	return 0;
}

BPF_CALLED struct bpf_sock *request_lookup(struct __sk_buff *skb, const struct sipkeep_tuple *tuple)
{
	struct bpf_sock_tuple at = {};

	if (addr_is_ipv4(&tuple->remote)) {
		at.ipv4.saddr = tuple->remote.w[3];
		at.ipv4.daddr = tuple->local.w[3];
		at.ipv4.sport = bpf_htons(tuple->remote_port);
		at.ipv4.dport = bpf_htons(tuple->local_port);
		return bpf_skc_lookup_tcp(skb, &at, sizeof(at.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(at.ipv6.saddr, &tuple->remote, 16);
	__builtin_memcpy(at.ipv6.daddr, &tuple->local, 16);
	at.ipv6.sport = bpf_htons(tuple->remote_port);
	at.ipv6.dport = bpf_htons(tuple->local_port);
	return bpf_skc_lookup_tcp(skb, &at, sizeof(at.ipv6), BPF_F_CURRENT_NETNS, 0);
}

#endif
