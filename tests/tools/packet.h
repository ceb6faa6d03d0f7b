/* TCP segments as raw IP packets, both families, for the tools that bring their own TCP. */
#ifndef TOOLS_PACKET_H
#define TOOLS_PACKET_H

#include "net.h"

#include <netinet/tcp.h>

#define PACKET_MAX 2048

struct segment {
	union addr src, dst;
	uint32_t seq, ack;
	uint8_t flags;		/* TH_SYN, TH_ACK ... */
	const void *data;
	size_t len;
};

/* Writes the segment, checksums included, to buf (PACKET_MAX bytes); returns its length. A SYN gets an MSS option. */
size_t packet_build(uint8_t *buf, const struct segment *s);

/* False when the packet is no whole TCP segment (ICMPv6 and the like). ret_segment->data points into buf. */
bool packet_parse(const uint8_t *buf, size_t len, struct segment *ret_segment);

#endif
