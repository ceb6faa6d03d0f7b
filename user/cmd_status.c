// SPDX-License-Identifier: GPL-2.0-only
#include "command.h"
#include "status.h"

int cmd_status(struct command_context *context, const struct command *self, int argc, char **argv)
{
	struct datapath datapath CLEANUP_DATAPATH;
	int exit_code;

	datapath_init(&datapath);
	exit_code = command_no_options(context, self, argc, argv);
	if (exit_code >= 0)
		return exit_code;
	exit_code = command_open(context, false, &datapath);
	if (exit_code)
		return exit_code;
	exit_code = status_print(context, &datapath);
	if (context->json) /* flushed, and told if that failed */
		return exit_code;
	return command_flush() ?: exit_code;
}
