/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * config_internal.h: shared by the files that make up config.h, included by nobody else.
 *
 *   config_scan.c     what libconfig 1.5 gets wrong without saying so, put right in the text before it parses it
 *   config_setting.c  one setting -> one checked value
 *   config_policy.c   one group of `policies` -> struct policy
 *   config_action.c   `actions` -> struct outlet_action
 *   config_sink.c     the groups of `sinks` -> struct outlet_sink
 *   config_top.c      the top level, and what holds between policies
 *   config.c          the file and its text; the list of errors
 */
#ifndef SIPKEEP_CONFIG_INTERNAL_H
#define SIPKEEP_CONFIG_INTERNAL_H

#include <libconfig.h>
#include "config.h"

struct config_reader {
	struct config_errors *errors;
	int failed; /* -ENOMEM once something could not be allocated: what was read is not to be used */
	int *string_lines; /* of every string in the text, in its order: from config_scan(), for config_scan_lines() */
	size_t string_count;
};

/* Adds an error in the order of lines; those of one line stay in the order they were found. */
void config_error_add(struct config_reader *reader, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* text, or its beginning, with control characters escaped: fit for a terminal. Returns buf. */
#define CONFIG_QUOTE_LEN 96
const char *config_quote(const char *text, char *buf);

/* ---- config_scan.c ---- */

/*
 * Looks for what libconfig would take silently, and reports it: `@include` (it would open that file), comments and
 * strings without an end. Whole numbers that don't fit an int, which it would wrap around, are rewritten in place
 * as the nearest that does: out of range for every key, so the key's own check tells. False when something was
 * reported; the text is then not to be parsed.
 */
bool config_scan(struct config_reader *reader, char *text);

/* Gives the strings under root the lines they stand in: libconfig 1.5 notes the line of what follows them. */
void config_scan_lines(const struct config_reader *reader, config_setting_t *root);

/* The one key that is set on this line, in buf; NULL when there is none or more than one. */
const char *config_scan_key(const char *text, int line, char buf[CONFIG_QUOTE_LEN]);

/* ---- config_setting.c: each tells what is wrong and returns false, and leaves *ret_x alone then ---- */

/* An entry of the table of keys that a group may have. */
struct config_key {
	const char *name;
	/* NULL: belongs to a later version. state: what the table's owner passes to config_keys_read(). */
	void (*read)(struct config_reader *reader, const config_setting_t *setting, void *state);
	enum { CONFIG_KEY_BOTH, CONFIG_KEY_INBOUND, CONFIG_KEY_OUTBOUND } only;
};

/*
 * The entry for a setting of a group; NULL after telling that there is none, with the nearest name. elsewhere: the
 * keys of the other kind of group, which stands at `place`.
 */
const struct config_key *config_key_find(struct config_reader *reader, const config_setting_t *setting,
					 const struct config_key *keys, size_t key_count,
					 const struct config_key *elsewhere, size_t elsewhere_count, const char *place);

/* unit: " seconds", or "". */
bool config_get_whole(struct config_reader *reader, const config_setting_t *setting, __u32 min, __u32 max,
		      const char *unit, __u32 *ret_value);
bool config_get_bool(struct config_reader *reader, const config_setting_t *setting, bool *ret_value);
/* Whole or with a fraction; the caller checks the range. */
bool config_get_number(struct config_reader *reader, const config_setting_t *setting, double *ret_value);
bool config_get_string(struct config_reader *reader, const config_setting_t *setting, const char **ret_value);
/* One of two words: *ret_second says which. */
bool config_get_choice(struct config_reader *reader, const config_setting_t *setting, const char *first,
		       const char *second, bool *ret_second);
/* An array or list, of what `example` shows. */
bool config_get_array(struct config_reader *reader, const config_setting_t *setting, const char *example);
/* *ret_ports is the caller's to free; ascending, no doubles. */
bool config_get_ports(struct config_reader *reader, const config_setting_t *setting, __u16 **ret_ports,
		      size_t *ret_count);
/* *ret_prefixes is the caller's to free; in policy_prefix_compare() order, no doubles. */
bool config_get_prefixes(struct config_reader *reader, const config_setting_t *setting,
			 struct policy_prefix **ret_prefixes, size_t *ret_count);

/* ---- config_top.c ---- */

/* Fills *set, which the caller zeroed and frees. */
void config_top_read(struct config_reader *reader, const config_setting_t *root, struct policy_set *set);

extern const struct config_key config_top_keys[];
extern const size_t config_top_key_count;

/* ---- config_policy.c ---- */

/*
 * Fills *policy, which the caller zeroed and frees, from a group of `policies`. *ret_matchable: direction, ports and
 * remotes are right, so that it can be compared with the others.
 */
void config_policy_read(struct config_reader *reader, const config_setting_t *group, struct policy *policy,
			bool *ret_matchable);

extern const struct config_key config_policy_keys[];
extern const size_t config_policy_key_count;

/* ---- config_action.c ---- */

void config_actions_read(struct config_reader *reader, const config_setting_t *setting, void *set);
void config_max_actions_read(struct config_reader *reader, const config_setting_t *setting, void *set);

/* What holds between actions and policies, once both are read. */
void config_actions_check(struct config_reader *reader, const config_setting_t *root, const struct policy_set *set);

/* ---- config_sink.c ---- */

/* Reads `sinks` into *outlets, whose owner frees what is there even after an error. */
void config_sinks_read(struct config_reader *reader, const config_setting_t *setting, struct outlets *outlets);

extern const struct config_key config_sink_keys[];
extern const size_t config_sink_key_count;

#endif
