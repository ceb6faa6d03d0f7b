/* SPDX-License-Identifier: GPL-2.0-only */
/* test_config.c: every error the file can have, with its line; what a right file becomes; reading the file itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "config.h"

/* ---- helpers ------------------------------------------------------------------------------------------------- */

static void parse_right(const char *text, struct policy_set *set)
{
	struct config_errors errors = { 0 };
	int err = config_parse(text, set, &errors);

	for (size_t i = 0; i < errors.count; i++)
		print_error("%d: %s\n", errors.list[i].line, errors.list[i].text);
	assert_int_equal(errors.count, 0);
	assert_int_equal(err, 0);
	config_errors_free(&errors);
}

struct expected {
	int line;
	const char *part; /* of the message */
};

static void compare_errors(const char *text, const struct config_errors *errors, const struct expected *expected)
{
	size_t i = 0;

	for (; expected[i].part; i++) {
		if (i >= errors->count)
			fail_msg("no error %d: %s\n%s", expected[i].line, expected[i].part, text);
		if (errors->list[i].line != expected[i].line || !strstr(errors->list[i].text, expected[i].part))
			fail_msg("wanted %d: %s\ngot %d: %s\n%s", expected[i].line, expected[i].part,
				 errors->list[i].line, errors->list[i].text, text);
		assert_null(strchr(errors->list[i].text, '\n'));
	}
	if (i < errors->count)
		fail_msg("unwanted %d: %s\n%s", errors->list[i].line, errors->list[i].text, text);
}

/* Exactly these, in this order. */
static void expect_all(const char *text, const struct expected *expected)
{
	struct policy_set set = { .max_sources = 4711 };
	struct config_errors errors = { 0 };

	assert_int_equal(config_parse(text, &set, &errors), -EINVAL);
	assert_int_equal(set.max_sources, 4711); /* untouched */
	compare_errors(text, &errors, expected);
	config_errors_free(&errors);
}

#define EXPECT(text, ...) expect_all(text, (const struct expected[]){ __VA_ARGS__, { 0, NULL } })

/* One key in a policy that is otherwise right; the key stands in line 3. */
static void expect_in_policy(const char *direction, const char *key, const char *part)
{
	char text[1024];

	snprintf(text, sizeof(text), "policies = (\n{ name = \"a\"; direction = \"%s\";\n%s } );\n", direction, key);
	EXPECT(text, { 3, part });
}

static void parse_in_policy(const char *direction, const char *keys, struct policy_set *set)
{
	char text[1024];

	snprintf(text, sizeof(text), "policies = (\n{ name = \"a\"; direction = \"%s\";\n%s } );\n", direction, keys);
	parse_right(text, set);
}

static void wrong_inbound(const char *key, const char *part)
{
	expect_in_policy("inbound", key, part);
}

static void wrong_outbound(const char *key, const char *part)
{
	expect_in_policy("outbound", key, part);
}

/* One key at the top, in line 2. */
static void wrong_at_top(const char *key, const char *part)
{
	char text[4096];

	snprintf(text, sizeof(text), "policies = ( { name = \"a\"; direction = \"inbound\"; } );\n%s\n", key);
	EXPECT(text, { 2, part });
}

static void parse_at_top(const char *key, struct policy_set *set)
{
	char text[4096];

	snprintf(text, sizeof(text), "policies = ( { name = \"a\"; direction = \"inbound\"; } );\n%s\n", key);
	parse_right(text, set);
}

static char *print(const struct policy_set *set)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	policy_print(set, out);
	fclose(out);
	return text;
}

static void tell_line(void *arg, const char *text)
{
	(void)arg;
	print_error("%s\n", text);
}

/* What policy_print() writes means the same when it is read again. */
static void expect_round_trip(const struct policy_set *set)
{
	struct policy_set again CLEANUP_POLICY_SET = { 0 };
	char *text = print(set), *second;

	parse_right(text, &again);
	assert_int_equal(policy_diff(set, &again, tell_line, NULL), 0);
	assert_int_equal(set->policy_count, again.policy_count);
	for (size_t i = 0; i < set->policy_count; i++) {
		assert_memory_equal(&set->policies[i].kernel, &again.policies[i].kernel, sizeof(struct sipkeep_policy));
		assert_true(set->policies[i].max_rate_per_source == again.policies[i].max_rate_per_source);
	}
	second = print(&again);
	assert_string_equal(text, second);
	free(second);
	free(text);
}

/* ---- right files ----------------------------------------------------------------------------------------------- */

static void defaults(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	char buf[POLICY_PREFIX_LEN];

	(void)state;
	parse_right("policies = (\n"
		    "  { name = \"in\"; direction = \"inbound\"; },\n"
		    "  {\n"
		    "    name = \"out\"; direction = \"outbound\"; } );\n",
		    &set);
	assert_int_equal(set.cgroup_count, 1);
	assert_string_equal(set.cgroups[0], "/");
	assert_false(set.observe);
	assert_false(set.on_full_refuse);
	assert_int_equal(set.max_sources, 262144);
	assert_int_equal(set.exempt_count, 0);
	assert_int_equal(set.policy_count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct policy *policy = &set.policies[i];
		struct sipkeep_policy kernel = { .source_prefix_ipv4 = 32, .in_use = 1 };

		kernel.direction = i ? SIPKEEP_OUTBOUND : SIPKEEP_INBOUND;
		kernel.source_prefix_ipv6 = i ? 128 : 64;
		kernel.wedged_after_ms = i ? 2000 : 0;
		assert_string_equal(policy->name, i ? "out" : "in");
		assert_int_equal(policy->line, i ? 3 : 2);
		assert_int_equal(policy->direction, kernel.direction);
		assert_int_equal(policy->port_count, 0);
		assert_int_equal(policy->remote_count, 2);
		assert_string_equal(policy_prefix_format(&policy->remotes[0], buf), "0.0.0.0/0");
		assert_string_equal(policy_prefix_format(&policy->remotes[1], buf), "::/0");
		assert_memory_equal(&policy->kernel, &kernel, sizeof(kernel));
	}
	expect_round_trip(&set);
}

static const char whole_file[] =
	"cgroups = [ \"/system.slice/asterisk.service/\", \"//machine.slice\" ];\n"
	"mode = \"observe\"; on_full = \"refuse\"; max_sources = 1000;\n"
	"policies = (\n"
	"  { name = \"phones\"; direction = \"inbound\"; local_ports = [ 5061, 5060 ];\n"
	"    remotes = [ \"::/0\", \"0.0.0.0/0\", \"192.0.2.0/24\" ];\n"
	"    tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6;\n"
	"    tcp_user_timeout = 2.5; keepalive_mode = \"enforce\";\n"
	"    max_connections_per_source = 20; source_prefix_ipv4 = 24; source_prefix_ipv6 = 56;\n"
	"    max_connections = 50000; max_rate_per_source = 2.5; burst_per_source = 20;\n"
	"    refuse_with = \"drop\"; },\n"
	"  { name = \"carrier.1_x-y\"; direction = \"outbound\"; remote_ports = ( 5060 );\n"
	"    remotes = [ \"203.0.113.0/24\" ]; tcp_keepidle = 30; max_connections_per_source = 4;\n"
	"    max_connections = 8; }\n"
	");\n"
	"exempt = [ \"192.0.2.10\", \"::ffff:192.0.2.9\" ];\n";

static void every_key(void **state)
{
	static const struct sipkeep_policy phones = {
		.keepalive_set = SIPKEEP_SET_KEEPALIVE | SIPKEEP_SET_KEEPIDLE | SIPKEEP_SET_KEEPINTVL |
				 SIPKEEP_SET_KEEPCNT | SIPKEEP_SET_USER_TIMEOUT,
		.keepalive = 1,
		.keepidle = 60,
		.keepintvl = 10,
		.keepcnt = 6,
		.user_timeout_ms = 2500,
		.flags = SIPKEEP_POLICY_ENFORCE_KEEPALIVE | SIPKEEP_POLICY_DROP,
		.max_connections_per_source = 20,
		.max_connections = 50000,
		.source_prefix_ipv4 = 24,
		.source_prefix_ipv6 = 56,
		.direction = SIPKEEP_INBOUND,
		.in_use = 1,
		.rate_interval_ns = 400000000,
		.rate_burst_ns = 8000000000,
	};
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	const struct policy *policy;
	char buf[POLICY_PREFIX_LEN];

	(void)state;
	parse_right(whole_file, &set);
	assert_int_equal(set.cgroup_count, 2);
	assert_string_equal(set.cgroups[0], "/system.slice/asterisk.service");
	assert_string_equal(set.cgroups[1], "/machine.slice");
	assert_true(set.observe);
	assert_true(set.on_full_refuse);
	assert_int_equal(set.max_sources, 1000);
	policy = &set.policies[0];
	assert_int_equal(policy->port_count, 2);
	assert_int_equal(policy->ports[0], 5060);
	assert_int_equal(policy->ports[1], 5061);
	assert_int_equal(policy->remote_count, 3);
	assert_string_equal(policy_prefix_format(&policy->remotes[1], buf), "192.0.2.0/24");
	assert_memory_equal(&policy->kernel, &phones, sizeof(phones));
	assert_int_equal(policy->burst_per_source, 20);
	policy = &set.policies[1];
	assert_string_equal(policy->name, "carrier.1_x-y");
	assert_int_equal(policy->line, 11);
	assert_int_equal(policy->port_count, 1);
	assert_int_equal(policy->kernel.keepalive_set, SIPKEEP_SET_KEEPIDLE);
	assert_int_equal(policy->kernel.max_connections_per_source, 4);
	assert_int_equal(policy->kernel.max_connections, 8);
	assert_int_equal(set.exempt_count, 2);
	assert_string_equal(policy_prefix_format(&set.exempt[0], buf), "192.0.2.9/32");
	expect_round_trip(&set);
}

static void limits_of_values(void **state)
{
	static const char *const in[] = {
		"tcp_keepidle = 1; tcp_keepintvl = 1; tcp_keepcnt = 1; tcp_user_timeout = 0.001;",
		"tcp_keepidle = 32767; tcp_keepintvl = 32767; tcp_keepcnt = 127; tcp_user_timeout = 2147483;",
		"max_connections_per_source = 0; max_connections = 0; max_rate_per_source = 0;",
		"max_connections_per_source = 16000000; max_connections = 16000000;",
		"source_prefix_ipv4 = 0; source_prefix_ipv6 = 0;",
		"source_prefix_ipv4 = 32; source_prefix_ipv6 = 128;",
		"max_rate_per_source = 0.001; burst_per_source = 1000000;",
		"max_rate_per_source = 1000000; burst_per_source = 1;",
		"max_rate_per_source = 0.333333333333333333;",
		"max_rate_per_source = 1e3;",
		"max_rate_per_source = 0.0; burst_per_source = 3;",
		"local_ports = [ 1, 65535 ];",
		"local_ports = [ ];",
		"local_ports = ( );",
		"local_ports = ( 5060L, 0x13c5, 80 );",
		"tcp_keepalive = false;",
		"tcp_keepalive = false; tcp_user_timeout = 30; keepalive_mode = \"enforce\";",
		"tcp_user_timeout = 0.0295;",
		"keepalive_mode = \"default\"; refuse_with = \"reset\";",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };

		parse_in_policy("inbound", in[i], &set);
		expect_round_trip(&set);
	}
}

static void each_keepalive_option_alone(void **state)
{
	static const struct {
		const char *key;
		__u32 set;
	} cases[] = {
		{ "tcp_keepalive = true;", SIPKEEP_SET_KEEPALIVE },
		{ "tcp_keepalive = false;", SIPKEEP_SET_KEEPALIVE },
		{ "tcp_keepidle = 3;", SIPKEEP_SET_KEEPIDLE },
		{ "tcp_keepintvl = 3;", SIPKEEP_SET_KEEPINTVL },
		{ "tcp_keepcnt = 3;", SIPKEEP_SET_KEEPCNT },
		{ "tcp_user_timeout = 3;", SIPKEEP_SET_USER_TIMEOUT },
		{ "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };

		parse_in_policy("outbound", cases[i].key, &set);
		assert_int_equal(set.policies[0].kernel.keepalive_set, cases[i].set);
		assert_int_equal(set.policies[0].kernel.keepalive, i == 0);
		expect_round_trip(&set);
	}
}

static void wedged_after(void **state)
{
	static const struct {
		const char *key;
		__u32 ms;
	} cases[] = {
		{ "", 2000 },
		{ "wedged_after = 2.0;", 2000 },
		{ "wedged_after = 0;", 0 },
		{ "wedged_after = 0.001;", 1 },
		{ "wedged_after = 0.0295;", 30 },
		{ "wedged_after = 86400;", 86400000 },
	};
	struct policy_set inbound CLEANUP_POLICY_SET = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };

		parse_in_policy("outbound", cases[i].key, &set);
		assert_int_equal(set.policies[0].kernel.wedged_after_ms, cases[i].ms);
		expect_round_trip(&set);
	}
	parse_in_policy("inbound", "", &inbound);
	assert_int_equal(inbound.policies[0].kernel.wedged_after_ms, 0);
}

static void burst_default(void **state)
{
	static const struct {
		const char *keys;
		__u32 burst;
	} cases[] = {
		{ "max_rate_per_source = 10;", 10 },	    { "max_rate_per_source = 10.0;", 10 },
		{ "max_rate_per_source = 2.1;", 3 },	    { "max_rate_per_source = 0.01;", 1 },
		{ "max_rate_per_source = 1000000;", 1000000 }, { "burst_per_source = 7; max_rate_per_source = 1;", 7 },
		{ "max_rate_per_source = 0;", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		const struct sipkeep_policy *kernel;

		parse_in_policy("inbound", cases[i].keys, &set);
		kernel = &set.policies[0].kernel;
		assert_int_equal(set.policies[0].burst_per_source, cases[i].burst);
		assert_int_equal(kernel->rate_burst_ns, cases[i].burst * kernel->rate_interval_ns);
	}
}

/* ---- errors of the text ---------------------------------------------------------------------------------------- */

static void syntax(void **state)
{
	(void)state;
	EXPECT("mode = \"observe\";\nmax_sources = ;\n", { 2, "syntax error" });
	EXPECT("policies = (\n{ name = \"a\"; direction = \"inbound\"; }\n{ });\n", { 3, "syntax error" });
	EXPECT("policies = (", { 1, "syntax error" });
	EXPECT("exempt = [ \"::/0\",\n 1 ];\n", { 2, "must be of one type" });
	EXPECT("\n\nx = 1;\n/* no end\n\n", { 4, "comment has no end" });
	EXPECT("\nx = \"no end\n\n;", { 2, "string has no end" });
	EXPECT("x = \"no end \\\" ;\n", { 1, "string has no end" });
	EXPECT("x = ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((\n", { 2, "syntax error" });
	EXPECT("", { 0, "'policies' is missing" });
	EXPECT("mode = \"observe\";", { 0, "'policies' is missing" });
}

static void key_given_twice(void **state)
{
	(void)state;
	EXPECT("mode = \"observe\";\n\nmode = \"enforce\";\n", { 3, "'mode' is set a second time" });
	EXPECT("mode = \"observe\"; mode = \"enforce\";\n", { 1, "a key is set a second time" });
	EXPECT("policies = (\n{ name = \"a\";\n /* name = 1 */ name = \"b\"; } );\n",
	       { 3, "'name' is set a second time" });
}

static void include_is_refused(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };

	(void)state;
	EXPECT("@include \"/etc/passwd\"\n", { 1, "@include is refused" });
	EXPECT("mode = \"observe\";\n \t@include \"x\"\n@include \"y\"\n", { 2, "@include is refused" },
	       { 3, "@include is refused" });
	EXPECT("/* */ @include \"x\"\n", { 1, "@include is refused" });
	EXPECT("mode = \"observe\"; @other\n", { 1, "syntax error" });
	parse_at_top("# @include \"a\"\n// @include \"b\"\n/*\n@include \"c\"\n*/\n"
		     "cgroups = [ \"/a @include \\\"b\\\"\" ];",
		     &set);
	assert_string_equal(set.cgroups[0], "/a @include \"b\"");
}

static void numbers_that_libconfig_would_wrap(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 }, float_set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };

	(void)state;
	/* 2^32 + 20 and so on. */
	wrong_at_top("max_sources = 4294967316;", "'max_sources' must be from 1 to 16777216");
	wrong_at_top("max_sources = 0x100000014;", "'max_sources' must be from 1 to 16777216");
	wrong_at_top("max_sources = 4294967316L;", "'max_sources' must be from 1 to 16777216");
	wrong_at_top("max_sources = 18446744073709551636L;", "'max_sources' must be from 1 to 16777216");
	wrong_at_top("max_sources = 0x10000000000000014L;", "'max_sources' must be from 1 to 16777216");
	/* libconfig 1.5 takes it as a number, 1.7 as no number at all. */
	assert_int_equal(config_parse("max_sources = 99999999999999999999999999999;", &set, &errors), -EINVAL);
	config_errors_free(&errors);
	wrong_at_top("max_sources = -4294967276;", "'max_sources' must be from 1 to 16777216");
	wrong_at_top("max_sources = +4294967316;", "'max_sources' must be from 1 to 16777216");
	wrong_inbound("max_connections = 4294967296;", "'max_connections' must be from 0 to 16000000");
	wrong_inbound("local_ports = [ 4294972356 ];", "'local_ports' must be from 1 to 65535");
	wrong_inbound("max_rate_per_source = 4294967297;", "'max_rate_per_source' must be");
	/* Not numbers, or not whole ones. */
	parse_at_top("max_sources = 20; # 4294967316\ncgroups = [ \"/4294967316\" ];", &set);
	assert_string_equal(set.cgroups[0], "/4294967316");
	parse_in_policy("inbound", "max_rate_per_source = .4294967316; tcp_user_timeout = 0.04294967316e2;",
			&float_set);
	assert_true(float_set.policies[0].max_rate_per_source == .4294967316);
	assert_int_equal(float_set.policies[0].kernel.user_timeout_ms, 4295);
}

/* ---- errors of the top level ----------------------------------------------------------------------------------- */

static void unknown_keys(void **state)
{
	(void)state;
	wrong_at_top("max_source = 3;", "unknown key 'max_source'; did you mean 'max_sources'?");
	wrong_at_top("exemt = [ ];", "unknown key 'exemt'; did you mean 'exempt'?");
	wrong_at_top("Mode = \"observe\";", "did you mean 'mode'?");
	wrong_at_top("something_else = 3;", "unknown key 'something_else'");
	wrong_at_top("tcp_keepalive = true;", "'tcp_keepalive' belongs in a policy");
	wrong_at_top("sink = ( );", "unknown key 'sink'; did you mean 'sinks'?");
	wrong_inbound("mode = \"observe\";", "'mode' belongs at the top level");
	wrong_inbound("tcp_keepalives = true;", "did you mean 'tcp_keepalive'?");
	wrong_inbound("tcp_keepinterval = 3;", "did you mean 'tcp_keepintvl'?");
	wrong_inbound("local_port = [ 3 ];", "did you mean 'local_ports'?");
	wrong_inbound("source_prefix_ip4 = 3;", "did you mean 'source_prefix_ipv4'?");
	wrong_inbound("x = 3;", "unknown key 'x'");
	expect_in_policy("inbound",
			 "a_very_long_name_that_no_key_will_ever_have_because_nobody_could_type_it_right_twice = 3;",
			 "unknown key 'a_very_long");
}

static void top_level_values(void **state)
{
	(void)state;
	wrong_at_top("mode = \"watch\";", "'mode' must be \"enforce\" or \"observe\", not \"watch\"");
	wrong_at_top("mode = true;", "'mode' wants the string \"enforce\" or \"observe\", not true or false");
	wrong_at_top("mode = \"a\x1b[2Jb\";", "not \"a\\x1b[2Jb\"");
	wrong_at_top("on_full = \"drop\";", "'on_full' must be \"admit\" or \"refuse\"");
	wrong_at_top("on_full = 1;", "not a whole number");
	wrong_at_top("max_sources = 0;", "'max_sources' must be from 1 to 16777216, not 0");
	wrong_at_top("max_sources = 16777217;", "'max_sources' must be from 1 to 16777216, not 16777217");
	wrong_at_top("max_sources = -1;", "not -1");
	wrong_at_top("max_sources = 1.5;", "'max_sources' wants a whole number from 1 to 16777216, not a number with");
	wrong_at_top("max_sources = \"many\";", "'max_sources' wants a whole number from 1 to 16777216, not a string");
	wrong_at_top("max_sources = [ 1 ];", "not an array");
	wrong_at_top("max_sources = ( 1 );", "not a list");
	wrong_at_top("max_sources = { a = 1; };", "not a group");
	wrong_at_top("exempt = \"192.0.2.1\";", "'exempt' wants an array, as in exempt = [ \"192.0.2.0/24\" ]");
	wrong_at_top("exempt = [ 1 ];", "'exempt' wants addresses as strings");
	wrong_at_top("exempt = [ \"192.0.2.1\", \"192.0.2.1/32\" ];", "'exempt' lists \"192.0.2.1/32\" twice");
	wrong_at_top("exempt = [ \"192.0.2.1/24\" ];", "host bits are set; the prefix is \"192.0.2.0/24\"");
}

static void cgroups(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	char many[2048] = "cgroups = [ \"/0\"";

	(void)state;
	parse_at_top("cgroups = ( \"/a/b\", \"/a/bc\", \"/a//c/\", \"/..a/b..\" );", &set);
	assert_int_equal(set.cgroup_count, 4);
	assert_string_equal(set.cgroups[2], "/a/c");
	expect_round_trip(&set);
	wrong_at_top("cgroups = \"/\";", "'cgroups' wants an array, as in cgroups = [ \"/\" ]");
	wrong_at_top("cgroups = [ ];", "'cgroups' must list 1 to 16 paths");
	wrong_at_top("cgroups = [ 1 ];", "'cgroups' wants paths as strings");
	wrong_at_top("cgroups = [ \"\" ];", "must be absolute");
	wrong_at_top("cgroups = [ \"system.slice\" ];", "\"system.slice\" must be absolute");
	wrong_at_top("cgroups = [ \"/a/../b\" ];", "must not contain \".\" or \"..\"");
	wrong_at_top("cgroups = [ \"/..\" ];", "must not contain \".\" or \"..\"");
	wrong_at_top("cgroups = [ \"/a/./b\" ];", "must not contain \".\" or \"..\"");
	wrong_at_top("cgroups = [ \"/a\\nb\" ];", "must not contain control characters");
	wrong_at_top("cgroups = [ \"/a\", \"/a\" ];", "'cgroups' lists \"/a\" twice");
	wrong_at_top("cgroups = [ \"/a\", \"//a/\" ];", "'cgroups' lists \"/a\" twice");
	wrong_at_top("cgroups = [ \"/a\", \"/a/b\" ];", "\"/a/b\" lies inside \"/a\"");
	wrong_at_top("cgroups = [ \"/a/b\", \"/a\" ];", "\"/a\" covers \"/a/b\" already");
	wrong_at_top("cgroups = [ \"/\", \"/a\" ];", "\"/a\" lies inside \"/\"");
	wrong_at_top("cgroups = [ \"/a\", \"/\" ];", "\"/\" covers \"/a\" already");
	for (int i = 1; i < 17; i++) {
		char one[16];

		snprintf(one, sizeof(one), ", \"/%d\"", i);
		strcat(many, one);
		if (i == 15 || i == 16) {
			struct policy_set full CLEANUP_POLICY_SET = { 0 };
			char text[2048 + 8];

			snprintf(text, sizeof(text), "%s ];", many);
			if (i == 15)
				parse_at_top(text, &full);
			else
				wrong_at_top(text, "'cgroups' must list 1 to 16 paths");
		}
	}
}

static void policies_list(void **state)
{
	char *text = NULL;
	size_t size;

	(void)state;
	EXPECT("policies = ( );", { 1, "must have 1 to 32 policies, not 0" });
	EXPECT("policies = [ ];", { 1, "'policies' wants a list of groups" });
	EXPECT("policies = { name = \"a\"; };", { 1, "'policies' wants a list of groups" });
	EXPECT("\npolicies = (\n \"phones\" );", { 3, "'policies' wants groups" });
	for (int count = 32; count <= 33; count++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		FILE *out = open_memstream(&text, &size);

		fputs("policies = (", out);
		for (int i = 0; i < count; i++)
			fprintf(out, "%s{ name = \"p%d\"; direction = \"inbound\"; local_ports = [ %d ]; }\n",
				i ? ", " : " ", i, 1000 + i);
		fputs(");", out);
		fclose(out);
		if (count == 32)
			parse_right(text, &set);
		else
			EXPECT(text, { 1, "must have 1 to 32 policies, not 33" });
		free(text);
	}
}

static void too_many_rules(void **state)
{
	char *text = NULL;
	size_t size;

	(void)state;
	/* 256 ports times 256 prefixes fit exactly; one more policy doesn't. */
	for (int more = 0; more < 2; more++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		FILE *out = open_memstream(&text, &size);

		fputs("policies = ( { name = \"a\"; direction = \"inbound\"; local_ports = [ 1", out);
		for (int i = 2; i <= 256; i++)
			fprintf(out, ", %d", i);
		fputs(" ]; remotes = [ \"10.0.0.0\"", out);
		for (int i = 1; i < 256; i++)
			fprintf(out, ", \"10.0.0.%d\"", i);
		fputs(" ]; }", out);
		if (more)
			fputs(", { name = \"b\"; direction = \"outbound\"; remotes = [ \"::/0\" ]; }", out);
		fputs(");", out);
		fclose(out);
		if (more)
			EXPECT(text, { 1, "make 65537 rules (ports times remotes, summed up); 65536 fit" });
		else
			parse_right(text, &set);
		free(text);
	}
}

/* ---- errors of a policy ---------------------------------------------------------------------------------------- */

static void name_and_direction(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };

	(void)state;
	EXPECT("policies = (\n{ direction = \"inbound\"; } );", { 2, "this policy has no 'name'" });
	EXPECT("policies = (\n{ name = \"a\"; } );", { 2, "this policy has no 'direction'" });
	EXPECT("policies = ( {\nname = \"a\";\ndirection = \"in\"; } );",
	       { 3, "'direction' must be \"inbound\" or \"outbound\", not \"in\"" });
	EXPECT("policies = ( {\nname = \"a\";\ndirection = 1; } );", { 3, "'direction' wants the string" });
	EXPECT("policies = ( {\nname = 1;\ndirection = \"inbound\"; } );", { 2, "'name' wants a string, not a whole" });
	EXPECT("policies = ( {\nname = \"\";\ndirection = \"inbound\"; } );", { 2, "'name' must be 1 to 31 letters" });
	EXPECT("policies = ( {\nname = \"-a\";\ndirection = \"inbound\"; } );", { 2, "\"-a\" isn't" });
	EXPECT("policies = ( {\nname = \"a b\";\ndirection = \"inbound\"; } );", { 2, "\"a b\" isn't" });
	EXPECT("policies = ( {\nname = \"a\303\244\";\ndirection = \"inbound\"; } );", { 2, "\"a\303\244\" isn't" });
	EXPECT("policies = ( {\nname = \"abcdefghijklmnopqrstuvwxyz789012\";\ndirection = \"inbound\"; } );",
	       { 2, "'name' must be 1 to 31 letters" });
	parse_right("policies = ( { name = \"9bcdefghijklmnopqrstuvwxyz78901\"; direction = \"inbound\"; } );", &set);
	assert_string_equal(set.policies[0].name, "9bcdefghijklmnopqrstuvwxyz78901");
	EXPECT("policies = (\n{ name = \"a\"; direction = \"inbound\"; },\n"
	       "{ name = \"a\"; direction = \"outbound\"; } );",
	       { 3, "the name \"a\" is taken by the policy in line 2" });
	/* Two without a name don't share one. */
	EXPECT("policies = (\n{ direction = \"inbound\"; },\n{ direction = \"outbound\"; } );",
	       { 2, "this policy has no 'name'" }, { 3, "this policy has no 'name'" });
}

static void keys_of_the_other_direction(void **state)
{
	(void)state;
	wrong_outbound("local_ports = [ 5060 ];",
			 "'local_ports' is for inbound policies only, and this one is outbound; an outbound policy has "
			 "'remote_ports'");
	wrong_inbound("remote_ports = [ 5060 ];",
			 "'remote_ports' is for outbound policies only, and this one is inbound");
	wrong_outbound("source_prefix_ipv4 = 32;", "'source_prefix_ipv4' is for inbound policies only");
	wrong_outbound("source_prefix_ipv6 = 64;", "'source_prefix_ipv6' is for inbound policies only");
	wrong_outbound("max_rate_per_source = 1;", "'max_rate_per_source' is for inbound policies only");
	EXPECT("policies = (\n{ name = \"a\"; direction = \"outbound\";\n"
	       "max_rate_per_source = 1;\nburst_per_source = 1; } );",
	       { 3, "'max_rate_per_source' is for inbound policies only" },
	       { 4, "'burst_per_source' is for inbound policies only" });
	wrong_outbound("refuse_with = \"drop\";", "'refuse_with' is for inbound policies only");
	/* Not told as long as the direction isn't known. */
	EXPECT("policies = (\n{ name = \"a\";\nlocal_ports = [ 5060 ]; } );", { 2, "this policy has no 'direction'" });
}

static void ports(void **state)
{
	(void)state;
	wrong_inbound("local_ports = 5060;", "'local_ports' wants an array, as in local_ports = [ 5060");
	wrong_inbound("local_ports = [ 0 ];", "'local_ports' must be from 1 to 65535, not 0");
	wrong_inbound("local_ports = [ 65536 ];", "'local_ports' must be from 1 to 65535, not 65536");
	wrong_inbound("local_ports = [ -5060 ];", "'local_ports' must be from 1 to 65535, not -5060");
	wrong_inbound("local_ports = [ \"5060\" ];", "'local_ports' wants a whole number from 1 to 65535");
	wrong_inbound("local_ports = [ 1.0 ];", "'local_ports' wants a whole number from 1 to 65535");
	wrong_inbound("local_ports = ( [ 1 ] );", "'local_ports' wants a whole number from 1 to 65535");
	wrong_inbound("local_ports = [ 5060, 5061, 5060 ];", "'local_ports' lists port 5060 twice (first in line 3)");
	wrong_outbound("remote_ports = [ 0 ];", "'remote_ports' must be from 1 to 65535");
	EXPECT("policies = ( { name = \"a\"; direction = \"inbound\"; local_ports = [ 5060,\n0,\n70000,\n5060 ]; } );",
	       { 2, "not 0" }, { 3, "not 70000" }, { 4, "5060 twice (first in line 1)" });
}

static void remotes(void **state)
{
	(void)state;
	wrong_inbound("remotes = [ ];", "'remotes' is empty");
	wrong_inbound("remotes = \"::/0\";", "'remotes' wants an array");
	wrong_inbound("remotes = [ 1 ];", "'remotes' wants addresses as strings");
	wrong_inbound("remotes = [ \"example.org\" ];", "'remotes': \"example.org\": not an IPv4 or IPv6");
	wrong_inbound("remotes = [ \"10.0.0.0/33\" ];", "the prefix length must be a number from 0 to 32");
	wrong_inbound("remotes = [ \"::/200\" ];", "the prefix length must be a number from 0 to 128");
	wrong_inbound("remotes = [ \"10.0.0.1/8\" ];", "host bits are set; the prefix is \"10.0.0.0/8\"");
	wrong_inbound("remotes = [ \"2001:db8::1/64\" ];", "the prefix is \"2001:db8::/64\"");
	wrong_inbound("remotes = [ \"10.0.0.0/8\", \"::ffff:10.0.0.0/104\" ];",
			 "'remotes' lists \"10.0.0.0/8\" twice (first in line 3)");
	EXPECT("policies = ( { name = \"a\"; direction = \"inbound\"; remotes = [\n"
	       "\"::/0\",\n\"x\",\n\"::1/0\",\n\"::/0\" ]; } );",
	       { 3, "\"x\"" }, { 4, "host bits" }, { 5, "\"::/0\" twice (first in line 2)" });
}

static void keepalive(void **state)
{
	static const char *const too_small[] = { "tcp_keepidle = 0;", "tcp_keepintvl = 0;", "tcp_keepcnt = 0;" };
	static const char *const too_large[] = { "tcp_keepidle = 32768;", "tcp_keepintvl = 32768;",
						 "tcp_keepcnt = 128;" };
	static const char *const fraction[] = { "tcp_keepidle = 1.5;", "tcp_keepintvl = 1.5;", "tcp_keepcnt = 1.5;" };
	static const char *const when_off[] = { "tcp_keepidle = 9; tcp_keepalive = false;",
						"tcp_keepintvl = 9; tcp_keepalive = false;",
						"tcp_keepcnt = 9; tcp_keepalive = false;" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		wrong_inbound(too_small[i], "must be from 1 to");
		wrong_outbound(too_large[i], i == 2 ? "from 1 to 127 probes" : "from 1 to 32767 seconds");
		wrong_inbound(fraction[i], "wants a whole number from 1 to");
		wrong_inbound(when_off[i], "'tcp_keepalive' is false (line 3)");
	}
	wrong_inbound("tcp_keepalive = 1;", "'tcp_keepalive' wants true or false, not a whole number");
	wrong_inbound("tcp_keepalive = \"yes\";", "'tcp_keepalive' wants true or false, not a string");
	wrong_inbound("tcp_user_timeout = 0;", "'tcp_user_timeout' must be from 0.001 to 2147483 seconds");
	wrong_inbound("tcp_user_timeout = 0.0001;", "'tcp_user_timeout' must be from 0.001");
	wrong_inbound("tcp_user_timeout = -1.0;", "'tcp_user_timeout' must be from 0.001");
	wrong_inbound("tcp_user_timeout = 2147483.5;", "'tcp_user_timeout' must be from 0.001");
	wrong_inbound("tcp_user_timeout = 1.0e999;", "'tcp_user_timeout' must be from 0.001");
	wrong_inbound("tcp_user_timeout = true;", "'tcp_user_timeout' wants a number, not true or false");
	wrong_outbound("wedged_after = 0.0009;", "'wedged_after' must be 0 (not watched for) or from 0.001 to 86400 seconds");
	wrong_outbound("wedged_after = -1;", "'wedged_after' must be 0 (not watched for)");
	wrong_outbound("wedged_after = 86400.5;", "'wedged_after' must be 0 (not watched for)");
	wrong_outbound("wedged_after = 1.0e999;", "'wedged_after' must be 0 (not watched for)");
	wrong_outbound("wedged_after = \"2\";", "'wedged_after' wants a number");
	wrong_inbound("wedged_after = 2.0;", "'wedged_after' is for outbound policies only, and this one is inbound");
	wrong_inbound("keepalive_mode = \"always\";", "'keepalive_mode' must be \"default\" or \"enforce\"");
	wrong_inbound("keepalive_mode = \"enforce\";", "this policy sets no keepalive option");
	/* One mistake, one error. */
	wrong_inbound("keepalive_mode = \"enforce\"; tcp_keepidle = 0;", "must be from 1 to 32767");
}

static void limits(void **state)
{
	(void)state;
	wrong_inbound("max_connections_per_source = -1;", "must be from 0 to 16000000, not -1");
	wrong_outbound("max_connections_per_source = 16000001;", "must be from 0 to 16000000");
	wrong_inbound("max_connections = 16000001;", "'max_connections' must be from 0 to 16000000");
	wrong_outbound("max_connections = 1.0;", "'max_connections' wants a whole number");
	wrong_inbound("source_prefix_ipv4 = 33;", "'source_prefix_ipv4' must be from 0 to 32");
	wrong_inbound("source_prefix_ipv6 = 129;", "'source_prefix_ipv6' must be from 0 to 128");
	wrong_inbound("max_rate_per_source = -1;", "'max_rate_per_source' must be 0 (no limit) or from 0.001");
	wrong_inbound("max_rate_per_source = 0.0001;", "'max_rate_per_source' must be 0 (no limit)");
	wrong_inbound("max_rate_per_source = 1000001;", "'max_rate_per_source' must be 0 (no limit)");
	wrong_inbound("max_rate_per_source = \"10/s\";", "'max_rate_per_source' wants a number, not a string");
	wrong_inbound("burst_per_source = 10;", "'burst_per_source' needs 'max_rate_per_source'");
	wrong_inbound("max_rate_per_source = 1; burst_per_source = 0;", "must be from 1 to 1000000, not 0");
	wrong_inbound("max_rate_per_source = 1; burst_per_source = 1000001;", "from 1 to 1000000");
	wrong_inbound("refuse_with = \"rst\";", "'refuse_with' must be \"reset\" or \"drop\", not \"rst\"");
}

static void overlaps(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };

	(void)state;
	EXPECT("policies = (\n"
	       "{ name = \"a\"; direction = \"inbound\"; local_ports = [ 5060, 5061 ]; },\n"
	       "{ name = \"b\"; direction = \"inbound\"; local_ports = [ 5061 ]; remotes = [ \"::/0\" ]; },\n"
	       "{ name = \"c\"; direction = \"outbound\"; },\n"
	       "{ name = \"d\"; direction = \"outbound\"; remotes = [ \"10.0.0.0/8\", \"0.0.0.0/0\" ]; } );\n",
	       { 3, "policy \"b\" matches as well as policy \"a\" (line 2): both are inbound and have port 5061 "
		    "and ::/0" },
	       { 5, "policy \"d\" matches as well as policy \"c\" (line 4): both are outbound and have any port and "
		    "0.0.0.0/0" });
	parse_right("policies = (\n"
		    "{ name = \"any\"; direction = \"inbound\"; },\n"
		    "{ name = \"port\"; direction = \"inbound\"; local_ports = [ 5060 ]; },\n"
		    "{ name = \"longer\"; direction = \"inbound\"; local_ports = [ 5060 ];\n"
		    "  remotes = [ \"10.0.0.0/8\" ]; },\n"
		    "{ name = \"other\"; direction = \"inbound\"; local_ports = [ 5061 ];\n"
		    "  remotes = [ \"10.0.0.0/8\" ]; },\n"
		    "{ name = \"out\"; direction = \"outbound\"; } );\n",
		    &set);
	assert_int_equal(set.policy_count, 5);
	expect_round_trip(&set);
}

static void all_errors_in_the_order_of_lines(void **state)
{
	(void)state;
	EXPECT("mode = \"watch\";\n"
	       "exempt = [ \"10.0.0.1/8\" ];\n"
	       "policies = (\n"
	       "  { name = \"a\"; direction = \"inbound\";\n"
	       "    tcp_keepidle = 0;\n"
	       "    tcp_keepcnt = 3;\n"
	       "    wedged_after = 2.0;\n"
	       "    tcp_keepalive = false; },\n"
	       "  { name = \"a\"; direction = \"inbound\";\n"
	       "    remote_ports = [ 1 ]; }\n"
	       ");\n"
	       "sinks = ( );\n"
	       "max_sorces = 3;\n",
	       { 1, "'mode' must be" }, { 2, "host bits are set" }, { 5, "'tcp_keepidle' must be" },
	       { 5, "'tcp_keepidle' says how to probe" }, { 6, "'tcp_keepcnt' says how to probe" },
	       { 7, "'wedged_after' is for outbound policies only" }, { 9, "the name \"a\" is taken" }, { 9, "matches as well as" },
	       { 10, "'remote_ports' is for outbound" }, { 12, "'sinks' must have 1 to 8 sinks, not 0" },
	       { 13, "did you mean 'max_sources'?" });
}

/* libconfig itself notes the line of what follows a string. */
static void lines_of_strings(void **state)
{
	(void)state;
	EXPECT("exempt = [ \"a\",\n"
	       "\"b\"\n"
	       ",\n"
	       "\"c\" /* \"no\" */\n"
	       "\n"
	       "];\n"
	       "policies = ( { name = \"a\"; direction =\n"
	       "\"in\"\n"
	       "\"bound\"; remotes = [\n"
	       "# \"no\"\n"
	       "\"d\" \"e\"\n"
	       "\"f\"\n"
	       "]; } );\n"
	       "cgroups = (\n"
	       "\"g\"\n"
	       ");\n",
	       { 1, "\"a\"" }, { 2, "\"b\"" }, { 4, "\"c\"" }, { 11, "\"def\"" }, { 15, "\"g\"" });
}

static void a_thousand_errors(void **state)
{
	struct config_errors errors = { 0 };
	struct policy_set set = { 0 };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	fputs("exempt = [\n", out);
	for (int i = 0; i < 1000; i++)
		fprintf(out, "\"x\"%s\n", i < 999 ? "," : "");
	fputs("];\n", out);
	fclose(out);
	assert_int_equal(config_parse(text, &set, &errors), -EINVAL);
	assert_int_equal(errors.count, 1001);
	assert_int_equal(errors.list[0].line, 0); /* 'policies' is missing */
	for (int i = 1; i <= 1000; i++)
		assert_int_equal(errors.list[i].line, i + 1);
	config_errors_free(&errors);
	assert_int_equal(errors.count, 0);
	free(text);
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

static char directory[64];

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/sipkeep-config.XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory);
}

/* Writes the file, loads it, removes it; compares with the one error expected, NULL: none. */
static void load(const char *text, size_t len, mode_t mode, const char *part, int line)
{
	const struct expected expected[] = { { line, part }, { 0, NULL } };
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/file", directory);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fwrite(text, 1, len, out), len);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(config_load(path, &set, &errors), part ? -EINVAL : 0);
	unlink(path);
	compare_errors("", &errors, expected);
	config_errors_free(&errors);
	assert_int_equal(set.policy_count, part ? 0 : 2);
}

static void file_mode(void **state)
{
	(void)state;
	load(whole_file, strlen(whole_file), 0644, NULL, 0);
	load(whole_file, strlen(whole_file), 0600, NULL, 0);
	load(whole_file, strlen(whole_file), 0664, "may be written by its group or by others (mode 0664)", 0);
	load(whole_file, strlen(whole_file), 0646, "may be written by its group or by others (mode 0646)", 0);
}

static void file_content(void **state)
{
	size_t len = 1024 * 1024;
	char *text = malloc(len + 1);

	(void)state;
	load("x = 1;\n\nx\0y", 11, 0644, "NUL byte", 3);
	load("", 0, 0644, "'policies' is missing", 0);
	load("x", 1, 0644, "syntax error", 1);
	/* Without a newline at the end. */
	load(whole_file, strlen(whole_file) - 1, 0644, NULL, 0);
	memset(text, '\n', len + 1);
	memcpy(text, whole_file, strlen(whole_file));
	load(text, len, 0644, NULL, 0);
	load(text, len + 1, 0644, "larger than 1 MiB", 0);
	free(text);
}

static void expect_load(const char *path, int err, const char *part)
{
	const struct expected expected[] = { { 0, part }, { 0, NULL } };
	struct policy_set set = { .max_sources = 4711 };
	struct config_errors errors = { 0 };

	assert_int_equal(config_load(path, &set, &errors), err);
	assert_int_equal(set.max_sources, 4711);
	compare_errors(path, &errors, expected);
	config_errors_free(&errors);
}

static void file_kind(void **state)
{
	char path[128], link_path[128];
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	FILE *out;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", directory);
	snprintf(link_path, sizeof(link_path), "%s/link", directory);
	expect_load(path, -ENOENT, "can't be opened: No such file or directory");
	expect_load(directory, -EINVAL, "isn't a regular file");
	expect_load("/dev/null", -EINVAL, "isn't a regular file");
	/* Nobody writes to it: it must not hold us up. */
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_load(path, -EINVAL, "isn't a regular file");
	unlink(path);
	/* A link to a good file is as good. */
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(whole_file, out);
	fclose(out);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(symlink("file", link_path), 0);
	assert_int_equal(config_load(link_path, &set, &errors), 0);
	assert_int_equal(errors.count, 0);
	unlink(link_path);
	unlink(path);
}

static void file_owner(void **state)
{
	char path[128];
	FILE *out;

	(void)state;
	if (geteuid() != 0) {
		print_message("only root can give a file away\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/file", directory);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(whole_file, out);
	fclose(out);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(chown(path, 65534, 65534), 0);
	expect_load(path, -EINVAL, "belongs to user 65534, not to root");
	unlink(path);
}

/* deploy/sipkeep.conf, found from where this file was compiled: run in that directory when its path was relative. */
static void sample_file(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	const char *self = __FILE__, *tail = "tests/unit/test_config.c";
	char path[4096], text[65536];
	size_t len;
	FILE *in;

	(void)state;
	assert_true(strlen(self) >= strlen(tail));
	snprintf(path, sizeof(path), "%.*sdeploy/sipkeep.conf", (int)(strlen(self) - strlen(tail)), self);
	in = fopen(path, "r");
	if (!in)
		fail_msg("%s: %s", path, strerror(errno));
	len = fread(text, 1, sizeof(text) - 1, in);
	fclose(in);
	assert_true(len > 0 && len < sizeof(text) - 1);
	text[len] = '\0';
	parse_right(text, &set);
	assert_true(set.observe);
	assert_int_equal(set.cgroup_count, 1);
	assert_string_equal(set.cgroups[0], "/");
	assert_int_equal(policy_find(&set, "phones"), 0);
	assert_int_equal(policy_find(&set, "trunks"), 1);
	expect_round_trip(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_key),
		cmocka_unit_test(limits_of_values),
		cmocka_unit_test(each_keepalive_option_alone),
		cmocka_unit_test(wedged_after),
		cmocka_unit_test(burst_default),
		cmocka_unit_test(syntax),
		cmocka_unit_test(key_given_twice),
		cmocka_unit_test(include_is_refused),
		cmocka_unit_test(numbers_that_libconfig_would_wrap),
		cmocka_unit_test(unknown_keys),
		cmocka_unit_test(top_level_values),
		cmocka_unit_test(cgroups),
		cmocka_unit_test(policies_list),
		cmocka_unit_test(too_many_rules),
		cmocka_unit_test(name_and_direction),
		cmocka_unit_test(keys_of_the_other_direction),
		cmocka_unit_test(ports),
		cmocka_unit_test(remotes),
		cmocka_unit_test(keepalive),
		cmocka_unit_test(limits),
		cmocka_unit_test(overlaps),
		cmocka_unit_test(all_errors_in_the_order_of_lines),
		cmocka_unit_test(lines_of_strings),
		cmocka_unit_test(a_thousand_errors),
		cmocka_unit_test(file_mode),
		cmocka_unit_test(file_content),
		cmocka_unit_test(file_kind),
		cmocka_unit_test(file_owner),
		cmocka_unit_test(sample_file),
	};

	return cmocka_run_group_tests_name("config", tests, make_directory, remove_directory);
}
