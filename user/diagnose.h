/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * diagnose.h: the stream of records -> events with their causes, and events that no single record tells (`wedged`,
 * `listener_restart`). Pure: no BPF, no I/O, no clock of its own; the same records give the same events, so that recorded
 * streams can be replayed (tests/unit/test_diagnose.c).
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
 * returns; a result other than 0 is passed on to their caller. NULL: out of memory.
 */
struct diagnose *diagnose_new(int (*emit)(void *arg, const struct event *event), void *arg);
void diagnose_free(struct diagnose *diagnose);

/*
 * How long an outbound transport of this policy may be in CLOSE_WAIT, with no newer one to its destination, until it is
 * `wedged` (0: for ever). By policy id; may change at any time.
 */
void diagnose_wedged_after(struct diagnose *diagnose, __u16 policy, __u64 wedged_after_ns);

/*
 * A transport that is open, as the kernel lists it; for those whose `connected` another reader took. closing_ns: since
 * when the peer has closed it, 0: it hasn't. One that is known already stays as it is.
 */
void diagnose_open(struct diagnose *diagnose, const struct sipkeep_record *connected, __u64 closing_ns);

/* The next record of the stream: emitted with its cause, and before or after it what it gives rise to. */
int diagnose_record(struct diagnose *diagnose, const struct sipkeep_record *record);

/* What only time tells, by CLOCK_MONOTONIC: call it when every record up to `now_ns` has been through diagnose_record(). */
int diagnose_tick(struct diagnose *diagnose, __u64 now_ns);

#endif
