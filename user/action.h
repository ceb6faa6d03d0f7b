/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * action.h: starts the executables that the config names for events, and tells how they ended. No shell, a cleared
 * environment with SIPKEEP_*, the event's line on stdin, stdout and stderr to our stderr. Whatever happens to them, events
 * and enforcement go on: nothing here waits, but actions_close().
 *
 * Per action, policy and remote address, one runs at a time. An event that comes while it runs, or sooner after its start
 * than `debounce`, starts it when that is over: once for all of them, for the newest. So does an event take the place of a
 * retry that waits. At most max_actions run at a time, the actions taking turns; who waits is bounded, and what finds no
 * room is told as `skipped`.
 */
#ifndef SIPKEEP_ACTION_H
#define SIPKEEP_ACTION_H

#include <systemd/sd-event.h>
#include "events.h"
#include "failure.h"
#include "outlet.h"

struct actions;

/*
 * outcome() is told the end of each attempt, and of those that were not made, as EVENTS_ACTION; never from within
 * actions_event(), but from the loop, actions_reload() and actions_close(). Its event has all that events_encode() needs.
 * settings are copied. Needs SIGCHLD blocked (sd-event's children).
 */
int actions_open(const struct outlets *settings, const char *instance, sd_event *loop,
		 void (*outcome)(void *arg, const struct event *event), void *arg, struct actions **ret_actions,
		 struct failure *failure);

/*
 * Other settings come into force. What an action that is in both waits for, runs and remembers stays; one that isn't any
 * more starts nothing new. 0, or -ENOMEM: nothing changes.
 */
int actions_reload(struct actions *actions, const struct outlets *settings);

/* Ends what still runs: SIGTERM, two seconds later SIGKILL; waits for it up to three; NULL is fine. */
void actions_close(struct actions *actions);

/* Starts those that are for this event; policy: its name, or NULL. line: its JSON, newline included. */
void actions_event(struct actions *actions, const struct event *event, const char *policy, const char *line,
		   size_t length);

#endif
