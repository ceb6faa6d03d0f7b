// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include "command.h"
#include "loading.h"

static void line_print(void *arg, const char *text)
{
	(void)arg;
	puts(text);
}

static void line_append(void *arg, const char *text)
{
	json_array_append_new(arg, json_string(text));
}

int cmd_apply(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = {
		LOADING_LONG_OPTIONS, { "dry-run", no_argument, NULL, LOADING_DRY_RUN }, {} };
	struct policy_set set CLEANUP_POLICY_SET = {};
	struct datapath datapath CLEANUP_DATAPATH;
	struct loading_options options = {};
	struct failure failure;
	json_t *changes;
	int option, err;

	datapath_init(&datapath);
	while ((option = command_option(context, self, own, NULL, argc, argv)) != -1)
		if (!loading_option(&options, option, optarg))
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
	err = command_no_operands(self, argc, argv);
	err = err ?: loading_config(context, &options, &set);
	err = err ?: command_open(context, true, &datapath);
	if (err)
		return err;
	changes = json_array();
	err = loading_apply(&datapath, &set, options.dry_run, context->json ? line_append : line_print, changes, &failure);
	if (err < 0) {
		json_decref(changes);
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	}
	if (context->json)
		return command_json(json_pack("{s:i, s:b, s:b, s:o}", "v", 1, "ok", 1, "dry_run", options.dry_run,
					      "changes", changes));
	json_decref(changes);
	if (!err)
		puts("nothing to change");
	else if (options.dry_run)
		puts("(dry run: nothing was changed)");
	return command_flush();
}
