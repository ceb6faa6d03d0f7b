/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * action_internal.h: shared by the files that make up action.h, included by nobody else.
 *
 *   action_env.c      an event -> a child's environment
 *   action_process.c  one attempt: a child, its time and its end
 *   action_slot.c     when which is started: debounce, retries, who waits
 *   action.c          the actions of the config, which events they are for
 */
#ifndef SIPKEEP_ACTION_INTERNAL_H
#define SIPKEEP_ACTION_INTERNAL_H

#include <stdbool.h>
#include <sys/queue.h>
#include "action.h"

/* Between SIGTERM and SIGKILL. */
#define ACTION_GRACE_MS 2000
/* Policies and remotes of one action that are remembered at a time; what is busy or young isn't forgotten for others. */
#define ACTION_SLOTS_MAX 512

/* ---- action_env.c ---- */

/* All of it, NULL at the end; action_env_free() it. policy: its name or NULL. NULL: out of memory. */
char **action_env(const char *instance, const struct event *event, const char *policy, __u32 attempt);
void action_env_free(char **env);

/* ---- action_process.c ---- */

struct action_process;

/*
 * Starts run[0] with the arguments run and the environment env, line on its stdin. ended() is called once, from the
 * loop, with its outcome (DONE, FAILED, TIMEOUT), exit_code and duration_ns; the process is freed by then. 0, or -errno,
 * with *ret_why where the errno doesn't tell (else NULL).
 */
int action_process_start(sd_event *loop, char *const *run, char *const *env, const char *line, size_t length,
			 __u32 timeout_ms, void (*ended)(void *arg, const struct events_action *end), void *arg,
			 struct action_process **ret_process, const char **ret_why);

/*
 * SIGTERM, and SIGKILL after the grace, to all of them at once, and waits for their ends: at most a second longer.
 * ended() is called for each, with STOPPED (or what came before that). The list holds no NULL.
 */
void action_process_stop(struct action_process **list, size_t count);

/* ---- action_slot.c ---- */

struct actions;
struct slot;
TAILQ_HEAD(slots, slot);

/* An action of the config, and what goes on for it. */
struct rule {
	struct actions *actions;
	struct outlet_action settings;
	void *tree;	    /* its slots, of search.h */
	struct slots all;   /* the same, the longest not started first */
	struct slots ready; /* those that are due, in their order */
	size_t count;
	size_t running;
	bool retired; /* not in the config any more: goes when nothing runs */
	__u64 skipped;	    /* not told yet */
	__u64 told_ns;	    /* when they were last */
	struct event skipped_event; /* the latest of them */
	char skipped_policy[SIPKEEP_NAME_LEN];
	sd_event_source *skipped_timer;
	TAILQ_ENTRY(rule) link;
};
TAILQ_HEAD(rules, rule);

struct actions {
	sd_event *loop;
	void (*outcome)(void *arg, const struct event *event);
	void *arg;
	char *instance;
	__u32 max_running;
	size_t running;
	struct rules rules; /* whose turn it is first; retired ones among them */
	sd_event_source *starter; /* enabled while something may be started */
};

/* NULL: out of memory. */
struct rule *rule_new(struct actions *actions, const struct outlet_action *settings);

/* Starts it for this event, now or when it is due. */
void rule_event(struct rule *rule, const struct event *event, const char *policy, const char *line, size_t length);

/* Has the next one started that is due; false: none is. */
bool rule_start(struct rule *rule);

/* What waits won't be started, which is told; what runs may end by itself. */
void rule_retire(struct rule *rule);

/* Those that run, up to count of them; returns how many. */
size_t rule_running(struct rule *rule, struct action_process **list, size_t count);

/* Of one that runs nothing. */
void rule_free(struct rule *rule);

#endif
