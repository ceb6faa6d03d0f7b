// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <linux/bpf.h>
#include "command.h"
#include "events.h"
#include "maps.h"

struct listing {
	const struct datapath *datapath;
	bool json;
	size_t count;
};

static const char *const state_names[] = {
	[BPF_TCP_ESTABLISHED] = "ESTABLISHED", [BPF_TCP_SYN_SENT] = "SYN_SENT", [BPF_TCP_SYN_RECV] = "SYN_RECV",
	[BPF_TCP_FIN_WAIT1] = "FIN_WAIT1",     [BPF_TCP_FIN_WAIT2] = "FIN_WAIT2", [BPF_TCP_TIME_WAIT] = "TIME_WAIT",
	[BPF_TCP_CLOSE] = "CLOSE",	       [BPF_TCP_CLOSE_WAIT] = "CLOSE_WAIT", [BPF_TCP_LAST_ACK] = "LAST_ACK",
	[BPF_TCP_LISTEN] = "LISTEN",	       [BPF_TCP_CLOSING] = "CLOSING",
};

static const char *state_name(__u8 state)
{
	if (state >= sizeof(state_names) / sizeof(state_names[0]) || !state_names[state])
		return "?";
	return state_names[state];
}

/* What every form of the listing tells of a transport. */
struct row {
	char id[32], policy[SIPKEEP_NAME_LEN], local[80], remote[80];
	const char *direction, *state;
	__u64 age_ms, idle_ms;
	bool counted;
};

static void row_fill(struct row *row, const struct listing *listing, const struct sipkeep_listing *found)
{
	const struct sipkeep_transport *transport = &found->transport;

	row->counted = transport->phase >= SIPKEEP_PHASE_CONNECTED;
	events_id(transport->cookie, transport->generation, row->id);
	maps_policy_name(listing->datapath, row->counted ? transport->source.policy : found->expected.policy, row->policy);
	events_endpoint(&found->tuple.local, found->tuple.local_port, row->local);
	events_endpoint(&found->tuple.remote, found->tuple.remote_port, row->remote);
	row->direction = events_direction(transport->direction);
	row->state = state_name(found->state);
	row->age_ms = row->counted ? (found->now_ns - transport->connected_ns) / 1000000 : 0;
	row->idle_ms = found->idle_ns / 1000000;
}

static void row_json(const struct row *row, const struct sipkeep_listing *found, bool first)
{
	json_t *object = json_pack(
		"{s:s?, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:{s:b, s:i, s:i, s:i, s:f}}", "id",
		row->counted ? row->id : NULL, "policy", row->policy, "direction", row->direction, "local", row->local,
		"remote", row->remote, "state", row->state, "age_ms", (json_int_t)row->age_ms, "idle_ms",
		(json_int_t)row->idle_ms, "bytes_in", (json_int_t)found->bytes_in, "bytes_out",
		(json_int_t)found->bytes_out, "adopted",
		(found->transport.flags & SIPKEEP_TRANSPORT_ADOPTED) != 0, "keepalive", "on", found->keepalive, "idle",
		(int)found->keepidle, "interval", (int)found->keepintvl, "count", (int)found->keepcnt, "user_timeout",
		found->user_timeout_ms / 1000.0);

	if (!first)
		putchar(',');
	if (object)
		json_dumpf(object, stdout, JSON_COMPACT);
	json_decref(object);
}

static int each(void *arg, const struct sipkeep_listing *found)
{
	struct listing *listing = arg;
	char keepalive[48] = "off";
	struct row row;

	if (found->listener || !found->guarded)
		return 0;
	row_fill(&row, listing, found);
	if (listing->json) {
		row_json(&row, found, !listing->count++);
		return 0;
	}
	if (!listing->count++)
		printf("%-12s %-16s %-8s %-24s %-24s %-11s %9s %9s  %s\n", "ID", "POLICY", "DIR", "LOCAL", "REMOTE", "STATE",
		       "AGE", "IDLE", "KEEPALIVE");
	if (found->keepalive)
		snprintf(keepalive, sizeof(keepalive), "%u/%u/%u", found->keepidle, found->keepintvl, found->keepcnt);
	printf("%-12s %-16s %-8s %-24s %-24s %-11s %8.1fs %8.1fs  %s\n", row.counted ? row.id : "uncounted", row.policy,
	       row.direction, row.local, row.remote, row.state, (double)row.age_ms / 1000, (double)row.idle_ms / 1000,
	       keepalive);
	return 0;
}

int cmd_transports(struct command_context *context, const struct command *self, int argc, char **argv)
{
	struct datapath datapath CLEANUP_DATAPATH;
	struct listing listing = { .datapath = &datapath };
	struct failure failure;
	int exit_code;

	datapath_init(&datapath);
	exit_code = command_no_options(context, self, argc, argv);
	if (exit_code >= 0)
		return exit_code;
	exit_code = command_open(context, false, &datapath);
	if (exit_code)
		return exit_code;
	listing.json = context->json;
	if (listing.json)
		fputs("{\"v\":1,\"transports\":[", stdout);
	if (datapath_list(&datapath, each, &listing, &failure)) {
		command_error("%s", failure.text);
		return SIPKEEP_EXIT_FAILED;
	}
	if (listing.json)
		puts("]}");
	else if (!listing.count)
		puts("no open transports");
	return command_flush();
}
