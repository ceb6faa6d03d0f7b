/* A TUN device in the current network namespace that is gone once its file descriptors are closed. */
#ifndef TOOLS_TUN_H
#define TOOLS_TUN_H

#include "packet.h"

#define TUN_QUEUES_MAX 8

struct tun {
	char name[16];
	int ifindex;
	unsigned queues;
	int fds[TUN_QUEUES_MAX];	/* nonblocking, one per queue */
};

/* Creates the device with that many queues, room for 20,000 unread packets in each, and brings it up. */
void tun_open(struct tun *t, unsigned queues);
/* Makes target reachable and source routable: adds target to the device unless it is a local address already, and a
 * route for source/prefix_len to the device. Ends with a message when target can't be reached through a TUN device. */
void tun_setup(struct tun *t, const union addr *target, const union addr *source, unsigned prefix_len);
/* Hands a packet to the kernel through that queue, in the calling thread's context. */
void tun_write(struct tun *t, unsigned queue, const void *packet, size_t len);
/* Reads a TCP segment into buf (PACKET_MAX bytes); false when nothing is there. Other packets are dropped. */
bool tun_read(struct tun *t, unsigned queue, uint8_t *buf, struct segment *ret_segment);
/* Waits until a queue is readable, extra_fd (unless -1) is, or the time is over. True: extra_fd is readable. */
bool tun_wait(struct tun *t, int extra_fd, int timeout_ms);

#endif
