/* What the two halves of halfopen share: the run (halfopen.c) and its little TCP (halfopen_tcp.c). */
#ifndef TOOLS_HALFOPEN_H
#define TOOLS_HALFOPEN_H

#include "tun.h"

#include <sched.h>

enum shake_state { SYN_SENT, SYNACKED, ESTABLISHED, DATA_SENT, DECIDED };
enum outcome { NONE, SERVED, RESET, MUTE, REFUSED, PENDING, OTHER, OUTCOME_MAX };

struct shake {
	uint32_t isn, rcv_nxt;
	uint64_t data_ns, again_ms, rto_ms;	/* when the byte went out first; when it goes out again */
	enum shake_state state;
	enum outcome outcome;
};

struct halfopen {
	struct tun tun;
	union addr to, from;
	unsigned count, first_port, threads, data_after_ms, dup_acks, timeout_ms;
	bool ack_with_data, wrong_ack, hold;
	struct shake *shakes;
	unsigned waiting_synack, undecided, outcomes[OUTCOME_MAX];
	unsigned synacks, early_resets, wrong_ack_rsts, synack_repeats;
	uint64_t reset_max_ns, ack_burst_ns;
};

void shake_decide(struct halfopen *h, unsigned i, enum outcome outcome);
/* Sends a segment of connection i, with one byte of data unless data is NULL. */
void shake_send(struct halfopen *h, unsigned i, unsigned queue, uint8_t flags, uint32_t seq, const char *data);
/* Handles everything that waits on the device. */
void halfopen_read(struct halfopen *h);
/* Sends the final ACKs of all that got a SYN-ACK, from all threads at once. */
void halfopen_send_acks(struct halfopen *h, const cpu_set_t *cpus);

#endif
