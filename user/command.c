// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "command.h"
#include "datapath.h"

enum { OPT_INSTANCE = 512, OPT_NO_COLOR };

static const struct option shared_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "json", no_argument, NULL, 'j' },
	{ "config", required_argument, NULL, 'c' },
	{ "instance", required_argument, NULL, OPT_INSTANCE },
	{ "no-color", no_argument, NULL, OPT_NO_COLOR },
	{},
};

void command_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("sipkeep: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static void help_print(const struct command *self)
{
	printf("sipkeep %s %s\n  %s\n\n%s", self->name, self->arguments, self->summary, self->help);
	puts("  -j, --json            print JSON\n"
	     "      --instance NAME   the instance to act on (default: default)\n"
	     "      --no-color        no colours on a terminal\n"
	     "  -h, --help            this text");
}

int command_option(struct command_context *context, const struct command *self, const struct option *own,
		   const char *letters, int argc, char **argv)
{
	struct option all[32] = {};
	char short_options[64];
	size_t count = 0;
	int option;

	for (const struct option *from = shared_options; from->name; from++)
		all[count++] = *from;
	for (const struct option *from = own; from && from->name && count < 31; from++)
		all[count++] = *from;
	snprintf(short_options, sizeof(short_options), "hjc:%s", letters ? letters : "");
	while ((option = getopt_long(argc, argv, short_options, all, NULL)) != -1) {
		switch (option) {
		case 'h':
			help_print(self);
			return COMMAND_HELP;
		case 'j':
			context->json = true;
			break;
		case 'c':
			context->config_path = optarg;
			break;
		case OPT_INSTANCE:
			context->instance = optarg;
			if (!datapath_instance_ok(optarg)) {
				command_error("--instance '%s': letters, digits, '_', '-' and '.' only, at most 64", optarg);
				return COMMAND_WRONG;
			}
			break;
		case OPT_NO_COLOR:
			context->color = false;
			break;
		case '?':
			fprintf(stderr, "Try 'sipkeep %s --help'.\n", self->name);
			return COMMAND_WRONG;
		default:
			return option;
		}
	}
	return -1;
}

int command_no_options(struct command_context *context, const struct command *self, int argc, char **argv)
{
	int option = command_option(context, self, NULL, NULL, argc, argv);

	if (option == COMMAND_HELP)
		return SIPKEEP_EXIT_DONE;
	if (option == COMMAND_WRONG)
		return SIPKEEP_EXIT_USAGE;
	return command_no_operands(self, argc, argv) ?: -1;
}

int command_no_operands(const struct command *self, int argc, char **argv)
{
	if (optind >= argc)
		return 0;
	command_error("%s: '%s' is one argument too many; try 'sipkeep %s --help'", self->name, argv[optind], self->name);
	return SIPKEEP_EXIT_USAGE;
}

int command_fail(const struct command_context *context, const struct failure *failure, int exit_code)
{
	json_t *document;

	command_error("%s", failure->text);
	if (!context->json)
		return exit_code;
	document = json_pack("{s:i, s:b, s:s}", "v", 1, "ok", 0, "error", failure->text);
	command_json(document);
	return exit_code;
}

int command_json(json_t *document)
{
	int err = !document || json_dumpf(document, stdout, JSON_COMPACT) || putchar('\n') == EOF || fflush(stdout);

	json_decref(document);
	if (err)
		command_error("can't write to standard output");
	return err ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_DONE;
}

int command_open(const struct command_context *context, bool lock, struct datapath *ret_datapath)
{
	struct failure failure;
	int err = datapath_open(context->instance, lock, ret_datapath, &failure);

	if (!err)
		return 0;
	return command_fail(context, &failure, err == -ENOENT ? SIPKEEP_EXIT_NOT_LOADED : SIPKEEP_EXIT_FAILED);
}

int command_flush(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return SIPKEEP_EXIT_DONE;
	command_error("can't write to standard output");
	return SIPKEEP_EXIT_FAILED;
}
