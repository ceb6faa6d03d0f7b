/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * diagnose.h: the stream of records -> events with their causes, and events that no single record tells (`wedged`,
 * `listener_restart`). Pure: no BPF, no I/O, no clock of its own; the same records give the same events, so that
 * recorded streams can be replayed (tests/unit/test_diagnose.c).
 *
 * What outsiders can make it remember is bounded; what it must forget for that costs a cause, never an event.
 */
#ifndef SIPKEEP_DIAGNOSE_H
#define SIPKEEP_DIAGNOSE_H

#include <stdbool.h>
#include "events.h"

struct diagnose;

/*
 * emit is called from diagnose_record() and diagnose_tick(), in order, with an event that is the callee's until it
 * returns; a result other than 0 is passed on to their caller (the event counts as taken). NULL: out of memory.
 */
struct diagnose *diagnose_new(int (*emit)(void *arg, const struct event *event), void *arg);
void diagnose_free(struct diagnose *diagnose); /* NULL is fine */

/*
 * Has nat() told, just before an event with the cause `nat_expired`, what that adds to its policy's finding (see
 * maps_finding_add()). count: 2 with the second end in a remote prefix, for the first was one, too; then 1. quiet_ms:
 * the smallest there, of the records that have one; 0: none has.
 */
void diagnose_on_nat(struct diagnose *diagnose, void (*nat)(void *arg, __u16 policy, __u32 count, __u32 quiet_ms),
		     void *arg);

/*
 * How long an outbound transport of this policy may be in CLOSE_WAIT, with no newer one to its destination, until it is
 * `wedged` (0: for ever). By policy id; may change at any time.
 */
void diagnose_wedged_after(struct diagnose *diagnose, __u16 policy, __u64 wedged_after_ns);

/*
 * A transport that is open, as the kernel lists it; for those whose `connected` another reader took. Of its record
 * count the identity, the addresses, policy, direction, flags, and ts_ns - age_ns as the time when it was connected.
 * closing_ns: since when the peer has closed it, 0: it hasn't. One that is known already stays as it is, but may turn
 * out to be closing. Best called when what waits in the ring has been through diagnose_record().
 * With the event `disconnected`: one that has ended otherwise, and isn't destroyed yet.
 *
 * Or a listener (`listener_up`, with its cookie and network namespace): one of several sockets that share an address
 * (SO_REUSEPORT) is told from a restart only when the others are known.
 */
void diagnose_open(struct diagnose *diagnose, const struct sipkeep_record *record, __u64 closing_ns);

/*
 * After a loss of records, which may have been ends: begin, diagnose_open() all that the kernel lists, end; no records
 * in between. What wasn't named is forgotten (listeners only when at least one of them was named), the rest stays as
 * it is. Without it nothing grows without bound, either: then the oldest is forgotten for the newest.
 */
void diagnose_reseed_begin(struct diagnose *diagnose);
void diagnose_reseed_end(struct diagnose *diagnose);

/* The next record of the stream: emitted with its cause, and after it what it gives rise to. */
int diagnose_record(struct diagnose *diagnose, const struct sipkeep_record *record);

/*
 * Would diagnose_tick() tell of a wedged transport? Then diagnose_closed() is first to name those that the PBX has closed
 * since the peer did: no record tells of that, and they may last while the peer doesn't acknowledge it.
 */
bool diagnose_suspects(struct diagnose *diagnose, __u64 now_ns);
void diagnose_closed(struct diagnose *diagnose, __u64 cookie, __u16 generation);

/*
 * What only time tells, by CLOCK_MONOTONIC: call it when every record up to `now_ns` has been through
 * diagnose_record(). When emit() fails, what is left is told by the next call.
 */
int diagnose_tick(struct diagnose *diagnose, __u64 now_ns);

#endif
