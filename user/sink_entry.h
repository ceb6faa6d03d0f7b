/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_entry.h: an event's line -> the fields of a journal entry. Pure.
 *
 * Every key of the line becomes a field of its name in capitals behind SIPKEEP_ (`closed_by`: SIPKEEP_CLOSED_BY), null
 * none; with them come MESSAGE (a sentence), MESSAGE_ID, PRIORITY, SYSLOG_IDENTIFIER and SIPKEEP_INSTANCE.
 */
#ifndef SIPKEEP_SINK_ENTRY_H
#define SIPKEEP_SINK_ENTRY_H

#include <linux/types.h>
#include <stddef.h>
#include <sys/uio.h>

#define SINK_ENTRY_FIELDS 48

struct sink_entry {
	struct iovec fields[SINK_ENTRY_FIELDS]; /* "NAME=value", into text; as sd_journal_sendv() wants them */
	int count;
	size_t used;
	char text[8192];
};

/* What doesn't fit, or isn't JSON, is left out; MESSAGE is always there. */
void sink_entry_make(struct sink_entry *entry, const char *instance, const char *line, size_t length);

/* The sink's own: `count` events were dropped, for this reason. */
void sink_entry_lost(struct sink_entry *entry, const char *instance, __u64 count);

#endif
