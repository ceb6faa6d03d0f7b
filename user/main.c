// SPDX-License-Identifier: GPL-2.0-only
/* main.c: the verb table, and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command.h"
#include "version.h"

static const struct command commands[] = {
	{ "check", "[FILE]", "read a config and print the policies as they will act",
	  "  -c, --config FILE     the config (default: " SIPKEEP_DEFAULT_CONFIG ")\n", cmd_check },
	{ "load", "[-c FILE]", "load, attach and pin; adopt what is open",
	  "  -c, --config FILE     the config (default: " SIPKEEP_DEFAULT_CONFIG ")\n"
	  "      --cgroup PATH     attach to this cgroup instead of the config's\n"
	  "      --observe         refuse nothing and set nothing, whatever the config says\n", cmd_load },
	{ "apply", "[-c FILE] [--dry-run]", "make the running state match the config; prints the difference",
	  "  -c, --config FILE     the config (default: " SIPKEEP_DEFAULT_CONFIG ")\n"
	  "      --dry-run         print the difference, change nothing\n"
	  "      --cgroup PATH     guard this cgroup instead of the config's\n"
	  "      --observe         as if the config said mode = \"observe\"\n", cmd_apply },
	{ "unload", "", "detach and remove everything; open transports go on", "", cmd_unload },
	{ "upgrade", "", "replace the running programs by this version's; counts and policies are kept",
	  "Another layout of the maps is recounted from the sockets that are open. Downgrades, too.\n", cmd_upgrade },
	{ "status", "", "what is attached where, what is degraded; exits 1 when something is", "", cmd_status },
	{ "stats", "[--prometheus]", "counters per policy, teardown reasons, refusals by cause",
	  "      --prometheus      the Prometheus text format\n", cmd_stats },
	{ "sources", "[--top N]", "per source: active, peak, admitted, refused, limit, last seen",
	  "      --top N           only the N with most active transports\n", cmd_sources },
	{ "transports", "", "each open transport, with its keepalive as the kernel has it now", "", cmd_transports },
	{ "events", "[-f]", "the events waiting, one JSON object a line",
	  "  -f, --follow          go on as they come, until Ctrl-C\n", cmd_events },
	{ "run", "[-c FILE]", "load if need be, then print events until stopped (the systemd unit)",
	  "  -c, --config FILE     the config (default: " SIPKEEP_DEFAULT_CONFIG ")\n"
	  "      --cgroup PATH     attach to this cgroup instead of the config's\n"
	  "      --observe         refuse nothing and set nothing, whatever the config says\n"
	  "      --unload-at-exit  unload when stopped, if this run loaded\n"
	  "SIGHUP applies the config anew.\n", cmd_run },
	{ "enforce", "on|off [--for TIME]", "enforce, or only observe; for a time, then back, in the kernel by itself",
	  "      --for TIME        seconds, or with a unit: 90s, 10m, 2h, 1d\n", cmd_enforce },
	{ "verify", "", "recount every open transport from the kernel's socket tables, print the drift", "", cmd_verify },
	{ "probe", "", "what this kernel can do, and what sipkeep would do without", "", cmd_probe },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fputs("sipkeep VERB [OPTIONS]   guards the SIP transports of a PBX from inside the kernel\n\n", out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-10s %-22s %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
	fputs("\nEvery verb: -j/--json, --instance NAME, --no-color, -h/--help.   sipkeep -V: version\n"
	      "Exit codes: 0 done; 1 failed or unhealthy; 2 wrong usage or config; 3 not loaded.\n", out);
}

int main(int argc, char **argv)
{
	struct command_context context = {
		.instance = "default",
		.config_path = SIPKEEP_DEFAULT_CONFIG,
		.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
	};

	/* Global options may stand before the verb too: they are moved behind it. */
	int verb = 1;

	while (verb < argc && argv[verb][0] == '-') {
		if (!strcmp(argv[verb], "-V") || !strcmp(argv[verb], "--version")) {
			printf("sipkeep %s\n", sipkeep_version);
			return command_flush();
		}
		if (!strcmp(argv[verb], "-h") || !strcmp(argv[verb], "--help")) {
			usage(stdout);
			return command_flush();
		}
		verb += !strcmp(argv[verb], "--instance") || !strcmp(argv[verb], "-c") || !strcmp(argv[verb], "--config");
		verb++;
	}
	if (verb >= argc) {
		usage(stderr);
		return SIPKEEP_EXIT_USAGE;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		char *name = argv[verb];

		if (strcmp(commands[i].name, name))
			continue;
		for (int at = verb; at > 1; at--)
			argv[at] = argv[at - 1];
		argv[1] = name;
		return commands[i].run(&context, &commands[i], argc - 1, argv + 1);
	}
	command_error("there is no verb '%s'; 'sipkeep --help' lists them", argv[verb]);
	return SIPKEEP_EXIT_USAGE;
}
