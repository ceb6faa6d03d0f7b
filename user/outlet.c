// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "outlet.h"

void outlet_action_free(struct outlet_action *action)
{
	for (char **argument = action->run; argument && *argument; argument++)
		free(*argument);
	free(action->run);
	free(action->policy);
	memset(action, 0, sizeof(*action));
}

int outlet_action_copy(const struct outlet_action *action, struct outlet_action *ret_copy)
{
	struct outlet_action copy = *action;
	size_t count = 0;

	while (action->run[count])
		count++;
	copy.policy = action->policy ? strdup(action->policy) : NULL;
	copy.run = calloc(count + 1, sizeof(*copy.run));
	if (!copy.run || (action->policy && !copy.policy))
		goto fail;
	for (size_t i = 0; i < count; i++) {
		copy.run[i] = strdup(action->run[i]);
		if (!copy.run[i])
			goto fail;
	}
	*ret_copy = copy;
	return 0;
fail:
	outlet_action_free(&copy);
	return -ENOMEM;
}

bool outlet_action_equal(const struct outlet_action *a, const struct outlet_action *b)
{
	size_t i = 0;

	if (a->on != b->on || a->timeout_ms != b->timeout_ms || a->debounce_ms != b->debounce_ms ||
	    a->retries != b->retries || a->retry_ms != b->retry_ms || !a->policy != !b->policy ||
	    (a->policy && strcmp(a->policy, b->policy)))
		return false;
	while (a->run[i] && b->run[i] && !strcmp(a->run[i], b->run[i]))
		i++;
	return !a->run[i] && !b->run[i];
}

void outlets_free(struct outlets *outlets)
{
	for (size_t i = 0; i < outlets->sink_count; i++)
		free(outlets->sinks[i].path);
	for (size_t i = 0; i < outlets->action_count; i++)
		outlet_action_free(&outlets->actions[i]);
	free(outlets->sinks);
	free(outlets->actions);
	memset(outlets, 0, sizeof(*outlets));
}

struct outlets *outlets_take(struct outlets *from)
{
	struct outlets *outlets = malloc(sizeof(*outlets));

	if (!outlets)
		return NULL;
	*outlets = *from;
	memset(from, 0, sizeof(*from));
	return outlets;
}

void outlets_delete(struct outlets *outlets)
{
	if (outlets)
		outlets_free(outlets);
	free(outlets);
}
