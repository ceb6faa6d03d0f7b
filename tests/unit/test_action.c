/* SPDX-License-Identifier: GPL-2.0-only */
/* test_action.c: the actions as `run` has them: real children on a real event loop. Scripts leave what they saw in files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "action_internal.h"
#include "host.h"
#include "policy.h"

#define OUTCOMES_MAX 2048
#define PATIENCE_S 60

struct seen {
	enum events_outcome outcome;
	int exit_code, error;
	__u32 attempt;
	__u64 count, duration_ns, at_ns;
	unsigned int on;
	__u16 policy; /* id: which event it was for */
	char command[64], why[128], name[32], line[EVENTS_LINE_MAX];
};

struct fixture {
	sd_event *loop;
	struct actions *actions;
	struct outlets outlets;
	struct seen seen[OUTCOMES_MAX];
	size_t count;
	char dir[64];
};

/* ---- surroundings ---------------------------------------------------------------------------------------------- */

static char *path_of(const struct fixture *f, const char *name)
{
	static char paths[4][256];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
	return path;
}

/* What the file holds, NUL at its end; "" when there is none. The caller's until the next but one call. */
static const char *read_file(const char *path, size_t *ret_length)
{
	static char texts[2][65536];
	static unsigned int turn;
	char *text = texts[turn++ % 2];
	FILE *file = fopen(path, "re");
	size_t length = file ? fread(text, 1, sizeof(texts[0]) - 1, file) : 0;

	if (file)
		fclose(file);
	text[length] = '\0';
	if (ret_length)
		*ret_length = length;
	return text;
}

static const char *output(const struct fixture *f, const char *name)
{
	return read_file(path_of(f, name), NULL);
}

static size_t lines_of(const struct fixture *f, const char *name)
{
	size_t lines = 0;

	for (const char *c = output(f, name); *c; c++)
		lines += *c == '\n';
	return lines;
}

/* An executable of this name; its $d is the directory. Returns its path, for free(). */
static char *script(const struct fixture *f, const char *name, const char *text)
{
	char *path = strdup(path_of(f, name));
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	dprintf(fd, "#!/bin/sh\nd=%s\n%s\n", f->dir, text);
	fchmod(fd, 0755);
	close(fd);
	return path;
}

static void on_outcome(void *arg, const struct event *event)
{
	static const struct events_context context = { .policy = "not this one" };
	const struct events_action *action = event->action;
	struct fixture *f = arg;
	struct seen *seen = &f->seen[f->count];

	assert_true(f->count < OUTCOMES_MAX);
	assert_int_equal(event->kind, EVENTS_ACTION);
	*seen = (struct seen){ .outcome = action->outcome, .exit_code = action->exit_code, .error = action->error,
			       .attempt = action->attempt, .count = action->count, .duration_ns = action->duration_ns,
			       .on = action->on, .policy = event->record.policy, .at_ns = event->record.ts_ns };
	snprintf(seen->command, sizeof(seen->command), "%s", action->command);
	snprintf(seen->why, sizeof(seen->why), "%s", action->why ? action->why : "");
	snprintf(seen->name, sizeof(seen->name), "%s", action->policy ? action->policy : "-");
	events_encode(event, &context, seen->line);
	f->count++;
}

/* Debounce and retries are off unless a test sets them. run: up to NULL; copied. */
static struct outlet_action *add_action(struct fixture *f, __u64 on, const char *const *run)
{
	struct outlet_action *action = &f->outlets.actions[f->outlets.action_count++];
	size_t count = 0;

	while (run[count])
		count++;
	*action = (struct outlet_action){ .on = on, .timeout_ms = PATIENCE_S * 1000, .retry_ms = 50 };
	action->run = calloc(count + 1, sizeof(*action->run));
	for (size_t i = 0; i < count; i++)
		action->run[i] = strdup(run[i]);
	return action;
}

#define RUN(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define ON(kind) (1ULL << (kind))

static void open_actions(struct fixture *f)
{
	struct failure failure = { "" };

	if (actions_open(&f->outlets, "test", f->loop, on_outcome, f, &f->actions, &failure))
		fail_msg("%s", failure.text);
}

static void close_actions(struct fixture *f)
{
	actions_close(f->actions);
	f->actions = NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	snprintf(f->dir, sizeof(f->dir), "/tmp/test_action.XXXXXX");
	f->outlets.actions = calloc(8, sizeof(*f->outlets.actions));
	f->outlets.max_actions = 4;
	*state = f;
	return mkdtemp(f->dir) && sd_event_new(&f->loop) >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	actions_close(f->actions);
	sd_event_unref(f->loop);
	outlets_free(&f->outlets);
	snprintf(command, sizeof(command), "rm -r %s", f->dir);
	free(f);
	return system(command);
}

/* The loop, until it has nothing to do at once. */
static void settle(struct fixture *f)
{
	while (sd_event_run(f->loop, 0) > 0)
		;
}

static bool has_outcomes(struct fixture *f, const void *count)
{
	return f->count >= *(const size_t *)count;
}

static void wait_until(struct fixture *f, bool (*done)(struct fixture *f, const void *arg), const void *arg)
{
	__u64 deadline = host_monotonic_ns() + PATIENCE_S * 1000000000ULL;

	while (!done(f, arg)) {
		if (host_monotonic_ns() > deadline)
			fail_msg("waited %d s in vain; %zu outcomes", PATIENCE_S, f->count);
		sd_event_run(f->loop, 20000);
	}
}

static void wait_outcomes(struct fixture *f, size_t count)
{
	wait_until(f, has_outcomes, &count);
	assert_int_equal(f->count, count);
}

static bool has_file(struct fixture *f, const void *name)
{
	return *output(f, name);
}

/* A number that a script wrote. */
static pid_t wait_pid(struct fixture *f, const char *name)
{
	wait_until(f, has_file, name);
	return atoi(output(f, name));
}

static bool is_gone(struct fixture *f, const void *pid)
{
	char path[64];
	const char *stat, *state;

	(void)f;
	snprintf(path, sizeof(path), "/proc/%d/stat", *(const pid_t *)pid);
	stat = read_file(path, NULL);
	state = strrchr(stat, ')');
	return !state || state[2] == 'Z' || state[2] == 'X'; /* whoever inherited it may not look after it */
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

static struct sipkeep_addr addr_of(const char *text)
{
	struct policy_prefix prefix;
	const char *why = "";

	if (policy_prefix_parse(text, &prefix, &why))
		fail_msg("%s: %s", text, why);
	return prefix.addr;
}

static struct event event_of(unsigned int kind, const char *remote)
{
	return (struct event){
		.kind = kind,
		.record = { .cookie = 0x4a31, .local = addr_of("192.0.2.1"), .local_port = 40112, .prefix = 32,
			    .remote = addr_of(remote), .remote_port = 5061, .direction = SIPKEEP_OUTBOUND,
			    .reason = SIPKEEP_REASON_PEER_FIN, .closed_by = SIPKEEP_CLOSED_BY_REMOTE },
	};
}

static void put(struct fixture *f, const struct event *event, const char *policy, const char *line)
{
	actions_event(f->actions, event, policy, line, strlen(line));
}

/* id: told apart by it in outcomes, and by the line. */
static void wedged(struct fixture *f, const char *remote, __u16 id)
{
	struct event event = event_of(EVENTS_WEDGED, remote);
	char line[32];

	event.record.policy = id;
	snprintf(line, sizeof(line), "{%u}\n", id);
	put(f, &event, "carrier", line);
}

static void remote_number(unsigned int number, char *text)
{
	sprintf(text, "10.%u.%u.%u", number >> 16, (number >> 8) & 255, number & 255);
}

/* ---- what a child gets ----------------------------------------------------------------------------------------- */

static void arguments_arrive_unchanged(void **state)
{
	struct fixture *f = *state;
	static const char wanted[] = "\0a b\0$HOME\0`id`\0'\0\"\0*\0new\nline\0\xc3\xbc\0\\\0;true";
	char *path = script(f, "odd", "for a; do printf '%s\\0' \"$a\"; done >$d/out");
	size_t length;

	add_action(f, ON(EVENTS_WEDGED),
		   RUN(path, "", "a b", "$HOME", "`id`", "'", "\"", "*", "new\nline", "\xc3\xbc", "\\", ";true"));
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, 1);
	assert_int_equal(f->seen[0].outcome, EVENTS_OUTCOME_DONE);
	read_file(path_of(f, "out"), &length);
	assert_int_equal(length, sizeof(wanted));
	assert_memory_equal(output(f, "out"), wanted, sizeof(wanted));
	free(path);
}

static void stdin_is_the_line(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "in", "cat >$d/out"), line[EVENTS_LINE_MAX];
	struct event event = event_of(EVENTS_WEDGED, "203.0.113.5");

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	add_action(f, ON(EVENTS_WEDGED), RUN(path));
	open_actions(f);
	put(f, &event, "carrier", line);
	wait_outcomes(f, 1);
	assert_string_equal(output(f, "out"), line);
	free(path);
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The environment that the event's child has, sorted, one a line. */
static const char *environment(struct fixture *f, const struct event *event, const char *policy)
{
	static char sorted[4096];
	const char *entries[64];
	size_t length, count = 0, used = 0, before = f->count;
	const char *raw;

	put(f, event, policy, "{}\n");
	wait_outcomes(f, before + 1);
	raw = read_file(path_of(f, "env"), &length);
	for (const char *entry = raw; entry < raw + length; entry += strlen(entry) + 1)
		entries[count++] = entry;
	qsort(entries, count, sizeof(*entries), compare_text);
	*sorted = '\0';
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(sorted + used, sizeof(sorted) - used, "%s\n", entries[i]);
	return sorted;
}

#define PATH_LINE "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"

static void environment_is_as_documented(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "env.sh", "cat /proc/$$/environ >$d/env");
	struct event event = event_of(EVENTS_WEDGED, "203.0.113.5");

	setenv("SIPKEEP_LEFT_OVER", "x", 1);
	add_action(f, ~0ULL & ~ON(EVENTS_ACTION), RUN(path));
	open_actions(f);
	event.cause = EVENTS_CAUSE_MONITOR_LOST;
	event.record.generation = 2;
	assert_string_equal(environment(f, &event, "carrier"),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_CAUSE=monitor_lost\nSIPKEEP_CLOSED_BY=remote\n"
				      "SIPKEEP_DIRECTION=outbound\nSIPKEEP_EVENT=wedged\nSIPKEEP_ID=4a31.2\n"
				      "SIPKEEP_INSTANCE=test\nSIPKEEP_LOCAL=192.0.2.1:40112\nSIPKEEP_POLICY=carrier\n"
				      "SIPKEEP_REASON=peer_fin\nSIPKEEP_REMOTE=203.0.113.5:5061\n");
	event = event_of(SIPKEEP_EVENT_CONNECTED, "2001:db8::5");
	event.record.closed_by = SIPKEEP_CLOSED_BY_UNKNOWN;
	assert_string_equal(environment(f, &event, "carrier"),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_DIRECTION=outbound\nSIPKEEP_EVENT=connected\n"
				      "SIPKEEP_ID=4a31\nSIPKEEP_INSTANCE=test\nSIPKEEP_LOCAL=192.0.2.1:40112\n"
				      "SIPKEEP_POLICY=carrier\nSIPKEEP_REMOTE=[2001:db8::5]:5061\n");
	event = event_of(SIPKEEP_EVENT_REFUSED, "198.51.100.7");
	event.record.direction = SIPKEEP_INBOUND;
	assert_string_equal(environment(f, &event, "phones"),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_DIRECTION=inbound\nSIPKEEP_EVENT=refused\n"
				      "SIPKEEP_INSTANCE=test\nSIPKEEP_POLICY=phones\nSIPKEEP_REMOTE=198.51.100.7\n");
	event = event_of(SIPKEEP_EVENT_REFUSED, "198.51.100.8");
	assert_string_equal(environment(f, &event, "carrier"),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_DIRECTION=outbound\nSIPKEEP_EVENT=refused\n"
				      "SIPKEEP_INSTANCE=test\nSIPKEEP_POLICY=carrier\n"
				      "SIPKEEP_REMOTE=198.51.100.8:5061\n");
	event = event_of(EVENTS_LISTENER_RESTART, "0.0.0.0");
	assert_string_equal(environment(f, &event, "not of it"),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_EVENT=listener_restart\nSIPKEEP_ID=4a31\n"
				      "SIPKEEP_INSTANCE=test\nSIPKEEP_LOCAL=192.0.2.1:40112\n");
	event = event_of(EVENTS_LOST, "0.0.0.0");
	assert_string_equal(environment(f, &event, NULL),
			    PATH_LINE "SIPKEEP_ATTEMPT=1\nSIPKEEP_EVENT=lost\nSIPKEEP_INSTANCE=test\n");
	free(path);
}

/* Runs it once with our stderr in a file, which is returned. */
static const char *captured(struct fixture *f, const char *const *run)
{
	int saved = dup(STDERR_FILENO), fd = open(path_of(f, "captured"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	size_t before = f->count;
	const char *text;

	assert_true(saved >= 0 && fd >= 0);
	add_action(f, ON(EVENTS_WEDGED), run);
	if (f->actions)
		close_actions(f);
	open_actions(f);
	dup2(fd, STDERR_FILENO);
	wedged(f, "203.0.113.5", 1);
	for (int i = 0; i < 3000 && f->count == before; i++)
		sd_event_run(f->loop, 20000);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd);
	text = output(f, "captured");
	assert_int_equal(f->count, before + 1);
	outlets_free(&f->outlets);
	f->outlets.actions = calloc(8, sizeof(*f->outlets.actions));
	f->outlets.max_actions = 4;
	return text;
}

/* stdout is stderr; neither the loop's descriptors nor ours that lack O_CLOEXEC are there. 3 is the directory itself. */
static void no_descriptor_is_left_to_it(void **state)
{
	int low = dup(STDIN_FILENO), high = fcntl(STDIN_FILENO, F_DUPFD, 700);

	assert_true(low > 2 && high >= 700);
	assert_string_equal(captured(*state, RUN("/bin/ls", "/proc/self/fd")), "0\n1\n2\n3\n");
	close(low);
	close(high);
}

static void signals_are_as_at_a_login(void **state)
{
	const unsigned long long libc = 3ULL << 31; /* 32 and 33 are glibc's own; its posix_spawn() has them ignored */
	const char *status, *ignored;
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	status = captured(*state, RUN("/bin/cat", "/proc/self/status"));
	assert_non_null(strstr(status, "SigBlk:\t0000000000000000\n"));
	ignored = strstr(status, "SigIgn:\t");
	assert_non_null(ignored);
	assert_int_equal(strtoull(ignored + 8, NULL, 16) & ~libc, 0);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	sigdelset(&set, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void session_and_directory_are_its_own(void **state)
{
	int pid, parent, group, session;
	char comm[32], letter;

	assert_string_equal(captured(*state, RUN("/bin/pwd")), "/\n");
	assert_int_equal(sscanf(captured(*state, RUN("/bin/cat", "/proc/self/stat")), "%d %31s %c %d %d %d", &pid, comm,
				&letter, &parent, &group, &session),
			 6);
	assert_int_equal(group, pid);
	assert_int_equal(session, pid);
	assert_int_equal(parent, getpid());
}

/* ---- how it ends ----------------------------------------------------------------------------------------------- */

static void exit_codes_are_told(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "code", "case $SIPKEEP_REMOTE in *.1:*) exit 0;; *.2:*) exit 3;; esac; kill -9 $$");

	add_action(f, ON(EVENTS_WEDGED), RUN(path));
	f->outlets.max_actions = 1; /* in order */
	open_actions(f);
	wedged(f, "203.0.113.1", 1);
	wedged(f, "203.0.113.2", 2);
	wedged(f, "203.0.113.3", 3);
	wait_outcomes(f, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(f->seen[i].policy, i + 1);
		assert_int_equal(f->seen[i].outcome, i ? EVENTS_OUTCOME_FAILED : EVENTS_OUTCOME_DONE);
		assert_int_equal(f->seen[i].on, EVENTS_WEDGED);
		assert_int_equal(f->seen[i].attempt, 1);
		assert_string_equal(f->seen[i].name, "carrier");
		assert_string_equal(f->seen[i].command, path);
		assert_true(f->seen[i].duration_ns > 0);
	}
	assert_int_equal(f->seen[0].exit_code, 0);
	assert_int_equal(f->seen[1].exit_code, 3);
	assert_int_equal(f->seen[2].exit_code, 128 + SIGKILL);
	assert_non_null(strstr(f->seen[1].line, "\"event\":\"action\",\"for\":\"wedged\",\"id\":\"4a31\","
						"\"policy\":\"carrier\",\"direction\":\"outbound\""));
	free(path);
}

/* One that goes at SIGTERM, and one that must be killed, each with a child of its own. */
static void timeout_ends_the_whole_group(void **state)
{
	static const char *const traps[] = { "", "trap '' TERM;" };
	struct fixture *f = *state;

	for (size_t i = 0; i < 2; i++) {
		char text[256], name[8], pid_name[8];
		struct seen *seen = &f->seen[f->count];
		pid_t child;
		char *path;

		snprintf(name, sizeof(name), "hang%zu", i);
		snprintf(pid_name, sizeof(pid_name), "pid%zu", i);
		snprintf(text, sizeof(text),
			 "%s sh -c 'echo $$ >%s/%s.new; mv %s/%s.new %s/%s; while :; do sleep 100; done' & "
			 "while :; do wait; done",
			 traps[i], f->dir, pid_name, f->dir, pid_name, f->dir, pid_name);
		path = script(f, name, text);
		add_action(f, ON(EVENTS_WEDGED), RUN(path))->timeout_ms = 2000;
		if (f->actions)
			actions_reload(f->actions, &f->outlets);
		else
			open_actions(f);
		wedged(f, "203.0.113.5", (__u16)i);
		child = wait_pid(f, pid_name);
		wait_outcomes(f, i + 1);
		assert_int_equal(seen->outcome, EVENTS_OUTCOME_TIMEOUT);
		assert_int_equal(seen->exit_code, 128 + (i ? SIGKILL : SIGTERM));
		assert_true(seen->duration_ns >= (i ? 4000000000 : 2000000000));
		wait_until(f, is_gone, &child);
		outlet_action_free(&f->outlets.actions[--f->outlets.action_count]);
		free(path);
	}
}

static void what_it_leaves_behind_is_ended(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "leave", "sleep 1000 & echo $! >$d/pid");
	pid_t child;

	add_action(f, ON(EVENTS_WEDGED), RUN(path));
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, 1);
	assert_int_equal(f->seen[0].outcome, EVENTS_OUTCOME_DONE);
	child = wait_pid(f, "pid");
	wait_until(f, is_gone, &child);
	free(path);
}

static void error_of(struct fixture *f, const char *command, int error, const char *why)
{
	size_t before = f->count;

	add_action(f, ON(EVENTS_WEDGED), RUN(command))->retries = 3; /* none is made: it won't get better */
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	assert_int_equal(f->count, before); /* never from within */
	wait_outcomes(f, before + 1);
	assert_int_equal(f->seen[before].outcome, EVENTS_OUTCOME_ERROR);
	assert_int_equal(f->seen[before].error, error);
	assert_int_equal(f->seen[before].attempt, 1);
	assert_non_null(strstr(f->seen[before].why, why));
	assert_non_null(strstr(f->seen[before].line, why));
	assert_null(strstr(f->seen[before].line, "\"error\":null"));
	close_actions(f);
	assert_int_equal(f->count, before + 1);
	outlet_action_free(&f->outlets.actions[--f->outlets.action_count]);
}

static void errors_are_told(void **state)
{
	struct fixture *f = *state;
	char *plain = script(f, "plain", "exit 0"), *group = script(f, "group", "exit 0"),
	     *other = script(f, "other", "exit 0"), *bad = strdup(path_of(f, "bad"));
	int fd = open(bad, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

	dprintf(fd, "#!%s/no-such-interpreter\n", f->dir);
	close(fd);
	chmod(plain, 0644);
	chmod(group, 0775);
	chmod(other, 0757);
	error_of(f, path_of(f, "missing"), ENOENT, "");
	assert_non_null(strstr(f->seen[0].line, "\"error\":\"No such file or directory\""));
	error_of(f, bad, ENOENT, ""); /* found out by exec */
	error_of(f, f->dir, EACCES, "isn't a regular file");
	error_of(f, plain, EACCES, "isn't executable");
	error_of(f, group, EACCES, "may be written by its group or by others");
	error_of(f, other, EACCES, "may be written by its group or by others");
	free(plain);
	free(group);
	free(other);
	free(bad);
}

/* ---- when it starts -------------------------------------------------------------------------------------------- */

static void only_for_its_events_and_policy(void **state)
{
	struct fixture *f = *state;
	struct event event = event_of(SIPKEEP_EVENT_DISCONNECTED, "203.0.113.5");

	add_action(f, ON(EVENTS_WEDGED) | ON(EVENTS_LISTENER_RESTART), RUN("/bin/true"))->policy = strdup("carrier");
	add_action(f, ON(EVENTS_LISTENER_RESTART), RUN("/bin/false"));
	open_actions(f);
	put(f, &event, "carrier", "{}\n");
	event.kind = EVENTS_WEDGED;
	put(f, &event, "trunk", "{}\n");
	event.kind = EVENTS_LISTENER_RESTART; /* has no policy, whatever is given */
	put(f, &event, "carrier", "{}\n");
	wait_outcomes(f, 1);
	assert_string_equal(f->seen[0].command, "/bin/false");
	assert_string_equal(f->seen[0].name, "-");
	wedged(f, "203.0.113.5", 7);
	wait_outcomes(f, 2);
	assert_string_equal(f->seen[1].command, "/bin/true");
	assert_int_equal(f->seen[1].policy, 7);
	settle(f);
	assert_int_equal(f->count, 2);
}

static void never_more_than_the_cap(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "cap", ": >$d/run.$$; set -- $d/run.*; echo $# >>$d/peaks; sleep 0.1; rm $d/run.$$");
	const char *peaks;
	char remote[32];

	add_action(f, ON(EVENTS_WEDGED), RUN(path));
	f->outlets.max_actions = 2;
	open_actions(f);
	for (unsigned int i = 0; i < 8; i++) {
		remote_number(i, remote);
		wedged(f, remote, (__u16)i);
	}
	wait_outcomes(f, 8);
	assert_int_equal(lines_of(f, "peaks"), 8);
	for (peaks = output(f, "peaks"); *peaks; peaks += 2)
		assert_true(*peaks == '1' || *peaks == '2');
	free(path);
}

static void actions_take_turns(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "turn", "echo $1 >>$d/order"), remote[32];
	struct event event = event_of(SIPKEEP_EVENT_DISCONNECTED, "203.0.113.5");

	add_action(f, ON(EVENTS_WEDGED), RUN(path, "many"));
	add_action(f, ON(SIPKEEP_EVENT_DISCONNECTED), RUN(path, "one"));
	f->outlets.max_actions = 1;
	open_actions(f);
	for (unsigned int i = 0; i < 20; i++) {
		remote_number(i, remote);
		wedged(f, remote, (__u16)i);
	}
	put(f, &event, "carrier", "{}\n");
	wait_outcomes(f, 21);
	assert_memory_equal(output(f, "order"), "many\none\nmany\n", 14);
	free(path);
}

static void debounce_holds_back(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "count", "cat >>$d/out");

	add_action(f, ON(EVENTS_WEDGED), RUN(path))->debounce_ms = 3600000;
	open_actions(f);
	for (__u16 i = 0; i < 1000; i++)
		wedged(f, "203.0.113.5", i);
	wait_outcomes(f, 1);
	for (__u16 i = 0; i < 1000; i++)
		wedged(f, "203.0.113.5", (__u16)(1000 + i));
	settle(f);
	assert_int_equal(f->count, 1);
	/* Before the loop came to it, the newest took its place. */
	assert_string_equal(output(f, "out"), "{999}\n");
	/* Another remote, another policy: not held back by this one. */
	wedged(f, "203.0.113.6", 5);
	wait_outcomes(f, 2);
	put(f, &(struct event){ .kind = EVENTS_WEDGED, .record = { .remote = addr_of("203.0.113.5") } }, "other", "{}\n");
	wait_outcomes(f, 3);
	/* The one that is still held back is told at the end. */
	close_actions(f);
	assert_int_equal(f->count, 4);
	assert_int_equal(f->seen[3].outcome, EVENTS_OUTCOME_SKIPPED);
	assert_int_equal(f->seen[3].count, 1);
	assert_int_equal(f->seen[3].policy, 1999);
	assert_non_null(strstr(f->seen[3].line, "\"outcome\":\"skipped\",\"count\":1}"));
	free(path);
}

static void after_the_debounce_the_newest_starts(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "count", "cat >>$d/out");
	__u64 begin;

	add_action(f, ON(EVENTS_WEDGED), RUN(path))->debounce_ms = 1000;
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, 1);
	begin = f->seen[0].at_ns - f->seen[0].duration_ns;
	wedged(f, "203.0.113.5", 2);
	wedged(f, "203.0.113.5", 3);
	wait_outcomes(f, 2);
	assert_true(f->seen[1].at_ns - f->seen[1].duration_ns - begin >= 990000000);
	assert_string_equal(output(f, "out"), "{1}\n{3}\n");
	assert_int_equal(f->seen[1].policy, 3);
	assert_int_equal(f->seen[1].attempt, 1);
	free(path);
}

/* Until its end, events wait: one runs at a time for a policy and remote, then once more, for the newest. */
static void one_at_a_time_per_remote(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "slow", "cat >>$d/out; echo $$ >$d/pid; while ! [ -e $d/go ]; do sleep 0.02; done");

	add_action(f, ON(EVENTS_WEDGED), RUN(path));
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_pid(f, "pid");
	wedged(f, "203.0.113.5", 2);
	wedged(f, "203.0.113.5", 3);
	settle(f);
	assert_string_equal(output(f, "out"), "{1}\n");
	close(open(path_of(f, "go"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	wait_outcomes(f, 2);
	assert_string_equal(output(f, "out"), "{1}\n{3}\n");
	free(path);
}

static void retries_back_off(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "fail", "echo $SIPKEEP_ATTEMPT >>$d/attempts; cat >>$d/out; exit 1");
	struct outlet_action *action = add_action(f, ON(EVENTS_WEDGED), RUN(path));

	action->retries = 3;
	action->retry_ms = 100;
	action->debounce_ms = 3600000; /* is for events, not for retries */
	open_actions(f);
	wedged(f, "203.0.113.5", 9);
	wait_outcomes(f, 4);
	settle(f);
	assert_string_equal(output(f, "attempts"), "1\n2\n3\n4\n");
	assert_string_equal(output(f, "out"), "{9}\n{9}\n{9}\n{9}\n");
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(f->seen[i].outcome, EVENTS_OUTCOME_FAILED);
		assert_int_equal(f->seen[i].attempt, i + 1);
		if (i)
			assert_true(f->seen[i].at_ns - f->seen[i].duration_ns - f->seen[i - 1].at_ns >=
				    (100000000ULL << (i - 1)) - 2000000);
	}
	close_actions(f);
	assert_int_equal(f->count, 4);
	free(path);
}

static void a_retry_that_succeeds_is_the_last(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "second", "[ $SIPKEEP_ATTEMPT = 2 ]");

	add_action(f, ON(EVENTS_WEDGED), RUN(path))->retries = 5;
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, 2);
	close_actions(f);
	assert_int_equal(f->count, 2);
	assert_int_equal(f->seen[1].outcome, EVENTS_OUTCOME_DONE);
	free(path);
}

static void a_newer_event_ends_the_retries(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "newer", "echo $SIPKEEP_ATTEMPT >>$d/attempts; read -r l; [ \"$l\" = '{2}' ]");
	struct outlet_action *action = add_action(f, ON(EVENTS_WEDGED), RUN(path));

	action->retries = 5;
	action->retry_ms = 3600000;
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, 1);
	wedged(f, "203.0.113.5", 2);
	wait_outcomes(f, 2);
	assert_int_equal(f->seen[1].outcome, EVENTS_OUTCOME_DONE);
	assert_string_equal(output(f, "attempts"), "1\n1\n");
	close_actions(f);
	assert_int_equal(f->count, 2); /* nothing waited any more */
	free(path);
}

/* ---- bounds ---------------------------------------------------------------------------------------------------- */

static __u64 skipped_of(struct fixture *f)
{
	__u64 sum = 0;

	for (size_t i = 0; i < f->count; i++)
		if (f->seen[i].outcome == EVENTS_OUTCOME_SKIPPED)
			sum += f->seen[i].count;
	return sum;
}

static bool all_skipped(struct fixture *f, const void *wanted)
{
	return skipped_of(f) >= *(const __u64 *)wanted;
}

static void what_finds_no_room_is_told(void **state)
{
	const __u64 over = 5000;
	struct fixture *f = *state;
	char remote[32];

	add_action(f, ON(EVENTS_WEDGED), RUN("/bin/sleep", "1000"));
	f->outlets.max_actions = 1;
	open_actions(f);
	for (unsigned int i = 0; i < ACTION_SLOTS_MAX + over; i++) {
		remote_number(i, remote);
		wedged(f, remote, (__u16)i);
	}
	assert_int_equal(f->count, 0);
	wait_until(f, all_skipped, &over);
	assert_int_equal(skipped_of(f), over);
	assert_true(f->count <= 2); /* at most one a second */
	f->count = 0;
	close_actions(f);
	/* The one that ran, and once for all that waited. */
	assert_int_equal(f->count, 2);
	assert_int_equal(skipped_of(f), ACTION_SLOTS_MAX - 1);
	assert_int_equal(f->seen[1].outcome, EVENTS_OUTCOME_STOPPED);
}

/* Those whose debounce is over make room; those whose isn't, don't: a flood of remotes buys no early start. */
static void idle_remotes_make_room(void **state)
{
	struct fixture *f = *state;
	char remote[32];

	add_action(f, ON(EVENTS_WEDGED), RUN("/missing")); /* told, and nothing to wait for */
	open_actions(f);
	for (unsigned int i = 0; i < ACTION_SLOTS_MAX + 100; i++) {
		remote_number(i, remote);
		wedged(f, remote, (__u16)i);
		wait_outcomes(f, i + 1);
	}
	assert_int_equal(skipped_of(f), 0);
	f->outlets.actions[0].debounce_ms = 3600000;
	assert_int_equal(actions_reload(f->actions, &f->outlets), 0);
	f->count = 0;
	for (unsigned int i = 0; i < ACTION_SLOTS_MAX; i++) {
		remote_number(i, remote);
		wedged(f, remote, (__u16)i);
		wait_outcomes(f, i + 1);
	}
	wedged(f, "203.0.113.5", 1);
	wait_outcomes(f, ACTION_SLOTS_MAX + 1);
	assert_int_equal(skipped_of(f), 1);
}

/* ---- other settings, and the end ------------------------------------------------------------------------------- */

static void reload_keeps_what_stays(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "keep", "echo $1 >>$d/out; echo $$ >$d/pid$1; while ! [ -e $d/go ]; do sleep 0.02; done");

	add_action(f, ON(EVENTS_WEDGED), RUN(path, "stays"))->debounce_ms = 3600000;
	add_action(f, ON(EVENTS_WEDGED), RUN(path, "goes"));
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	wait_pid(f, "pidstays");
	wait_pid(f, "pidgoes");
	wedged(f, "203.0.113.5", 2);
	outlet_action_free(&f->outlets.actions[1]);
	f->outlets.action_count = 1;
	add_action(f, ON(EVENTS_WEDGED), RUN(path, "comes"));
	f->outlets.actions[0].line = 4711;
	assert_int_equal(actions_reload(f->actions, &f->outlets), 0);
	/* What waited for the one that goes is told. */
	assert_int_equal(f->count, 1);
	assert_int_equal(skipped_of(f), 1);
	wedged(f, "203.0.113.5", 3);
	wait_pid(f, "pidcomes");
	close(open(path_of(f, "go"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	wait_outcomes(f, 4); /* each of the three by itself, and none twice: the debounce of the first goes on */
	for (size_t i = 1; i < 4; i++)
		assert_int_equal(f->seen[i].outcome, EVENTS_OUTCOME_DONE);
	settle(f);
	assert_int_equal(lines_of(f, "out"), 3);
	f->outlets.action_count = 0;
	assert_int_equal(actions_reload(f->actions, &f->outlets), 0);
	wedged(f, "203.0.113.5", 4);
	settle(f);
	assert_int_equal(lines_of(f, "out"), 3);
	f->outlets.action_count = 2; /* for their memory */
	free(path);
}

/* Its end comes while it is stopped: SIGTERM for one, SIGKILL for the other, both at once. */
static void close_ends_what_runs(void **state)
{
	struct fixture *f = *state;
	char *path = script(f, "run", "trap \"$1\" TERM; echo $$ >$d/pid$2; while :; do sleep 0.05; done");
	pid_t soft, hard;
	__u64 begin;

	add_action(f, ON(EVENTS_WEDGED), RUN(path, "exit 0", "soft"));
	add_action(f, ON(EVENTS_WEDGED), RUN(path, "", "hard"));
	open_actions(f);
	wedged(f, "203.0.113.5", 1);
	soft = wait_pid(f, "pidsoft");
	hard = wait_pid(f, "pidhard");
	begin = host_monotonic_ns();
	close_actions(f);
	assert_true(host_monotonic_ns() - begin >= ACTION_GRACE_MS * 1000000ULL);
	assert_true(is_gone(f, &soft) && is_gone(f, &hard));
	assert_int_equal(f->count, 2);
	assert_int_equal(f->seen[0].outcome, EVENTS_OUTCOME_STOPPED);
	assert_int_equal(f->seen[0].exit_code, 0);
	assert_int_equal(f->seen[1].outcome, EVENTS_OUTCOME_STOPPED);
	assert_int_equal(f->seen[1].exit_code, 128 + SIGKILL);
	free(path);
}

static void needs_sigchld_blocked(void **state)
{
	struct fixture *f = *state;
	struct failure failure = { "" };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	assert_int_equal(actions_open(&f->outlets, "test", f->loop, on_outcome, f, &f->actions, &failure), -EBUSY);
	assert_non_null(strstr(failure.text, "SIGCHLD"));
	assert_null(f->actions);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(arguments_arrive_unchanged),
		TEST(stdin_is_the_line),
		TEST(environment_is_as_documented),
		TEST(no_descriptor_is_left_to_it),
		TEST(signals_are_as_at_a_login),
		TEST(session_and_directory_are_its_own),
		TEST(exit_codes_are_told),
		TEST(timeout_ends_the_whole_group),
		TEST(what_it_leaves_behind_is_ended),
		TEST(errors_are_told),
		TEST(only_for_its_events_and_policy),
		TEST(never_more_than_the_cap),
		TEST(actions_take_turns),
		TEST(debounce_holds_back),
		TEST(after_the_debounce_the_newest_starts),
		TEST(one_at_a_time_per_remote),
		TEST(retries_back_off),
		TEST(a_retry_that_succeeds_is_the_last),
		TEST(a_newer_event_ends_the_retries),
		TEST(what_finds_no_room_is_told),
		TEST(idle_remotes_make_room),
		TEST(reload_keeps_what_stays),
		TEST(close_ends_what_runs),
		TEST(needs_sigchld_blocked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
