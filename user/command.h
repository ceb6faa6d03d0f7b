/* SPDX-License-Identifier: GPL-2.0-only */
/* command.h: what every verb shares: its entry in the table, the options all of them know, how failures are told. */
#ifndef SIPKEEP_COMMAND_H
#define SIPKEEP_COMMAND_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include "datapath.h"

enum {
	SIPKEEP_EXIT_DONE = 0,
	SIPKEEP_EXIT_FAILED = 1,     /* failed, or unhealthy */
	SIPKEEP_EXIT_USAGE = 2,	     /* wrong usage or wrong config */
	SIPKEEP_EXIT_NOT_LOADED = 3,
};

#define SIPKEEP_DEFAULT_CONFIG "/etc/sipkeep/sipkeep.conf"

struct command_context {
	const char *instance;	 /* --instance, "default" */
	const char *config_path; /* -c, SIPKEEP_DEFAULT_CONFIG */
	bool json;		 /* -j */
	bool color;		 /* stdout is a terminal and neither --no-color nor NO_COLOR was given */
};

struct command {
	const char *name;
	const char *arguments; /* for the usage line: "[-c FILE]" */
	const char *summary;   /* one line of `sipkeep --help` */
	const char *help;      /* the verb's own options, one a line, and anything a user must know */
	int (*run)(struct command_context *context, const struct command *self, int argc, char **argv);
};

/*
 * Like getopt_long() for a verb: argv[0] is the verb. Handles -h, -j/--json, -c/--config, --instance and --no-color
 * itself and returns only the verb's own options (`own`, ended by a zeroed entry, may be NULL; give them vals >= 256,
 * or letters listed in `letters`). Returns -1 at the end (optind is then the first operand), COMMAND_HELP after
 * printing the help (the verb returns SIPKEEP_EXIT_DONE), COMMAND_WRONG after telling what is wrong (it returns
 * SIPKEEP_EXIT_USAGE).
 */
enum { COMMAND_HELP = -2, COMMAND_WRONG = -3 };
int command_option(struct command_context *context, const struct command *self, const struct option *own,
		   const char *letters, int argc, char **argv);

/* The loop of a verb that has no options of its own and takes no operands: -1 to go on, else the exit code. */
int command_no_options(struct command_context *context, const struct command *self, int argc, char **argv);

/* 0, or SIPKEEP_EXIT_USAGE after telling that an operand is left over. */
int command_no_operands(const struct command *self, int argc, char **argv);

/* "sipkeep: TEXT\n" on stderr. */
void command_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells a failure on stderr, with --json also as {"v":1,"ok":false,"error":…} on stdout. Returns exit_code. */
int command_fail(const struct command_context *context, const struct failure *failure, int exit_code);

/* Prints a document (NULL: out of memory) on stdout, takes its reference. Returns the exit code. */
int command_json(json_t *document);

/* The end of a verb that printed: flushes stdout. Returns the exit code. */
int command_flush(void);

/* Opens the instance; 0, or the exit code after telling why not. */
int command_open(const struct command_context *context, bool lock, struct datapath *ret_datapath);

int cmd_check(struct command_context *, const struct command *, int, char **);
int cmd_load(struct command_context *, const struct command *, int, char **);
int cmd_unload(struct command_context *, const struct command *, int, char **);
int cmd_apply(struct command_context *, const struct command *, int, char **);
int cmd_upgrade(struct command_context *, const struct command *, int, char **);
int cmd_status(struct command_context *, const struct command *, int, char **);
int cmd_stats(struct command_context *, const struct command *, int, char **);
int cmd_sources(struct command_context *, const struct command *, int, char **);
int cmd_transports(struct command_context *, const struct command *, int, char **);
int cmd_events(struct command_context *, const struct command *, int, char **);
int cmd_run(struct command_context *, const struct command *, int, char **);
int cmd_enforce(struct command_context *, const struct command *, int, char **);
int cmd_verify(struct command_context *, const struct command *, int, char **);
int cmd_probe(struct command_context *, const struct command *, int, char **);

#endif
