/* SPDX-License-Identifier: GPL-2.0-only */
/* diagnose_internal.h: what diagnose*.c remember of the stream; for them and their unit test alone. */
#ifndef SIPKEEP_DIAGNOSE_INTERNAL_H
#define SIPKEEP_DIAGNOSE_INTERNAL_H

#include <sys/queue.h>
#include "diagnose.h"
#include "table.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL

/* So much is remembered at most; the oldest is forgotten for the newest. Only what was lost ever brings it there. */
#define DIAGNOSE_TRANSPORTS_MAX (1U << 19)
#define DIAGNOSE_SOCKETS_MAX 4096 /* listening ones, as many as the kernel's map has */
#define DIAGNOSE_PREFIXES_MAX 4096

/* Within it, a listener that comes back is a restart, and its transports that go are part of that. */
#define DIAGNOSE_RESTART_NS (2 * NS_PER_S)

/* ---- transports: diagnose.c ---- */

struct transport_key {
	__u64 cookie;
	__u64 generation;
};

/* Never found by its address: that is used again within milliseconds. */
struct transport {
	struct table_node node;
	struct transport_key key;
	TAILQ_ENTRY(transport) order; /* since when it has been known */
	__u64 connected_ns;
	__u32 epoch; /* of the reseed that named it */
	__u16 policy;
	__u8 outbound; /* a struct outbound, else a struct inbound */
	__u8 adopted;  /* connected_ns is when it was found: it may have been connected long before */
	__u8 closing;
	__u8 cause; /* enum events_cause, of its disconnected and its destroyed */
};
TAILQ_HEAD(transport_list, transport);

struct inbound {
	struct transport transport;
	struct place *places[3]; /* its local address, 0.0.0.0 (IPv4 only) and ::, with its port; see places_of() */
};

struct outbound {
	struct transport transport;
	struct destination *destination;
	TAILQ_ENTRY(outbound) alive;
	TAILQ_ENTRY(outbound) open;
	TAILQ_ENTRY(outbound) waiting;
	__u64 since_ns;		     /* in a waiting list: since when it has looked as if it were wedged */
	__u8 is_open, is_waiting;    /* is in that list */
	__u8 overlapped;	     /* the one before it to its destination outlived its connect */
	struct sipkeep_record ended; /* its disconnected */
};
TAILQ_HEAD(outbound_list, outbound);

/* ---- where transports come in: diagnose_listener.c ---- */

struct place_key {
	struct sipkeep_addr addr;
	__u64 port;
};

/* A local address and port, or all addresses of a family with one port. */
struct place {
	struct table_node node;
	struct place_key key;
	__u32 refs;	       /* inbound transports and TCP listeners */
	__u32 open;	       /* inbound transports that are open there */
	__u64 shaken_until_ns; /* its listener went down a moment ago; 0: not within memory */
};

struct listener_key {
	__u64 netns_cookie;
	struct sipkeep_addr addr;
	__u32 port;
	__u32 udp;
};

struct listener {
	struct table_node node;
	struct listener_key key;
	struct place *place; /* NULL: UDP */
	__u32 sockets;	     /* up, as far as known */
	__u32 open;	     /* down: transports open at that moment */
	__u64 down_ns;
	TAILQ_ENTRY(listener) downs; /* when there are no sockets */
};
TAILQ_HEAD(listener_list, listener);

struct listener_socket {
	struct table_node node;
	__u64 cookie; /* its key */
	struct listener *listener;
	__u32 epoch;
	TAILQ_ENTRY(listener_socket) order;
};
TAILQ_HEAD(socket_list, listener_socket);

/* ---- where transports go to: diagnose_wedged.c ---- */

struct destination_key {
	struct sipkeep_addr addr;
	__u64 port;
};

struct destination {
	struct table_node node;
	struct destination_key key;
	struct outbound_list alive; /* not destroyed yet, in the order in which they were connected */
	struct outbound_list open;  /* those of them that aren't closing */
	__u64 lost_ns;		    /* when the newest open one was last lost */
};

/* ---- ends on quiet paths: diagnose_nat.c ---- */

struct prefix_key {
	struct sipkeep_addr addr;
	__u64 policy;
};

struct prefix {
	struct table_node node;
	struct prefix_key key;
	__u32 ends;		   /* 3: or more */
	__u32 quiet_ms;		   /* the smallest known; 0: none is */
	TAILQ_ENTRY(prefix) order; /* the last one seen last */
};
TAILQ_HEAD(prefix_list, prefix);

struct diagnose {
	int (*emit)(void *arg, const struct event *event);
	void *emit_arg;
	void (*nat)(void *arg, __u16 policy, __u32 count, __u32 quiet_ms);
	void *nat_arg;
	__u32 epoch;
	bool listeners_named; /* in this epoch */
	struct table transports, places, listeners, sockets, destinations, prefixes;
	struct transport_list transport_order;
	struct listener_list downs;
	__u32 down_count;
	struct socket_list socket_order;
	struct prefix_list prefix_order;
	__u64 wedged_after_ns[SIPKEEP_MAX_POLICIES];
	struct outbound_list waiting[SIPKEEP_MAX_POLICIES]; /* by policy, in CLOSE_WAIT; by since_ns */
};

/* Clocks of two CPUs may differ a little: never negative. */
static inline __u64 elapsed(__u64 now_ns, __u64 since_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

/* An inbound transport comes, is disconnected, and goes. 0, or -1: there is no memory for it. */
int inbound_add(struct diagnose *diagnose, struct inbound *inbound, const struct sipkeep_record *record);
void inbound_close(struct inbound *inbound);
void inbound_remove(struct diagnose *diagnose, struct inbound *inbound);

/* Is or was its listener down a moment ago? */
bool inbound_is_shaken(const struct inbound *inbound, __u64 now_ns);

/* listener_up(): true when it is back after a restart, of which it fills gap_ms and open. */
bool listener_up(struct diagnose *diagnose, const struct sipkeep_record *record, struct event *ret_restart);
void listener_open(struct diagnose *diagnose, const struct sipkeep_record *record);
void listener_down(struct diagnose *diagnose, const struct sipkeep_record *record);
void listeners_expire(struct diagnose *diagnose, __u64 now_ns);
void listeners_sweep(struct diagnose *diagnose);
void listeners_free(struct diagnose *diagnose);

/* The same of an outbound one; closing: its disconnected, as of when it happened. */
int outbound_add(struct diagnose *diagnose, struct outbound *outbound, const struct sipkeep_record *record);
void outbound_close(struct diagnose *diagnose, struct outbound *outbound, const struct sipkeep_record *closing);
void outbound_remove(struct diagnose *diagnose, struct outbound *outbound);

/* It was destroyed, and not just forgotten: before outbound_remove(). */
void outbound_destroyed(struct outbound *outbound);
void outbound_closed(struct diagnose *diagnose, struct outbound *outbound);
int wedged_tick(struct diagnose *diagnose, __u64 now_ns);

/* Did a NAT or firewall on the way forget it, and not for the first time? Counts it, too. */
bool nat_expired(struct diagnose *diagnose, const struct sipkeep_record *record);
void nat_free(struct diagnose *diagnose);

#endif
