/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_journal.c: entries in the journal. sd_journal_sendv() waits when journald doesn't read, so a thread makes the
 * calls; lines wait for it in a queue, and what finds no room there is counted and told by an entry of its own. It
 * says nothing when there is no journal at all, so the thread looks for its socket before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/socket.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* CODE_LINE of the sink tells nobody anything */
#include <systemd/sd-journal.h>
#include "sink_entry.h"
#include "sink_internal.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define QUEUE_BYTES_MAX (8U << 20)
#define QUEUE_BYTES_AGAIN (6U << 20)
#define RETRY_MS 200  /* the journal is away */
#define CLOSE_MS 1000 /* for what is in the queue at the end */

struct line {
	struct line *next;
	__u64 dropped_before; /* between the line before and this */
	size_t length;
	char text[];
};

struct sink_journal {
	struct sink sink;
	char *instance;
	pthread_t thread;
	/* The thread's own; here, so that it can be cancelled and leaves nothing behind. */
	struct sink_entry entry;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;  /* there is a line; for the thread that has nothing to do */
	pthread_cond_t state; /* ending, ended */
	struct line *first, **last;
	size_t bytes;
	__u64 dropped;	    /* ever */
	__u64 dropped_last; /* since the last line in the queue */
	bool ending, ended;
};

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static int entry_send(const struct sink_entry *entry)
{
	int state, err = 0;

	if (access(JOURNAL_SOCKET, F_OK))
		return -errno;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	err = sd_journal_sendv(entry->fields, entry->count);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return err;
}

/* Will it do later? An entry that journald can't ever take is dropped. */
static bool is_away(int err)
{
	switch (-err) {
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
	case EPIPE:
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOSPC:
	case EACCES:
		return true;
	}
	return false;
}

static struct timespec time_in(long ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += ms % 1000 * 1000000;
	at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

/* Called and returns with the lock held. 0: it is out, or can't ever be. */
static int send_unlocked(struct sink_journal *journal, bool *ret_dropped)
{
	int err;

	pthread_mutex_unlock(&journal->lock);
	err = entry_send(&journal->entry);
	pthread_mutex_lock(&journal->lock);
	*ret_dropped = err && !is_away(err);
	return *ret_dropped ? 0 : err;
}

/* Tells of `*dropped` events, and takes those off it. */
static int send_lost(struct sink_journal *journal, __u64 *dropped)
{
	__u64 count = *dropped;
	bool never;
	int err;

	if (!count)
		return 0;
	sink_entry_lost(&journal->entry, journal->instance, count);
	err = send_unlocked(journal, &never);
	if (!err)
		*dropped -= count;
	return err;
}

static int send_first(struct sink_journal *journal)
{
	struct line *line = journal->first;
	int err = send_lost(journal, &line->dropped_before);
	bool dropped;

	if (err)
		return err;
	sink_entry_make(&journal->entry, journal->instance, line->text, line->length);
	err = send_unlocked(journal, &dropped);
	if (err)
		return err;
	journal->first = line->next;
	if (!journal->first)
		journal->last = &journal->first;
	journal->bytes -= line->length;
	if (dropped) {
		journal->dropped++;
		if (journal->first)
			journal->first->dropped_before++;
		else
			journal->dropped_last++;
	}
	free(line);
	return 0;
}

/* The next thing to do; the lock is held, but for the sending. Nonzero: the journal is away. */
static int thread_step(struct sink_journal *journal)
{
	if (journal->first)
		return send_first(journal);
	if (journal->dropped_last)
		return send_lost(journal, &journal->dropped_last);
	if (journal->ending)
		journal->ended = true;
	else
		pthread_cond_wait(&journal->more, &journal->lock);
	return 0;
}

static void *journal_thread(void *arg)
{
	struct sink_journal *journal = arg;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(&journal->lock);
	while (!journal->ended) {
		struct timespec again = time_in(RETRY_MS);

		if (!thread_step(journal))
			continue;
		if (journal->ending)
			journal->ended = true;
		else
			pthread_cond_timedwait(&journal->state, &journal->lock, &again);
	}
	pthread_cond_broadcast(&journal->state);
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* ---- the sink -------------------------------------------------------------------------------------------------- */

static int journal_put(struct sink *sink, const struct event *event, const char *text, size_t length,
		       struct output_mark mark)
{
	struct sink_journal *journal = (struct sink_journal *)sink;
	struct line *line = malloc(sizeof(*line) + length);

	(void)event;
	(void)mark;
	pthread_mutex_lock(&journal->lock);
	/* Once it was full, it takes no more until there is real room: one gap is told, not hundreds. */
	if (!line || journal->bytes + length > (journal->dropped_last ? QUEUE_BYTES_AGAIN : QUEUE_BYTES_MAX)) {
		journal->dropped++;
		journal->dropped_last++;
		pthread_mutex_unlock(&journal->lock);
		free(line);
		return 0;
	}
	*line = (struct line){ .length = length, .dropped_before = journal->dropped_last };
	memcpy(line->text, text, length);
	journal->dropped_last = 0;
	*journal->last = line;
	journal->last = &line->next;
	journal->bytes += length;
	pthread_cond_signal(&journal->more);
	pthread_mutex_unlock(&journal->lock);
	return 0;
}

static __u64 journal_dropped(const struct sink *sink)
{
	struct sink_journal *journal = (struct sink_journal *)sink;
	__u64 dropped;

	pthread_mutex_lock(&journal->lock);
	dropped = journal->dropped;
	pthread_mutex_unlock(&journal->lock);
	return dropped;
}

static void thread_end(struct sink_journal *journal)
{
	const struct timespec until = time_in(CLOSE_MS);
	bool ended;
	int err = 0;

	pthread_mutex_lock(&journal->lock);
	journal->ending = true;
	pthread_cond_broadcast(&journal->more);
	pthread_cond_broadcast(&journal->state);
	while (!journal->ended && !err)
		err = pthread_cond_timedwait(&journal->state, &journal->lock, &until);
	ended = journal->ended;
	pthread_mutex_unlock(&journal->lock);
	if (!ended)
		pthread_cancel(journal->thread); /* it is, or soon will be, in sd_journal_sendv() */
	pthread_join(journal->thread, NULL);
}

static __u64 journal_close(struct sink *sink)
{
	struct sink_journal *journal = (struct sink_journal *)sink;
	__u64 left = 0;

	thread_end(journal);
	for (struct line *line = journal->first, *next; line; line = next) {
		next = line->next;
		free(line);
		left++;
	}
	pthread_cond_destroy(&journal->more);
	pthread_cond_destroy(&journal->state);
	pthread_mutex_destroy(&journal->lock);
	free(journal->instance);
	free(journal);
	return left;
}

static const struct sink_calls journal_calls = {
	.close = journal_close,
	.put = journal_put,
	.dropped = journal_dropped,
};

/* Signals are for the main thread's signalfd. */
static int thread_start(struct sink_journal *journal)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&journal->thread, NULL, journal_thread, journal);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

int sink_journal_open(const char *instance, struct sink **ret_sink, struct failure *failure)
{
	struct sink_journal *journal = calloc(1, sizeof(*journal));
	pthread_condattr_t monotonic;
	int err;

	if (journal)
		journal->instance = strdup(instance);
	if (!journal || !journal->instance) {
		free(journal);
		return failure_set(failure, -ENOMEM, "out of memory");
	}
	journal->sink.calls = &journal_calls;
	journal->last = &journal->first;
	pthread_mutex_init(&journal->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&journal->more, &monotonic);
	pthread_cond_init(&journal->state, &monotonic);
	pthread_condattr_destroy(&monotonic);
	err = thread_start(journal);
	if (err) {
		free(journal->instance);
		free(journal);
		return failure_set(failure, err, "no thread can be started: %s", strerror(-err));
	}
	*ret_sink = &journal->sink;
	return 0;
}
