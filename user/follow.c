// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include "follow.h"
#include "reader.h"

struct follow {
	const struct datapath *datapath;
	struct reader *reader;
	const struct follow_calls *calls;
	void *arg;
	bool waiting; /* lines can't be written */
	sd_event_source *timer;
};

void follow_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* a reader of ours that goes away is EPIPE */
}

/* What can't be written now is told once, and once that it is over. */
static int take(struct follow *follow, sd_event *loop)
{
	int got = reader_poll(follow->reader);

	if (got == -EAGAIN) {
		if (!follow->waiting)
			follow->calls->tell(follow->arg, "events can't be written, they wait in the kernel: ",
					    strerror(reader_error(follow->reader)));
		follow->waiting = true;
		return 0;
	}
	if (got < 0)
		return sd_event_exit(loop, got);
	if (follow->waiting)
		follow->calls->tell(follow->arg, "events are written again", "");
	follow->waiting = false;
	return 0;
}

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)fd;
	(void)events;
	return take(arg, sd_event_source_get_event(source));
}

static int on_timer(sd_event_source *source, uint64_t at, void *arg)
{
	struct follow *follow = arg;
	sd_event *loop = sd_event_source_get_event(source);
	int err;

	(void)at;
	sd_event_source_set_time_relative(source, READER_INTERVAL_MS * 1000);
	err = take(follow, loop);
	/* After an unload its maps live on as long as we hold them, but nothing fills them any more. */
	if (!err && datapath_is_gone(follow->datapath))
		return sd_event_exit(loop, -ESTALE);
	if (!err && follow->calls->tick)
		follow->calls->tick(follow->arg);
	return err;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	(void)info;
	(void)arg;
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct follow *follow = arg;

	(void)source;
	(void)info;
	if (follow->calls->reload)
		follow->calls->reload(follow->arg);
	return 0;
}

static int loop_run(struct follow *follow, sd_event *loop)
{
	int err = sd_event_add_signal(loop, NULL, SIGINT, on_stop, follow);

	if (err >= 0)
		err = sd_event_add_signal(loop, NULL, SIGTERM, on_stop, follow);
	if (err >= 0)
		err = sd_event_add_signal(loop, NULL, SIGHUP, on_reload, follow);
	if (err >= 0)
		err = sd_event_add_io(loop, NULL, reader_fd(follow->reader), EPOLLIN, on_ring, follow);
	if (err >= 0)
		err = sd_event_add_io(loop, NULL, reader_abort_fd(follow->reader), EPOLLIN, on_ring, follow);
	if (err >= 0)
		err = sd_event_add_time_relative(loop, &follow->timer, CLOCK_MONOTONIC, 0, 10000, on_timer, follow);
	if (err >= 0)
		err = sd_event_source_set_enabled(follow->timer, SD_EVENT_ON);
	return err < 0 ? err : sd_event_loop(loop);
}

/* An upgrade that replaces it fills the old ring until it is done. */
static int drain(struct follow *follow)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	int got = 0;

	while (got >= 0 && datapath_is_changing(follow->datapath)) {
		got = reader_poll(follow->reader);
		nanosleep(&pause, NULL);
	}
	return got < 0 ? got : -ESTALE;
}

int follow_events(const struct datapath *datapath, const struct follow_calls *calls, void *arg, bool notify,
		  struct failure *failure)
{
	struct follow follow = { .datapath = datapath, .calls = calls, .arg = arg };
	sd_event *loop = NULL;
	int err = reader_open(datapath, STDOUT_FILENO, &follow.reader, failure);

	if (err)
		return err;
	if (calls->listener)
		reader_on_listener(follow.reader, calls->listener, arg);
	err = sd_event_new(&loop);
	if (notify)
		sd_notify(0, "READY=1\nSTATUS=guarding");
	if (err >= 0)
		err = loop_run(&follow, loop);
	if (err == -ESTALE)
		err = drain(&follow);
	else if (notify)
		sd_notify(0, "STOPPING=1");
	if (err >= 0 || err == -ESTALE) { /* what came since the last look */
		int got = reader_poll(follow.reader);

		err = got < 0 ? got : err;
	}
	if (err == -EAGAIN)
		err = -reader_error(follow.reader);
	sd_event_source_unref(follow.timer);
	sd_event_unref(loop);
	reader_close(follow.reader);
	if (err == -ESTALE)
		return failure_set(failure, err, "the instance was unloaded, or replaced by another");
	return err < 0 ? failure_set(failure, err, "events can't be printed: %s", strerror(-err)) : 0;
}
