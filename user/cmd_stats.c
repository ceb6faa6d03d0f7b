// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include "command.h"
#include "events.h"
#include "maps.h"

enum { OPT_PROMETHEUS = 256 };

struct stats_view {
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	int count;
	struct maps_totals totals;
};

static __u64 refused_sum(const struct maps_policy *policy)
{
	__u64 sum = 0;

	for (int cause = SIPKEEP_REFUSED_NONE + 1; cause < SIPKEEP_REFUSED_MAX; cause++)
		sum += policy->stats.refused[cause];
	return sum;
}

static json_t *nat_json(const struct sipkeep_finding *finding)
{
	json_t *quiet = finding->nat_quiet_ms ? json_integer(finding->nat_quiet_ms) : json_null();

	return json_pack("{s:I, s:o}", "count", (json_int_t)finding->nat_count, "quiet_ms", quiet);
}

static json_t *policy_json(const struct maps_policy *policy)
{
	const struct sipkeep_policy_stats *stats = &policy->stats;
	json_t *refused = json_object(), *teardowns = json_object();

	for (int cause = SIPKEEP_REFUSED_NONE + 1; cause < SIPKEEP_REFUSED_MAX; cause++)
		json_object_set_new(refused, events_refusal(cause), json_integer((json_int_t)stats->refused[cause]));
	for (int reason = 0; reason < SIPKEEP_REASON_MAX; reason++)
		if (stats->teardowns[reason])
			json_object_set_new(teardowns, events_reason(reason),
					    json_integer((json_int_t)stats->teardowns[reason]));
	return json_pack("{s:s, s:s?, s:b, s:i, s:i, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:o}", "name",
			 policy->name, "direction", policy->retired ? NULL : events_direction(policy->kernel.direction),
			 "retired", policy->retired, "active", (int)policy->active, "reserved", (int)policy->reserved,
			 "admitted", (json_int_t)stats->admitted, "refused", refused, "teardowns", teardowns, "connected",
			 (json_int_t)stats->connected, "disconnected", (json_int_t)stats->disconnected, "destroyed",
			 (json_int_t)stats->destroyed, "uncounted", (json_int_t)stats->uncounted, "keepalive", "set",
			 (json_int_t)stats->keepalive_set, "failed", (json_int_t)stats->keepalive_failed, "overridden",
			 (json_int_t)stats->keepalive_overridden, "nat_expired", nat_json(&policy->finding));
}

/* Settings that would end what was found. */
static json_t *suggestions_json(const struct stats_view *view)
{
	json_t *suggestions = json_array();

	for (int i = 0; i < view->count; i++) {
		const struct maps_policy *policy = &view->policies[i];
		__u32 seconds = maps_suggested_keepidle(policy);

		if (seconds)
			json_array_append_new(suggestions,
					      json_pack("{s:s, s:s, s:s, s:i}", "policy", policy->name, "cause",
							events_cause(EVENTS_CAUSE_NAT_EXPIRED), "option",
							"tcp_keepidle", "value", (int)seconds));
	}
	return suggestions;
}

static int stats_json(const struct stats_view *view)
{
	const struct maps_totals *totals = &view->totals;
	json_t *policies = json_array();

	for (int i = 0; i < view->count; i++)
		json_array_append_new(policies, policy_json(&view->policies[i]));
	return command_json(json_pack("{s:i, s:o, s:o, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}}", "v", 1,
				      "policies", policies, "suggestions", suggestions_json(view), "events", "emitted", (json_int_t)totals->stats.emitted, "lost",
				      (json_int_t)totals->lost, "derived", (json_int_t)totals->derived, "sources", (json_int_t)totals->sources, "max_sources",
				      (json_int_t)totals->max_sources, "map_full", (json_int_t)totals->stats.map_full,
				      "storage_failed", (json_int_t)totals->stats.storage_failed, "deferred",
				      (json_int_t)totals->stats.deferred, "reclaimed",
				      (json_int_t)totals->stats.reclaimed, "aborts_lost",
				      (json_int_t)totals->stats.aborts_lost, "overrun",
				      (json_int_t)totals->stats.overrun, "stale_contacts", "remotes",
				      (json_int_t)totals->stats.stale_contacts, "failures",
				      (json_int_t)totals->stats.stale_failures, "untold",
				      (json_int_t)totals->stats.stale_untold));
}

static void metric(const char *name, const char *type, const char *help)
{
	printf("# HELP sipkeep_%s %s\n# TYPE sipkeep_%s %s\n", name, help, name, type);
}

static void prometheus_policies(const struct stats_view *view)
{
	static const struct {
		const char *name, *type, *help;
	} metrics[] = {
		{ "active_transports", "gauge", "Open transports, by policy." },
		{ "admitted_total", "counter", "Transports admitted, by policy." },
		{ "connected_total", "counter", "Transports established or adopted, by policy." },
		{ "disconnected_total", "counter", "Transports that stopped being usable both ways, by policy." },
		{ "destroyed_total", "counter", "Transports gone from the kernel, by policy." },
		{ "uncounted_total", "counter", "Transports that could not be counted, by policy." },
		{ "keepalive_set_total", "counter", "Transports whose keepalive was set, by policy." },
		{ "keepalive_failed_total", "counter", "Transports whose keepalive could not be set, by policy." },
		{ "keepalive_overridden_total", "counter", "Keepalive options of the PBX kept out, by policy." },
	};

	for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++) {
		metric(metrics[m].name, metrics[m].type, metrics[m].help);
		for (int i = 0; i < view->count; i++) {
			const struct maps_policy *policy = &view->policies[i];
			const struct sipkeep_policy_stats *stats = &policy->stats;
			const __u64 values[] = { policy->active, stats->admitted, stats->connected,
						 stats->disconnected, stats->destroyed, stats->uncounted,
						 stats->keepalive_set, stats->keepalive_failed,
						 stats->keepalive_overridden };

			printf("sipkeep_%s{policy=\"%s\"} %llu\n", metrics[m].name, policy->name, values[m]);
		}
	}
	metric("refused_total", "counter", "Connections refused (observe mode: that would have been), by policy and limit.");
	for (int i = 0; i < view->count; i++)
		for (int cause = SIPKEEP_REFUSED_NONE + 1; cause < SIPKEEP_REFUSED_MAX; cause++)
			printf("sipkeep_refused_total{policy=\"%s\",cause=\"%s\"} %llu\n", view->policies[i].name,
			       events_refusal(cause), view->policies[i].stats.refused[cause]);
	metric("teardowns_total", "counter", "Transports ended, by policy and reason.");
	for (int i = 0; i < view->count; i++)
		for (int reason = 0; reason < SIPKEEP_REASON_MAX; reason++)
			printf("sipkeep_teardowns_total{policy=\"%s\",reason=\"%s\"} %llu\n", view->policies[i].name,
			       events_reason(reason), view->policies[i].stats.teardowns[reason]);
}

static void prometheus_findings(const struct stats_view *view)
{
	metric("nat_expired_total", "counter", "Transports that a NAT or a firewall on the way forgot, by policy.");
	for (int i = 0; i < view->count; i++)
		printf("sipkeep_nat_expired_total{policy=\"%s\"} %llu\n", view->policies[i].name,
		       view->policies[i].finding.nat_count);
	metric("nat_expired_quiet_seconds", "gauge", "The shortest quiet after which that was, by policy.");
	for (int i = 0; i < view->count; i++)
		if (view->policies[i].finding.nat_quiet_ms)
			printf("sipkeep_nat_expired_quiet_seconds{policy=\"%s\"} %.3f\n", view->policies[i].name,
			       view->policies[i].finding.nat_quiet_ms / 1e3);
	metric("suggested_keepidle_seconds", "gauge", "The tcp_keepidle that would keep them alive, by policy.");
	for (int i = 0; i < view->count; i++)
		if (maps_suggested_keepidle(&view->policies[i]))
			printf("sipkeep_suggested_keepidle_seconds{policy=\"%s\"} %u\n", view->policies[i].name,
			       maps_suggested_keepidle(&view->policies[i]));
}

static void prometheus_one(const char *name, const char *type, const char *help, __u64 value)
{
	metric(name, type, help);
	printf("sipkeep_%s %llu\n", name, value);
}

static void stats_prometheus(const struct stats_view *view)
{
	const struct maps_totals *totals = &view->totals;

	prometheus_policies(view);
	prometheus_findings(view);
	prometheus_one("events_emitted_total", "counter", "Events, delivered or lost.", totals->stats.emitted);
	prometheus_one("events_derived_total", "counter", "Events that run made of others, such as wedged.", totals->derived);
	prometheus_one("events_lost_total", "counter", "Events that found no room in the ring.", totals->lost);
	prometheus_one("sources", "gauge", "Sources tracked.", totals->sources);
	prometheus_one("sources_max", "gauge", "Sources that can be tracked.", totals->max_sources);
	prometheus_one("map_full_total", "counter", "Connections whose source found no room.", totals->stats.map_full);
	prometheus_one("storage_failed_total", "counter", "Sockets without room for their state.",
		       totals->stats.storage_failed);
	prometheus_one("deferred_total", "counter", "Final ACKs left to be sent again.", totals->stats.deferred);
	prometheus_one("overrun_total", "counter", "Transports counted without having been asked for.",
		       totals->stats.overrun);
	prometheus_one("stale_contacts_total", "counter",
		       "Far ends of closed inbound transports that a connect() failed to reach.", totals->stats.stale_contacts);
	prometheus_one("stale_contact_failures_total", "counter", "Connects to such far ends that failed.",
		       totals->stats.stale_failures);
	prometheus_one("stale_contact_untold_total", "counter", "Of these, those without an event of their own.",
		       totals->stats.stale_untold);
}

static void table_finding(const struct maps_policy *policy)
{
	__u32 seconds = maps_suggested_keepidle(policy);

	if (!policy->finding.nat_count)
		return;
	printf("%s: %llu transports were forgotten by a NAT or firewall on the way", policy->name,
	       policy->finding.nat_count);
	if (policy->finding.nat_quiet_ms)
		printf(", the soonest after %.1f s of quiet", policy->finding.nat_quiet_ms / 1e3);
	if (seconds)
		printf("; set tcp_keepalive = true and tcp_keepidle = %u", seconds);
	printf("\n");
}

static void stats_table(const struct stats_view *view)
{
	const struct maps_totals *totals = &view->totals;

	printf("%-20s %-8s %8s %10s %10s %10s %10s %10s\n", "POLICY", "DIR", "ACTIVE", "ADMITTED", "REFUSED", "CONNECTED",
	       "DISCONN.", "DESTROYED");
	for (int i = 0; i < view->count; i++) {
		const struct maps_policy *policy = &view->policies[i];

		printf("%-20s %-8s %8u %10llu %10llu %10llu %10llu %10llu\n", policy->name,
		       policy->retired ? "retired" : events_direction(policy->kernel.direction), policy->active,
		       policy->stats.admitted, refused_sum(policy), policy->stats.connected, policy->stats.disconnected,
		       policy->stats.destroyed);
	}
	for (int i = 0; i < view->count; i++) {
		const struct maps_policy *policy = &view->policies[i];

		for (int cause = SIPKEEP_REFUSED_NONE + 1; cause < SIPKEEP_REFUSED_MAX; cause++)
			if (policy->stats.refused[cause])
				printf("%s refused by %s: %llu\n", policy->name, events_refusal(cause),
				       policy->stats.refused[cause]);
		for (int reason = 0; reason < SIPKEEP_REASON_MAX; reason++)
			if (policy->stats.teardowns[reason])
				printf("%s ended by %s: %llu\n", policy->name, events_reason(reason),
				       policy->stats.teardowns[reason]);
		printf("%s keepalive set on %llu transports, failed on %llu; the PBX's own options kept out: %llu\n",
		       policy->name, policy->stats.keepalive_set, policy->stats.keepalive_failed,
		       policy->stats.keepalive_overridden);
		table_finding(policy);
	}
	printf("events: %llu emitted, %llu lost; sources: %u of %u; full %llu times\n", totals->stats.emitted, totals->lost,
	       totals->sources, totals->max_sources, totals->stats.map_full);
	if (totals->stats.stale_failures)
		printf("stale contacts: %llu; connects to them that failed: %llu, %llu of these without an event\n",
		       totals->stats.stale_contacts, totals->stats.stale_failures, totals->stats.stale_untold);
}

int cmd_stats(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { { "prometheus", no_argument, NULL, OPT_PROMETHEUS }, {} };
	struct datapath datapath CLEANUP_DATAPATH;
	struct stats_view view = {};
	bool prometheus = false;
	struct failure failure;
	int option, err;

	datapath_init(&datapath);
	while ((option = command_option(context, self, own, NULL, argc, argv)) != -1) {
		if (option != OPT_PROMETHEUS)
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
		prometheus = true;
	}
	err = command_no_operands(self, argc, argv);
	err = err ?: command_open(context, false, &datapath);
	if (err)
		return err;
	view.count = maps_policies(&datapath, view.policies, &failure);
	if (view.count < 0 || maps_totals(&datapath, &view.totals, &failure))
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	if (context->json)
		return stats_json(&view);
	if (prometheus)
		stats_prometheus(&view);
	else
		stats_table(&view);
	return command_flush();
}
