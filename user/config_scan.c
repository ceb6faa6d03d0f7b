/* SPDX-License-Identifier: GPL-2.0-only */
/* config_scan.c: a look at the text before libconfig gets it (see config_internal.h). Follows libconfig's lexer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "config_internal.h"

enum piece {
	PIECE_END,
	PIECE_NAME,
	PIECE_NUMBER,
	PIECE_STRING,
	PIECE_OTHER, /* one character */
	PIECE_INCLUDE,
	PIECE_OPEN_COMMENT, /* without its end */
	PIECE_OPEN_STRING,
};

/* Where the scan stands; begin..at is the last piece. */
struct cursor {
	const char *at;
	const char *begin;
	int line;	/* of at */
	int begin_line; /* of begin */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Not isalpha(): that asks the locale. */
static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*';
}

static bool is_name(char c)
{
	return is_letter(c) || is_digit(c) || c == '_' || c == '-';
}

/* Of a number without its sign. ".5" is one. */
static bool is_number(const char *at)
{
	return is_digit(*at) || (*at == '.' && is_digit(at[1]));
}

static bool skip_until(struct cursor *cursor, const char *end)
{
	const char *found = strstr(cursor->at, end);

	for (; *cursor->at && cursor->at != found; cursor->at++)
		cursor->line += *cursor->at == '\n';
	if (found)
		cursor->at = found + strlen(end);
	return found;
}

static bool skip_string(struct cursor *cursor)
{
	for (cursor->at++; *cursor->at; cursor->at++) {
		if (*cursor->at == '"') {
			cursor->at++;
			return true;
		}
		if (*cursor->at == '\\' && cursor->at[1] && cursor->at[1] != '\n')
			cursor->at++;
		else
			cursor->line += *cursor->at == '\n';
	}
	return false;
}

static void skip_number(struct cursor *cursor)
{
	const char *at = cursor->at;

	if (*at == '+' || *at == '-')
		at++;
	/* Hexadecimal digits, a fraction, an exponent, the L of a long: whatever stands without a gap. */
	while (is_name(*at) || *at == '.' || (*at == '+' && (at[-1] == 'e' || at[-1] == 'E')))
		at++;
	cursor->at = at;
}

static enum piece next_piece(struct cursor *cursor)
{
	for (;;) {
		const char *at = cursor->at;

		cursor->begin = at;
		cursor->begin_line = cursor->line;
		if (!*at)
			return PIECE_END;
		if (*at == '\n') {
			cursor->line++;
			cursor->at++;
		} else if (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\f') {
			cursor->at++;
		} else if (*at == '#' || (at[0] == '/' && at[1] == '/')) {
			cursor->at += strcspn(at, "\n");
		} else if (at[0] == '/' && at[1] == '*') {
			cursor->at += 2;
			if (!skip_until(cursor, "*/"))
				return PIECE_OPEN_COMMENT;
		} else if (*at == '"') {
			return skip_string(cursor) ? PIECE_STRING : PIECE_OPEN_STRING;
		} else {
			break;
		}
	}
	if (is_letter(*cursor->at)) {
		while (is_name(*cursor->at))
			cursor->at++;
		return PIECE_NAME;
	}
	if (is_number(cursor->at) || ((*cursor->at == '-' || *cursor->at == '+') && is_number(cursor->at + 1))) {
		skip_number(cursor);
		return PIECE_NUMBER;
	}
	return *cursor->at++ == '@' ? PIECE_INCLUDE : PIECE_OTHER;
}

/* Overwrites the digits begin..end with those of limit, zeros in front. There is room: they were too many. */
static void put_digits(char *begin, char *end, const char *limit)
{
	size_t len = strlen(limit), room = (size_t)(end - begin);

	if (room < len)
		return;
	memset(begin, '0', room);
	memcpy(end - len, limit, len);
}

/* What libconfig 1.5 reads as an int wraps around: 4294967316 would become 20. */
static void clamp_number(char *begin, const char *end)
{
	char *digits = *begin == '-' || *begin == '+' ? begin + 1 : begin;
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	char *stop;

	if (hex)
		digits += 2;
	stop = digits + strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
	/* A fraction or an exponent: not an int. */
	if (stop != end && *stop != 'L')
		return;
	if (strtoull(digits, NULL, hex ? 16 : 10) > 0x7fffffff)
		put_digits(digits, stop, hex ? "7fffffff" : "2147483647");
}

static bool note_string(struct config_reader *reader, int line)
{
	int *lines = reader->string_lines;

	/* Room for a power of two; a full one is doubled. */
	if ((reader->string_count & (reader->string_count - 1)) == 0) {
		lines = realloc(lines, (reader->string_count ? reader->string_count * 2 : 1) * sizeof(*lines));
		if (!lines) {
			reader->failed = -ENOMEM;
			return false;
		}
		reader->string_lines = lines;
	}
	lines[reader->string_count++] = line;
	return true;
}

static void set_lines(const struct config_reader *reader, config_setting_t *setting, size_t *string)
{
	int len = config_setting_length(setting);

	/* What has a name has the line of its name. */
	if (config_setting_type(setting) == CONFIG_TYPE_STRING && *string < reader->string_count) {
		int line = reader->string_lines[(*string)++];

		if (!config_setting_name(setting))
			setting->line = (unsigned int)line;
	}
	if (!config_setting_is_aggregate(setting))
		return;
	for (int i = 0; i < len; i++)
		set_lines(reader, config_setting_get_elem(setting, (unsigned int)i), string);
}

void config_scan_lines(const struct config_reader *reader, config_setting_t *root)
{
	size_t string = 0;

	set_lines(reader, root, &string);
}

bool config_scan(struct config_reader *reader, char *text)
{
	struct cursor cursor = { .at = text, .line = 1 };
	size_t before = reader->errors->count;
	enum piece piece = PIECE_END;

	for (;;) {
		enum piece last = piece;

		piece = next_piece(&cursor);
		switch (piece) {
		case PIECE_END:
			return reader->errors->count == before;
		case PIECE_STRING:
			/* Strings that follow each other make one. */
			if (last != PIECE_STRING && !note_string(reader, cursor.begin_line))
				return false;
			break;
		case PIECE_NUMBER:
			clamp_number(text + (cursor.begin - text), cursor.at);
			break;
		case PIECE_INCLUDE:
			if (strncmp(cursor.begin, "@include", 8) == 0)
				config_error_add(reader, cursor.begin_line,
						 "@include is refused: write everything into this one file");
			break;
		case PIECE_OPEN_COMMENT:
			config_error_add(reader, cursor.begin_line, "this comment has no end: close it with */");
			return false;
		case PIECE_OPEN_STRING:
			config_error_add(reader, cursor.begin_line, "this string has no end: close it with \"");
			return false;
		case PIECE_NAME:
		case PIECE_OTHER:
			break;
		}
	}
}

const char *config_scan_key(const char *text, int line, char buf[CONFIG_QUOTE_LEN])
{
	struct cursor cursor = { .at = text, .line = 1 };
	char name[CONFIG_QUOTE_LEN] = "";
	bool found = false;

	for (;;) {
		enum piece piece = next_piece(&cursor);

		if (piece == PIECE_NAME && cursor.begin_line == line)
			snprintf(name, sizeof(name), "%.*s", (int)(cursor.at - cursor.begin), cursor.begin);
		else if (piece == PIECE_OTHER && (*cursor.begin == '=' || *cursor.begin == ':') && *name) {
			if (found)
				return NULL;
			found = true;
			snprintf(buf, CONFIG_QUOTE_LEN, "%s", name);
			*name = '\0';
		} else {
			*name = '\0';
		}
		if (piece == PIECE_END || piece == PIECE_OPEN_COMMENT || piece == PIECE_OPEN_STRING ||
		    cursor.begin_line > line)
			return found ? buf : NULL;
	}
}
