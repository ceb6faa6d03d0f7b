// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include "action_internal.h"
#include "host.h"

#define RETRY_MAX_MS 3600000ULL
#define SKIPPED_INTERVAL_NS 1000000000ULL /* between two events that tell of skipped starts of an action */

struct slot_key {
	char policy[SIPKEEP_NAME_LEN];
	struct sipkeep_addr addr;
	__u16 port; /* of a listener; else 0: a source has many */
};

/* What is to be done for an event. */
struct job {
	struct event event;
	char policy[SIPKEEP_NAME_LEN]; /* "": none */
	__u32 attempt;
	size_t length;
	char line[];
};

/* What goes on for a policy and a remote. Idle: neither job. */
struct slot {
	struct slot_key key; /* first: what the tree compares */
	struct rule *rule;
	struct action_process *process;
	struct job *current; /* runs */
	struct job *next;    /* waits for current, for its time or, in rule->ready, for its turn */
	__u64 due_ns;	     /* of next */
	__u64 started_ns;    /* 0: never */
	bool ready;
	sd_event_source *timer;
	TAILQ_ENTRY(slot) in_all;
	TAILQ_ENTRY(slot) in_ready;
};

static int slot_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct slot_key));
}

static __u64 debounce_ns(const struct rule *rule)
{
	return rule->settings.debounce_ms * 1000000ULL;
}

/* ---- what is told ---------------------------------------------------------------------------------------------- */

static void tell(struct rule *rule, const struct event *cause, const char *policy, struct events_action *action)
{
	struct event event = { .kind = EVENTS_ACTION, .action = action, .record = cause->record };

	event.record.ts_ns = host_monotonic_ns();
	action->command = rule->settings.run[0];
	action->policy = *policy ? policy : NULL;
	action->on = cause->kind;
	rule->actions->outcome(rule->actions->arg, &event);
}

static void tell_skipped(struct rule *rule)
{
	struct events_action action = { .outcome = EVENTS_OUTCOME_SKIPPED, .count = rule->skipped };

	if (!rule->skipped)
		return;
	rule->skipped = 0;
	rule->told_ns = host_monotonic_ns();
	tell(rule, &rule->skipped_event, rule->skipped_policy, &action);
}

static int on_skipped(sd_event_source *source, uint64_t at, void *arg)
{
	(void)source;
	(void)at;
	tell_skipped(arg);
	return 0;
}

/* From the loop, and not at the rate that an outsider can make it happen. */
static void skip(struct rule *rule, const struct event *event, const char *policy)
{
	__u64 now = host_monotonic_ns(), due = rule->told_ns ? rule->told_ns + SKIPPED_INTERVAL_NS : 0;
	__u64 wait_us = due > now ? (due - now) / 1000 : 0;
	int err;

	rule->skipped_event = *event;
	snprintf(rule->skipped_policy, sizeof(rule->skipped_policy), "%s", policy ? policy : "");
	if (rule->skipped++)
		return;
	if (!rule->skipped_timer) {
		err = sd_event_add_time_relative(rule->actions->loop, &rule->skipped_timer, CLOCK_MONOTONIC, wait_us, 10000,
						 on_skipped, rule);
	} else {
		err = sd_event_source_set_time_relative(rule->skipped_timer, wait_us);
		if (err >= 0)
			err = sd_event_source_set_enabled(rule->skipped_timer, SD_EVENT_ONESHOT);
	}
	(void)err; /* out of memory: told with the next, or at the end */
}

/* ---- slots ----------------------------------------------------------------------------------------------------- */

static void slot_free(struct slot *slot)
{
	struct rule *rule = slot->rule;

	tdelete(slot, &rule->tree, slot_compare);
	TAILQ_REMOVE(&rule->all, slot, in_all);
	if (slot->ready)
		TAILQ_REMOVE(&rule->ready, slot, in_ready);
	rule->count--;
	sd_event_source_disable_unref(slot->timer);
	free(slot->current);
	free(slot->next);
	free(slot);
}

/* Makes room by the one that was idle for longest, and whose debounce is over: nothing is forgotten with it. */
static bool slot_evict(struct rule *rule)
{
	__u64 now = host_monotonic_ns();
	struct slot *slot;

	TAILQ_FOREACH(slot, &rule->all, in_all) {
		if (slot->started_ns && slot->started_ns + debounce_ns(rule) > now)
			return false; /* nor is any after it */
		if (slot->current || slot->next)
			continue;
		slot_free(slot);
		return true;
	}
	return false;
}

/* NULL: there is no room. */
static struct slot *slot_get(struct rule *rule, const struct slot_key *key)
{
	void *found = tfind(key, &rule->tree, slot_compare);
	struct slot *slot;

	if (found)
		return *(struct slot **)found;
	if (rule->count >= ACTION_SLOTS_MAX && !slot_evict(rule))
		return NULL;
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->key = *key;
	slot->rule = rule;
	if (!tsearch(slot, &rule->tree, slot_compare)) {
		free(slot);
		return NULL;
	}
	TAILQ_INSERT_HEAD(&rule->all, slot, in_all);
	rule->count++;
	return slot;
}

static void make_ready(struct slot *slot)
{
	slot->ready = true;
	TAILQ_INSERT_TAIL(&slot->rule->ready, slot, in_ready);
	sd_event_source_set_enabled(slot->rule->actions->starter, SD_EVENT_ONESHOT);
}

static int on_due(sd_event_source *source, uint64_t at, void *arg)
{
	struct slot *slot = arg;

	(void)source;
	(void)at;
	if (slot->next && !slot->current && !slot->ready)
		make_ready(slot);
	return 0;
}

/* Has `next` started at its time, unless something runs: then this is called when it has ended. */
static void slot_schedule(struct slot *slot)
{
	__u64 now = host_monotonic_ns(), wait_us;
	int err;

	if (!slot->next || slot->current || slot->ready)
		return;
	if (slot->due_ns <= now) {
		make_ready(slot);
		return;
	}
	wait_us = (slot->due_ns - now) / 1000 + 1;
	if (!slot->timer) {
		err = sd_event_add_time_relative(slot->rule->actions->loop, &slot->timer, CLOCK_MONOTONIC, wait_us, 1000,
						 on_due, slot);
	} else {
		err = sd_event_source_set_time_relative(slot->timer, wait_us);
		if (err >= 0)
			err = sd_event_source_set_enabled(slot->timer, SD_EVENT_ONESHOT);
	}
	if (err < 0)
		make_ready(slot); /* too early rather than never */
}

/* ---- attempts -------------------------------------------------------------------------------------------------- */

/* Out of something that others may give back. */
static bool error_passes(int error)
{
	return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE || error == ETXTBSY;
}

static __u64 backoff_ns(const struct rule *rule, __u32 attempt)
{
	__u64 ms = rule->settings.retry_ms;

	for (__u32 i = 1; i < attempt && ms < RETRY_MAX_MS; i++)
		ms *= 2;
	return (ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS) * 1000000;
}

/* What `current` came to; another attempt of it is made unless a newer event waits. */
static void slot_ended(struct slot *slot, struct events_action *end)
{
	bool again = end->outcome == EVENTS_OUTCOME_FAILED || end->outcome == EVENTS_OUTCOME_TIMEOUT ||
		     (end->outcome == EVENTS_OUTCOME_ERROR && error_passes(end->error));
	struct rule *rule = slot->rule;
	struct job *job = slot->current;

	slot->current = NULL;
	end->attempt = job->attempt;
	tell(rule, &job->event, job->policy, end);
	if (again && !slot->next && !rule->retired && job->attempt <= rule->settings.retries) {
		slot->next = job;
		slot->due_ns = host_monotonic_ns() + backoff_ns(rule, job->attempt);
		job->attempt++;
	} else {
		free(job);
	}
	slot_schedule(slot);
}

static void on_ended(void *arg, const struct events_action *end)
{
	struct slot *slot = arg;
	struct events_action own = *end;

	slot->process = NULL;
	slot->rule->running--;
	slot->rule->actions->running--;
	sd_event_source_set_enabled(slot->rule->actions->starter, SD_EVENT_ONESHOT);
	slot_ended(slot, &own);
}

static void slot_start(struct slot *slot)
{
	struct rule *rule = slot->rule;
	struct events_action end = { .outcome = EVENTS_OUTCOME_ERROR };
	struct job *job = slot->next;
	char **env;
	int err;

	slot->current = job;
	slot->next = NULL;
	slot->started_ns = host_monotonic_ns();
	TAILQ_REMOVE(&rule->all, slot, in_all);
	TAILQ_INSERT_TAIL(&rule->all, slot, in_all);
	env = action_env(rule->actions->instance, &job->event, job->policy, job->attempt);
	err = env ? action_process_start(rule->actions->loop, rule->settings.run, env, job->line, job->length,
					 rule->settings.timeout_ms, on_ended, slot, &slot->process, &end.why) :
		    -ENOMEM;
	action_env_free(env);
	if (err) {
		end.error = -err;
		slot_ended(slot, &end);
		return;
	}
	rule->running++;
	rule->actions->running++;
}

/* ---- rules ----------------------------------------------------------------------------------------------------- */

struct rule *rule_new(struct actions *actions, const struct outlet_action *settings)
{
	struct rule *rule = calloc(1, sizeof(*rule));

	if (!rule || outlet_action_copy(settings, &rule->settings)) {
		free(rule);
		return NULL;
	}
	rule->actions = actions;
	TAILQ_INIT(&rule->all);
	TAILQ_INIT(&rule->ready);
	return rule;
}

static struct job *job_new(const struct event *event, const char *policy, const char *line, size_t length)
{
	struct job *job = calloc(1, sizeof(*job) + length);

	if (!job)
		return NULL;
	job->event = *event;
	job->event.action = NULL;
	if (policy)
		snprintf(job->policy, sizeof(job->policy), "%s", policy);
	job->attempt = 1;
	job->length = length;
	memcpy(job->line, line, length);
	return job;
}

static struct slot_key key_of(const struct event *event, const char *policy)
{
	const struct sipkeep_record *record = &event->record;
	unsigned int has = events_has(event->kind);
	struct slot_key key;

	memset(&key, 0, sizeof(key)); /* compared as bytes */
	if (policy)
		snprintf(key.policy, sizeof(key.policy), "%s", policy);
	if (has & (EVENTS_HAS_REMOTE | EVENTS_HAS_SOURCE)) {
		key.addr = record->remote;
	} else if (has & EVENTS_HAS_LOCAL) {
		key.addr = record->local;
		key.port = record->local_port;
	}
	return key;
}

void rule_event(struct rule *rule, const struct event *event, const char *policy, const char *line, size_t length)
{
	struct slot_key key = key_of(event, policy);
	struct slot *slot = slot_get(rule, &key);
	struct job *job = slot ? job_new(event, policy, line, length) : NULL;

	if (!job) {
		skip(rule, event, policy);
		return;
	}
	free(slot->next); /* an older event, or a retry */
	slot->next = job;
	slot->due_ns = slot->started_ns ? slot->started_ns + debounce_ns(rule) : 0;
	slot_schedule(slot);
}

bool rule_start(struct rule *rule)
{
	struct slot *slot = TAILQ_FIRST(&rule->ready);

	if (!slot)
		return false;
	TAILQ_REMOVE(&rule->ready, slot, in_ready);
	slot->ready = false;
	slot_start(slot);
	return true;
}

void rule_retire(struct rule *rule)
{
	struct slot *slot, *following;

	rule->retired = true;
	for (slot = TAILQ_FIRST(&rule->all); slot; slot = following) {
		following = TAILQ_NEXT(slot, in_all);
		if (slot->next) {
			rule->skipped++;
			rule->skipped_event = slot->next->event;
			memcpy(rule->skipped_policy, slot->next->policy, sizeof(rule->skipped_policy));
			free(slot->next);
			slot->next = NULL;
		}
		if (!slot->current)
			slot_free(slot);
	}
	tell_skipped(rule);
}

size_t rule_running(struct rule *rule, struct action_process **list, size_t count)
{
	struct slot *slot;
	size_t found = 0;

	TAILQ_FOREACH(slot, &rule->all, in_all)
		if (slot->process && found < count)
			list[found++] = slot->process;
	return found;
}

void rule_free(struct rule *rule)
{
	struct slot *slot;

	while ((slot = TAILQ_FIRST(&rule->all)))
		slot_free(slot);
	sd_event_source_disable_unref(rule->skipped_timer);
	outlet_action_free(&rule->settings);
	free(rule);
}
