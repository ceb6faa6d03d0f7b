/* SPDX-License-Identifier: GPL-2.0-only */
/* config_report.c: what is wrong with a config, as the verbs that read one tell it. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "command.h"

#include "config_report.h"

/* JSON is UTF-8; a path or a string of the file need not be. */
static json_t *text_to_json(const char *text)
{
	json_t *json = json_string(text);
	char *ascii;

	if (json)
		return json;
	ascii = strdup(text);
	if (!ascii)
		return NULL;
	for (char *c = ascii; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	json = json_string(ascii);
	free(ascii);
	return json;
}

static int print_json(const char *path, const struct config_errors *errors)
{
	json_t *list = json_array(), *document;
	int err;

	for (size_t i = 0; i < errors->count; i++)
		json_array_append_new(list, json_pack("{s:o, s:i, s:o}", "file", text_to_json(path), "line",
						      errors->list[i].line, "error",
						      text_to_json(errors->list[i].text)));
	document = json_pack("{s:i, s:b, s:o}", "v", 1, "ok", 0, "errors", list);
	if (!document)
		return -ENOMEM;
	err = json_dumpf(document, stdout, JSON_COMPACT) || putchar('\n') == EOF ? -EIO : 0;
	json_decref(document);
	return err;
}

static void print_text(const char *path, const struct config_errors *errors)
{
	for (size_t i = 0; i < errors->count; i++) {
		if (errors->list[i].line)
			fprintf(stderr, "%s:%d: %s\n", path, errors->list[i].line, errors->list[i].text);
		else
			fprintf(stderr, "%s: %s\n", path, errors->list[i].text);
	}
}

void config_report(const char *path, bool json, const struct config_errors *errors)
{
	if (!json || print_json(path, errors))
		print_text(path, errors);
}

int config_load_or_report(const char *path, bool json, struct policy_set *ret_set)
{
	struct config_errors errors = { 0 };
	int err = config_load(path, ret_set, &errors);

	if (!err)
		return 0;
	config_report(path, json, &errors);
	config_errors_free(&errors);
	return err == -ENOMEM ? SIPKEEP_EXIT_FAILED : SIPKEEP_EXIT_USAGE;
}
