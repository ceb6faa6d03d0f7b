// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include "action.h"

int actions_open(const struct outlets *settings, const char *instance, sd_event *loop,
		 void (*outcome)(void *arg, const struct event *event), void *arg, struct actions **ret_actions,
		 struct failure *failure)
{
	(void)settings;
	(void)instance;
	(void)loop;
	(void)outcome;
	(void)arg;
	(void)ret_actions;
	return failure_set(failure, -ENOTSUP, "actions can't be started yet");
}

void actions_close(struct actions *actions)
{
	(void)actions;
}

void actions_event(struct actions *actions, const struct event *event, const char *policy, const char *line, size_t length)
{
	(void)actions;
	(void)event;
	(void)policy;
	(void)line;
	(void)length;
}
