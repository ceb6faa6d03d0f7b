/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sipkeep.h: everything that crosses the boundary between the BPF programs and the loader.
 *
 * A connection the PBX accepts or makes is a *transport*. A transport belongs to one *policy* (a rule of the
 * config file found by direction, port and remote address) and to one *source*, the unit that limits count:
 *
 *   inbound   the remote address, cut to the policy's prefix     203.0.113.7/32, 2001:db8:1:2::/64
 *   outbound  the local address the socket was bound to at connect() (unspecified when it wasn't) and the
 *             destination's address and port                     * > 198.51.100.5:5061
 *
 * Addresses are always 16 bytes in network order, IPv4 as ::ffff:a.b.c.d, so that an IPv4 client counts the same
 * whether the listener's socket is AF_INET or AF_INET6.
 */
#ifndef SIPKEEP_H
#define SIPKEEP_H

#include <linux/types.h>

/* Layout of the pinned maps. A loader that finds another number asks for `sipkeep upgrade`. */
#ifndef SIPKEEP_ABI
#define SIPKEEP_ABI 2
#endif

/* The tests' other layout has this in front of some structs' members, so that all of them lie elsewhere. */
#ifdef SIPKEEP_SPARE
#define SIPKEEP_SPARE_MEMBER SIPKEEP_SPARE spare;
#else
#define SIPKEEP_SPARE_MEMBER
#endif

#define SIPKEEP_MAX_POLICIES 64	 /* policies alive at once: those of the file and those still draining */
#define SIPKEEP_MAX_RULES 131072 /* (port, prefix) pairs of all policies, both banks */
#define SIPKEEP_MAX_CGROUPS 16	 /* cgroups of the config */
#define SIPKEEP_CGROUP_SLOTS 32	 /* those, and such as are removed but still have sockets */
#define SIPKEEP_CGROUP_PATH 1024 /* a cgroup's path with its NUL */
#define SIPKEEP_NAME_LEN 32	 /* a policy's name with its NUL */
#define SIPKEEP_VERSION_LEN 32	 /* a version with its NUL */

struct sipkeep_addr {
	union {
		__u8 b[16];
		__u32 w[4];
	};
};

enum sipkeep_direction {
	SIPKEEP_INBOUND,
	SIPKEEP_OUTBOUND,
	SIPKEEP_DIRECTION_MAX,
};

/* ---- policy ---------------------------------------------------------------------------------------------- */

/* Which keepalive options the policy sets; one that is left out keeps the system's default. */
#define SIPKEEP_SET_KEEPALIVE (1U << 0)	   /* SO_KEEPALIVE */
#define SIPKEEP_SET_KEEPIDLE (1U << 1)	   /* TCP_KEEPIDLE, seconds */
#define SIPKEEP_SET_KEEPINTVL (1U << 2)	   /* TCP_KEEPINTVL, seconds */
#define SIPKEEP_SET_KEEPCNT (1U << 3)	   /* TCP_KEEPCNT, probes */
#define SIPKEEP_SET_USER_TIMEOUT (1U << 4) /* TCP_USER_TIMEOUT, milliseconds in the kernel */

#define SIPKEEP_POLICY_ENFORCE_KEEPALIVE (1U << 0) /* keepalive_mode = "enforce" */
#define SIPKEEP_POLICY_DROP (1U << 1)		   /* refuse_with = "drop" */

/* A policy as the kernel acts on it. Slot = policy id; the bank tells the running file's from the next one's. */
struct sipkeep_policy {
	__u32 keepalive_set; /* SIPKEEP_SET_* */
	__u32 keepalive;
	__u32 keepidle;
	__u32 keepintvl;
	__u32 keepcnt;
	__u32 user_timeout_ms;
	__u32 wedged_after_ms;		  /* outbound: see user/diagnose.h; 0: not watched for */
	__u32 pad;
	__u32 flags;			  /* SIPKEEP_POLICY_* */
	__u32 max_connections_per_source; /* 0: no limit */
	__u32 max_connections;		  /* 0: no limit */
	__u8 source_prefix_ipv4;	  /* 0..32 */
	__u8 source_prefix_ipv6;	  /* 0..128 */
	__u8 direction;			  /* enum sipkeep_direction */
	__u8 in_use;			  /* 0: slot not filled in this bank */
	__u64 rate_interval_ns;		  /* nanoseconds one connection costs; 0: no rate limit */
	__u64 rate_burst_ns;		  /* burst_per_source times that */
};
_Static_assert(sizeof(struct sipkeep_policy) == 64, "policy layout");

/* LPM key: the first 8 bytes after prefixlen always match whole, then the remote address by its prefix. */
#define SIPKEEP_RULE_FIXED_BITS 64
struct sipkeep_rule_key {
	__u32 prefixlen; /* SIPKEEP_RULE_FIXED_BITS + prefix of addr (IPv4: + 96) */
	__u8 bank;
	__u8 direction;
	__u8 family; /* 4 or 6: "::/0" must not catch IPv4 */
	__u8 pad0;
	__be16 port_be; /* inbound: local, outbound: remote; 0: any */
	__u16 pad1;
	struct sipkeep_addr addr;
};
_Static_assert(sizeof(struct sipkeep_rule_key) == 28, "rule key layout");

#define SIPKEEP_EXEMPT_FIXED_BITS 32
struct sipkeep_exempt_key {
	__u32 prefixlen; /* SIPKEEP_EXEMPT_FIXED_BITS + prefix of addr (IPv4: + 96) */
	__u8 bank;
	__u8 family;
	__u16 pad;
	struct sipkeep_addr addr;
};
_Static_assert(sizeof(struct sipkeep_exempt_key) == 24, "exempt key layout");

/*
 * One element: what holds for the whole instance. Written by the loader, read by every program.
 *
 * `live` is one word, read once by each run of a program and changed by one store (the map is memory-mapped): no
 * connection meets half of a change.
 */
#define SIPKEEP_LIVE_BANK (1ULL << 0)	     /* which half of policies, rules and exempts is in force */
#define SIPKEEP_LIVE_OBSERVE (1ULL << 1)     /* refuse nothing, set nothing */
#define SIPKEEP_LIVE_FULL_REFUSE (1ULL << 2) /* a connection that can't be counted is refused */
#define SIPKEEP_LIVE_PREPARE (1ULL << 3)     /* a recount is under way: see bpf/recount.h */
#define SIPKEEP_LIVE_SETTLE (1ULL << 4)
#define SIPKEEP_LIVE_CANCEL (1ULL << 5)
#define SIPKEEP_LIVE_FROZEN (1ULL << 6) /* until frozen_until_ns, should its writer die */
#define SIPKEEP_LIVE_RECOUNT (SIPKEEP_LIVE_PREPARE | SIPKEEP_LIVE_SETTLE | SIPKEEP_LIVE_CANCEL)
#define SIPKEEP_LIVE_UNTIL_SHIFT 8	     /* from here: CLOCK_MONOTONIC in ms when OBSERVE turns over; 0: never */
struct sipkeep_config {
	__u64 live;
	__u64 frozen_until_ns; /* CLOCK_MONOTONIC */
	__u64 jiffy_ns; /* length of the kernel's tick, for idle times kept in jiffies */
};
_Static_assert(sizeof(struct sipkeep_config) == 24, "config layout");

/* ---- counting -------------------------------------------------------------------------------------------- */

struct sipkeep_source_key {
	__u16 policy;
	__be16 port_be;	  /* outbound: the destination's; inbound: 0 */
	__u32 pad;
	struct sipkeep_addr addr; /* inbound: the source's prefix; outbound: the local address */
	struct sipkeep_addr destination; /* outbound only */
};
_Static_assert(sizeof(struct sipkeep_source_key) == 40, "source key layout");

/*
 * A count is one 64-bit word, changed by compare-and-swap or atomic add only:
 *
 *   bit 63      DEAD: being removed from the map, never to be counted in again
 *   bit 62      QUEUED: its key stands in the queue of those that may be removed (bpf/clock.h)
 *   bits 40-61  tag, a hash of the key: hash elements are reused at once, and a program that still holds a
 *               pointer to a removed element must not count into the source that took its memory
 *   bits 24-39  reserved: handshakes whose final ACK was let through but which aren't established yet,
 *               connect() calls under way
 *   bits 0-23   active: established
 *
 * A place is taken while active + reserved < limit, in one compare-and-swap: that is what makes the limit exact.
 */
#define SIPKEEP_ACTIVE_ONE 1ULL
#define SIPKEEP_RESERVED_ONE (1ULL << 24)
#define SIPKEEP_TAG_SHIFT 40
#define SIPKEEP_TAG_MASK (0x3fffffULL << SIPKEEP_TAG_SHIFT)
#define SIPKEEP_QUEUED (1ULL << 62)
#define SIPKEEP_DEAD (1ULL << 63)

/* So long an entry that holds nothing is kept, for `sources` to show. */
#define SIPKEEP_SOURCE_IDLE_NS 300000000000ULL

struct sipkeep_source {
	__u64 count;	     /* the word above */
	__u64 tat_ns;	     /* rate limit: when the bucket is full again (CLOCK_MONOTONIC) */
	__u64 last_seen_ns;  /* last connection admitted, refused or ended */
	__u64 admitted;	     /* since the entry was made */
	__u64 refused;	     /* in observe mode: would have been */
	__u64 reported;	     /* refused, already told in `refused` events */
	__u64 reported_ns;   /* when */
	__u32 peak;	     /* highest active */
	__u32 cause;	     /* of the last refusal: enum sipkeep_refusal */
};
_Static_assert(sizeof(struct sipkeep_source) == 64, "source layout");

/* Per policy, shared by all CPUs: the same word as a source's, tag 0. */
struct sipkeep_policy_count {
	__u64 count;
	__u64 refused;	   /* of sources that have no entry of their own (a SYN makes none) */
	__u64 reported;	   /* as in struct sipkeep_source */
	__u64 reported_ns;
	__u64 pad[4]; /* a cache line each */
};
_Static_assert(sizeof(struct sipkeep_policy_count) == 64, "policy count layout");

enum sipkeep_refusal {
	SIPKEEP_REFUSED_NONE,
	SIPKEEP_REFUSED_SOURCE, /* max_connections_per_source */
	SIPKEEP_REFUSED_POLICY, /* max_connections */
	SIPKEEP_REFUSED_RATE,	/* max_rate_per_source */
	SIPKEEP_REFUSED_FULL,	/* no room to count it, on_full = "refuse" */
	SIPKEEP_REFUSED_MAX,
};

enum sipkeep_reason {
	SIPKEEP_REASON_UNKNOWN,
	SIPKEEP_REASON_PEER_FIN,
	SIPKEEP_REASON_PEER_RESET,
	SIPKEEP_REASON_LOCAL_CLOSE,
	SIPKEEP_REASON_LOCAL_RESET,
	SIPKEEP_REASON_KEEPALIVE_TIMEOUT,
	SIPKEEP_REASON_RETRANSMIT_TIMEOUT,
	SIPKEEP_REASON_USER_TIMEOUT,
	SIPKEEP_REASON_UNREACHABLE,
	SIPKEEP_REASON_KILLED,
	SIPKEEP_REASON_MAX,
};

/* Per policy and CPU; nobody reads it to decide anything. */
struct sipkeep_policy_stats {
	SIPKEEP_SPARE_MEMBER
	__u64 admitted;
	__u64 refused[SIPKEEP_REFUSED_MAX];
	__u64 connected;
	__u64 disconnected;
	__u64 destroyed;
	__u64 teardowns[SIPKEEP_REASON_MAX];
	__u64 keepalive_set;	     /* transports whose keepalive was set (observe: would have been) */
	__u64 keepalive_failed;	     /* bpf_setsockopt said no */
	__u64 keepalive_overridden;  /* the PBX's own setsockopt calls that enforce mode kept out */
	__u64 uncounted;	     /* transports that could not be counted: map full or no memory */
};

/* Per policy: what the diagnosis of its ends has found (user/diagnose.h). Written by the reader of the events alone. */
struct sipkeep_finding {
	SIPKEEP_SPARE_MEMBER
	__u64 nat_count;    /* ends of connections that a NAT or a firewall on the way had forgotten */
	__u32 nat_quiet_ms; /* the shortest quiet that was too long for it; 0: not known */
	__u32 pad;
};

/* One element, shared by all CPUs: what must be exact or bounded for the whole instance. */
struct sipkeep_shared {
	__u64 lost;		/* records that found no room in the ring */
	__u64 full_reported_ns; /* last `full` event */
	__u64 refusal_window_ns; /* start of the second that refusal_events counts */
	__u64 refusal_events;
	__u64 stale_window_ns;	 /* the same for stale_contact events */
	__u64 stale_events;
	__u64 pad[2];
};
_Static_assert(sizeof(struct sipkeep_shared) == 64, "shared layout");

/* `refused` events a second of the whole instance; what is over it is told by a later one. */
#define SIPKEEP_REFUSAL_EVENTS_MAX 1000

/* `stale_contact` events a second; more are counted only (a PBX with 2,490 stale subscriptions may try all at once). */
#define SIPKEEP_STALE_EVENTS_MAX 4000

/* Per CPU, of the whole instance. */
struct sipkeep_stats {
	__u64 emitted;	       /* events meant for the ring, delivered or not */
	__u64 map_full;	       /* sources that found no room */
	__u64 storage_failed;  /* sockets whose storage could not be had */
	__u64 deferred;	       /* final ACKs left to be sent again, the last place being in doubt */
	__u64 reclaimed;       /* places taken back from handshakes that came to nothing */
	__u64 aborts_lost;     /* clients refused at their final ACK that can't be told (ring full) */
	__u64 overrun;	       /* connections established without a place of their own (see admit.bpf.c) */
	__u64 stale_contacts;  /* far ends of closed inbound transports that a connect() failed to reach, each once */
	__u64 stale_failures;  /* such connect()s */
	__u64 stale_untold;    /* of these, over SIPKEEP_STALE_EVENTS_MAX a second */
};

/* ---- a transport's storage (sk_storage), written under the socket's lock ------------------------------------ */

enum sipkeep_phase {
	SIPKEEP_PHASE_NONE,
	SIPKEEP_PHASE_LISTENER,	    /* TCP; UDP: `source` holds the local address and port */
	SIPKEEP_PHASE_RESERVED,	    /* outbound: counted as reserved in connect4/6 */
	SIPKEEP_PHASE_CONNECTING,   /* its SYN is out: the state callback will tell of its end */
	SIPKEEP_PHASE_CONNECTED,
	SIPKEEP_PHASE_DISCONNECTED, /* not usable both ways any more, still there */
	SIPKEEP_PHASE_DESTROYED,
};

struct sipkeep_transport {
	struct sipkeep_source_key source;
	__u64 cookie;
	__u64 connected_ns;	/* CLOCK_MONOTONIC */
	__u16 generation;	/* a socket disconnected with AF_UNSPEC may connect again */
	__u8 phase;		/* enum sipkeep_phase */
	__u8 direction;
	__u8 flags;		/* SIPKEEP_TRANSPORT_* */
	__u8 enforce;		/* keepalive options the PBX may not change: SIPKEEP_SET_* */
	__u8 reason;		/* once disconnected: enum sipkeep_reason */
	__u8 closed_by;		/* enum sipkeep_closed_by */
	/* When the last SIP message may have passed: see bpf/life.h. Times in jiffies, counts as last looked at. */
	__u32 message_at;
	__u32 looked_at;
	__u32 seen_out;		/* payload bytes sent, repetitions left out */
	__u32 seen_in;		/* payload bytes received */
	__u32 seen_segments;	/* segments with payload received */
	__u32 pad;
};
#define SIPKEEP_TRANSPORT_IN_SOURCE (1U << 0) /* holds a place in its source's count */
#define SIPKEEP_TRANSPORT_IN_POLICY (1U << 1) /* holds a place in its policy's count */
#define SIPKEEP_TRANSPORT_IN (SIPKEEP_TRANSPORT_IN_SOURCE | SIPKEEP_TRANSPORT_IN_POLICY)
#define SIPKEEP_TRANSPORT_ADOPTED (1U << 2)   /* was open when sipkeep came: its age counts from then */
#define SIPKEEP_TRANSPORT_SHADOW (1U << 3)    /* counted by the other bank, too: see bpf/recount.h */
#define SIPKEEP_TRANSPORT_SHADOW_SHIFT 4      /* from here: the IN_* of that */
#define SIPKEEP_TRANSPORT_WATCHED (1U << 6)   /* without the state callback: watch.bpf.c sees its end */
#define SIPKEEP_TRANSPORT_FOUND (SIPKEEP_TRANSPORT_ADOPTED | SIPKEEP_TRANSPORT_WATCHED) /* whatever counts it */
_Static_assert(sizeof(struct sipkeep_transport) == 88, "transport layout");

/* ---- contacts ----------------------------------------------------------------------------------------------- */

/*
 * The far end of an inbound transport that has closed, until a connection with it is up again. Where the PBX tries to
 * connect() to one and fails, it holds a registration or a subscription whose contact is dead: `stale_contact`.
 */
struct sipkeep_contact_key {
	struct sipkeep_addr addr;
	__u16 port; /* host order */
	__u16 pad0;
	__u32 pad1;
};
_Static_assert(sizeof(struct sipkeep_contact_key) == 24, "contact key layout");

#define SIPKEEP_MAX_CONTACTS 65536 /* the one that was looked up longest ago makes room */

/* ---- listeners ----------------------------------------------------------------------------------------------- */

struct sipkeep_listener_key {
	__u64 netns_cookie;
	struct sipkeep_addr addr;
	__u16 port; /* host order */
	__u16 pad0;
	__u32 pad1;
};
_Static_assert(sizeof(struct sipkeep_listener_key) == 32, "listener key layout");

/* ---- handshakes at their last step ------------------------------------------------------------------------------ */

struct sipkeep_tuple {
	struct sipkeep_addr local;
	struct sipkeep_addr remote;
	__u16 local_port; /* host order */
	__u16 remote_port;
	__u32 pad;
};
_Static_assert(sizeof(struct sipkeep_tuple) == 40, "tuple layout");

/* One per CPU: the place taken for the final ACK that this CPU is handling, until the child is established. */
struct sipkeep_pending {
	__u64 token; /* bpf_ktime_get_ns() of the reservation, 0: free. Whoever swaps it to 0 owns the place */
	struct sipkeep_source_key source;
	struct sipkeep_tuple tuple;
	__u64 deciding; /* 1 while this CPU decides about `tuple`: a copy of that ACK elsewhere must not be refused */
	__u64 rate_ns; /* what it took from the source's rate, to be given back if nothing comes of it */
	__u8 flags;    /* SIPKEEP_TRANSPORT_IN_* */
	__u8 cause;    /* observe mode: what would have refused it, enum sipkeep_refusal */
	__u8 pad[22];
};
_Static_assert(sizeof(struct sipkeep_pending) == 128, "pending layout");

/* ---- events ------------------------------------------------------------------------------------------------------- */

enum sipkeep_event {
	SIPKEEP_EVENT_CONNECTED,
	SIPKEEP_EVENT_DISCONNECTED,
	SIPKEEP_EVENT_DESTROYED,
	SIPKEEP_EVENT_REFUSED,
	SIPKEEP_EVENT_LISTENER_UP,
	SIPKEEP_EVENT_LISTENER_DOWN,
	SIPKEEP_EVENT_FULL,
	SIPKEEP_EVENT_MODE,
	SIPKEEP_EVENT_STALE_CONTACT,
	SIPKEEP_EVENT_MAX,
};

enum sipkeep_closed_by {
	SIPKEEP_CLOSED_BY_UNKNOWN,
	SIPKEEP_CLOSED_BY_LOCAL,
	SIPKEEP_CLOSED_BY_REMOTE,
};

/* One record of the ring. What an event doesn't have is 0. */
struct sipkeep_record {
	__u64 ts_ns;	/* CLOCK_MONOTONIC */
	__u64 lost;	/* records lost so far, all CPUs: the reader reports the growth */
	__u64 cookie;
	__u64 age_ns;	/* since connected */
	__u64 idle_ns;	/* since the last payload byte, either direction */
	__u64 bytes_in;
	__u64 bytes_out;
	union {
		__u64 count;	    /* refused: since the last such event; stale_contact: failures of that remote so far */
		__u64 netns_cookie; /* listener_up, listener_down: of the listener's network namespace */
	};
	/* disconnected: how long the peer had been quiet when the first packet went out that it never answered (bpf/reason.h) */
	__u32 quiet_ms;
	__u32 sip_idle_ms; /* since the last payload that may have been a SIP message: see bpf/life.h */
	__u32 limit;	/* refused */
	__u32 srtt_us;
	__u32 retransmits;
	__u16 generation;
	__u16 policy;
	struct sipkeep_addr local;
	struct sipkeep_addr remote; /* refused: the source */
	__u16 local_port; /* host order */
	__u16 remote_port;
	__u8 event;	  /* enum sipkeep_event */
	__u8 direction;
	__u8 reason;	  /* enum sipkeep_reason */
	__u8 closed_by;	  /* enum sipkeep_closed_by */
	__u8 cause;	  /* refused: enum sipkeep_refusal */
	__u8 flags;	  /* SIPKEEP_RECORD_* */
	__u8 prefix;	  /* refused: significant bits of remote (IPv4: of 32) */
	__u8 pad[5];
};
#define SIPKEEP_RECORD_ADOPTED (1U << 0)
#define SIPKEEP_RECORD_OBSERVED (1U << 1) /* refused: would have been; mode: observe, until `count` (0: for good) */
#define SIPKEEP_RECORD_UDP (1U << 2)	  /* listener_up, listener_down: of a UDP socket */
_Static_assert(sizeof(struct sipkeep_record) == 136, "record layout");

/* A client refused at its final ACK: the loader destroys its request socket (see admit.bpf.c). */
struct sipkeep_abort {
	struct sipkeep_tuple tuple;
	__u64 netns_cookie; /* of the listener's network namespace */
};
_Static_assert(sizeof(struct sipkeep_abort) == 48, "abort layout");

/* One open transport, as the iterator lists it. */
struct sipkeep_listing {
	struct sipkeep_transport transport; /* phase NONE: the kernel has it, sipkeep doesn't count it */
	struct sipkeep_source_key expected; /* the source it belongs to by the running policies */
	struct sipkeep_tuple tuple;
	__u64 now_ns;
	__u64 idle_ns;
	__u64 bytes_in;
	__u64 bytes_out;
	__u32 keepidle;	 /* seconds, as the kernel has it now */
	__u32 keepintvl;
	__u32 keepcnt;
	__u32 user_timeout_ms;
	__u8 keepalive;
	__u8 state;	 /* BPF_TCP_* */
	__u8 guarded;	 /* a policy matches it */
	__u8 listener;
	__u8 outside;	 /* a listener on a guarded port that none of the attached cgroups has */
	__u8 pad[3];
};
_Static_assert(sizeof(struct sipkeep_listing) == 224, "listing layout");

/* Arguments of the programs in sweep.bpf.c. */
struct sipkeep_sweep {
	__u64 idle_ns; /* remove sources that hold nothing and weren't seen for so long */
};

struct sipkeep_mode {
	__u64 until_ns; /* CLOCK_MONOTONIC; 0: for good */
	__u32 observe;
	__u32 pad;
};

struct sipkeep_flush {
	struct sipkeep_source_key key;
	__u32 cause; /* for a source without an entry */
	__u32 pad;
};

enum sipkeep_carry_kind {
	SIPKEEP_CARRY_SOURCE,
	SIPKEEP_CARRY_TOTALS,  /* policy and total, key.policy being whose */
	SIPKEEP_CARRY_CONTACT, /* contact and failures */
};

/* What the programs of another layout counted, to be added. What isn't carried is 0. */
struct sipkeep_carry {
	__u64 kind;
	struct sipkeep_source_key key;
	struct sipkeep_contact_key contact;
	__u64 failures;
	struct sipkeep_source source; /* its count and tag don't matter */
	struct sipkeep_policy_count count;
	struct sipkeep_policy_stats policy;
	struct sipkeep_stats total;
	__u64 lost;
};

/* What the instance's `meta` map says; pinned last, its presence is what makes a load complete. */
struct sipkeep_meta {
	__u32 abi;
	__u32 policy_count;
	__u64 loaded_at_ns; /* CLOCK_REALTIME */
	/*
	 * The guarded cgroups. First, path_count of them, those of the map cgroup_paths, in its order, each with the id it
	 * has or, while it is away, had last (0: never seen); then removed ones that still have sockets.
	 */
	__u64 cgroup_ids[SIPKEEP_CGROUP_SLOTS];
	__u8 cgroup_levels[SIPKEEP_CGROUP_SLOTS];
	__u32 cgroup_count;
	__u32 path_count;
	__u32 missing;	    /* SIPKEEP_MISSING_* */
	__u64 delivered;    /* records whose lines are written: with what is lost and derived, the last `seq` */
	__u64 dropped;	    /* records a reader took from the ring and died with, or could not write: lost, too */
	__u64 taken_before; /* records that were taken from the rings of earlier layouts: see `upgrade` */
	__u64 lost_told;    /* lost records already told by `lost` events */
	__u64 derived;	    /* lines that are of no record (`wedged`, `action`, ...): they count in `seq`, too */
	char version[SIPKEEP_VERSION_LEN]; /* whose programs run */
};

/* Optional hooks this kernel doesn't have (or that could not be attached). */
#define SIPKEEP_MISSING_SK_LOOKUP (1U << 0)
#define SIPKEEP_MISSING_ITER (1U << 1)
#define SIPKEEP_MISSING_DESTROY (1U << 2)
#define SIPKEEP_MISSING_ENDS (1U << 3) /* what was open before isn't counted: its end couldn't be seen */

#endif
