#include "halfopen.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WRONG_ACK_OFFSET 0x01000000	/* far outside any window; the RST to it carries it as its sequence number */

struct sender {
	struct halfopen *h;
	unsigned queue, cpu;
	atomic_uint *ready;
	uint64_t start_ns, end_ns;
};

void shake_decide(struct halfopen *h, unsigned i, enum outcome outcome)
{
	struct shake *s = &h->shakes[i];

	if (s->state == SYN_SENT)
		h->waiting_synack--;
	s->state = DECIDED;
	s->outcome = outcome;
	h->outcomes[outcome]++;
	h->undecided--;
}

static size_t build(const struct halfopen *h, unsigned i, uint8_t flags, uint32_t seq, const char *data, uint8_t *buf)
{
	struct segment s = { .src = h->from, .dst = h->to, .seq = seq, .flags = flags, .data = data, .len = !!data };

	addr_set_port(&s.src, h->first_port + i);
	if (flags & TH_ACK)
		s.ack = h->shakes[i].rcv_nxt;
	return packet_build(buf, &s);
}

void shake_send(struct halfopen *h, unsigned i, unsigned queue, uint8_t flags, uint32_t seq, const char *data)
{
	uint8_t buf[PACKET_MAX];

	tun_write(&h->tun, queue, buf, build(h, i, flags, seq, data, buf));
}

static void on_rst(struct halfopen *h, unsigned i, const struct segment *seg)
{
	struct shake *s = &h->shakes[i];

	if (s->state == SYN_SENT) {
		shake_decide(h, i, REFUSED);
		return;
	}
	if (h->wrong_ack && seg->seq == s->rcv_nxt + WRONG_ACK_OFFSET) {
		h->wrong_ack_rsts++;
		return;
	}
	if (s->state == DECIDED || seg->seq != s->rcv_nxt)
		return;
	if (s->data_ns && now_ns() - s->data_ns > h->reset_max_ns)
		h->reset_max_ns = now_ns() - s->data_ns;
	if (!s->data_ns)
		h->early_resets++;
	shake_decide(h, i, RESET);
}

static void on_synack(struct halfopen *h, unsigned i, const struct segment *seg)
{
	struct shake *s = &h->shakes[i];

	if (seg->ack != s->isn + 1)
		return;
	if (s->state == SYN_SENT) {
		s->rcv_nxt = seg->seq + 1;
		s->state = SYNACKED;
		h->synacks++;
		h->waiting_synack--;
		return;
	}
	h->synack_repeats++;
	/* SYNACKED: still held half open on purpose. */
	if (s->state == ESTABLISHED)
		shake_send(h, i, 0, TH_ACK, s->isn + 1, NULL);
	else if (s->state == DATA_SENT)
		shake_send(h, i, 0, TH_ACK | TH_PUSH, s->isn + 1, "x");
}

static void on_segment(struct halfopen *h, const struct segment *seg)
{
	unsigned i = addr_port(&seg->dst) - h->first_port;
	struct shake *s;
	bool echoed;

	if (i >= h->count || addr_port(&seg->src) != addr_port(&h->to))
		return;
	s = &h->shakes[i];
	/* A handshake of an earlier run is still half open there: end that one, the next SYN then gets through. */
	if (s->state == SYN_SENT && (seg->flags & (TH_SYN | TH_RST)) == 0) {
		shake_send(h, i, 0, TH_RST, seg->ack, NULL);
		return;
	}
	if (seg->flags & TH_RST) {
		on_rst(h, i, seg);
		return;
	}
	if (seg->flags & TH_SYN) {
		on_synack(h, i, seg);
		return;
	}
	if (!seg->len && !(seg->flags & TH_FIN))
		return;
	if (seg->seq == s->rcv_nxt) {
		echoed = s->data_ns && seg->len == 1 && *(const char *)seg->data == 'x';
		s->rcv_nxt += seg->len + !!(seg->flags & TH_FIN);
		if (s->state != DECIDED)
			shake_decide(h, i, echoed ? SERVED : OTHER);
	}
	shake_send(h, i, 0, TH_ACK, s->isn + 2, NULL);
}

void halfopen_read(struct halfopen *h)
{
	uint8_t buf[PACKET_MAX];
	struct segment seg;
	unsigned q;

	for (q = 0; q < h->tun.queues; q++)
		while (tun_read(&h->tun, q, buf, &seg))
			on_segment(h, &seg);
}

/* With several copies of each ACK the threads run through the same connections side by side. */
static unsigned copies(const struct sender *me, unsigned i)
{
	unsigned k, n = 0;

	for (k = 0; k < me->h->dup_acks; k++)
		n += (i + k) % me->h->threads == me->queue;
	return n;
}

static void send_share(struct sender *me, uint8_t (*packets)[128], const size_t *lens)
{
	struct halfopen *h = me->h;
	unsigned i, n;

	me->start_ns = now_ns();
	for (i = 0; i < h->count; i++) {
		if (h->shakes[i].state != ESTABLISHED && h->shakes[i].state != DATA_SENT)
			continue;
		for (n = copies(me, i); n; n--) {
			if (h->wrong_ack)
				tun_write(&h->tun, me->queue, packets[2 * i + 1], lens[2 * i + 1]);
			tun_write(&h->tun, me->queue, packets[2 * i], lens[2 * i]);
		}
	}
	me->end_ns = now_ns();
}

static void *send_acks(void *arg)
{
	struct sender *me = arg;
	struct halfopen *h = me->h;
	const char *data = h->ack_with_data ? "x" : NULL;
	uint8_t (*packets)[128] = calloc(h->count * 2, sizeof(*packets));
	size_t *lens = calloc(h->count * 2, sizeof(*lens));
	uint8_t buf[PACKET_MAX];
	struct halfopen wrong = *h;
	cpu_set_t cpu;
	unsigned i;

	if (!packets || !lens || !(wrong.shakes = calloc(h->count, sizeof(*wrong.shakes))))
		fail("out of memory");
	memcpy(wrong.shakes, h->shakes, h->count * sizeof(*wrong.shakes));
	for (i = 0; i < h->count; i++) {
		lens[2 * i] = build(h, i, TH_ACK | (data ? TH_PUSH : 0), h->shakes[i].isn + 1, data, buf);
		memcpy(packets[2 * i], buf, lens[2 * i]);
		wrong.shakes[i].rcv_nxt += WRONG_ACK_OFFSET;
		lens[2 * i + 1] = build(&wrong, i, TH_ACK, h->shakes[i].isn + 1, NULL, buf);
		memcpy(packets[2 * i + 1], buf, lens[2 * i + 1]);
	}
	CPU_ZERO(&cpu);
	CPU_SET(me->cpu, &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		fail_errno("pinning a thread to CPU %u", me->cpu);
	atomic_fetch_add(me->ready, 1);
	while (atomic_load(me->ready) < h->threads)
		sched_yield();
	send_share(me, packets, lens);
	free(packets);
	free(lens);
	free(wrong.shakes);
	return NULL;
}

static void mark_established(struct halfopen *h)
{
	unsigned i;

	for (i = 0; i < h->count; i++) {
		struct shake *s = &h->shakes[i];

		if (s->state != SYNACKED)
			continue;
		s->state = ESTABLISHED;
		if (!h->ack_with_data)
			continue;
		s->state = DATA_SENT;
		s->data_ns = now_ns();
		s->rto_ms = 200;
		s->again_ms = now_ms() + s->rto_ms;
	}
}

void halfopen_send_acks(struct halfopen *h, const cpu_set_t *cpus)
{
	struct sender senders[TUN_QUEUES_MAX];
	pthread_t threads[TUN_QUEUES_MAX];
	uint64_t start = UINT64_MAX, end = 0;
	atomic_uint ready = 0;
	unsigned t, cpu = CPU_SETSIZE - 1;

	mark_established(h);
	for (t = 0; t < h->threads; t++) {
		do {
			cpu = (cpu + 1) % CPU_SETSIZE;
		} while (!CPU_ISSET(cpu, cpus));
		senders[t] = (struct sender){ .h = h, .queue = t, .cpu = cpu, .ready = &ready };
		errno = pthread_create(&threads[t], NULL, send_acks, &senders[t]);
		if (errno)
			fail_errno("starting a thread");
	}
	for (t = 0; t < h->threads; t++) {
		pthread_join(threads[t], NULL);
		start = senders[t].start_ns < start ? senders[t].start_ns : start;
		end = senders[t].end_ns > end ? senders[t].end_ns : end;
	}
	h->ack_burst_ns = end - start;
}
