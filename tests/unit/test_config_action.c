/* SPDX-License-Identifier: GPL-2.0-only */
/* test_config_action.c: `actions` and `max_actions`: every wrong value with its line; what right ones become. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "config.h"
#include "events.h"

#define POLICIES \
	"policies = ( { name = \"phones\"; direction = \"inbound\"; }, { name = \"carrier\"; direction = \"outbound\"; } );\n"

static char *text_of(const char *format, const char *value)
{
	char *text;

	assert_true(asprintf(&text, "%s%s%s", POLICIES, format, value) >= 0);
	return text;
}

/* Exactly one error, in this line. */
static void expect(int line, const char *text, const char *part)
{
	struct policy_set set = { 0 };
	struct config_errors errors = { 0 };

	assert_int_equal(config_parse(text, &set, &errors), -EINVAL);
	for (size_t i = 0; i < errors.count; i++)
		if (i || errors.list[i].line != line || !strstr(errors.list[i].text, part))
			fail_msg("wanted %d: %s\ngot %d: %s\n%s", line, part, errors.list[i].line, errors.list[i].text,
				 text);
	assert_int_equal(errors.count, 1);
	config_errors_free(&errors);
}

/* At the top, in line 2. */
static void wrong_top(const char *setting, const char *part)
{
	char *text = text_of("", setting);

	expect(2, text, part);
	free(text);
}

/* One key of an action that is otherwise right, in line 3. */
static void wrong(const char *setting, const char *part)
{
	char *text = text_of("actions = ( { on = [ \"wedged\" ]; run = [ \"/bin/true\" ];\n", setting), *whole;

	assert_true(asprintf(&whole, "%s } );\n", text) >= 0);
	expect(3, whole, part);
	free(whole);
	free(text);
}

/* `on` or `run` themselves, in line 3 (the other is right). */
static void wrong_on(const char *value, const char *part)
{
	char *text;

	assert_true(asprintf(&text, "%sactions = ( { run = [ \"/bin/true\" ];\non = %s; } );\n", POLICIES, value) >= 0);
	expect(3, text, part);
	free(text);
}

static void wrong_run(const char *value, const char *part)
{
	char *text;

	assert_true(asprintf(&text, "%sactions = ( { on = [ \"wedged\" ];\nrun = %s; } );\n", POLICIES, value) >= 0);
	expect(3, text, part);
	free(text);
}

static void parse(const char *settings, struct policy_set *set)
{
	struct config_errors errors = { 0 };
	char *text = text_of("", settings);

	if (config_parse(text, set, &errors))
		fail_msg("%d: %s\n%s", errors.list[0].line, errors.list[0].text, text);
	free(text);
}

/* ---- right ones ------------------------------------------------------------------------------------------------ */

static void defaults(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	const struct outlet_action *action;

	(void)state;
	parse("\nactions = ( { on = [ \"wedged\" ];\nrun = [ \"/bin/true\" ]; } );", &set);
	assert_int_equal(set.outlets.max_actions, 8);
	assert_int_equal(set.outlets.action_count, 1);
	action = set.outlets.actions;
	assert_int_equal(action->line, 3);
	assert_int_equal(action->on, 1ULL << EVENTS_WEDGED);
	assert_null(action->policy);
	assert_string_equal(action->run[0], "/bin/true");
	assert_null(action->run[1]);
	assert_int_equal(action->timeout_ms, 10000);
	assert_int_equal(action->debounce_ms, 5000);
	assert_int_equal(action->retries, 3);
	assert_int_equal(action->retry_ms, 1000);
}

static void none(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 }, empty CLEANUP_POLICY_SET = { 0 };

	(void)state;
	parse("", &set);
	assert_int_equal(set.outlets.action_count, 0);
	assert_int_equal(set.outlets.max_actions, 8);
	parse("actions = ( ); max_actions = 64;", &empty);
	assert_int_equal(empty.outlets.action_count, 0);
	assert_int_equal(empty.outlets.max_actions, 64);
}

static char *print(const struct policy_set *set)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	policy_print(set, out);
	fclose(out);
	return text;
}

static void what_is_printed_is_read(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 }, again CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	char *text, *second;

	(void)state;
	parse("max_actions = 1; actions = ( { on = ( \"stale_contact\", \"lost\", \"listener_restart\", \"full\", \"mode\" );\n"
	      "run = [ \"/opt/a b\", \"\", \"a \\\"b\\\" \\\\ $HOME\\n\\x1b\", \"\xc3\xbc\" ];\n"
	      "timeout = 0.1; debounce = 0; retries = 0; retry_after = 3600; },\n"
	      "{ on = [ \"wedged\", \"disconnected\" ]; policy = \"carrier\"; run = [ \"/bin/true\" ];\n"
	      "timeout = 3600; debounce = 0.125; retries = 10; retry_after = 0.1; } );",
	      &set);
	assert_int_equal(set.outlets.actions[0].debounce_ms, 0);
	assert_int_equal(set.outlets.actions[0].retries, 0);
	assert_int_equal(set.outlets.actions[1].timeout_ms, 3600000);
	assert_string_equal(set.outlets.actions[1].policy, "carrier");
	assert_string_equal(set.outlets.actions[0].run[2], "a \"b\" \\ $HOME\n\x1b");
	text = print(&set);
	if (config_parse(text, &again, &errors))
		fail_msg("%d: %s\n%s", errors.list[0].line, errors.list[0].text, text);
	assert_int_equal(again.outlets.max_actions, 1);
	assert_int_equal(again.outlets.action_count, 2);
	for (size_t i = 0; i < 2; i++)
		assert_true(outlet_action_equal(&set.outlets.actions[i], &again.outlets.actions[i]));
	second = print(&again);
	assert_string_equal(text, second);
	free(text);
	free(second);
}

/* Those in deploy/actions, as they are. */
static void examples_are_right(void **state)
{
	static const char *const names[] = { "asterisk", "kamailio", "freeswitch" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		char path[128], text[4096] = "";
		FILE *file;

		snprintf(path, sizeof(path), "%.*sdeploy/actions/%s.conf",
			 (int)(strlen(__FILE__) - strlen("tests/unit/test_config_action.c")), __FILE__, names[i]);
		file = fopen(path, "re");
		if (!file)
			fail_msg("%s: %s", path, strerror(errno));
		assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
		fclose(file);
		parse(text, &set);
		assert_int_equal(set.outlets.action_count, 1);
		assert_int_equal(set.outlets.actions[0].on, 1ULL << EVENTS_WEDGED);
	}
}

/* ---- wrong ones ------------------------------------------------------------------------------------------------ */

static void wrong_lists(void **state)
{
	(void)state;
	wrong_top("actions = [ ];", "'actions' wants a list of groups");
	wrong_top("actions = { on = [ \"wedged\" ]; };", "'actions' wants a list of groups, as in actions = ( {");
	wrong_top("actions = ( 3 );", "'actions' wants groups");
	wrong_top("max_actions = 0;", "'max_actions' must be from 1 to 64, not 0");
	wrong_top("max_actions = 65;", "'max_actions' must be from 1 to 64, not 65");
	wrong_top("max_actions = \"8\";", "'max_actions' wants a whole number from 1 to 64");
	wrong_top("max_action = 8;", "did you mean 'max_actions'?");
	wrong_top("action = ( );", "did you mean 'actions'?");
	wrong_top("actions = ( { run = [ \"/bin/true\" ]; } );", "this action has no 'on'");
	wrong_top("actions = ( { on = [ \"wedged\" ]; } );", "this action has no 'run'");
}

static void too_many(void **state)
{
	char text[8192] = POLICIES "actions = ( ";

	(void)state;
	for (int i = 0; i < OUTLET_ACTIONS_MAX + 1; i++)
		sprintf(text + strlen(text), "%s{ on = [ \"wedged\" ]; run = [ \"/bin/%d\" ]; }", i ? "," : "", i);
	strcat(text, " );");
	expect(2, text, "'actions' may have up to 64 actions, not 65");
}

static void wrong_kinds(void **state)
{
	(void)state;
	wrong_on("\"wedged\"", "'on' wants an array, as in on = [ \"wedged\" ]");
	wrong_on("[ ]", "'on' is empty");
	wrong_on("[ 3 ]", "'on' wants names of events as strings");
	wrong_on("[ \"wedge\" ]", "'on': there is no event \"wedge\"; there are connected, disconnected,");
	wrong_on("[ \"\\x1b\" ]", "there is no event \"\\x1b\"");
	wrong_on("[ \"wedged\", \"wedged\" ]", "'on' lists \"wedged\" twice");
	wrong_on("[ \"action\" ]", "'on': an action's own outcome starts none");
	wrong_on("[ \"wedged\", \"action\" ]", "remove \"action\"");
}

static void wrong_commands(void **state)
{
	char text[1024];

	(void)state;
	wrong_run("\"/bin/true\"", "'run' wants an array, as in run = [ \"/usr/sbin/asterisk\", \"-rx\",");
	wrong_run("[ ]", "'run' must have 1 to 64 strings");
	wrong_run("[ 3 ]", "'run' wants the executable and its arguments as strings");
	wrong_run("( \"/bin/sleep\", 10 )", "'run' wants the executable and its arguments as strings, as in \"10\"");
	wrong_run("[ \"asterisk\" ]", "\"asterisk\" must be an absolute path");
	wrong_run("[ \"./asterisk -rx\" ]", "must be an absolute path");
	wrong_run("[ \"\" ]", "must be an absolute path");
	wrong_run("[ \"/bin/\xc3\xbc\" ]", "printable ASCII");
	wrong_run("[ \"/bin/a\\nb\" ]", "\"/bin/a\\x0ab\" may have printable ASCII characters only");
	snprintf(text, sizeof(text), "[ \"/%0255d\" ]", 0);
	wrong_run(text, "longer than 255 bytes");
	strcpy(text, "[ \"/a\"");
	for (int i = 0; i < 64; i++)
		strcat(text, ", \"x\"");
	strcat(text, " ]");
	wrong_run(text, "'run' must have 1 to 64 strings");
}

static void wrong_policies(void **state)
{
	(void)state;
	wrong("policy = \"carriers\";", "'policy': there is no policy \"carriers\" in this file");
	wrong("policy = \"\";", "'policy': there is no policy \"\"");
	wrong("policy = [ \"carrier\" ];", "'policy' wants a string, not an array");
	wrong("policy = \"phones\";", "'policy' is \"phones\", which is inbound; \"wedged\" tells of connections");
	expect(3,
	       POLICIES "actions = ( { on = [ \"disconnected\", \"listener_down\" ]; run = [ \"/bin/true\" ];\n"
			"policy = \"phones\"; } );",
	       "a \"listener_down\" event belongs to no policy");
	/* Whatever stands first in the file. */
	expect(1,
	       "actions = ( { on = [ \"refused\" ]; run = [ \"/bin/true\" ]; policy = \"phone\"; },\n"
	       "{ on = [ \"refused\" ]; run = [ \"/bin/true\" ]; policy = \"phones\"; } );\n" POLICIES,
	       "there is no policy \"phone\"");
}

static void wrong_numbers(void **state)
{
	(void)state;
	wrong("timeout = 0;", "'timeout' must be from 0.1 to 3600 seconds");
	wrong("timeout = 3601;", "'timeout' must be from 0.1 to 3600 seconds");
	wrong("timeout = \"10s\";", "'timeout' wants a number, not a string");
	wrong("debounce = -1;", "'debounce' must be from 0 to 86400 seconds");
	wrong("debounce = 86400.5;", "'debounce' must be from 0 to 86400 seconds");
	wrong("debounce = true;", "'debounce' wants a number");
	wrong("retries = -1;", "'retries' must be from 0 to 10, not -1");
	wrong("retries = 11;", "'retries' must be from 0 to 10, not 11");
	wrong("retries = 1.5;", "'retries' wants a whole number");
	wrong("retry_after = 0;", "'retry_after' must be from 0.1 to 3600 seconds");
	wrong("retry_after = 3600.1;", "'retry_after' must be from 0.1 to 3600 seconds");
	wrong("retry_after = [ 1 ];", "'retry_after' wants a number");
}

static void wrong_keys(void **state)
{
	(void)state;
	wrong("time_out = 3;", "unknown key 'time_out'; did you mean 'timeout'?");
	wrong("retry = 3;", "unknown key 'retry'");
	wrong("max_actions = 3;", "'max_actions' belongs at the top level, not in an action");
	wrong("colour = 3;", "unknown key 'colour'");
}

static void doubles(void **state)
{
	(void)state;
	expect(3,
	       POLICIES "actions = ( { on = [ \"wedged\" ]; run = [ \"/bin/true\" ]; },\n"
			"{ on = [ \"wedged\" ]; run = [ \"/bin/true\" ]; timeout = 10; } );",
	       "this action is the same as that in line 2; remove one");
	/* What is wrong in both isn't the same. */
	expect(3,
	       POLICIES "actions = ( { on = [ \"wedged\" ]; run = [ \"/bin/true\" ]; },\n"
			"{ on = [ \"wedged\" ]; run = [ \"true\" ]; } );",
	       "must be an absolute path");
}

/* Of the host, not of the file: config_parse() doesn't mind. */
static void executables(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };

	(void)state;
	parse("actions = ( { on = [ \"wedged\" ]; run = [ \"/bin/sh\" ]; },\n"
	      "{ on = [ \"wedged\" ]; run = [ \"/no/such/thing\" ]; },\n"
	      "{ on = [ \"wedged\" ]; run = [ \"/tmp\" ]; } );",
	      &set);
	config_check_executables(&set, &errors);
	assert_int_equal(errors.count, 2);
	assert_int_equal(errors.list[0].line, 3);
	assert_string_equal(errors.list[0].text, "'run': /no/such/thing can't be started: No such file or directory");
	assert_int_equal(errors.list[1].line, 4);
	assert_string_equal(errors.list[1].text, "'run': /tmp can't be started: isn't a regular file");
	config_errors_free(&errors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),	  cmocka_unit_test(none),
		cmocka_unit_test(what_is_printed_is_read), cmocka_unit_test(examples_are_right), cmocka_unit_test(wrong_lists),
		cmocka_unit_test(too_many),	  cmocka_unit_test(wrong_kinds),
		cmocka_unit_test(wrong_commands), cmocka_unit_test(wrong_policies),
		cmocka_unit_test(wrong_numbers),  cmocka_unit_test(wrong_keys),
		cmocka_unit_test(doubles),	  cmocka_unit_test(executables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
