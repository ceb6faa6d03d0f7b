// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "command.h"
#include "follow.h"
#include "reader.h"

static void tell(void *arg, const char *what, const char *why)
{
	(void)arg;
	command_error("%s%s", what, why);
}

int cmd_events(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { { "follow", no_argument, NULL, 'f' }, {} };
	struct datapath datapath CLEANUP_DATAPATH;
	struct failure failure = { "" };
	struct reader *reader;
	static const struct follow_calls calls = { .tell = tell };
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
	if (follow) {
		err = follow_events(&datapath, &calls, NULL, false, &failure);
	} else {
		err = reader_open(&datapath, STDOUT_FILENO, &reader, &failure);
		if (!err) {
			err = reader_poll(reader);
			if (err > 0) /* again: what was lost after the last of them is told when nothing more is there */
				err = reader_poll(reader);
			if (err == -EAGAIN)
				err = -reader_error(reader);
			reader_close(reader);
			if (err < 0)
				failure_set(&failure, err, "events can't be printed: %s", strerror(-err));
		}
	}
	if (err == -ESTALE)
		fprintf(stderr, "%s\n", failure.text);
	else if (err < 0 && err != -EPIPE)
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	return err < 0 ? SIPKEEP_EXIT_DONE : command_flush();
}
