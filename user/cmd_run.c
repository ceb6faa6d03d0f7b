// SPDX-License-Identifier: GPL-2.0-only
/* cmd_run.c: load if need be, say what is attached, then follow the events. Enforcement doesn't depend on it living. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command.h"
#include "cover.h"
#include "follow.h"
#include "loading.h"
#include "status.h"

enum { OPT_UNLOAD_AT_EXIT = 256 };

struct run {
	struct command_context *context;
	struct loading_options options;
	bool unload_at_exit;
	bool loaded_here;
	struct outlets *outlets;
	struct follow *follow;
	struct cover *cover;
};

static void change_print(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

/* SIGHUP. What is wrong with the config is told, and nothing changes. */
static void run_reload(void *arg)
{
	struct run *run = arg;
	struct command_context context = *run->context;
	struct policy_set set CLEANUP_POLICY_SET = {};
	struct datapath datapath CLEANUP_DATAPATH;
	struct outlets *outlets;
	struct failure failure;
	int changes;

	datapath_init(&datapath);
	context.json = false; /* stdout is the events' */
	if (loading_config(&context, &run->options, &set) || command_open(&context, true, &datapath))
		return;
	outlets = outlets_take(&set.outlets);
	if (!outlets || follow_outlets(run->follow, outlets, &failure)) {
		command_error("%s; nothing of %s was applied", outlets ? failure.text : "out of memory",
			      context.config_path);
		outlets_delete(outlets);
		return;
	}
	outlets_delete(run->outlets);
	run->outlets = outlets;
	changes = loading_apply(&datapath, &set, false, change_print, NULL, &failure);
	if (changes < 0)
		command_error("%s", failure.text);
	else
		fprintf(stderr, "applied %s: %d %s\n", run->context->config_path, changes,
			changes == 1 ? "change" : "changes");
}

static void run_tick(void *arg)
{
	cover_tick(((struct run *)arg)->cover);
}

static void run_listener(void *arg, __u64 netns_cookie)
{
	cover_listener(((struct run *)arg)->cover, netns_cookie);
}

static void run_tell(void *arg, const char *what, const char *why)
{
	(void)arg;
	command_error("%s%s", what, why);
}

/* Attached first to what has come since it was loaded. */
static int run_follow(struct run *run, const struct datapath *datapath, struct failure *failure)
{
	int err = cover_open(datapath, change_print, NULL, &run->cover, failure);

	if (err)
		return err;
	cover_tick(run->cover);
	/* stdout is for events alone when it is read by a program. */
	if (!run->context->json)
		status_print(run->context, datapath);
	fflush(stdout);
	err = follow_run(run->follow, datapath, failure);
	cover_close(run->cover);
	return err;
}

static int run_load(struct run *run)
{
	struct policy_set set CLEANUP_POLICY_SET = {};
	struct failure failure;
	int err = loading_config(run->context, &run->options, &set);

	if (err)
		return err;
	err = datapath_load(run->context->instance, &set, &failure);
	if (err && err != -EEXIST)
		return command_fail(run->context, &failure, SIPKEEP_EXIT_FAILED);
	run->loaded_here = !err;
	run->outlets = outlets_take(&set.outlets);
	if (!run->outlets) {
		failure_set(&failure, -ENOMEM, "out of memory");
		return command_fail(run->context, &failure, SIPKEEP_EXIT_FAILED);
	}
	return SIPKEEP_EXIT_DONE;
}

static int run_begin(struct run *run)
{
	static const struct follow_calls calls = {
		.tell = run_tell, .reload = run_reload, .tick = run_tick, .listener = run_listener };
	const struct follow_options options = {
		.instance = run->context->instance, .outlets = run->outlets, .calls = &calls, .arg = run, .service = true };
	struct failure failure;

	if (follow_new(&options, &run->follow, &failure))
		return command_fail(run->context, &failure, SIPKEEP_EXIT_FAILED);
	return SIPKEEP_EXIT_DONE;
}

static void run_end(struct run *run)
{
	follow_free(run->follow);
	outlets_delete(run->outlets);
	run->follow = NULL;
	run->outlets = NULL;
}

static int run_options(struct run *run, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = {
		LOADING_LONG_OPTIONS, { "unload-at-exit", no_argument, NULL, OPT_UNLOAD_AT_EXIT }, {} };
	int option;

	while ((option = command_option(run->context, self, own, NULL, argc, argv)) != -1) {
		if (option == OPT_UNLOAD_AT_EXIT)
			run->unload_at_exit = true;
		else if (!loading_option(&run->options, option, optarg))
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
	}
	return command_no_operands(self, argc, argv) ?: -1;
}

/*
 * An upgrade replaced the instance by one that we can't read: the command that is installed now can. The deleted file
 * that we are has left its name to it.
 */
static int run_installed(struct run *run, char **argv)
{
	static const char deleted[] = " (deleted)";
	char path[PATH_MAX] = "", *arguments[64] = { path };
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	size_t tail = sizeof(deleted) - 1;

	for (size_t i = 1; i < 63 && argv[i - 1]; i++)
		arguments[i] = argv[i - 1];
	if (length > (ssize_t)tail && !strcmp(path + length - tail, deleted))
		path[length - tail] = '\0';
	run_end(run); /* the next one knows nothing of our actions' processes */
	fflush(stdout);
	execv(path, arguments);
	command_error("instance '%s' was upgraded by another version, which is not at %s: %s; start that one's 'run'",
		      run->context->instance, path, strerror(errno));
	return SIPKEEP_EXIT_FAILED;
}

/* Until it is stopped; an instance that an upgrade puts in the place of ours is followed, too. */
static int run_on(struct run *run, struct datapath *datapath, char **argv, struct failure *failure)
{
	for (;;) {
		int err = run_follow(run, datapath, failure), opened;
		struct failure why;

		datapath_close(datapath);
		if (err != -ESTALE)
			return err;
		opened = datapath_open(run->context->instance, false, datapath, &why);
		if (opened == -EPROTO)
			exit(run_installed(run, argv));
		if (opened)
			return err;
		run->loaded_here = false;
	}
}

int cmd_run(struct command_context *context, const struct command *self, int argc, char **argv)
{
	struct run run = { .context = context };
	struct datapath datapath CLEANUP_DATAPATH;
	struct failure failure = { "" };
	int err, exit_code;

	datapath_init(&datapath);
	exit_code = run_options(&run, self, argc, argv);
	if (exit_code >= 0)
		return exit_code;
	follow_block_signals();
	exit_code = run_load(&run);
	exit_code = exit_code ? exit_code : command_open(context, false, &datapath);
	exit_code = exit_code ? exit_code : run_begin(&run);
	if (exit_code) {
		run_end(&run);
		return exit_code;
	}
	err = run_on(&run, &datapath, argv, &failure);
	run_end(&run);
	if (err == -ESTALE) {
		fprintf(stderr, "%s\n", failure.text);
		return SIPKEEP_EXIT_DONE;
	}
	exit_code = err && err != -EPIPE ? command_fail(context, &failure, SIPKEEP_EXIT_FAILED) : SIPKEEP_EXIT_DONE;
	if (run.unload_at_exit && run.loaded_here) {
		if (datapath_unload(context->instance, &failure))
			return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
		fprintf(stderr, "unloaded instance '%s'\n", context->instance);
	}
	return exit_code;
}
