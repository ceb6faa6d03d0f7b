// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "action_internal.h"

#define ENTRIES_MAX 16
/* As systemd gives its services. */
#define PATH_ENTRY "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct env {
	char **list;
	size_t count;
	bool failed;
};

void action_env_free(char **env)
{
	for (char **entry = env; entry && *entry; entry++)
		free(*entry);
	free(env);
}

/* value NULL: the event doesn't have it. */
static void add(struct env *env, const char *name, const char *value)
{
	char *entry;

	if (!value)
		return;
	if (asprintf(&entry, "%s=%s", name, value) < 0)
		env->failed = true;
	else
		env->list[env->count++] = entry;
}

static void add_endpoints(struct env *env, const struct event *event)
{
	const struct sipkeep_record *record = &event->record;
	unsigned int has = events_has(event->kind);
	char text[160];

	if (has & EVENTS_HAS_LOCAL)
		add(env, "SIPKEEP_LOCAL", events_endpoint(&record->local, record->local_port, text));
	/* Outbound, what is refused has a destination. */
	if (has & EVENTS_HAS_REMOTE || (has & EVENTS_HAS_SOURCE && record->direction == SIPKEEP_OUTBOUND))
		add(env, "SIPKEEP_REMOTE", events_endpoint(&record->remote, record->remote_port, text));
	else if (has & EVENTS_HAS_SOURCE)
		add(env, "SIPKEEP_REMOTE", events_source(record, text));
}

char **action_env(const char *instance, const struct event *event, const char *policy, __u32 attempt)
{
	static const char *const closers[] = { NULL, "local", "remote" };
	const struct sipkeep_record *record = &event->record;
	struct env env = { .list = calloc(ENTRIES_MAX, sizeof(*env.list)) };
	unsigned int has = events_has(event->kind);
	char text[32];

	if (!env.list)
		return NULL;
	env.list[env.count++] = strdup(PATH_ENTRY);
	env.failed = !env.list[0];
	add(&env, "SIPKEEP_EVENT", events_kind_name(event->kind));
	add(&env, "SIPKEEP_INSTANCE", instance);
	if (has & EVENTS_HAS_ID)
		add(&env, "SIPKEEP_ID", events_id(record->cookie, record->generation, text));
	if (has & EVENTS_HAS_POLICY) {
		add(&env, "SIPKEEP_POLICY", policy);
		add(&env, "SIPKEEP_DIRECTION", events_direction(record->direction));
	}
	add_endpoints(&env, event);
	if (has & EVENTS_HAS_REASON) {
		add(&env, "SIPKEEP_REASON", events_reason(record->reason));
		add(&env, "SIPKEEP_CLOSED_BY", closers[record->closed_by]);
	}
	add(&env, "SIPKEEP_CAUSE", events_cause(event->cause));
	snprintf(text, sizeof(text), "%u", attempt);
	add(&env, "SIPKEEP_ATTEMPT", text);
	if (!env.failed)
		return env.list;
	action_env_free(env.list);
	return NULL;
}
