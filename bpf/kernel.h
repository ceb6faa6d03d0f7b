/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel.h: the few fields of the kernel's own structs that sipkeep reads, found at load time by name (CO-RE).
 * Only what is read is declared: a kernel that moves, adds or reorders fields needs no new build.
 */
#ifndef SIPKEEP_KERNEL_H
#define SIPKEEP_KERNEL_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10

/* IPv6 extension headers (linux/in6.h would bring a whole struct in6_addr) */
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_DSTOPTS 60

#define SOL_SOCKET 1
#define SO_KEEPALIVE 9
#define SOL_TCP 6
#define TCP_KEEPIDLE 4
#define TCP_KEEPINTVL 5
#define TCP_KEEPCNT 6
#define TCP_USER_TIMEOUT 18
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* bpf_setsockopt() from the iterator, Linux 6.12 */

#define SOCK_BINDADDR_LOCK 4 /* of sk_userlocks: bound to an address of its own choice */
#define SHUTDOWN_MASK 3 /* of sk_shutdown: both directions; close() begins with that */
#define SOCK_DONE 1 /* bit of skc_flags (enum sock_flags): the peer's FIN was received */

#define E2BIG 7
#define ENOMEM 12
#define EEXIST 17
#define EPIPE 32
#define EMSGSIZE 90
#define ECONNABORTED 103
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111

/* TCP_BPF states end at 12; a handshake's request socket looks like this. */
#define TCP_NEW_SYN_RECV 12

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct kernfs_node {
	__u64 id;
} KERNEL_STRUCT;

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[0];
} KERNEL_STRUCT;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} KERNEL_STRUCT;

struct netns_ipv4 {
	int sysctl_tcp_keepalive_intvl; /* jiffies; of IPv6, too */
} KERNEL_STRUCT;

struct net {
	__u64 net_cookie;
	struct netns_ipv4 ipv4;
} KERNEL_STRUCT;

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
} KERNEL_STRUCT;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} KERNEL_STRUCT;

struct sock {
	struct sock_common __sk_common;
	__u8 sk_userlocks; /* a bit field on some kernels */
	int sk_err;
	int sk_err_soft;
	__u8 sk_shutdown;
	struct sock_cgroup_data sk_cgrp_data;
} KERNEL_STRUCT;

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
} KERNEL_STRUCT;

struct udp_sock {
	struct inet_sock inet;
} KERNEL_STRUCT;

struct fastopen_queue {
	int max_qlen;
} KERNEL_STRUCT;

struct request_sock_queue {
	struct fastopen_queue fastopenq;
} KERNEL_STRUCT;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct request_sock_queue icsk_accept_queue;
	__u8 icsk_probes_out;
	struct {
		__u32 lrcvtime;
	} icsk_ack;
	__u32 icsk_probes_tstamp;
	__u32 icsk_user_timeout; /* milliseconds */
} KERNEL_STRUCT;

struct tcp_options_received {
	int ts_recent_stamp;
} KERNEL_STRUCT;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 data_segs_in;
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u32 rcv_tstamp; /* the last ACK, jiffies */
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 lsndtime;
	unsigned int keepalive_intvl; /* jiffies; 0: the namespace's */
	__u32 srtt_us;
	__u32 total_retrans;
	struct tcp_options_received rx_opt;
} KERNEL_STRUCT;

struct tcp_request_sock {
	__u32 snt_isn;
} KERNEL_STRUCT;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_STRUCT;

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} KERNEL_STRUCT;

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
} KERNEL_STRUCT;

#endif
