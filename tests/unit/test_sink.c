// SPDX-License-Identifier: GPL-2.0-only
/* test_sink.c: the sinks on real files and real sockets; what a journal entry is made of. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "sink.h"
#include "sink_entry.h"
#include "sink_feed.h"
#include "sink_ids.h"
#include "subscribe.h"

static char directory[64], path[96], other[128];
static __u64 seq;

static int set_up(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/test_sink.XXXXXX");
	seq = 0;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/e", directory);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

static char *rotated(unsigned int number)
{
	snprintf(other, sizeof(other), "%s.%u", path, number);
	return other;
}

static long long size_of(const char *name)
{
	struct stat st;

	return stat(name, &st) ? -1 : (long long)st.st_size;
}

/* Free it. */
static char *content(const char *name)
{
	long long size = size_of(name);
	FILE *in = fopen(name, "r");
	char *text;

	assert_non_null(in);
	text = calloc(1, (size_t)size + 1);
	assert_int_equal(fread(text, 1, (size_t)size, in), size);
	fclose(in);
	return text;
}

static struct sink *open_right(const struct outlet_sink *settings)
{
	struct failure failure = { "" };
	struct sink *sink = NULL;

	if (sink_open(settings, "test", &sink, &failure))
		fail_msg("%s", failure.text);
	return sink;
}

static void open_wrong(const struct outlet_sink *settings, int err, const char *part)
{
	struct failure failure = { "" };
	struct sink *sink = NULL;

	assert_int_equal(sink_open(settings, "test", &sink, &failure), err);
	if (!strstr(failure.text, part))
		fail_msg("wanted: %s\ngot: %s", part, failure.text);
}

/* The next event; each takes 100 bytes. */
static void put(struct sink *sink)
{
	struct event event = { .kind = SIPKEEP_EVENT_CONNECTED };
	char line[128];

	snprintf(line, sizeof(line), "{\"v\":1,\"seq\":%08llu,\"%72s\":1}\n", ++seq, "x");
	assert_int_equal(strlen(line), 100);
	assert_int_equal(sink_put(sink, &event, line, 100, (struct output_mark){ .delivered = seq }), 0);
}

/* Each of the numbers from first is there once, in its order; returns the one after the last. */
static __u64 expect_seqs(const char *text, __u64 first)
{
	for (; *text; text += 100) {
		assert_true(strlen(text) >= 100 && text[99] == '\n');
		assert_int_equal(strtoull(text + strlen("{\"v\":1,\"seq\":"), NULL, 10), first++);
	}
	return first;
}

static __u64 expect_file(const char *name, __u64 first)
{
	char *text = content(name);

	first = expect_seqs(text, first);
	free(text);
	return first;
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static const struct outlet_sink *plain(void)
{
	static struct outlet_sink settings;

	settings = (struct outlet_sink){ .type = OUTLET_JSONL, .path = path };
	return &settings;
}

static void lines_and_marks(void **state)
{
	struct output_mark mark = { .delivered = 77 };
	struct sink *sink;
	struct stat st;
	mode_t before = umask(0077);

	(void)state;
	sink = open_right(plain());
	umask(before);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(sink_holds(sink));
	snprintf(other, sizeof(other), "jsonl %s", path);
	assert_string_equal(sink_name(sink), other);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(mark.delivered, 77);
	put(sink);
	put(sink);
	assert_int_equal(sink_waiting(sink), 200);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(mark.delivered, 2);
	assert_int_equal(sink_close(sink), 0);
	sink = open_right(plain()); /* appended to */
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	sink_close(sink);
	assert_int_equal(expect_file(path, 1), 4);
}

/* What was killed amid a line: that line ends, and the next begins in a line of its own. */
static void a_cut_line_is_ended(void **state)
{
	struct output_mark mark;
	FILE *out = fopen(path, "w");
	struct sink *sink;
	char *text;

	(void)state;
	fputs("{\"v\":1,\"ts", out);
	fclose(out);
	sink = open_right(plain());
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	sink_close(sink);
	text = content(path);
	assert_memory_equal(text, "{\"v\":1,\"ts\n{\"v\":1,\"seq\":0000", 28);
	assert_int_equal(strlen(text), 111);
	free(text);
}

static __u64 total(void)
{
	__u64 sum = (__u64)size_of(path);

	for (unsigned int i = 1; i <= OUTLET_ROTATED_MAX && size_of(rotated(i)) >= 0; i++)
		sum += (__u64)size_of(rotated(i));
	return sum;
}

static void rotation_loses_and_doubles_nothing(void **state)
{
	const struct outlet_sink settings = { OUTLET_JSONL, 0, path, 65536, 4 * 65536, 0 };
	struct sink *sink = open_right(&settings);
	struct output_mark mark;
	__u64 first;

	(void)state;
	/* In batches that end anywhere in a file, one of them larger than several. */
	for (unsigned int batch = 1; batch < 100; batch += 7) {
		for (unsigned int i = 0; i < (batch == 50 ? 3000 : batch * 3); i++)
			put(sink);
		assert_int_equal(sink_write(sink, &mark), 0);
		assert_int_equal(mark.delivered, seq);
		assert_true(total() <= 4 * 65536);
	}
	sink_close(sink);
	assert_true(size_of(rotated(2)) == 65500 && size_of(rotated(3)) == 65500);
	assert_int_equal(size_of(rotated(4)), -1);
	first = seq + 1 - total() / 100;
	for (unsigned int i = 3; i; i--)
		first = expect_file(rotated(i), first);
	assert_int_equal(expect_file(path, first), seq + 1);
	/* With less from now on: the oldest go at once. */
	sink = open_right(&(struct outlet_sink){ OUTLET_JSONL, 0, path, 65536, 2 * 65536, 0 });
	assert_true(total() <= 2 * 65536);
	assert_int_equal(size_of(rotated(2)), -1);
	sink_close(sink);
}

/* Killed amid the renaming, there is a number free. */
static void rotation_goes_on_where_it_was_killed(void **state)
{
	const struct outlet_sink settings = { OUTLET_JSONL, 0, path, 65536, 10 * 65536, 0 };
	struct sink *sink = open_right(&settings);
	struct output_mark mark;
	char from[128];

	(void)state;
	for (int i = 0; i < 3000; i++)
		put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	sink_close(sink);
	assert_int_equal(expect_file(rotated(4), 1), 656);
	/* 4 -> 5, 3 -> 4, killed. */
	strcpy(from, rotated(4));
	assert_int_equal(rename(from, rotated(5)), 0);
	strcpy(from, rotated(3));
	assert_int_equal(rename(from, rotated(4)), 0);
	sink = open_right(&settings);
	for (int i = 0; i < 700; i++)
		put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	sink_close(sink);
	for (unsigned int i = 5, first = 1; i; i--)
		first = (unsigned int)expect_file(rotated(i), first);
	assert_int_equal(size_of(rotated(6)), -1);
}

static void one_moved_away_is_opened_anew(void **state)
{
	struct sink *sink = open_right(plain());
	struct output_mark mark;
	struct failure failure;

	(void)state;
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(sink_reopen(sink, &failure), 0); /* nothing has happened */
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(rename(path, rotated(1)), 0);
	put(sink); /* before the signal: still the old one's */
	assert_int_equal(sink_write(sink, &mark), 0);
	put(sink);
	assert_int_equal(sink_reopen(sink, &failure), 0);
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(expect_file(rotated(1), 1), 4);
	assert_int_equal(expect_file(path, 4), 6);
	/* It can't be: the old one goes on. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(sink_reopen(sink, &failure), -EISDIR);
	assert_non_null(strstr(failure.text, path));
	assert_int_equal(rmdir(path), 0);
	sink_close(sink);
}

/* A file that may not grow further stands for a disk that is full. */
static void the_rest_of_a_line_follows_when_there_is_room(void **state)
{
	struct rlimit before, tight;
	struct output_mark mark = { .delivered = 0 };
	struct failure failure;
	struct sink *sink = open_right(plain());

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	tight = before;
	tight.rlim_cur = 250;
	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < 4; i++)
		put(sink);
	setrlimit(RLIMIT_FSIZE, &tight);
	assert_int_equal(sink_write(sink, &mark), -EAGAIN);
	assert_int_equal(sink_error(sink), EFBIG);
	assert_int_equal(mark.delivered, 2);
	assert_int_equal(sink_waiting(sink), 150);
	assert_int_equal(size_of(path), 250);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(mark.delivered, 4);
	assert_int_equal(expect_file(path, 1), 5);
	/* Moved away amid a line: that is whole in the new one, and not at all in the old. */
	tight.rlim_cur = 550;
	for (int i = 0; i < 3; i++)
		put(sink);
	setrlimit(RLIMIT_FSIZE, &tight);
	assert_int_equal(sink_write(sink, &mark), -EAGAIN);
	assert_int_equal(rename(path, rotated(1)), 0);
	assert_int_equal(sink_reopen(sink, &failure), 0);
	assert_int_equal(sink_write(sink, &mark), 0);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(mark.delivered, 7);
	assert_int_equal(expect_file(rotated(1), 1), 6);
	assert_int_equal(expect_file(path, 6), 8);
	sink_close(sink);
}

static void emptied_by_copytruncate(void **state)
{
	const struct outlet_sink settings = { OUTLET_JSONL, 0, path, 65536, 2 * 65536, 0 };
	struct sink *sink = open_right(&settings);
	struct output_mark mark;

	(void)state;
	for (int i = 0; i < 600; i++)
		put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(truncate(path, 0), 0);
	for (int i = 0; i < 600; i++)
		put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	sink_close(sink);
	assert_int_equal(expect_file(path, 601), 1201);
	assert_int_equal(size_of(rotated(1)), -1);
}

static void what_others_could_have_prepared(void **state)
{
	struct outlet_sink settings = *plain();
	char deep[128], target[128];

	(void)state;
	snprintf(deep, sizeof(deep), "%s/sub/e", directory);
	snprintf(target, sizeof(target), "%s/sub", directory);
	settings.path = deep;
	open_wrong(&settings, -ENOENT, "sub can't be opened: No such file or directory; make it first");
	assert_int_equal(mkdir(target, 0700), 0);
	assert_int_equal(chmod(target, 0770), 0);
	open_wrong(&settings, -EPERM, "sub may be written by others (mode 0770)");
	assert_int_equal(chmod(target, 01777), 0);
	open_wrong(&settings, -EPERM, "sub may be written by others (mode 1777)");
	assert_int_equal(chmod(target, 0700), 0);
	assert_int_equal(chmod(directory, 0707), 0);
	open_wrong(&settings, -EPERM, "may be written by others (mode 0707)");
	assert_int_equal(chmod(directory, 0700), 0);
	sink_close(open_right(&settings));
	/* By a link of ours, and back. */
	snprintf(other, sizeof(other), "%s/link", directory);
	assert_int_equal(symlink("../", other), 0);
	unlink(other);
	assert_int_equal(symlink("sub/..//sub/.", other), 0);
	snprintf(deep, sizeof(deep), "%s/link/e", directory);
	sink_close(open_right(&settings));
	if (geteuid() == 0) {
		assert_int_equal(lchown(other, 65534, 65534), 0);
		open_wrong(&settings, -EPERM, "link belongs to user 65534");
	}
	unlink(other);
	assert_int_equal(symlink("link", other), 0);
	open_wrong(&settings, -ELOOP, "can't be followed");
}

static void what_is_no_file(void **state)
{
	struct sink *sink;
	int status;

	(void)state;
	assert_int_equal(symlink("target", path), 0);
	open_wrong(plain(), -ELOOP, "it is a symbolic link; name the file that it leads to");
	snprintf(other, sizeof(other), "%s/target", directory);
	assert_int_equal(size_of(other), -1);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	open_wrong(plain(), -EINVAL, "is no regular file");
	unlink(path);
	/* Another process has it; we may, with other settings. */
	sink = open_right(plain());
	sink_close(open_right(plain()));
	fflush(NULL);
	if (!fork()) {
		struct failure failure = { "" };
		struct sink *second;

		/* The sinks that it inherits aren't its own: as if it were another program. */
		execl("/usr/bin/flock", "flock", "-n", path, "true", NULL);
		_exit(sink_open(plain(), "test", &second, &failure) == -EBUSY);
	}
	wait(&status);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	sink_close(sink);
}

static void standard_output(void **state)
{
	int saved = dup(STDOUT_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct output_mark mark;
	struct failure failure;
	struct sink *sink;

	(void)state;
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	sink = open_right(NULL);
	put(sink);
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(sink_reopen(sink, &failure), 0);
	assert_string_equal(sink_name(sink), "jsonl on standard output");
	sink_close(sink);
	dup2(saved, STDOUT_FILENO); /* it is still open */
	close(saved);
	close(fd);
	assert_int_equal(expect_file(path, 1), 3);
}

/* ---- the socket ------------------------------------------------------------------------------------------------ */

static const struct outlet_sink *listening(void)
{
	static struct outlet_sink settings;

	settings = (struct outlet_sink){ .type = OUTLET_SOCKET, .path = path, .mode = 0660 };
	return &settings;
}

static int join(struct sink *sink)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (sink) {
		struct pollfd ready = { .fd = sink_fd(sink), .events = POLLIN };

		assert_int_equal(poll(&ready, 1, 1000), 1);
		sink_ready(sink);
	}
	return fd;
}

struct got {
	char text[4096]; /* a line that isn't whole yet */
	size_t used;
	__u64 next, lost; /* the number expected; how many were told as lost */
	size_t lines;
};

static void got_line(struct got *got, const char *line)
{
	const char *number = strstr(line, "\"seq\":"), *count = strstr(line, "\"event\":\"lost\",\"count\":");
	__u64 have = strtoull(number + 6, NULL, 10), more = count ? strtoull(count + 23, NULL, 10) : 1;

	assert_non_null(number);
	assert_int_equal(have, got->next + more - 1);
	got->next = have + 1;
	got->lines++;
	if (count)
		got->lost += more;
}

/* All there is. False: the other end has gone. */
static bool take(int fd, struct got *got)
{
	ssize_t length;

	while ((length = read(fd, got->text + got->used, sizeof(got->text) - 1 - got->used)) > 0) {
		char *line = got->text, *end;

		got->used += (size_t)length;
		got->text[got->used] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			got_line(got, line);
		}
		got->used -= (size_t)(line - got->text);
		memmove(got->text, line, got->used);
	}
	return length < 0 && errno == EAGAIN;
}

static void readers_get_what_comes(void **state)
{
	struct sink *sink = open_right(listening());
	struct output_mark mark = { .delivered = 9 };
	struct got first = { .next = 2 }, second = { .next = 3 };
	int a, b;
	struct stat st;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_false(sink_holds(sink));
	put(sink); /* nobody is there */
	a = join(sink);
	put(sink);
	b = join(sink);
	put(sink);
	assert_int_equal(sink_write(sink, &mark), 0);
	assert_int_equal(mark.delivered, 9);
	assert_true(take(a, &first) && take(b, &second));
	assert_int_equal(first.next, 4);
	assert_int_equal(second.next, 4);
	/* One goes; the other doesn't notice. */
	close(a);
	sink_ready(sink);
	put(sink);
	sink_write(sink, &mark);
	assert_true(take(b, &second));
	assert_int_equal(second.next, 5);
	/* What it says is of no interest, nor that it says no more. */
	assert_int_equal(write(b, "hello", 5), 5);
	shutdown(b, SHUT_WR);
	sink_ready(sink);
	put(sink);
	sink_close(sink); /* gives out what it has */
	assert_false(take(b, &second));
	assert_int_equal(second.next, 6);
	assert_int_equal(size_of(path), -1);
	close(b);
}

/* 100,000 lines, five times what the sink keeps, to one that reads and one that doesn't. */
static void a_slow_reader_loses_its_own(void **state)
{
	struct sink *sink = open_right(listening());
	struct got fast = { .next = 1 }, slow = { .next = 1 };
	int a = join(sink), b = join(sink);
	struct output_mark mark;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		put(sink);
		if (i % 500 == 0) {
			sink_write(sink, &mark);
			assert_true(take(a, &fast));
		}
	}
	do
		sink_write(sink, &mark);
	while (take(a, &fast) && fast.next <= seq);
	assert_int_equal(fast.lost, 0);
	assert_int_equal(fast.lines, 200000);
	assert_int_equal(sink_dropped(sink), 0); /* not known before it reads on */
	do {
		struct pollfd ready = { .fd = sink_fd(sink), .events = POLLIN };

		assert_true(take(b, &slow));
		if (slow.next <= seq && poll(&ready, 1, 0) == 1) /* there is room in its socket */
			sink_ready(sink);
	} while (slow.next <= seq);
	assert_int_equal(slow.lines - 1, seq - slow.lost); /* but the one that says so */
	assert_true(slow.lost > 100000 && slow.lost < 200000 - FEED_LINES / 2);
	assert_int_equal(sink_dropped(sink), slow.lost);
	/* It is as good as any again. */
	put(sink);
	sink_write(sink, &mark);
	assert_true(take(b, &slow));
	assert_int_equal(slow.next, seq + 1);
	sink_close(sink);
	close(a);
	close(b);
}

/* A `lost` line stands for many numbers: who loses it has lost them all. */
static void a_lost_line_that_is_lost(void **state)
{
	struct event lost = { .kind = EVENTS_LOST, .record = { .count = 1000 } };
	const char *line = "{\"v\":1,\"seq\":1001,\"event\":\"lost\",\"count\":1000}\n";
	struct sink *sink = open_right(listening());
	int a = join(sink), b = join(sink);
	struct got fast = { .next = 1 }, slow = { .next = 1 };
	struct output_mark mark;

	(void)state;
	put(sink);
	seq += 1000;
	assert_int_equal(sink_put(sink, &lost, line, strlen(line), (struct output_mark){ 1, 1000, 0 }), 0);
	sink_write(sink, &mark);
	assert_true(take(a, &fast));
	assert_int_equal(fast.next, 1002);
	assert_int_equal(fast.lost, 1000);
	close(a);
	/* The other has both in its socket. */
	for (int i = 0; i < 100000; i++)
		put(sink);
	do {
		assert_true(take(b, &slow));
		sink_write(sink, &mark);
	} while (slow.next <= seq);
	assert_int_equal(sink_dropped(sink), slow.lost - 1000);
	sink_close(sink);
	close(b);
}

static void the_sixty_fifth_is_told_why(void **state)
{
	struct sink *sink = open_right(listening());
	char text[256] = "";
	int fds[64], last;

	(void)state;
	for (int i = 0; i < 64; i++)
		fds[i] = join(sink);
	last = join(sink);
	assert_true(read(last, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "\"ok\":false,\"error\":\"this socket has 64 readers already"));
	assert_int_equal(read(last, text, sizeof(text)), 0);
	close(last);
	/* There is a place again. */
	close(fds[7]);
	sink_ready(sink);
	last = join(sink);
	assert_int_equal(read(last, text, sizeof(text)), -1);
	sink_close(sink);
	close(last);
	for (int i = 0; i < 64; i++)
		if (i != 7)
			close(fds[i]);
}

/* Binds and listens in a process of its own, which ends at once unless it is to stay. */
static pid_t listen_elsewhere(bool stay)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	strcpy(address.sun_path, path);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
			_exit(1);
		if (write(ends[1], "x", 1) == 1 && stay)
			pause();
		_exit(0);
	}
	close(fd);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void the_place_of_the_socket(void **state)
{
	struct sink *sink, *again;
	char pid_text[32];
	pid_t pid;
	FILE *out;
	int fd;

	(void)state;
	/* One that nobody listens at any more is replaced. */
	waitpid(listen_elsewhere(false), NULL, 0);
	assert_true(size_of(path) >= 0);
	sink = open_right(listening());
	close(join(sink));
	/* Ours, by other settings: the new one has the place, and keeps it when the old one goes. */
	again = open_right(listening());
	sink_close(sink);
	fd = join(again);
	close(fd);
	sink_close(again);
	assert_int_equal(size_of(path), -1);
	/* Another's is left alone. */
	pid = listen_elsewhere(true);
	snprintf(pid_text, sizeof(pid_text), "process %d listens there already", pid);
	open_wrong(listening(), -EADDRINUSE, pid_text);
	close(join(NULL));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
	out = fopen(path, "w");
	fclose(out);
	open_wrong(listening(), -EEXIST, "there is a file of this name that is no socket");
	assert_int_equal(size_of(path), 0);
}

/* ---- the other end ---------------------------------------------------------------------------------------------- */

/* subscribe_copy() of a connection, in a process of its own; what it copies can be read from *ret_out. */
static pid_t copy_elsewhere(int fd, int *ret_out)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct failure failure = { "" };
		sigset_t stops;
		int err;

		sigemptyset(&stops);
		sigaddset(&stops, SIGTERM);
		sigprocmask(SIG_BLOCK, &stops, NULL);
		signal(SIGPIPE, SIG_IGN);
		/* The sink's ends of the connections aren't ours. */
		for (int i = 3; i < 256; i++)
			if (i != fd && i != ends[1])
				close(i);
		err = subscribe_copy(fd, ends[1], &failure);
		_exit(!err ? 0 : err == -ENOTCONN ? 1 : err == -EBUSY ? 2 : err == -EPIPE ? 3 : 4);
	}
	close(ends[1]);
	close(fd);
	*ret_out = ends[0];
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_subscriber_copies_until_it_is_stopped(void **state)
{
	struct sink *sink = open_right(listening());
	struct got got = { .next = 1 };
	struct output_mark mark;
	int out;
	pid_t pid = copy_elsewhere(join(sink), &out);

	(void)state;
	for (int i = 0; i < 100; i++)
		put(sink);
	sink_write(sink, &mark);
	while (got.next <= 100) {
		char text[101] = "";
		ssize_t length = read(out, text, 100);

		assert_int_equal(length, 100);
		got_line(&got, text);
	}
	kill(pid, SIGTERM);
	assert_int_equal(end_of(pid), 0);
	close(out);
	/* `run` ends. */
	pid = copy_elsewhere(join(sink), &out);
	sink_close(sink);
	assert_int_equal(end_of(pid), 1);
	close(out);
}

static void a_subscriber_that_is_refused_or_unheard(void **state)
{
	struct sink *sink = open_right(listening());
	struct output_mark mark;
	int fds[64], out;
	pid_t pid;

	(void)state;
	for (int i = 0; i < 64; i++)
		fds[i] = join(sink);
	pid = copy_elsewhere(join(sink), &out);
	assert_int_equal(end_of(pid), 2);
	close(out);
	for (int i = 0; i < 64; i++)
		close(fds[i]);
	sink_ready(sink);
	/* Nobody reads what it writes. */
	pid = copy_elsewhere(join(sink), &out);
	close(out);
	put(sink);
	sink_write(sink, &mark);
	assert_int_equal(end_of(pid), 3);
	sink_close(sink);
}

/* ---- entries of the journal ------------------------------------------------------------------------------------- */

static const char *field(const struct sink_entry *entry, const char *name)
{
	static char value[2048];
	const char *found = NULL;
	size_t length = strlen(name);

	for (int i = 0; i < entry->count; i++) {
		const char *text = entry->fields[i].iov_base;

		if (entry->fields[i].iov_len <= length || strncmp(text, name, length) != 0 || text[length] != '=')
			continue;
		assert_null(found); /* once */
		snprintf(value, sizeof(value), "%.*s", (int)(entry->fields[i].iov_len - length - 1), text + length + 1);
		found = value;
	}
	return found ? found : "(none)";
}

static void an_entry(void **state)
{
	static const char line[] =
		"{\"v\":1,\"ts\":\"2026-03-01T09:12:44.031202Z\",\"seq\":7,\"event\":\"disconnected\",\"id\":\"4a31\","
		"\"policy\":\"carrier\",\"direction\":\"outbound\",\"local\":\"192.0.2.1:40112\","
		"\"remote\":\"203.0.113.5:5061\",\"reason\":\"peer_fin\",\"closed_by\":\"remote\",\"age_ms\":812004,"
		"\"idle_ms\":33018,\"bytes_in\":9120,\"bytes_out\":8800,\"srtt_us\":18210,\"retransmits\":0,\"cause\":null}\n";
	static const char *const expected[][2] = {
		{ "MESSAGE",
		  "carrier: 192.0.2.1:40112 > 203.0.113.5:5061 disconnected, closed by the remote: peer_fin after "
		  "812.0 s, the last 33.0 s without a byte" },
		{ "MESSAGE_ID", SINK_ID_DISCONNECTED },
		{ "PRIORITY", "6" },
		{ "SYSLOG_IDENTIFIER", "sipkeep" },
		{ "SIPKEEP_INSTANCE", "default" },
		{ "SIPKEEP_EVENT", "disconnected" },
		{ "SIPKEEP_SEQ", "7" },
		{ "SIPKEEP_ID", "4a31" },
		{ "SIPKEEP_POLICY", "carrier" },
		{ "SIPKEEP_DIRECTION", "outbound" },
		{ "SIPKEEP_LOCAL", "192.0.2.1:40112" },
		{ "SIPKEEP_REMOTE", "203.0.113.5:5061" },
		{ "SIPKEEP_REASON", "peer_fin" },
		{ "SIPKEEP_CLOSED_BY", "remote" },
		{ "SIPKEEP_AGE_MS", "812004" },
		{ "SIPKEEP_RETRANSMITS", "0" },
		{ "SIPKEEP_TS", "2026-03-01T09:12:44.031202Z" },
		{ "SIPKEEP_CAUSE", "(none)" },
		{ "SIPKEEP_V", "(none)" },
	};
	struct sink_entry entry;

	(void)state;
	sink_entry_make(&entry, "default", line, strlen(line));
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_string_equal(field(&entry, expected[i][0]), expected[i][1]);
}

/* Every kind of event, as events_encode() writes it, has a sentence without a gap and an id of its own. */
static void every_kind_of_entry(void **state)
{
	struct events_context context = { .policy = "phones" };
	struct events_action action = { .command = "/usr/bin/asterisk", .on = EVENTS_WEDGED };
	char line[EVENTS_LINE_MAX], ids[EVENTS_KIND_MAX][64];

	(void)state;
	for (unsigned int kind = 0; kind < EVENTS_KIND_MAX; kind++) {
		struct event event = { .kind = kind, .action = &action };
		struct sink_entry entry;
		size_t length = events_encode(&event, &context, line);

		sink_entry_make(&entry, "default", line, length);
		if (kind != EVENTS_ACTION && strchr(field(&entry, "MESSAGE"), '?'))
			fail_msg("%s%s", line, field(&entry, "MESSAGE"));
		assert_string_equal(field(&entry, "SIPKEEP_EVENT"), events_kind_name(kind));
		snprintf(ids[kind], sizeof(ids[kind]), "%s", field(&entry, "MESSAGE_ID"));
		assert_int_equal(strlen(ids[kind]), 32);
		for (unsigned int before = 0; before < kind; before++)
			assert_string_not_equal(ids[before], ids[kind]);
	}
}

static void entries_that_matter(void **state)
{
	static const char cause[] = "{\"v\":1,\"event\":\"disconnected\",\"cause\":\"nat_expired\"}\n";
	static const char failed[] = "{\"v\":1,\"event\":\"action\",\"outcome\":\"timeout\"}\n";
	static const char unknown[] = "{\"v\":1,\"event\":\"later\",\"more\":{\"a\":[1,true]},\"half\":0.5}\n";
	struct sink_entry entry;

	(void)state;
	sink_entry_make(&entry, "i", cause, strlen(cause));
	assert_string_equal(field(&entry, "PRIORITY"), "5");
	assert_string_equal(field(&entry, "SIPKEEP_CAUSE"), "nat_expired");
	assert_non_null(strstr(field(&entry, "MESSAGE"), "the cause is nat_expired"));
	sink_entry_make(&entry, "i", failed, strlen(failed));
	assert_string_equal(field(&entry, "PRIORITY"), "4");
	/* What a later version may bring. */
	sink_entry_make(&entry, "i", unknown, strlen(unknown));
	assert_string_equal(field(&entry, "SIPKEEP_MORE"), "{\"a\":[1,true]}");
	assert_string_equal(field(&entry, "SIPKEEP_HALF"), "0.5");
	assert_non_null(strstr(field(&entry, "MESSAGE"), "\"event\":\"later\""));
	sink_entry_make(&entry, "i", "no JSON\n", 8);
	assert_string_equal(field(&entry, "MESSAGE"), "no JSON");
	sink_entry_lost(&entry, "i", 42);
	assert_string_equal(field(&entry, "SIPKEEP_COUNT"), "42");
	assert_string_equal(field(&entry, "MESSAGE_ID"), SINK_ID_JOURNAL_LOST);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines_and_marks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_cut_line_is_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rotation_loses_and_doubles_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rotation_goes_on_where_it_was_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_moved_away_is_opened_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_rest_of_a_line_follows_when_there_is_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(emptied_by_copytruncate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_others_could_have_prepared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(standard_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(readers_get_what_comes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_slow_reader_loses_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lost_line_that_is_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_sixty_fifth_is_told_why, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_place_of_the_socket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_subscriber_copies_until_it_is_stopped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_subscriber_that_is_refused_or_unheard, set_up, tear_down),
		cmocka_unit_test(an_entry),
		cmocka_unit_test(every_kind_of_entry),
		cmocka_unit_test(entries_that_matter),
	};

	return cmocka_run_group_tests_name("sink", tests, NULL, NULL);
}
