// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include "command.h"
#include "upgrade.h"
#include "version.h"

int cmd_upgrade(struct command_context *context, const struct command *self, int argc, char **argv)
{
	int exit_code = command_no_options(context, self, argc, argv), err;
	unsigned long long took_ms;
	struct upgrade upgrade;
	struct failure failure;

	if (exit_code >= 0)
		return exit_code;
	err = datapath_upgrade(context->instance, &upgrade, &failure);
	if (err)
		return command_fail(context, &failure, err == -ENOENT ? SIPKEEP_EXIT_NOT_LOADED : SIPKEEP_EXIT_FAILED);
	took_ms = upgrade.took_ns / 1000000;
	if (context->json)
		return command_json(json_pack("{s:i, s:b, s:s, s:s, s:s, s:b, s:b, s:I}", "v", 1, "ok", 1, "instance",
					      context->instance, "from", upgrade.from, "to", sipkeep_version, "changed",
					      upgrade.changed, "recounted", upgrade.recounted, "ms", (json_int_t)took_ms));
	if (!upgrade.changed)
		printf("nothing to upgrade: instance '%s' runs version %s\n", context->instance, sipkeep_version);
	else
		printf("upgraded instance '%s' from version %s to %s in %llu ms: %s\n", context->instance,
		       upgrade.from[0] ? upgrade.from : "unknown", sipkeep_version, took_ms,
		       upgrade.recounted ? "policies kept, open transports recounted" : "policies and counts kept");
	return command_flush();
}
