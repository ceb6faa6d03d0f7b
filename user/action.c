// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "action_internal.h"

/* ---- turns ----------------------------------------------------------------------------------------------------- */

/* True when one was started, or could not be. */
static bool start_one(struct actions *actions)
{
	struct rule *rule;

	TAILQ_FOREACH(rule, &actions->rules, link) {
		if (!rule_start(rule))
			continue;
		TAILQ_REMOVE(&actions->rules, rule, link);
		TAILQ_INSERT_TAIL(&actions->rules, rule, link);
		return true;
	}
	return false;
}

static void free_retired(struct actions *actions)
{
	struct rule *rule, *following;

	for (rule = TAILQ_FIRST(&actions->rules); rule; rule = following) {
		following = TAILQ_NEXT(rule, link);
		if (!rule->retired || rule->running)
			continue;
		TAILQ_REMOVE(&actions->rules, rule, link);
		rule_free(rule);
	}
}

static int on_starter(sd_event_source *source, void *arg)
{
	struct actions *actions = arg;

	(void)source;
	free_retired(actions);
	/* Not all that wait at once: what can't be started takes no place. The loop has other things to do. */
	for (__u32 i = 0; i < actions->max_running; i++)
		if (actions->running >= actions->max_running || !start_one(actions))
			return 0;
	if (!actions->max_running) /* `events -f`: there are none */
		return 0;
	return sd_event_source_set_enabled(actions->starter, SD_EVENT_ONESHOT);
}

/* ---- settings -------------------------------------------------------------------------------------------------- */

/* One that is the same, and not another's already. */
static struct rule *rule_of(struct rules *rules, const struct outlet_action *settings)
{
	struct rule *rule;

	TAILQ_FOREACH(rule, rules, link)
		if (!rule->retired && outlet_action_equal(&rule->settings, settings))
			return rule;
	return NULL;
}

static void rules_free(struct rules *rules)
{
	struct rule *rule;

	while ((rule = TAILQ_FIRST(rules))) {
		TAILQ_REMOVE(rules, rule, link);
		rule_free(rule);
	}
}

/* Puts a new one in `added` for each that `rules` hasn't. A second one of two equal ones does nothing: config refuses it. */
static int rules_add(struct actions *actions, const struct outlets *settings, struct rules *added)
{
	for (size_t i = 0; i < settings->action_count; i++) {
		struct rule *rule;

		if (rule_of(&actions->rules, &settings->actions[i]))
			continue;
		rule = rule_new(actions, &settings->actions[i]);
		if (!rule) {
			rules_free(added);
			return -ENOMEM;
		}
		TAILQ_INSERT_TAIL(added, rule, link);
	}
	return 0;
}

static bool has_action(const struct outlets *settings, const struct rule *rule)
{
	for (size_t i = 0; i < settings->action_count; i++)
		if (outlet_action_equal(&settings->actions[i], &rule->settings))
			return true;
	return false;
}

int actions_reload(struct actions *actions, const struct outlets *settings)
{
	struct rules added = TAILQ_HEAD_INITIALIZER(added);
	int err = rules_add(actions, settings, &added);
	struct rule *rule;

	if (err)
		return err;
	TAILQ_FOREACH(rule, &actions->rules, link)
		if (!rule->retired && !has_action(settings, rule))
			rule_retire(rule);
	TAILQ_CONCAT(&actions->rules, &added, link);
	actions->max_running = settings->max_actions;
	sd_event_source_set_enabled(actions->starter, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static int open_loop(struct actions *actions, struct failure *failure)
{
	sigset_t blocked;
	int err = sd_event_add_defer(actions->loop, &actions->starter, on_starter, actions);

	if (err < 0)
		return failure_set(failure, err, "actions can't be started: %s", strerror(-err));
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	if (!sigismember(&blocked, SIGCHLD))
		return failure_set(failure, -EBUSY,
				   "actions can't be started: SIGCHLD isn't blocked, their end would not be seen");
	return 0;
}

int actions_open(const struct outlets *settings, const char *instance, sd_event *loop,
		 void (*outcome)(void *arg, const struct event *event), void *arg, struct actions **ret_actions,
		 struct failure *failure)
{
	struct actions *actions = calloc(1, sizeof(*actions));
	int err;

	if (!actions)
		return failure_set(failure, -ENOMEM, "actions can't be started: out of memory");
	actions->loop = sd_event_ref(loop);
	actions->outcome = outcome;
	actions->arg = arg;
	TAILQ_INIT(&actions->rules);
	actions->instance = strdup(instance);
	err = open_loop(actions, failure);
	if (!err && (!actions->instance || actions_reload(actions, settings)))
		err = failure_set(failure, -ENOMEM, "actions can't be started: out of memory");
	if (err) {
		actions_close(actions);
		return err;
	}
	*ret_actions = actions;
	return 0;
}

static void stop_running(struct actions *actions)
{
	struct action_process **list = calloc(actions->running + 1, sizeof(struct action_process *)), *one;
	size_t count = 0;
	struct rule *rule;

	TAILQ_FOREACH(rule, &actions->rules, link) {
		if (list)
			count += rule_running(rule, list + count, actions->running - count);
		else
			while (rule_running(rule, &one, 1)) /* without memory, one after the other */
				action_process_stop(&one, 1);
	}
	if (list)
		action_process_stop(list, count);
	free(list);
}

void actions_close(struct actions *actions)
{
	struct rule *rule;

	if (!actions)
		return;
	TAILQ_FOREACH(rule, &actions->rules, link)
		rule_retire(rule);
	stop_running(actions);
	rules_free(&actions->rules);
	sd_event_source_disable_unref(actions->starter);
	sd_event_unref(actions->loop);
	free(actions->instance);
	free(actions);
}

void actions_event(struct actions *actions, const struct event *event, const char *policy, const char *line,
		   size_t length)
{
	struct rule *rule;

	if (!(events_has(event->kind) & EVENTS_HAS_POLICY))
		policy = NULL;
	TAILQ_FOREACH(rule, &actions->rules, link) {
		const struct outlet_action *settings = &rule->settings;

		if (rule->retired || !(settings->on & 1ULL << event->kind))
			continue;
		if (!settings->policy || (policy && !strcmp(settings->policy, policy)))
			rule_event(rule, event, policy, line, length);
	}
}
