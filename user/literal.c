/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdlib.h>
#include "literal.h"

void literal_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

void literal_number(FILE *out, double number)
{
	char buf[64];

	for (int digits = 0; digits <= 24; digits++) {
		snprintf(buf, sizeof(buf), "%.*f", digits, number);
		if (strtod(buf, NULL) == number)
			break;
	}
	fputs(buf, out);
}
