/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * action.h: starts the executables that the config names for events, and tells how they ended. No shell, a cleared
 * environment with SIPKEEP_*, the event's line on stdin, stdout and stderr to ours. Whatever happens to them, events and
 * enforcement go on.
 */
#ifndef SIPKEEP_ACTION_H
#define SIPKEEP_ACTION_H

#include <systemd/sd-event.h>
#include "events.h"
#include "failure.h"
#include "outlet.h"

struct actions;

/*
 * settings: must outlive it. outcome() is told the end of each attempt (EVENTS_ACTION, `record` being that of the event
 * that it was for), and of those that were not made because of the cap. Needs SIGCHLD blocked (sd-event's children).
 */
int actions_open(const struct outlets *settings, const char *instance, sd_event *loop,
		 void (*outcome)(void *arg, const struct event *event), void *arg, struct actions **ret_actions,
		 struct failure *failure);

/* Kills what still runs, and waits for it; NULL is fine. */
void actions_close(struct actions *actions);

/* Starts those that are for this event; policy: its name, or NULL. line: its JSON, newline included. */
void actions_event(struct actions *actions, const struct event *event, const char *policy, const char *line,
		   size_t length);

#endif
