/* SPDX-License-Identifier: GPL-2.0-only */
/* test_config_sink.c: the `sinks` of a config: what right ones become, and every wrong value with its line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "config.h"

/* In front of the sinks, which so begin in line 2. */
#define POLICIES "policies = ( { name = \"a\"; direction = \"inbound\"; } );\n"

static void parse_right(const char *sinks, struct policy_set *set)
{
	struct config_errors errors = { 0 };
	char text[4096];
	int err;

	snprintf(text, sizeof(text), POLICIES "sinks = ( %s );\n", sinks);
	err = config_parse(text, set, &errors);
	for (size_t i = 0; i < errors.count; i++)
		print_error("%d: %s\n", errors.list[i].line, errors.list[i].text);
	assert_int_equal(errors.count, 0);
	assert_int_equal(err, 0);
	config_errors_free(&errors);
}

/* The text of `sinks = ...` has one error, in this line of the whole. */
static void wrong(const char *sinks, int line, const char *part)
{
	struct policy_set set = { 0 };
	struct config_errors errors = { 0 };
	char text[4096];

	snprintf(text, sizeof(text), POLICIES "sinks = %s;\n", sinks);
	assert_int_equal(config_parse(text, &set, &errors), -EINVAL);
	for (size_t i = 0; i < errors.count; i++)
		if (errors.count > 1 || errors.list[i].line != line || !strstr(errors.list[i].text, part))
			fail_msg("%s\nwanted %d: %s\ngot %d: %s", text, line, part, errors.list[i].line,
				 errors.list[i].text);
	assert_int_equal(errors.count, 1);
	assert_null(set.outlets.sinks);
	config_errors_free(&errors);
}

/* One sink, with this key in line 3. */
static void wrong_key(const char *type, const char *key, const char *part)
{
	char text[4096];

	snprintf(text, sizeof(text), "( { type = \"%s\";\n%s } )", type, key);
	wrong(text, 3, part);
}

static void wrong_file(const char *key, const char *part)
{
	char text[2048];

	snprintf(text, sizeof(text), "path = \"/var/log/x\"; %s", key);
	wrong_key("jsonl", text, part);
}

static void wrong_socket(const char *key, const char *part)
{
	char text[2048];

	snprintf(text, sizeof(text), "path = \"/run/x\"; %s", key);
	wrong_key("socket", text, part);
}

static void expect_round_trip(const struct policy_set *set)
{
	struct policy_set again CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	policy_print(set, out);
	fclose(out);
	assert_int_equal(config_parse(text, &again, &errors), 0);
	assert_int_equal(again.outlets.sink_count, set->outlets.sink_count);
	for (size_t i = 0; i < set->outlets.sink_count; i++) {
		const struct outlet_sink *a = &set->outlets.sinks[i], *b = &again.outlets.sinks[i];

		assert_int_equal(a->type, b->type);
		assert_int_equal(!a->path, !b->path);
		if (a->path)
			assert_string_equal(a->path, b->path);
		assert_int_equal(a->max_size, b->max_size);
		assert_int_equal(a->max_total, b->max_total);
		assert_int_equal(a->mode, b->mode);
	}
	free(text);
}

/* ---- right ones ------------------------------------------------------------------------------------------------ */

static void none(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };

	(void)state;
	assert_int_equal(config_parse(POLICIES, &set, &errors), 0);
	assert_int_equal(set.outlets.sink_count, 0);
	expect_round_trip(&set);
}

static void each_type(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	const struct outlet_sink *sink;

	(void)state;
	parse_right(
		"{ type = \"jsonl\"; path = \"/var/log//sipkeep/e\\\"v\\\\.jsonl\"; max_size = 104857600; "
		"max_total = \"10G\"; },\n{ type = \"journald\"; },\n"
		"{ type = \"socket\"; path = \"/run/sipkeep/events.sock\"; mode = \"0666\"; }, { type = \"jsonl\"; }",
		&set);
	assert_int_equal(set.outlets.sink_count, 4);
	sink = &set.outlets.sinks[0];
	assert_int_equal(sink->type, OUTLET_JSONL);
	assert_int_equal(sink->line, 2);
	assert_string_equal(sink->path, "/var/log/sipkeep/e\"v\\.jsonl");
	assert_int_equal(sink->max_size, 100 << 20);
	assert_int_equal(sink->max_total, 10ULL << 30);
	assert_int_equal(sink[1].type, OUTLET_JOURNALD);
	assert_int_equal(sink[1].line, 3);
	assert_int_equal(sink[2].type, OUTLET_SOCKET);
	assert_string_equal(sink[2].path, "/run/sipkeep/events.sock");
	assert_int_equal(sink[2].mode, 0666);
	assert_int_equal(sink[3].type, OUTLET_JSONL);
	assert_null(sink[3].path);
	expect_round_trip(&set);
}

/* One sink: path, max_size, max_total as they become. */
static void becomes(const char *keys, __u64 size, __u64 total)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	char text[1024];

	snprintf(text, sizeof(text), "{ type = \"jsonl\"; path = \"/x\"; %s }", keys);
	parse_right(text, &set);
	assert_int_equal(set.outlets.sinks[0].max_size, size);
	assert_int_equal(set.outlets.sinks[0].max_total, total);
	expect_round_trip(&set);
}

static void sizes(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };

	(void)state;
	/* Bounded, whatever is left out. */
	becomes("", 100 << 20, 1000 << 20);
	becomes("max_size = 65536;", 65536, 655360);
	becomes("max_size = \"1M\";", 1 << 20, 10 << 20);
	becomes("max_total = \"20M\";", 2 << 20, 20 << 20);
	becomes("max_total = \"128K\";", 65536, 131072);
	becomes("max_total = \"3T\";", (3ULL << 40) / 10, 3ULL << 40);
	becomes("max_size = \"64K\"; max_total = 65536000;", 65536, 65536000);
	becomes("max_size = \"4294967296\"; max_total = \"8G\";", 4ULL << 30, 8ULL << 30);
	becomes("max_size = 0;", 0, 0);
	parse_right("{ type = \"jsonl\"; path = \"-\"; }", &set);
	assert_null(set.outlets.sinks[0].path);
	assert_int_equal(set.outlets.sinks[0].max_size, 0);
	policy_set_free(&set);
	parse_right("{ type = \"socket\"; path = \"/x\"; }", &set);
	assert_int_equal(set.outlets.sinks[0].mode, 0600);
}

/* ---- wrong ones ------------------------------------------------------------------------------------------------ */

static void the_list(void **state)
{
	char text[2048] = "(";

	(void)state;
	wrong("\"journald\"", 2, "'sinks' wants a list of groups, as in sinks = ( { type = \"journald\"; } );");
	wrong("{ type = \"journald\"; }", 2, "'sinks' wants a list of groups");
	wrong("( )", 2, "'sinks' must have 1 to 8 sinks, not 0; left out, it is JSON lines on standard output");
	for (int i = 0; i < 9; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s{ type = \"jsonl\"; path = \"/%d\"; }",
			 i ? "," : "", i);
	strcat(text, ")");
	wrong(text, 2, "'sinks' must have 1 to 8 sinks, not 9");
	wrong("( { type = \"journald\"; },\n\"jsonl\" )", 3, "'sinks' wants groups, as in { type = \"journald\"; }");
}

static void the_type(void **state)
{
	(void)state;
	wrong("(\n{ path = \"/x\"; } )", 3, "this sink has no 'type': write \"jsonl\", \"journald\" or \"socket\"");
	wrong("( {\ntype = \"syslog\"; path = \"/x\"; } )", 3,
	      "'type' must be \"jsonl\", \"journald\" or \"socket\", not \"syslog\"");
	wrong("( {\ntype = 3; } )", 3, "'type' must be \"jsonl\", \"journald\" or \"socket\"");
}

static void keys(void **state)
{
	(void)state;
	wrong_key("journald", "path = \"/x\";", "'path' has nothing to do in a sink of type \"journald\"");
	wrong_key("journald", "mode = \"0600\";", "'mode' has nothing to do in a sink of type \"journald\"");
	wrong_file("mode = \"0600\";", "'mode' has nothing to do in a sink of type \"jsonl\"");
	wrong_socket("max_size = 0;", "'max_size' has nothing to do in a sink of type \"socket\"");
	wrong_socket("max_total = 0;", "'max_total' has nothing to do in a sink of type \"socket\"");
	wrong_file("max_sise = 0;", "unknown key 'max_sise'; did you mean 'max_size'?");
	wrong_file("policies = ( );", "'policies' belongs at the top level, not in a sink");
}

static void paths(void **state)
{
	char text[8192];

	(void)state;
	wrong_key("jsonl", "path = \"events.jsonl\";",
		  "'path': \"events.jsonl\" must be absolute: it has to begin with '/'");
	wrong_key("jsonl", "path = \"\";", "must be absolute");
	wrong_key("jsonl", "path = \"/var/log/\";", "\"/var/log/\" names a directory; add a file's name");
	wrong_key("jsonl", "path = \"/\";", "names a directory");
	wrong_key("jsonl", "path = \"/var/../etc/x\";", "must not contain \".\" or \"..\"");
	wrong_key("jsonl", "path = \"/var/./x\";", "must not contain \".\" or \"..\"");
	wrong_key("jsonl", "path = \"/var/a\\x01\";", "must not contain control characters");
	wrong_key("jsonl", "path = 3;", "'path' wants a string, not a whole number");
	wrong_key("socket", "path = \"-\";", "must be absolute");
	wrong("(\n{ type = \"socket\"; } )", 3, "this sink has no 'path': where its socket is to be");
	snprintf(text, sizeof(text), "path = \"/%0107d\";", 0);
	wrong_key("socket", text, "is too long for a socket: 107 bytes at most");
}

static void wrong_sizes(void **state)
{
	(void)state;
	wrong_file("max_size = 65535;", "'max_size' must be 0 (never rotated) or at least 65536 bytes (\"64K\")");
	wrong_file("max_size = -1;", "'max_size' must not be negative");
	wrong_file("max_size = true;", "'max_size' wants bytes, as in 104857600, \"100M\" or \"1G\"");
	wrong_file("max_size = 1.5;", "'max_size' wants bytes");
	wrong_file("max_size = \"\";", "'max_size' wants bytes");
	wrong_file("max_size = \"100MB\";", "\"100MB\" isn't");
	wrong_file("max_size = \"100m\";", "\"100m\" isn't");
	wrong_file("max_size = \"M\";", "\"M\" isn't");
	wrong_file("max_size = \"-1M\";", "\"-1M\" isn't");
	wrong_file("max_size = \"9999999999999999999\";", "isn't");
	/* libconfig would make 0 of the first. */
	wrong_file("max_size = 4294967296;",
		   "'max_size' is too large for a number here; write it as a string, as in \"4G\"");
	wrong_file("max_total = 2147483647;", "'max_total' is too large for a number here");
	wrong_file("max_total = 0;", "'max_total' must be from 131072 bytes (\"128K\") to \"1024T\"");
	wrong_file("max_total = \"1025T\";", "'max_total' must be from");
	wrong_file("max_total = \"999999999999999999T\";", "'max_total' must be from");
	wrong_file("max_size = \"1M\"; max_total = \"1M\";",
		   "'max_total' (1048576) must be 2 to 1000 times 'max_size' (1048576)");
	wrong_file("max_size = \"1M\"; max_total = \"1001M\";", "must be 2 to 1000 times");
	wrong_file("max_size = \"1000T\";", "must be 2 to 1000 times");
}

static void rotation_off_and_a_cap(void **state)
{
	(void)state;
	wrong("( { type = \"jsonl\"; path = \"/x\"; max_size = 0;\nmax_total = \"1G\"; } )", 3,
	      "'max_total' is kept by removing rotated files, and 'max_size' is 0: never rotated (line 2)");
	wrong_key("jsonl", "max_size = 65536;",
		  "'max_size' is for files, and this sink is standard output; give it a 'path'");
	wrong_key("jsonl", "path = \"-\"; max_total = 655360;", "'max_total' is for files");
}

static void modes(void **state)
{
	(void)state;
	wrong_socket("mode = 660;", "'mode' wants permissions as a string of octal digits, as in \"0660\"");
	wrong_socket("mode = \"0888\";", "\"0888\" isn't");
	wrong_socket("mode = \"66\";", "\"66\" isn't");
	wrong_socket("mode = \"1777\";", "\"1777\" isn't");
	wrong_socket("mode = \"00660\";", "\"00660\" isn't");
	wrong_socket("mode = \"rw\";", "\"rw\" isn't");
}

static void two_of_one(void **state)
{
	(void)state;
	wrong("( { type = \"journald\"; },\n{ type = \"journald\"; } )", 3,
	      "the sink in line 2 is the journal already");
	wrong("( { type = \"jsonl\"; },\n{ type = \"jsonl\"; path = \"-\"; } )", 3,
	      "the sink in line 2 is standard output already; give one a 'path'");
	wrong("( { type = \"jsonl\"; path = \"/a/b\"; },\n{ type = \"socket\"; path = \"/a//b\"; } )", 3,
	      "the sink in line 2 has the path \"/a/b\" already");
	wrong("( { type = \"jsonl\"; path = \"/a/b\"; },\n{ type = \"jsonl\"; path = \"/a/b.12\"; max_size = 0; } )", 3,
	      "its path and that of the sink in line 2 differ by a number only");
	wrong("( { type = \"socket\"; path = \"/a/b.1\"; },\n{ type = \"jsonl\"; path = \"/a/b\"; } )", 3,
	      "differ by a number only");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(none),	    cmocka_unit_test(each_type),   cmocka_unit_test(sizes),
		cmocka_unit_test(the_list), cmocka_unit_test(the_type),	   cmocka_unit_test(keys),
		cmocka_unit_test(paths),    cmocka_unit_test(wrong_sizes), cmocka_unit_test(rotation_off_and_a_cap),
		cmocka_unit_test(modes),    cmocka_unit_test(two_of_one),
	};

	return cmocka_run_group_tests_name("config_sink", tests, NULL, NULL);
}
