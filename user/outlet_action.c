/* SPDX-License-Identifier: GPL-2.0-only */
/* outlet_action.c: one action as a value, and in the words of the config file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "events.h"
#include "literal.h"
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

static void print_seconds(FILE *out, const char *key, __u32 ms)
{
	fprintf(out, "    %s = ", key);
	literal_number(out, ms / 1000.0);
	fputs(";  # seconds\n", out);
}

static void print_action(const struct outlet_action *action, FILE *out)
{
	const char *comma = "";

	fputs("  {\n    on = [", out);
	for (unsigned int kind = 0; kind < EVENTS_KIND_MAX; kind++) {
		if (!(action->on & 1ULL << kind))
			continue;
		fprintf(out, "%s ", comma);
		literal_string(out, events_kind_name(kind));
		comma = ",";
	}
	fputs(" ];\n", out);
	if (action->policy) {
		fputs("    policy = ", out);
		literal_string(out, action->policy);
		fputs(";\n", out);
	}
	fputs("    run = [", out);
	for (char **argument = action->run; *argument; argument++) {
		fputs(argument == action->run ? " " : ", ", out);
		literal_string(out, *argument);
	}
	fputs(" ];\n", out);
	print_seconds(out, "timeout", action->timeout_ms);
	print_seconds(out, "debounce", action->debounce_ms);
	fprintf(out, "    retries = %u;\n", action->retries);
	print_seconds(out, "retry_after", action->retry_ms);
	fputs("  }", out);
}

void outlet_actions_print(const struct outlets *outlets, FILE *out)
{
	if (!outlets->action_count)
		return;
	fputs("actions = (\n", out);
	for (size_t i = 0; i < outlets->action_count; i++) {
		print_action(&outlets->actions[i], out);
		fputs(i + 1 < outlets->action_count ? ",\n" : "\n", out);
	}
	fprintf(out, ");\nmax_actions = %u;\n", outlets->max_actions);
}
