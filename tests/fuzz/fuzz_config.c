/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fuzz_config.c: any text is either refused with a reason or makes a set that prints as the same set.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined -Iinclude -Iuser tests/fuzz/fuzz_config.c user/config.c \
 *	user/config_[pst]*.c user/policy*.c user/outlet*.c -lconfig -lm -o fuzz_config   (no config_report.c)
 *   ./fuzz_config -dict=tests/fuzz/config.dict -max_len=2000 CORPUS
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 loses the string it was reading when a syntax error follows. Ours are still found. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

static void check_errors(const struct config_errors *errors)
{
	for (size_t i = 0; i < errors->count; i++) {
		if (!*errors->list[i].text || errors->list[i].line < 0)
			abort();
		if (i && errors->list[i].line < errors->list[i - 1].line)
			abort();
	}
}

static void no_line(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

static void check_round_trip(const struct policy_set *set)
{
	struct policy_set again CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		abort();
	policy_print(set, out);
	fclose(out);
	if (config_parse(text, &again, &errors)) {
		fprintf(stderr, "%d: %s\n", errors.list[0].line, errors.list[0].text);
		abort();
	}
	if (policy_diff(set, &again, no_line, NULL))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_set set CLEANUP_POLICY_SET = { 0 };
	struct config_errors errors = { 0 };
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (config_parse(text, &set, &errors) == 0) {
		if (errors.count || !set.policy_count || !set.cgroup_count)
			abort();
		check_round_trip(&set);
	} else {
		if (!errors.count || set.policies)
			abort();
		check_errors(&errors);
	}
	config_errors_free(&errors);
	free(text);
	return 0;
}
