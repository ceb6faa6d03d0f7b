/* SPDX-License-Identifier: GPL-2.0-only */
/* test_policy.c: the model by itself: prefixes, overlap, rates, print, difference. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "policy.h"

static struct policy_prefix prefix_of(const char *text)
{
	struct policy_prefix prefix;
	const char *why = "";

	if (policy_prefix_parse(text, &prefix, &why))
		fail_msg("%s: %s", text, why);
	return prefix;
}

/* ---- prefixes ---------------------------------------------------------------------------------------------- */

static void prefix_reads_and_writes(void **state)
{
	static const struct {
		const char *text, *written;
		__u8 family, len;
	} cases[] = {
		{ "0.0.0.0/0", "0.0.0.0/0", 4, 0 },
		{ "192.0.2.0/24", "192.0.2.0/24", 4, 24 },
		{ "192.0.2.7", "192.0.2.7/32", 4, 32 },
		{ "192.0.2.7/32", "192.0.2.7/32", 4, 32 },
		{ "192.0.2.128/25", "192.0.2.128/25", 4, 25 },
		{ "128.0.0.0/1", "128.0.0.0/1", 4, 1 },
		{ "255.255.255.255", "255.255.255.255/32", 4, 32 },
		{ "::/0", "::/0", 6, 0 },
		{ "8000::/1", "8000::/1", 6, 1 },
		{ "2001:db8::/32", "2001:db8::/32", 6, 32 },
		{ "2001:DB8:0:0::1", "2001:db8::1/128", 6, 128 },
		{ "2001:db8:1:2::/63", "2001:db8:1:2::/63", 6, 63 },
		{ "fe80::1/128", "fe80::1/128", 6, 128 },
		/* v4-mapped is IPv4, however it is written. */
		{ "::ffff:192.0.2.0/120", "192.0.2.0/24", 4, 24 },
		{ "::ffff:c000:0207", "192.0.2.7/32", 4, 32 },
		{ "::ffff:0:0/96", "0.0.0.0/0", 4, 0 },
		/* ::/95 holds the mapped addresses, but is IPv6. */
		{ "::/95", "::/95", 6, 95 },
		{ "::fffe:0:0/95", "::fffe:0:0/95", 6, 95 },
		{ "::192.0.2.1", "::192.0.2.1/128", 6, 128 },
	};
	char buf[POLICY_PREFIX_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_prefix prefix = prefix_of(cases[i].text), again;

		assert_int_equal(prefix.family, cases[i].family);
		assert_int_equal(prefix.len, cases[i].len);
		assert_ptr_equal(policy_prefix_format(&prefix, buf), buf);
		assert_string_equal(buf, cases[i].written);
		again = prefix_of(buf);
		assert_int_equal(policy_prefix_compare(&prefix, &again), 0);
	}
}

static void prefix_refuses(void **state)
{
	static const struct {
		const char *text, *why, *correct; /* correct: NULL where there is none */
	} cases[] = {
		{ "", "not an IPv4 or IPv6 address", NULL },
		{ "/8", "not an IPv4 or IPv6 address", NULL },
		{ "localhost", "not an IPv4 or IPv6 address", NULL },
		{ "192.0.2/24", "not an IPv4 or IPv6 address", NULL },
		{ "192.0.2.256", "not an IPv4 or IPv6 address", NULL },
		{ "192.0.2.01", "not an IPv4 or IPv6 address", NULL },
		{ " 192.0.2.1", "not an IPv4 or IPv6 address", NULL },
		{ "192.0.2.1 ", "not an IPv4 or IPv6 address", NULL },
		{ "fe80::1%eth0", "not an IPv4 or IPv6 address", NULL },
		{ "[::1]", "not an IPv4 or IPv6 address", NULL },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:0000/64", "not an IPv4 or IPv6 address", NULL },
		{ "192.0.2.0/", "number from 0 to 32", NULL },
		{ "192.0.2.0/33", "number from 0 to 32", NULL },
		{ "192.0.2.0/+24", "number from 0 to 32", NULL },
		{ "192.0.2.0/-1", "number from 0 to 32", NULL },
		{ "192.0.2.0/024", "number from 0 to 32", NULL },
		{ "192.0.2.0/24 ", "number from 0 to 32", NULL },
		{ "192.0.2.0/24/24", "number from 0 to 32", NULL },
		{ "192.0.2.0/255.255.255.0", "number from 0 to 32", NULL },
		{ "192.0.2.0/4294967320", "number from 0 to 32", NULL },
		{ "::/129", "number from 0 to 128", NULL },
		{ "192.0.2.7/24", "host bits are set", "192.0.2.0/24" },
		{ "192.0.2.1/31", "host bits are set", "192.0.2.0/31" },
		{ "192.0.2.0/0", "host bits are set", "0.0.0.0/0" },
		{ "2001:db8::1/64", "host bits are set", "2001:db8::/64" },
		{ "2001:db8::1/0", "host bits are set", "::/0" },
		{ "2001:db8:1:3::/63", "host bits are set", "2001:db8:1:2::/63" },
		{ "::ffff:192.0.2.7/120", "host bits are set", "192.0.2.0/24" },
		{ "::ffff:0:0/95", "host bits are set", "::fffe:0:0/95" },
	};
	char buf[POLICY_PREFIX_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_prefix prefix = { .len = 99 };
		const char *why = NULL;

		assert_int_equal(policy_prefix_parse(cases[i].text, &prefix, &why), -EINVAL);
		if (!why || !strstr(why, cases[i].why))
			fail_msg("\"%s\": %s", cases[i].text, why ? why : "(null)");
		assert_int_equal(prefix.len, 99); /* untouched */
		if (!cases[i].correct) {
			assert_int_equal(policy_prefix_correct(cases[i].text, &prefix), -EINVAL);
			assert_int_equal(prefix.len, 99);
			continue;
		}
		assert_int_equal(policy_prefix_correct(cases[i].text, &prefix), 0);
		assert_string_equal(policy_prefix_format(&prefix, buf), cases[i].correct);
	}
}

static void prefix_every_length(void **state)
{
	const char *const bases[] = { "255.255.255.255/%d", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/%d" };

	(void)state;
	for (int family = 0; family < 2; family++) {
		int max = family ? 128 : 32;

		for (int len = 0; len <= max; len++) {
			struct policy_prefix prefix;
			char text[64], buf[POLICY_PREFIX_LEN];
			int ones = 0;

			snprintf(text, sizeof(text), bases[family], len);
			assert_int_equal(policy_prefix_correct(text, &prefix), 0);
			assert_int_equal(prefix.len, len);
			for (int bit = 128 - max; bit < 128; bit++)
				ones += prefix.addr.b[bit / 8] >> (7 - bit % 8) & 1;
			assert_int_equal(ones, len);
			prefix_of(policy_prefix_format(&prefix, buf));
		}
	}
}

static void addresses(void **state)
{
	char buf[POLICY_PREFIX_LEN];
	struct policy_prefix prefix;

	(void)state;
	prefix = prefix_of("192.0.2.7");
	assert_true(policy_addr_is_ipv4(&prefix.addr));
	assert_string_equal(policy_addr_format(&prefix.addr, buf), "192.0.2.7");
	prefix = prefix_of("2001:db8::7");
	assert_false(policy_addr_is_ipv4(&prefix.addr));
	assert_string_equal(policy_addr_format(&prefix.addr, buf), "2001:db8::7");
	prefix = prefix_of("::");
	assert_false(policy_addr_is_ipv4(&prefix.addr));
	assert_string_equal(policy_addr_format(&prefix.addr, buf), "::");
	/* Compatible, not mapped. */
	prefix = prefix_of("::192.0.2.7");
	assert_false(policy_addr_is_ipv4(&prefix.addr));
}

static void prefix_order(void **state)
{
	static const char *const order[] = { "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.1.0.0/16", "192.0.2.1",
					     "::/0", "2001:db8::/32" };

	(void)state;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		for (size_t j = 0; j < sizeof(order) / sizeof(order[0]); j++) {
			struct policy_prefix a = prefix_of(order[i]), b = prefix_of(order[j]);
			int got = policy_prefix_compare(&a, &b);

			assert_true(i < j ? got < 0 : i > j ? got > 0 : got == 0);
		}
	}
}

/* ---- policies made by hand ----------------------------------------------------------------------------------- */

/* ports: ended by 0; remotes: ended by NULL. */
static struct policy *add_policy(struct policy_set *set, const char *name, enum sipkeep_direction direction,
				 const int *ports, const char *const *remotes)
{
	struct policy *policy;

	set->policies = realloc(set->policies, (set->policy_count + 1) * sizeof(*set->policies));
	assert_non_null(set->policies);
	policy = &set->policies[set->policy_count++];
	memset(policy, 0, sizeof(*policy));
	snprintf(policy->name, sizeof(policy->name), "%s", name);
	policy->direction = direction;
	policy->kernel.direction = (__u8)direction;
	policy->ports = calloc(16, sizeof(*policy->ports));
	policy->remotes = calloc(16, sizeof(*policy->remotes));
	for (; *ports; ports++)
		policy->ports[policy->port_count++] = (__u16)*ports;
	for (; *remotes; remotes++)
		policy->remotes[policy->remote_count++] = prefix_of(*remotes);
	policy_normalize(policy);
	return policy;
}

#define PORTS(...) ((const int[]){ __VA_ARGS__, 0 })
#define ANY_PORT ((const int[]){ 0 })
#define REMOTES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void normalize_sorts_and_drops_doubles(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	char buf[POLICY_PREFIX_LEN];
	struct policy empty = { 0 };
	struct policy *policy;

	(void)state;
	policy = add_policy(&set, "a", SIPKEEP_INBOUND, PORTS(5061, 65535, 5060, 5061, 5060, 1),
			    REMOTES("::/0", "10.0.0.0/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104"));
	assert_int_equal(policy->port_count, 4);
	assert_int_equal(policy->ports[0], 1);
	assert_int_equal(policy->ports[1], 5060);
	assert_int_equal(policy->ports[2], 5061);
	assert_int_equal(policy->ports[3], 65535);
	assert_int_equal(policy->remote_count, 3);
	assert_string_equal(policy_prefix_format(&policy->remotes[0], buf), "0.0.0.0/0");
	assert_string_equal(policy_prefix_format(&policy->remotes[1], buf), "10.0.0.0/8");
	assert_string_equal(policy_prefix_format(&policy->remotes[2], buf), "::/0");
	policy_normalize(&empty);
	assert_int_equal(empty.port_count, 0);
}

static void find(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };

	(void)state;
	assert_int_equal(policy_find(&set, "a"), -1);
	add_policy(&set, "a", SIPKEEP_INBOUND, ANY_PORT, REMOTES("::/0"));
	add_policy(&set, "b", SIPKEEP_INBOUND, ANY_PORT, REMOTES("::/0"));
	assert_int_equal(policy_find(&set, "b"), 1);
	assert_int_equal(policy_find(&set, "B"), -1);
}

static void free_twice(void **state)
{
	struct policy_set set = { 0 };

	(void)state;
	policy_set_free(&set);
	add_policy(&set, "a", SIPKEEP_INBOUND, ANY_PORT, REMOTES("::/0"));
	set.cgroups = calloc(1, sizeof(*set.cgroups));
	set.cgroups[set.cgroup_count++] = strdup("/");
	policy_set_free(&set);
	policy_set_free(&set);
	assert_null(set.policies);
}

static void overlap(void **state)
{
	static const struct {
		enum sipkeep_direction direction;
		int ports[4];
		const char *remotes[4];
		int port; /* -1: no overlap with "inbound, 5060 and 5061, 10.0.0.0/8 and 2001:db8::/32" */
		const char *prefix;
	} cases[] = {
		{ SIPKEEP_INBOUND, { 5061, 5062 }, { "10.0.0.0/8" }, 5061, "10.0.0.0/8" },
		{ SIPKEEP_INBOUND, { 80, 5060 }, { "0.0.0.0/0", "2001:db8::/32" }, 5060, "2001:db8::/32" },
		{ SIPKEEP_INBOUND, { 5060, 5061 }, { "::ffff:10.0.0.0/104" }, 5060, "10.0.0.0/8" },
		{ SIPKEEP_OUTBOUND, { 5060 }, { "10.0.0.0/8" }, -1, NULL },
		{ SIPKEEP_INBOUND, { 5062 }, { "10.0.0.0/8" }, -1, NULL },
		/* An exact port beats any port. */
		{ SIPKEEP_INBOUND, { 0 }, { "10.0.0.0/8" }, -1, NULL },
		/* The longer prefix wins. */
		{ SIPKEEP_INBOUND, { 5060 }, { "10.0.0.0/9", "10.0.0.0/7", "0.0.0.0/0", "::/0" }, -1, NULL },
		{ SIPKEEP_INBOUND, { 5060 }, { "11.0.0.0/8", "2001:db9::/32" }, -1, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		int ports[5] = { 0 };
		const char *remotes[5] = { NULL };
		char buf[POLICY_PREFIX_LEN];

		memcpy(ports, cases[i].ports, sizeof(cases[i].ports));
		memcpy(remotes, cases[i].remotes, sizeof(cases[i].remotes));
		add_policy(&set, "a", SIPKEEP_INBOUND, PORTS(5060, 5061), REMOTES("10.0.0.0/8", "2001:db8::/32"));
		add_policy(&set, "b", cases[i].direction, ports, remotes);
		for (int turn = 0; turn < 2; turn++) {
			struct policy_prefix prefix = { .len = 99 };
			__u16 port = 7;
			bool found = policy_overlap(&set.policies[turn], &set.policies[!turn], &port, &prefix);

			assert_int_equal(found, cases[i].port >= 0);
			assert_int_equal(port, found ? cases[i].port : 7);
			if (found)
				assert_string_equal(policy_prefix_format(&prefix, buf), cases[i].prefix);
			else
				assert_int_equal(prefix.len, 99);
		}
	}
}

static void overlap_any_port(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct policy_prefix prefix;
	__u16 port = 7;

	(void)state;
	add_policy(&set, "a", SIPKEEP_OUTBOUND, ANY_PORT, REMOTES("0.0.0.0/0", "::/0"));
	add_policy(&set, "b", SIPKEEP_OUTBOUND, ANY_PORT, REMOTES("10.0.0.0/8", "::/0"));
	assert_true(policy_overlap(&set.policies[0], &set.policies[1], &port, &prefix));
	assert_int_equal(port, 0);
	assert_int_equal(prefix.family, 6);
}

static void rate(void **state)
{
	static const struct {
		double rate;
		__u32 burst;
		__u64 interval_ns, burst_ns;
	} cases[] = {
		{ 0, 0, 0, 0 },
		{ 0, 5, 0, 0 },
		{ 10, 0, 100000000, 1000000000 },
		{ 10, 20, 100000000, 2000000000 },
		{ 2.5, 0, 400000000, 1200000000 },
		{ 0.5, 0, 2000000000, 2000000000 },
		{ 3, 0, 333333333, 999999999 },
		{ POLICY_RATE_MIN, POLICY_BURST_MAX, 1000000000000, 1000000000000000000 },
		{ POLICY_RATE_MAX, 0, 1000, 1000000000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy policy = { 0 };

		policy_set_rate(&policy, cases[i].rate, cases[i].burst);
		assert_int_equal(policy.kernel.rate_interval_ns, cases[i].interval_ns);
		assert_int_equal(policy.kernel.rate_burst_ns, cases[i].burst_ns);
	}
}

/* ---- print --------------------------------------------------------------------------------------------------- */

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

static void print_tells_all(void **state)
{
	struct policy_set set CLEANUP_POLICY_SET = { .observe = true, .max_sources = 1000 };
	struct policy *policy;
	char *text;

	(void)state;
	set.cgroups = calloc(1, sizeof(*set.cgroups));
	set.cgroups[set.cgroup_count++] = strdup("/a \"b\"\\c");
	policy = add_policy(&set, "phones", SIPKEEP_INBOUND, PORTS(5060, 5061), REMOTES("0.0.0.0/0"));
	policy->kernel.keepalive_set = SIPKEEP_SET_KEEPALIVE | SIPKEEP_SET_KEEPIDLE | SIPKEEP_SET_USER_TIMEOUT;
	policy->kernel.keepalive = 1;
	policy->kernel.keepidle = 60;
	policy->kernel.user_timeout_ms = 2500;
	policy->kernel.flags = SIPKEEP_POLICY_DROP;
	policy_set_rate(policy, 2.5, 7);
	add_policy(&set, "trunks", SIPKEEP_OUTBOUND, ANY_PORT, REMOTES("2001:db8::/32"));
	text = print(&set);
	assert_string_equal(text, "cgroups = [ \"/a \\\"b\\\"\\\\c\" ];\n"
				  "mode = \"observe\";  # nothing is refused and nothing is set\n"
				  "on_full = \"admit\";\n"
				  "max_sources = 1000;\n"
				  "policies = (\n"
				  "  {\n"
				  "    name = \"phones\";\n"
				  "    direction = \"inbound\";\n"
				  "    local_ports = [ 5060, 5061 ];\n"
				  "    remotes = [ \"0.0.0.0/0\" ];\n"
				  "    tcp_keepalive = true;\n"
				  "    tcp_keepidle = 60;  # seconds\n"
				  "    tcp_user_timeout = 2.5;  # seconds\n"
				  "    keepalive_mode = \"default\";\n"
				  "    max_connections_per_source = 0;  # no limit\n"
				  "    source_prefix_ipv4 = 0;  # IPv4 is one source\n"
				  "    source_prefix_ipv6 = 0;  # IPv6 is one source\n"
				  "    max_connections = 0;  # no limit\n"
				  "    max_rate_per_source = 2.5;\n"
				  "    burst_per_source = 7;\n"
				  "    refuse_with = \"drop\";\n"
				  "  },\n"
				  "  {\n"
				  "    name = \"trunks\";\n"
				  "    direction = \"outbound\";\n"
				  "    remote_ports = [ ];  # any\n"
				  "    remotes = [ \"2001:db8::/32\" ];\n"
				  "    # keepalive: left to the system and the PBX\n"
				  "    max_connections_per_source = 0;  # no limit\n"
				  "    max_connections = 0;  # no limit\n"
				  "    wedged_after = 0;  # not watched for\n"
				  "  }\n"
				  ");\n"
				  "exempt = [ ];\n");
	free(text);
}

/* What was read back from the maps knows the interval only. */
static void print_rate_of_kernel(void **state)
{
	static const struct {
		double rate;
		const char *text;
	} cases[] = {
		{ 10, "max_rate_per_source = 10;" },	   { 3, "max_rate_per_source = 3;" },
		{ 2.5, "max_rate_per_source = 2.5;" },	   { 0.1, "max_rate_per_source = 0.1;" },
		{ 7, "max_rate_per_source = 7;" },	   { 100, "max_rate_per_source = 100;" },
		{ 0.001, "max_rate_per_source = 0.001;" }, { 1000000, "max_rate_per_source = 1000000;" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_set set CLEANUP_POLICY_SET = { 0 };
		struct policy *policy = add_policy(&set, "a", SIPKEEP_INBOUND, ANY_PORT, REMOTES("::/0"));
		char *text;

		policy_set_rate(policy, cases[i].rate, 4);
		policy->max_rate_per_source = 0;
		policy->burst_per_source = 0;
		text = print(&set);
		if (!strstr(text, cases[i].text))
			fail_msg("no %s in\n%s", cases[i].text, text);
		assert_non_null(strstr(text, "burst_per_source = 4;"));
		free(text);
	}
}

/* ---- difference ---------------------------------------------------------------------------------------------- */

struct lines {
	char text[4096];
	size_t count;
};

static void keep_line(void *arg, const char *text)
{
	struct lines *lines = arg;

	assert_null(strchr(text, '\n'));
	strncat(lines->text, text, sizeof(lines->text) - strlen(lines->text) - 1);
	strncat(lines->text, "\n", sizeof(lines->text) - strlen(lines->text) - 1);
	lines->count++;
}

static void expect_diff(const struct policy_set *from, const struct policy_set *to, const char *wanted)
{
	struct lines lines = { .count = 0 };
	size_t count = policy_diff(from, to, keep_line, &lines);

	assert_string_equal(lines.text, wanted);
	assert_int_equal(count, lines.count);
}

static void fill(struct policy_set *set)
{
	struct policy *policy;

	set->max_sources = 1000;
	set->cgroups = calloc(4, sizeof(*set->cgroups));
	set->cgroups[set->cgroup_count++] = strdup("/a");
	set->exempt = calloc(4, sizeof(*set->exempt));
	set->exempt[set->exempt_count++] = prefix_of("192.0.2.10");
	policy = add_policy(set, "phones", SIPKEEP_INBOUND, PORTS(5060, 5061), REMOTES("10.0.0.0/8", "::/0"));
	policy->kernel.max_connections_per_source = 20;
	policy->kernel.source_prefix_ipv4 = 32;
	policy->kernel.source_prefix_ipv6 = 64;
	policy_set_rate(policy, 3, 5);
	add_policy(set, "trunks", SIPKEEP_OUTBOUND, PORTS(5060), REMOTES("0.0.0.0/0"));
}

static void diff_of_equals(void **state)
{
	struct policy_set from CLEANUP_POLICY_SET = { 0 }, to CLEANUP_POLICY_SET = { 0 }, none = { 0 };
	struct policy first;

	(void)state;
	fill(&from);
	fill(&to);
	/* Neither the order of policies nor the place in the file matters, nor what the kernel doesn't keep. */
	first = to.policies[0];
	to.policies[0] = to.policies[1];
	to.policies[1] = first;
	to.policies[0].line = 99;
	to.policies[0].kernel.in_use = 1;
	from.policies[0].max_rate_per_source = 0;
	from.policies[0].burst_per_source = 0;
	expect_diff(&from, &to, "");
	expect_diff(&to, &from, "");
	to.policies[1].max_rate_per_source = 3.0000000001;
	expect_diff(&from, &to, "");
	expect_diff(&none, &none, "");
}

static void diff_of_each_setting(void **state)
{
	static const struct sipkeep_policy all = {
		.keepalive_set = SIPKEEP_SET_KEEPALIVE | SIPKEEP_SET_KEEPIDLE | SIPKEEP_SET_KEEPINTVL |
				 SIPKEEP_SET_KEEPCNT | SIPKEEP_SET_USER_TIMEOUT,
		.keepalive = 1,
		.keepidle = 60,
		.keepintvl = 10,
		.keepcnt = 6,
		.user_timeout_ms = 1500,
		.flags = SIPKEEP_POLICY_ENFORCE_KEEPALIVE | SIPKEEP_POLICY_DROP,
		.max_connections_per_source = 30,
		.max_connections = 500,
		.source_prefix_ipv4 = 24,
		.source_prefix_ipv6 = 56,
		.rate_interval_ns = 100000000,
		.rate_burst_ns = 2000000000,
	};
	struct policy_set from CLEANUP_POLICY_SET = { 0 }, to CLEANUP_POLICY_SET = { 0 };

	(void)state;
	fill(&from);
	fill(&to);
	to.policies[0].kernel = all;
	to.policies[0].max_rate_per_source = 10;
	to.policies[0].burst_per_source = 20;
	expect_diff(&from, &to,
		    "~ policy phones: tcp_keepalive unset -> true\n"
		    "~ policy phones: tcp_keepidle unset -> 60\n"
		    "~ policy phones: tcp_keepintvl unset -> 10\n"
		    "~ policy phones: tcp_keepcnt unset -> 6\n"
		    "~ policy phones: tcp_user_timeout unset -> 1.5\n"
		    "~ policy phones: keepalive_mode unset -> \"enforce\"\n"
		    "~ policy phones: max_connections_per_source 20 -> 30\n"
		    "~ policy phones: source_prefix_ipv4 32 -> 24\n"
		    "~ policy phones: source_prefix_ipv6 64 -> 56\n"
		    "~ policy phones: max_connections 0 -> 500\n"
		    "~ policy phones: max_rate_per_source 3 -> 10\n"
		    "~ policy phones: burst_per_source 5 -> 20\n"
		    "~ policy phones: refuse_with \"reset\" -> \"drop\"\n");
	policy_set_rate(&to.policies[0], 0, 0);
	to.policies[0].kernel.keepalive_set = 0;
	to.policies[0].kernel.flags = 0;
	to.policies[0].kernel.max_connections = 0;
	expect_diff(&from, &to,
		    "~ policy phones: max_connections_per_source 20 -> 30\n"
		    "~ policy phones: source_prefix_ipv4 32 -> 24\n"
		    "~ policy phones: source_prefix_ipv6 64 -> 56\n"
		    "~ policy phones: max_rate_per_source 3 -> 0\n"
		    "~ policy phones: burst_per_source 5 -> unset\n");
}

static void diff_of_the_whole(void **state)
{
	struct policy_set from CLEANUP_POLICY_SET = { 0 }, to CLEANUP_POLICY_SET = { 0 };
	struct policy *policy;

	(void)state;
	fill(&from);
	fill(&to);
	from.observe = true;
	to.on_full_refuse = true;
	to.max_sources = 2000;
	to.cgroups[0][1] = 'b';
	to.exempt[0] = prefix_of("192.0.2.0/24");
	snprintf(to.policies[1].name, sizeof(to.policies[1].name), "carrier");
	policy = &to.policies[0];
	policy->ports[policy->port_count++] = 8089;
	policy->remotes[0] = prefix_of("10.0.0.0/9");
	policy->remotes[1] = prefix_of("10.128.0.0/9");
	expect_diff(&from, &to,
		    "- cgroup /a\n"
		    "+ cgroup /b\n"
		    "~ mode observe -> enforce\n"
		    "~ on_full admit -> refuse\n"
		    "~ max_sources 1000 -> 2000\n"
		    "- policy trunks\n"
		    "~ policy phones: local_ports [ 5060, 5061 ] -> [ 5060, 5061, 8089 ]\n"
		    "~ policy phones: remotes - 10.0.0.0/8\n"
		    "~ policy phones: remotes + 10.0.0.0/9\n"
		    "~ policy phones: remotes + 10.128.0.0/9\n"
		    "~ policy phones: remotes - ::/0\n"
		    "+ policy carrier\n"
		    "+ exempt 192.0.2.0/24\n"
		    "- exempt 192.0.2.10/32\n");
}

static void diff_of_direction(void **state)
{
	struct policy_set from CLEANUP_POLICY_SET = { 0 }, to CLEANUP_POLICY_SET = { 0 };

	(void)state;
	add_policy(&from, "a", SIPKEEP_INBOUND, PORTS(5060), REMOTES("::/0"));
	add_policy(&to, "a", SIPKEEP_OUTBOUND, PORTS(5060), REMOTES("::/0"))->kernel.wedged_after_ms = 2500;
	expect_diff(&from, &to,
		    "~ policy a: direction \"inbound\" -> \"outbound\"\n"
		    "~ policy a: local_ports [ 5060 ] -> unset\n"
		    "~ policy a: remote_ports unset -> [ 5060 ]\n"
		    "~ policy a: source_prefix_ipv4 0 -> unset\n"
		    "~ policy a: source_prefix_ipv6 0 -> unset\n"
		    "~ policy a: max_rate_per_source 0 -> unset\n"
		    "~ policy a: refuse_with \"reset\" -> unset\n"
		    "~ policy a: wedged_after unset -> 2.5\n");
	policy_set_free(&from);
	add_policy(&from, "a", SIPKEEP_OUTBOUND, PORTS(5060), REMOTES("::/0"));
	expect_diff(&from, &to, "~ policy a: wedged_after 0 -> 2.5\n");
}

/* ---- who moves ------------------------------------------------------------------------------------------------- */

static bool moves(void (*change)(struct policy *policy))
{
	struct policy_set from CLEANUP_POLICY_SET = { 0 }, to CLEANUP_POLICY_SET = { 0 };

	add_policy(&from, "a", SIPKEEP_INBOUND, PORTS(5060), REMOTES("192.0.2.0/24"));
	add_policy(&from, "b", SIPKEEP_OUTBOUND, PORTS(5061), REMOTES("::/0"));
	add_policy(&to, "b", SIPKEEP_OUTBOUND, PORTS(5061), REMOTES("::/0")); /* the order means nothing */
	change(add_policy(&to, "a", SIPKEEP_INBOUND, PORTS(5060), REMOTES("192.0.2.0/24")));
	assert_int_equal(policy_set_moves(&from, &to), policy_set_moves(&to, &from));
	return policy_set_moves(&from, &to);
}

static void change_nothing(struct policy *policy)
{
	(void)policy;
}

static void change_numbers(struct policy *policy)
{
	policy->kernel.max_connections_per_source = 7;
	policy->kernel.max_connections = 70;
	policy->kernel.keepidle = 30;
	policy->kernel.keepalive_set = SIPKEEP_SET_KEEPIDLE;
	policy->kernel.flags = SIPKEEP_POLICY_DROP;
}

static void change_name(struct policy *policy)
{
	policy->name[0] = 'c';
}

static void change_prefix(struct policy *policy)
{
	policy->kernel.source_prefix_ipv4 = 24;
}

static void change_port(struct policy *policy)
{
	policy->ports[0] = 5070;
}

static void change_remote(struct policy *policy)
{
	policy->remotes[0].len = 25;
}

static void transports_move_when_their_source_does(void **state)
{
	(void)state;
	assert_false(moves(change_nothing));
	assert_false(moves(change_numbers));
	assert_true(moves(change_name));
	assert_true(moves(change_prefix));
	assert_true(moves(change_port));
	assert_true(moves(change_remote));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transports_move_when_their_source_does),
		cmocka_unit_test(prefix_reads_and_writes),
		cmocka_unit_test(prefix_refuses),
		cmocka_unit_test(prefix_every_length),
		cmocka_unit_test(addresses),
		cmocka_unit_test(prefix_order),
		cmocka_unit_test(normalize_sorts_and_drops_doubles),
		cmocka_unit_test(find),
		cmocka_unit_test(free_twice),
		cmocka_unit_test(overlap),
		cmocka_unit_test(overlap_any_port),
		cmocka_unit_test(rate),
		cmocka_unit_test(print_tells_all),
		cmocka_unit_test(print_rate_of_kernel),
		cmocka_unit_test(diff_of_equals),
		cmocka_unit_test(diff_of_each_setting),
		cmocka_unit_test(diff_of_the_whole),
		cmocka_unit_test(diff_of_direction),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
