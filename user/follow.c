// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include "follow.h"
#include "stream.h"

struct follow {
	sd_event *loop;
	struct stream *stream;
	const struct datapath *datapath;
	const struct follow_calls *calls;
	void *arg;
	bool service, ready;
	bool waiting; /* lines can't be written */
	int end;      /* why this run of the loop ends: 0 or -errno */
	sd_event_source *timer, *ring, *aborts;
};

void follow_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD); /* as the actions need it */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* a reader of ours that goes away is EPIPE */
}

/* What can't be written now is told once, and once that it is over. */
static void take(struct follow *follow)
{
	int got = stream_poll(follow->stream);

	if (got == -EAGAIN) {
		if (!follow->waiting)
			follow->calls->tell(follow->arg, "events can't be written, they wait in the kernel: ",
					    stream_error(follow->stream));
		follow->waiting = true;
		return;
	}
	if (got < 0) {
		follow->end = got;
		return;
	}
	if (follow->waiting)
		follow->calls->tell(follow->arg, "events are written again", "");
	follow->waiting = false;
}

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	(void)fd;
	(void)events;
	take(arg);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t at, void *arg)
{
	struct follow *follow = arg;

	(void)at;
	sd_event_source_set_time_relative(source, READER_INTERVAL_MS * 1000);
	take(follow);
	/* After an unload its maps live on as long as we hold them, but nothing fills them any more. */
	if (!follow->end && datapath_is_gone(follow->datapath))
		follow->end = -ESTALE;
	if (!follow->end && follow->calls->tick)
		follow->calls->tick(follow->arg);
	return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct follow *follow = arg;

	(void)source;
	(void)info;
	follow->end = -EINTR;
	return 0;
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

static int on_reopen(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct follow *follow = arg;

	(void)source;
	(void)info;
	stream_reopen(follow->stream);
	return 0;
}

static int signals_add(struct follow *follow)
{
	static const struct {
		int number;
		sd_event_signal_handler_t handler;
	} signals[] = { { SIGINT, on_stop }, { SIGTERM, on_stop }, { SIGHUP, on_reload }, { SIGUSR1, on_reopen } };
	int err = 0;

	for (size_t i = 0; err >= 0 && i < sizeof(signals) / sizeof(signals[0]); i++)
		err = sd_event_add_signal(follow->loop, NULL, signals[i].number, signals[i].handler, follow);
	return err;
}

int follow_new(const struct follow_options *options, struct follow **ret_follow, struct failure *failure)
{
	struct follow *follow = calloc(1, sizeof(*follow));
	struct stream_options stream = {
		.instance = options->instance, .outlets = options->outlets, .subscribers = options->service,
		.tell = options->calls->tell, .arg = options->arg };
	int err;

	if (!follow)
		return failure_set(failure, -ENOMEM, "out of memory");
	follow->calls = options->calls;
	follow->arg = options->arg;
	follow->service = options->service;
	err = sd_event_new(&follow->loop);
	if (err >= 0)
		err = signals_add(follow);
	stream.loop = follow->loop;
	if (err < 0)
		failure_set(failure, err, "no event loop can be had: %s", strerror(-err));
	else
		err = stream_new(&stream, &follow->stream, failure);
	if (err < 0) {
		follow_free(follow);
		return err;
	}
	if (follow->calls->listener)
		stream_on_listener(follow->stream, follow->calls->listener, follow->arg);
	*ret_follow = follow;
	return 0;
}

void follow_free(struct follow *follow)
{
	if (!follow)
		return;
	stream_free(follow->stream);
	sd_event_unref(follow->loop);
	free(follow);
}

int follow_outlets(struct follow *follow, const struct outlets *outlets, struct failure *failure)
{
	return stream_outlets(follow->stream, outlets, failure);
}

static int sources_add(struct follow *follow)
{
	int err = sd_event_add_io(follow->loop, &follow->ring, stream_fd(follow->stream), EPOLLIN, on_ring, follow);

	if (err >= 0)
		err = sd_event_add_io(follow->loop, &follow->aborts, stream_abort_fd(follow->stream), EPOLLIN, on_ring,
				      follow);
	if (err >= 0)
		err = sd_event_add_time_relative(follow->loop, &follow->timer, CLOCK_MONOTONIC, 0, 10000, on_timer, follow);
	if (err >= 0)
		err = sd_event_source_set_enabled(follow->timer, SD_EVENT_ON);
	return err;
}

/* Turn by turn: what a handler finds ends this run, not the loop, which the actions' children need. */
static int loop_run(struct follow *follow)
{
	int err = sources_add(follow);

	follow->end = 0;
	while (err >= 0 && !follow->end)
		err = sd_event_run(follow->loop, UINT64_MAX);
	follow->ring = sd_event_source_disable_unref(follow->ring);
	follow->aborts = sd_event_source_disable_unref(follow->aborts);
	follow->timer = sd_event_source_disable_unref(follow->timer);
	return err < 0 ? err : follow->end;
}

/* An upgrade that replaces it fills the old ring until it is done. */
static int drain(struct follow *follow)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	int got = 0;

	while (got >= 0 && datapath_is_changing(follow->datapath)) {
		got = stream_poll(follow->stream);
		nanosleep(&pause, NULL);
	}
	return got < 0 ? got : -ESTALE;
}

int follow_run(struct follow *follow, const struct datapath *datapath, struct failure *failure)
{
	int err = stream_attach(follow->stream, datapath, failure), got;

	if (err)
		return err;
	follow->datapath = datapath;
	if (follow->service && !follow->ready)
		sd_notify(0, "READY=1\nSTATUS=guarding");
	follow->ready = true;
	err = loop_run(follow);
	if (err == -EINTR)
		err = 0;
	if (err == -ESTALE)
		err = drain(follow);
	else if (follow->service)
		sd_notify(0, "STOPPING=1");
	if (err != -ESTALE) /* else they go on with the instance that follows */
		stream_end_actions(follow->stream);
	if (err >= 0 || err == -ESTALE) { /* what came since the last look */
		got = stream_poll(follow->stream);
		err = got < 0 ? got : err;
	}
	if (err == -ESTALE)
		failure_set(failure, err, "the instance was unloaded, or replaced by another");
	else if (err < 0)
		failure_set(failure, err, "events can't be written: %s", stream_error(follow->stream));
	stream_detach(follow->stream);
	return err < 0 ? err : 0;
}
