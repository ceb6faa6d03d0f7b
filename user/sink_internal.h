/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_internal.h: shared by the files that make up sink.h, included by nobody else (but the tests of its parts).
 *
 *   sink.c          which type, and what they have in common
 *   sink_file.c     jsonl
 *   sink_journal.c  journald: the queue and the thread
 *   sink_entry.c    a line -> the fields of a journal entry
 *   sink_socket.c   socket: who is connected
 *   sink_feed.c     the lines of the last moments, and how far each reader is with them
 */
#ifndef SIPKEEP_SINK_INTERNAL_H
#define SIPKEEP_SINK_INTERNAL_H

#include "sink.h"

/* A NULL is a call that does nothing and returns 0 (fd: -1). */
struct sink_calls {
	__u64 (*close)(struct sink *sink);
	int (*put)(struct sink *sink, const struct event *event, const char *line, size_t length,
		   struct output_mark mark);
	int (*write)(struct sink *sink, struct output_mark *ret_mark);
	int (*error)(const struct sink *sink);
	size_t (*waiting)(const struct sink *sink); /* only those that hold have it */
	int (*reopen)(struct sink *sink, struct failure *failure);
	int (*fd)(const struct sink *sink);
	void (*ready)(struct sink *sink);
	__u64 (*dropped)(const struct sink *sink);
};

/* First member of each type's own struct, which close() frees. */
struct sink {
	const struct sink_calls *calls;
	char *name;
};

/* Each makes its own struct, with calls set; *failure need not name the sink. */
int sink_file_open(const struct outlet_sink *settings, struct sink **ret_sink, struct failure *failure);
int sink_journal_open(const char *instance, struct sink **ret_sink, struct failure *failure);
int sink_socket_open(const struct outlet_sink *settings, struct sink **ret_sink, struct failure *failure);

#endif
