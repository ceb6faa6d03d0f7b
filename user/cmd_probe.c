// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include "command.h"
#include "datapath.h"

static void print_line(void *arg, const char *name, bool present, bool essential, const char *without)
{
	(void)arg;
	if (present)
		printf("  yes  %s\n", name);
	else
		printf("  NO   %s: %s%s\n", name, without, essential ? " (sipkeep can't run)" : "");
}

static void append_json(void *arg, const char *name, bool present, bool essential, const char *without)
{
	json_array_append_new(arg, json_pack("{s:s, s:b, s:b, s:s?}", "name", name, "present", present, "essential",
					     essential, "without", present ? NULL : without));
}

int cmd_probe(struct command_context *context, const struct command *self, int argc, char **argv)
{
	int exit_code = command_no_options(context, self, argc, argv), missing;
	json_t *features;

	if (exit_code >= 0)
		return exit_code;
	if (context->json) {
		features = json_array();
		missing = datapath_probe(append_json, features);
		exit_code = command_json(json_pack("{s:i, s:b, s:o}", "v", 1, "ok", !missing, "features", features));
		return exit_code ? exit_code : missing ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
	}
	puts("this kernel has:");
	missing = datapath_probe(print_line, NULL);
	puts(missing ? "sipkeep can't run here (or this isn't root)" : "sipkeep can run here");
	return command_flush() || missing ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
}
