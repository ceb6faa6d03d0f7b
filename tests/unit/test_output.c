// SPDX-License-Identifier: GPL-2.0-only
/* test_output.c: lines that wait for room, and marks that tell how far the writing has come. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "output.h"

#define LINES 3000

static int ends[2]; /* of a pipe that takes a page at a time and never waits */

static int set_up(void **state)
{
	(void)state;
	return pipe2(ends, O_NONBLOCK | O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(ends[0]);
	return close(ends[1]);
}

static void line_add(struct output *output, __u64 number)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "line %llu\n", number);

	assert_int_equal(output_add(output, text, (size_t)length, (struct output_mark){ number, 2 * number, 0 }), 0);
}

static void every_line_comes_once_and_its_mark_with_it(void **state)
{
	struct output *output = output_new(ends[1]);
	static char got[LINES * 16];
	struct output_mark mark = { 0 };
	size_t have = 0, length = 0;
	char wanted[64];
	int err;

	(void)state;
	for (__u64 i = 1; i <= LINES; i++)
		line_add(output, i);
	do {
		__u64 before = mark.delivered;
		ssize_t more;

		err = output_write(output, &mark);
		assert_true(err == 0 || err == -EAGAIN);
		assert_int_equal(output_error(output), err ? EAGAIN : 0);
		assert_true(mark.delivered >= before && mark.lost_told == 2 * mark.delivered);
		more = read(ends[0], got + have, sizeof(got) - have);
		assert_true(more > 0);
		have += (size_t)more;
		/* Whole lines only: what is told as written can be read. */
		snprintf(wanted, sizeof(wanted), "line %llu\n", mark.delivered);
		assert_non_null(memmem(got, have, wanted, strlen(wanted)));
	} while (err);
	assert_int_equal(mark.delivered, LINES);
	assert_int_equal(output_waiting(output), 0);
	for (__u64 i = 1, at = 0; i <= LINES; i++, at += length) {
		length = (size_t)snprintf(wanted, sizeof(wanted), "line %llu\n", i);
		assert_memory_equal(got + at, wanted, length);
	}
	output_free(output);
}

static void lines_wait_for_a_full_disk(void **state)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct output *output = output_new(fd);
	struct output_mark mark = { 7, 8, 9 };

	(void)state;
	line_add(output, 1);
	assert_int_equal(output_write(output, &mark), -EAGAIN);
	assert_int_equal(output_error(output), ENOSPC);
	assert_int_equal(output_waiting(output), 7);
	assert_int_equal(mark.delivered, 7); /* none is out */
	close(fd);
	output_free(output);
}

static void what_can_never_be_written_is_an_error(void **state)
{
	struct output *output = output_new(-1);
	struct output_mark mark = { 0 };

	(void)state;
	assert_int_equal(output_write(output, &mark), 0); /* nothing to write */
	line_add(output, 1);
	assert_int_equal(output_write(output, &mark), -EBADF);
	output_free(output);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_line_comes_once_and_its_mark_with_it, set_up, tear_down),
		cmocka_unit_test(lines_wait_for_a_full_disk),
		cmocka_unit_test(what_can_never_be_written_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
