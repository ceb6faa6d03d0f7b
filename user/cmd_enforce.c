// SPDX-License-Identifier: GPL-2.0-only
/* cmd_enforce.c: from observing to enforcing and back, for a time if wanted. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "command.h"
#include "host.h"
#include "maps.h"
#include "mode.h"

#define FOR_MAX (30 * 24 * 3600)

/* "90", "90s", "10m", "2h", "1d": seconds, or 0 when it is none of these. */
static unsigned int duration_parse(const char *text)
{
	static const struct {
		char unit;
		unsigned int seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 24 * 3600 } };
	unsigned long long number = 0;
	const char *c = text;
	unsigned int scale = 1;

	for (; *c >= '0' && *c <= '9'; c++) {
		number = number * 10 + (unsigned int)(*c - '0');
		if (number > FOR_MAX)
			return 0;
	}
	if (c == text)
		return 0;
	if (*c) {
		scale = 0;
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (*c == units[i].unit && !c[1])
				scale = units[i].seconds;
	}
	return number * scale > FOR_MAX ? 0 : (unsigned int)(number * scale);
}

static int enforce_print(const struct command_context *context, const struct mode *mode)
{
	char until[HOST_TIME_LEN];

	if (mode->until_ns)
		host_time_format(mode->until_ns, until);
	if (context->json)
		return command_json(json_pack("{s:i, s:b, s:s, s:s?, s:s?}", "v", 1, "ok", 1, "mode", mode_name(mode->observe),
					      "until", mode->until_ns ? until : NULL, "then",
					      mode->until_ns ? mode_name(!mode->observe) : NULL));
	if (mode->until_ns)
		printf("mode %s until %s, then %s\n", mode_name(mode->observe), until, mode_name(!mode->observe));
	else
		printf("mode %s\n", mode_name(mode->observe));
	return command_flush();
}

static int enforce_switch(struct command_context *context, bool observe, unsigned int seconds)
{
	struct datapath datapath CLEANUP_DATAPATH;
	struct mode wanted = { .observe = observe };
	struct sipkeep_config config;
	struct failure failure;
	struct mode running;
	__u64 now;
	bool then;
	int err = command_open(context, true, &datapath);

	if (err)
		return err;
	now = host_monotonic_ns();
	err = maps_config(&datapath, &config, &failure);
	if (err)
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	mode_read(config.live, now, &running);
	/* What holds when all times have run out: a time for that mode itself would never end. */
	then = running.until_ns ? !running.observe : running.observe;
	if (seconds && then != observe)
		wanted.until_ns = now + seconds * 1000000000ULL;
	if (wanted.observe != running.observe || wanted.until_ns != running.until_ns || mode_is_over(config.live, now))
		err = mode_set(&datapath, &wanted, &failure);
	return err ? command_fail(context, &failure, SIPKEEP_EXIT_FAILED) : enforce_print(context, &wanted);
}

int cmd_enforce(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { { "for", required_argument, NULL, 'F' }, {} };
	unsigned int seconds = 0;
	const char *state;
	int option;

	while ((option = command_option(context, self, own, NULL, argc, argv)) != -1) {
		if (option != 'F')
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
		seconds = duration_parse(optarg);
		if (!seconds) {
			command_error("enforce: --for '%s' is no time from 1s to 30d: give seconds, or a number with s, m, h or d",
				      optarg);
			return SIPKEEP_EXIT_USAGE;
		}
	}
	state = optind < argc ? argv[optind++] : "";
	if (strcmp(state, "on") && strcmp(state, "off")) {
		command_error("enforce: say 'on' or 'off'%s%s; try 'sipkeep enforce --help'", *state ? ", not " : "", state);
		return SIPKEEP_EXIT_USAGE;
	}
	if (command_no_operands(self, argc, argv))
		return SIPKEEP_EXIT_USAGE;
	return enforce_switch(context, !strcmp(state, "off"), seconds);
}
