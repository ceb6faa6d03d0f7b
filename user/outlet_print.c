/* SPDX-License-Identifier: GPL-2.0-only */
/* outlet_print.c: the sinks in the words of the config file. */
#include "outlet.h"

static const char *const type_names[] = {
	[OUTLET_JSONL] = "jsonl",
	[OUTLET_JOURNALD] = "journald",
	[OUTLET_SOCKET] = "socket",
};
_Static_assert(sizeof(type_names) / sizeof(type_names[0]) == OUTLET_SINK_MAX, "a name for each type");

const char *outlet_sink_type(enum outlet_sink_type type)
{
	return type < OUTLET_SINK_MAX ? type_names[type] : NULL;
}

/* A libconfig string. Paths have no control characters. */
static void print_path(FILE *out, const char *path)
{
	fputs(" path = \"", out);
	for (; *path; path++)
		fprintf(out, *path == '"' || *path == '\\' ? "\\%c" : "%c", *path);
	fputs("\";", out);
}

/* libconfig's whole numbers end at 2 GiB. */
static void print_size(FILE *out, const char *key, __u64 size)
{
	fprintf(out, size < 0x7fffffff ? " %s = %llu;" : " %s = \"%llu\";", key, size);
}

static void print_sink(FILE *out, const struct outlet_sink *sink)
{
	fprintf(out, "  { type = \"%s\";", outlet_sink_type(sink->type));
	if (sink->path)
		print_path(out, sink->path);
	if (sink->type == OUTLET_JSONL && sink->path) {
		print_size(out, "max_size", sink->max_size);
		if (sink->max_size)
			print_size(out, "max_total", sink->max_total);
	}
	if (sink->type == OUTLET_SOCKET)
		fprintf(out, " mode = \"%04o\";", sink->mode);
	fputs(" }", out);
}

void outlet_sinks_print(const struct outlets *outlets, FILE *out)
{
	if (!outlets->sink_count)
		return;
	fputs("sinks = (\n", out);
	for (size_t i = 0; i < outlets->sink_count; i++) {
		print_sink(out, &outlets->sinks[i]);
		fputs(i + 1 < outlets->sink_count ? ",\n" : "\n", out);
	}
	fputs(");\n", out);
}
