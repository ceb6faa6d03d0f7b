// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "action_internal.h"
#include "host.h"

_Static_assert(EVENTS_LINE_MAX <= PIPE_BUF, "an empty pipe takes a whole line at once");

struct action_process {
	pid_t pid; /* and its group's, its session's */
	sd_event_source *child;
	sd_event_source *timer;
	__u64 started_ns;
	bool terminated;	     /* SIGTERM was sent */
	enum events_outcome outcome; /* then: TIMEOUT or STOPPED */
	void (*ended)(void *arg, const struct events_action *end);
	void *arg;
};

/* ---- its end --------------------------------------------------------------------------------------------------- */

static void process_free(struct action_process *process)
{
	sd_event_source_disable_unref(process->child);
	sd_event_source_disable_unref(process->timer);
	free(process);
}

/* It must not be reaped yet: then its number is still its group's and nobody else's. */
static void process_ended(struct action_process *process, const siginfo_t *info)
{
	bool exited = info->si_code == CLD_EXITED;
	struct events_action end = {
		.exit_code = exited ? info->si_status : 128 + info->si_status,
		.duration_ns = host_monotonic_ns() - process->started_ns,
	};
	void (*ended)(void *arg, const struct events_action *end) = process->ended;
	void *arg = process->arg;

	if (process->terminated)
		end.outcome = process->outcome;
	else
		end.outcome = exited && !info->si_status ? EVENTS_OUTCOME_DONE : EVENTS_OUTCOME_FAILED;
	kill(-process->pid, SIGKILL); /* what it left behind would count for nothing */
	process_free(process);
	ended(arg, &end);
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *arg)
{
	(void)source;
	process_ended(arg, info);
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t at, void *arg)
{
	struct action_process *process = arg;

	(void)at;
	kill(-process->pid, process->terminated ? SIGKILL : SIGTERM);
	if (process->terminated)
		return 0;
	process->terminated = true;
	process->outcome = EVENTS_OUTCOME_TIMEOUT;
	sd_event_source_set_time_relative(source, ACTION_GRACE_MS * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Reaps those that have ended, and takes them off the list. Returns how many are left. */
static size_t reap(struct action_process **list, size_t count)
{
	size_t left = 0;

	for (size_t i = 0; i < count; i++) {
		pid_t pid = list[i]->pid;
		siginfo_t info = { 0 };

		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) {
			list[left++] = list[i];
			continue;
		}
		process_ended(list[i], &info);
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG);
	}
	return left;
}

void action_process_stop(struct action_process **list, size_t count)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	__u64 kill_ns = host_monotonic_ns() + ACTION_GRACE_MS * 1000000ULL, now;
	bool killed = false;

	for (size_t i = 0; i < count; i++) {
		struct action_process *process = list[i];

		kill(-process->pid, SIGTERM);
		if (!process->terminated)
			process->outcome = EVENTS_OUTCOME_STOPPED;
		process->terminated = true;
	}
	while ((count = reap(list, count))) {
		now = host_monotonic_ns();
		for (size_t i = 0; now >= kill_ns && !killed && i < count; i++)
			kill(-list[i]->pid, SIGKILL);
		killed = now >= kill_ns;
		if (now >= kill_ns + 1000000000)
			break;
		nanosleep(&pause, NULL);
	}
	/* What not even SIGKILL ends within a second sits in the kernel. */
	for (size_t i = 0; i < count; i++)
		process_ended(list[i], &(siginfo_t){ .si_code = CLD_KILLED, .si_status = SIGKILL });
}

/* ---- its start ------------------------------------------------------------------------------------------------- */

/* A pipe's reading end with the line in it, and nothing to come. */
static int line_pipe(const char *line, size_t length)
{
	ssize_t written;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	written = write(ends[1], line, length);
	close(ends[1]);
	if (written == (ssize_t)length)
		return ends[0];
	close(ends[0]);
	return -EIO;
}

/* Its stdout is our stderr: ours may be the events'. */
static int prepare_files(posix_spawn_file_actions_t *files, int input)
{
	int err = posix_spawn_file_actions_adddup2(files, input, STDIN_FILENO);

	if (!err)
		err = posix_spawn_file_actions_adddup2(files, STDERR_FILENO, STDOUT_FILENO);
	if (!err)
		err = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
	return err ? err : posix_spawn_file_actions_addchdir_np(files, "/");
}

static int prepare_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	err = posix_spawnattr_setsigmask(attributes, &none);
	if (!err)
		err = posix_spawnattr_setsigdefault(attributes, &all);
	if (!err)
		err = posix_spawnattr_setflags(attributes,
					       POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return err;
}

static int spawn(char *const *run, char *const *env, int input, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int err = posix_spawn_file_actions_init(&files);

	if (err)
		return -err;
	err = posix_spawnattr_init(&attributes);
	if (!err) {
		err = prepare_files(&files, input);
		if (!err)
			err = prepare_attributes(&attributes);
		if (!err)
			err = posix_spawn(ret_pid, run[0], &files, &attributes, run, env);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&files);
	return -err;
}

/* Its end must not come unseen: it is only a child of ours when the loop waits for it. */
static int watch(struct action_process *process, sd_event *loop, __u32 timeout_ms)
{
	int err = sd_event_add_child(loop, &process->child, process->pid, WEXITED, on_child, process);

	if (err >= 0)
		err = sd_event_add_time_relative(loop, &process->timer, CLOCK_MONOTONIC, timeout_ms * 1000ULL, 1000,
						 on_timeout, process);
	if (err >= 0)
		return 0;
	kill(-process->pid, SIGKILL);
	waitpid(process->pid, NULL, 0);
	return err;
}

int action_process_start(sd_event *loop, char *const *run, char *const *env, const char *line, size_t length,
			 __u32 timeout_ms, void (*ended)(void *arg, const struct events_action *end), void *arg,
			 struct action_process **ret_process, const char **ret_why)
{
	struct action_process *process;
	int err = host_executable(run[0], ret_why), input;

	if (err)
		return err;
	process = calloc(1, sizeof(*process));
	if (!process)
		return -ENOMEM;
	process->ended = ended;
	process->arg = arg;
	process->started_ns = host_monotonic_ns();
	input = line_pipe(line, length);
	err = input < 0 ? input : spawn(run, env, input, &process->pid);
	if (input >= 0)
		close(input);
	if (!err)
		err = watch(process, loop, timeout_ms);
	if (err) {
		process_free(process);
		return err;
	}
	*ret_process = process;
	return 0;
}
