/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * events.h: ring-buffer bytes -> checked records -> one JSON line. Pure: no BPF, no I/O, unit-tested.
 *
 * `reason`, `cause` and the rest keep their places in the line whatever the event, so that a reader that knows
 * `disconnected` knows them all.
 */
#ifndef SIPKEEP_EVENTS_H
#define SIPKEEP_EVENTS_H

#include <stddef.h>
#include "sipkeep.h"

/* Longest line events_encode() can make, its newline and NUL included. */
#define EVENTS_LINE_MAX 1024

/* Words of the JSON: NULL for a value out of range. */
const char *events_reason(unsigned int reason);
const char *events_refusal(unsigned int cause); /* the config key of the limit */
const char *events_direction(unsigned int direction);

/* What a record needs besides itself. */
struct events_context {
	__s64 realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
	__u64 seq;		  /* of this line */
	const char *policy;	  /* name; ignored by events without one */
};

/* A record of this size from the ring, checked: enums in range. NULL when it can't be one of ours. */
const struct sipkeep_record *events_check(const void *data, size_t size);

/* Writes one line, newline included, to line (EVENTS_LINE_MAX bytes). Returns its length. */
size_t events_encode(const struct sipkeep_record *record, const struct events_context *context, char *line);

/* The `lost` event: `count` records never reached the ring. seq: of the last of them. */
size_t events_encode_lost(__u64 count, __u64 now_ns, const struct events_context *context, char *line);

/* "4a31", or "4a31.2" for a socket's third life. text: 32 bytes; returns it. */
char *events_id(__u64 cookie, __u16 generation, char *text);

/* "192.0.2.1:5060", "[2001:db8::1]:5060". text: 80 bytes; returns it. */
char *events_endpoint(const struct sipkeep_addr *addr, __u16 port, char *text);

#endif
