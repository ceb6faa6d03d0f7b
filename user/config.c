/* SPDX-License-Identifier: GPL-2.0-only */
/* config.c: the file and its text, before and around what config_top.c reads in it; the list of errors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config_internal.h"

#define FILE_SIZE_MAX (1024 * 1024)

/* ---- errors ------------------------------------------------------------------------------------------------ */

void config_errors_free(struct config_errors *errors)
{
	for (size_t i = 0; i < errors->count; i++)
		free(errors->list[i].text);
	free(errors->list);
	memset(errors, 0, sizeof(*errors));
}

static char *format_text(const char *format, va_list args)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	vfprintf(out, format, args);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

void config_error_add(struct config_reader *reader, int line, const char *format, ...)
{
	struct config_errors *errors = reader->errors;
	struct config_error *list = errors->list;
	va_list args;
	char *text;
	size_t at;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	/* Room for a power of two; a full one is doubled. */
	if (text && (errors->count & (errors->count - 1)) == 0)
		list = realloc(list, (errors->count ? errors->count * 2 : 1) * sizeof(*list));
	if (list)
		errors->list = list;
	if (!text || !list) {
		free(text);
		reader->failed = -ENOMEM;
		return;
	}
	for (at = errors->count++; at && list[at - 1].line > line; at--)
		list[at] = list[at - 1];
	list[at] = (struct config_error){ .line = line, .text = text };
}

const char *config_quote(const char *text, char *buf)
{
	size_t used = 0;

	for (; *text && used < CONFIG_QUOTE_LEN - 8; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			used += (size_t)snprintf(buf + used, CONFIG_QUOTE_LEN - used, "\\x%02x", c);
		else
			buf[used++] = (char)c;
	}
	if (*text) {
		/* Not in the middle of a UTF-8 character. */
		while (used && (*text & 0xc0) == 0x80 && (buf[used - 1] & 0xc0) == 0x80)
			used--;
		if (used && (*text & 0xc0) == 0x80)
			used--;
	}
	snprintf(buf + used, CONFIG_QUOTE_LEN - used, "%s", *text ? "..." : "");
	return buf;
}

/* ---- text and file ----------------------------------------------------------------------------------------- */

static void syntax_error(struct config_reader *reader, const config_t *config, const char *text)
{
	const char *what = config_error_text(config);
	int line = config_error_line(config);
	char key[CONFIG_QUOTE_LEN];

	if (what && strcmp(what, "duplicate setting name") == 0) {
		if (config_scan_key(text, line, key))
			config_error_add(reader, line, "'%s' is set a second time here; remove one", key);
		else
			config_error_add(reader, line, "a key is set a second time here; remove one");
	} else if (what && strcmp(what, "mismatched element type in array") == 0) {
		config_error_add(reader, line, "all elements of an array must be of one type: numbers or strings");
	} else if (what && strcmp(what, "syntax error") == 0) {
		config_error_add(reader, line,
				 "syntax error: here or just above, a ';', ',' or bracket is missing or too many");
	} else if (what && strcmp(what, "memory exhausted") == 0) {
		config_error_add(reader, line, "brackets are nested too deeply");
	} else {
		config_error_add(reader, line, "%s", what ? what : "can't be parsed");
	}
}

/* text is written to (see config_scan()). */
static void parse(struct config_reader *reader, char *text, struct policy_set *set)
{
	config_t config;

	if (!config_scan(reader, text))
		return;
	config_init(&config);
	/* Were an @include to slip through the scan, it would find nothing there. */
	config_set_include_dir(&config, "/dev/null");
	if (config_read_string(&config, text) == CONFIG_TRUE) {
		config_scan_lines(reader, config_root_setting(&config));
		config_top_read(reader, config_root_setting(&config), set);
	} else {
		syntax_error(reader, &config, text);
	}
	config_destroy(&config);
}

static int parse_own(struct config_reader *reader, char *text, struct policy_set *ret_set)
{
	struct policy_set set = { 0 };

	parse(reader, text, &set);
	free(reader->string_lines);
	reader->string_lines = NULL;
	if (!reader->failed && !reader->errors->count) {
		*ret_set = set;
		return 0;
	}
	policy_set_free(&set);
	if (reader->failed)
		config_error_add(reader, 0, "%s", strerror(-reader->failed));
	return reader->failed ? reader->failed : -EINVAL;
}

int config_parse(const char *text, struct policy_set *ret_set, struct config_errors *errors)
{
	struct config_reader reader = { .errors = errors };
	char *own = strdup(text);
	int err;

	if (!own) {
		config_error_add(&reader, 0, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	err = parse_own(&reader, own, ret_set);
	free(own);
	return err;
}

/* Whoever may write the file tells root's programs what to do. */
static int check_file(struct config_reader *reader, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		config_error_add(reader, 0, "isn't a regular file");
	else if (st->st_uid != 0 && st->st_uid != geteuid())
		config_error_add(reader, 0, "belongs to user %u, not to root; chown root it", st->st_uid);
	else if (st->st_mode & (S_IWGRP | S_IWOTH))
		config_error_add(reader, 0, "may be written by its group or by others (mode %04o); chmod go-w it",
				 st->st_mode & 07777);
	else if (st->st_size > FILE_SIZE_MAX)
		config_error_add(reader, 0, "is larger than 1 MiB");
	else
		return 0;
	return -EINVAL;
}

/* Up to size bytes; their number or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t used = 0;

	while (used < size) {
		ssize_t got = read(fd, buf + used, size - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		used += (size_t)got;
	}
	return (ssize_t)used;
}

static int load_text(struct config_reader *reader, char *text, ssize_t len, struct policy_set *ret_set)
{
	const char *nul;
	int line = 1;

	if (len < 0) {
		config_error_add(reader, 0, "can't be read: %s", strerror((int)-len));
		return (int)len;
	}
	if (len > FILE_SIZE_MAX) {
		config_error_add(reader, 0, "is larger than 1 MiB");
		return -EINVAL;
	}
	text[len] = '\0';
	nul = memchr(text, '\0', (size_t)len);
	if (nul) {
		/* The parser would take it for the end. */
		for (const char *c = text; c < nul; c++)
			line += *c == '\n';
		config_error_add(reader, line, "there is a NUL byte here: this isn't a text file");
		return -EINVAL;
	}
	return parse_own(reader, text, ret_set);
}

/* Checked and read through one descriptor, so that what was checked is what is used. */
static int load_fd(struct config_reader *reader, int fd, struct policy_set *ret_set)
{
	struct stat st;
	char *text;
	int err;

	if (fstat(fd, &st)) {
		err = -errno;
		config_error_add(reader, 0, "can't be examined: %s", strerror(-err));
		return err;
	}
	err = check_file(reader, &st);
	if (err)
		return err;
	/* One byte more than allowed shows that it grew, one is for the NUL. */
	text = malloc(FILE_SIZE_MAX + 2);
	if (!text) {
		config_error_add(reader, 0, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	err = load_text(reader, text, read_all(fd, text, FILE_SIZE_MAX + 1), ret_set);
	free(text);
	return err;
}

int config_load(const char *path, struct policy_set *ret_set, struct config_errors *errors)
{
	struct config_reader reader = { .errors = errors };
	/* Not blocking: a FIFO must not hold us up before fstat() tells. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err;

	if (fd < 0) {
		err = -errno;
		config_error_add(&reader, 0, "can't be opened: %s", strerror(-err));
		return err;
	}
	err = load_fd(&reader, fd, ret_set);
	close(fd);
	return err;
}
