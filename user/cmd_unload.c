// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include "command.h"
#include "subscribe.h"

int cmd_unload(struct command_context *context, const struct command *self, int argc, char **argv)
{
	int exit_code = command_no_options(context, self, argc, argv), err;
	struct failure failure;

	if (exit_code >= 0)
		return exit_code;
	err = datapath_unload(context->instance, &failure);
	if (err)
		return command_fail(context, &failure,
				    err == -ENOENT ? SIPKEEP_EXIT_NOT_LOADED : SIPKEEP_EXIT_FAILED);
	subscribe_tidy(context->instance);
	if (context->json)
		return command_json(json_pack("{s:i, s:b, s:s}", "v", 1, "ok", 1, "instance", context->instance));
	printf("unloaded instance '%s'\n", context->instance);
	return command_flush();
}
