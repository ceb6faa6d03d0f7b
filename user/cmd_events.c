// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include "command.h"
#include "follow.h"
#include "stream.h"
#include "subscribe.h"

static void tell(void *arg, const char *what, const char *why)
{
	(void)arg;
	command_error("%s%s", what, why);
}

/* Those that `run` takes meanwhile. -ENOENT or -ECONNREFUSED: it isn't `run` that takes them. */
static int events_subscribe(const struct command_context *context, struct failure *failure)
{
	struct failure why;
	int fd, err = subscribe_open(context->instance, &fd, &why);

	if (err)
		return err;
	err = subscribe_copy(fd, STDOUT_FILENO, failure);
	close(fd);
	return err == -ENOTCONN ? -ESTALE : err;
}

/* Until a signal ends it. */
static int events_follow(const struct command_context *context, const struct datapath *datapath, struct failure *failure)
{
	static const struct follow_calls calls = { .tell = tell };
	static const struct outlets plain;
	const struct follow_options options = { .instance = context->instance, .outlets = &plain, .calls = &calls };
	struct follow *follow;
	int err = datapath_is_read(datapath) ? events_subscribe(context, failure) : -ENOENT;

	if (err != -ENOENT && err != -ECONNREFUSED)
		return err;
	err = follow_new(&options, &follow, failure);
	if (err)
		return err;
	err = follow_run(follow, datapath, failure);
	follow_free(follow);
	return err;
}

/* Those that wait. */
static int events_take(const struct command_context *context, const struct datapath *datapath, struct failure *failure)
{
	static const struct outlets plain;
	const struct stream_options options = { .instance = context->instance, .outlets = &plain };
	struct stream *stream;
	int err = stream_new(&options, &stream, failure);

	if (err)
		return err;
	err = stream_attach(stream, datapath, failure);
	if (!err) {
		err = stream_poll(stream);
		if (err > 0) /* again: what was lost after the last of them is told when nothing more is there */
			err = stream_poll(stream);
		if (err < 0)
			failure_set(failure, err, "events can't be written: %s", stream_error(stream));
	}
	stream_free(stream);
	return err < 0 ? err : 0;
}

int cmd_events(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { { "follow", no_argument, NULL, 'f' }, {} };
	struct datapath datapath CLEANUP_DATAPATH;
	struct failure failure = { "" };
	bool follow = false;
	int option, err;

	datapath_init(&datapath);
	while ((option = command_option(context, self, own, "f", argc, argv)) != -1) {
		if (option != 'f')
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
		follow = true;
	}
	err = command_no_operands(self, argc, argv);
	if (err)
		return err;
	if (follow)
		follow_block_signals();
	err = command_open(context, false, &datapath);
	if (err)
		return err;
	err = (follow ? events_follow : events_take)(context, &datapath, &failure);
	if (err == -ESTALE)
		fprintf(stderr, "%s\n", failure.text);
	else if (err < 0 && err != -EPIPE)
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	return err < 0 ? SIPKEEP_EXIT_DONE : command_flush();
}
