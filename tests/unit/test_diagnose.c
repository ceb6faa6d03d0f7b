/* SPDX-License-Identifier: GPL-2.0-only */
/* test_diagnose.c: recorded streams (traces/README says how they are written), and what no stream may bring about. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "diagnose_internal.h"
#include "policy.h"

/* ---- traces -------------------------------------------------------------------------------------------------- */

#define LIVES_MAX 64
#define TOLD_MAX 64

struct life {
	char id[32];
	bool known;
	struct sipkeep_record connected;
};

struct nat {
	__u16 policy;
	__u32 count, quiet_ms;
};

/* A trace that is being played. */
struct play {
	const char *name;
	int line;
	struct diagnose *diagnose;
	struct life lives[LIVES_MAX];
	int life_count;
	struct event told[TOLD_MAX]; /* and not yet asked for */
	int told_first, told_count;
	struct nat nats[TOLD_MAX];
	int nat_first, nat_count;
};

#define wrong(play, ...)                                                                                               \
	do {                                                                                                           \
		print_error("%s:%d: ", (play)->name, (play)->line);                                                    \
		fail_msg(__VA_ARGS__);                                                                                 \
	} while (0)

static int tell(void *arg, const struct event *event)
{
	struct play *play = arg;

	assert_true(play->told_count < TOLD_MAX);
	play->told[play->told_count++] = *event;
	return 0;
}

static void tell_nat(void *arg, __u16 policy, __u32 count, __u32 quiet_ms)
{
	struct play *play = arg;

	assert_true(play->nat_count < TOLD_MAX);
	play->nats[play->nat_count++] = (struct nat){ policy, count, quiet_ms };
}

static __u64 ns_of(const char *seconds)
{
	char *end;
	double value = strtod(seconds, &end);

	assert_true(end != seconds && value >= 0);
	return (__u64)(value * 1e6 + 0.5) * 1000;
}

static void endpoint_read(const struct play *play, const char *text, struct sipkeep_addr *ret_addr, __u16 *ret_port)
{
	const char *colon = strrchr(text, ':'), *why = "";
	struct policy_prefix prefix;
	char plain[64];

	if (!colon)
		wrong(play, "%s: no port", text);
	snprintf(plain, sizeof(plain), "%.*s", (int)(colon - text) - 2 * (*text == '['), text + (*text == '['));
	if (policy_prefix_parse(plain, &prefix, &why))
		wrong(play, "%s: %s", plain, why);
	*ret_addr = prefix.addr;
	*ret_port = (__u16)atoi(colon + 1);
}

static struct life *life_of(struct play *play, const char *id)
{
	struct life *life;
	char *dot;

	for (int i = 0; i < play->life_count; i++)
		if (!strcmp(play->lives[i].id, id))
			return &play->lives[i];
	assert_true(play->life_count < LIVES_MAX);
	life = &play->lives[play->life_count++];
	snprintf(life->id, sizeof(life->id), "%s", id);
	life->connected.cookie = strtoull(id, &dot, 16);
	life->connected.generation = *dot ? (__u16)atoi(dot + 1) : 0;
	return life;
}

/* What follows the id: words, and NAME=VALUE. */
static void words_read(struct play *play, char *words, struct sipkeep_record *record, const char **ret_cause,
		       __u64 *ret_closing_ns)
{
	bool sip_idle = false, local = true;

	for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
		char *value = strchr(word, '=');

		if (value)
			*value++ = '\0';
		if (!strcmp(word, "in") && !value) {
			record->direction = SIPKEEP_INBOUND;
		} else if (!strcmp(word, "out") && !value) {
			record->direction = SIPKEEP_OUTBOUND;
		} else if (!strcmp(word, "adopted")) {
			record->flags |= SIPKEEP_RECORD_ADOPTED;
		} else if (!strcmp(word, "udp")) {
			record->flags |= SIPKEEP_RECORD_UDP;
		} else if (!value && strchr(word, ':')) {
			if (local)
				endpoint_read(play, word, &record->local, &record->local_port);
			else
				endpoint_read(play, word, &record->remote, &record->remote_port);
			local = false;
		} else if (!value) {
			while (events_reason(record->reason) && strcmp(events_reason(record->reason), word))
				record->reason++;
			if (!events_reason(record->reason))
				wrong(play, "what is '%s'?", word);
		} else if (!strcmp(word, "policy")) {
			record->policy = (__u16)atoi(value);
		} else if (!strcmp(word, "netns")) {
			record->netns_cookie = strtoull(value, NULL, 10);
		} else if (!strcmp(word, "closing")) {
			*ret_closing_ns = ns_of(value);
		} else if (!strcmp(word, "idle")) {
			record->idle_ns = ns_of(value);
		} else if (!strcmp(word, "sip_idle")) {
			record->sip_idle_ms = (__u32)(ns_of(value) / NS_PER_MS);
			sip_idle = true;
		} else if (!strcmp(word, "quiet")) {
			record->quiet_ms = (__u32)(ns_of(value) / NS_PER_MS);
		} else if (!strcmp(word, "in")) {
			record->bytes_in = strtoull(value, NULL, 10);
		} else if (!strcmp(word, "out")) {
			record->bytes_out = strtoull(value, NULL, 10);
		} else if (!strcmp(word, "cause")) {
			*ret_cause = value;
		} else {
			wrong(play, "what is '%s'?", word);
		}
	}
	if (!sip_idle)
		record->sip_idle_ms = (__u32)(record->idle_ns / NS_PER_MS);
}

static void cause_is(const struct play *play, const struct event *event, const char *wanted)
{
	const char *cause = events_cause(event->cause);

	if (!cause != !wanted || (cause && strcmp(cause, wanted)))
		wrong(play, "%s: its cause is %s, not %s", events_kind_name(event->kind), cause ? cause : "null",
		      wanted ? wanted : "null");
}

static void all_asked_for(const struct play *play)
{
	if (play->told_first < play->told_count)
		wrong(play, "unasked: %s of %llx", events_kind_name(play->told[play->told_first].kind),
		      play->told[play->told_first].record.cookie);
	if (play->nat_first < play->nat_count)
		wrong(play, "unasked: nat of policy %u", play->nats[play->nat_first].policy);
}

/* A life's later records are of the transport that its first one says. */
static void record_play(struct play *play, __u64 ts_ns, const char *what, const char *id, char *words)
{
	struct life *life = life_of(play, id);
	struct sipkeep_record record = life->connected;
	const char *cause = NULL;
	__u64 closing_ns = 0;
	int kind;

	if (!strcmp(what, "ended")) {
		record.event = SIPKEEP_EVENT_DISCONNECTED;
		record.ts_ns = ts_ns;
		diagnose_open(play->diagnose, &record, 0);
		return;
	}
	kind = !strcmp(what, "open")  ? SIPKEEP_EVENT_CONNECTED :
	       !strcmp(what, "known") ? SIPKEEP_EVENT_LISTENER_UP :
					events_kind_find(what);
	if (kind < 0 || kind >= SIPKEEP_EVENT_MAX)
		wrong(play, "what is '%s'?", what);
	record.event = (__u8)kind;
	record.age_ns = kind == SIPKEEP_EVENT_CONNECTED || !life->known ? 0 : ts_ns - life->connected.ts_ns;
	record.ts_ns = ts_ns;
	record.idle_ns = 5 * NS_PER_S;
	record.bytes_in = record.bytes_out = 1000;
	words_read(play, words, &record, &cause, &closing_ns);
	if (kind == SIPKEEP_EVENT_CONNECTED && !life->known) {
		life->connected = record;
		life->known = true;
	}
	if (!strcmp(what, "open") || !strcmp(what, "known")) {
		diagnose_open(play->diagnose, &record, closing_ns);
		return;
	}
	assert_int_equal(diagnose_record(play->diagnose, &record), 0);
	if (play->told_first == play->told_count)
		wrong(play, "it was not told");
	assert_int_equal(play->told[play->told_first].kind, kind);
	assert_memory_equal(&play->told[play->told_first].record, &record, sizeof(record));
	cause_is(play, &play->told[play->told_first], cause);
	play->told_first++;
}

static void nat_ask(struct play *play, unsigned int policy, const char *words)
{
	unsigned int count, quiet;

	if (sscanf(words, "count=%u quiet=%u", &count, &quiet) != 2)
		wrong(play, "count=N quiet=MS, not '%s'", words);
	if (play->nat_first == play->nat_count)
		wrong(play, "no nat was told");
	assert_int_equal(play->nats[play->nat_first].policy, policy);
	assert_int_equal(play->nats[play->nat_first].count, count);
	assert_int_equal(play->nats[play->nat_first].quiet_ms, quiet);
	play->nat_first++;
}

static void event_ask(struct play *play, __u64 now_ns, const char *what, const char *id, char *words)
{
	const struct event *event = &play->told[play->told_first];
	const struct life *life = life_of(play, id);
	const char *cause = NULL;

	if (play->told_first == play->told_count)
		wrong(play, "nothing was told");
	play->told_first++;
	if (strcmp(events_kind_name(event->kind), what) || event->record.cookie != life->connected.cookie ||
	    event->record.generation != life->connected.generation)
		wrong(play, "told was %s of %llx.%u", events_kind_name(event->kind), event->record.cookie,
		      event->record.generation);
	assert_true(event->record.ts_ns == now_ns);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
		char *value = strchr(word, '=');

		if (!value)
			wrong(play, "what is '%s'?", word);
		*value++ = '\0';
		if (!strcmp(word, "cause"))
			cause = value;
		else if (!strcmp(word, "gap"))
			assert_int_equal(event->gap_ms, atoi(value));
		else if (!strcmp(word, "open"))
			assert_int_equal(event->open, atoi(value));
		else if (!strcmp(word, "age"))
			assert_int_equal(event->record.age_ns, ns_of(value));
		else if (!strcmp(word, "idle"))
			assert_int_equal(event->record.idle_ns, ns_of(value));
		else
			wrong(play, "what is '%s'?", word);
	}
	cause_is(play, event, cause);
	if (event->kind == EVENTS_WEDGED) {
		assert_int_equal(event->record.reason, SIPKEEP_REASON_PEER_FIN);
		assert_int_equal(event->record.direction, SIPKEEP_OUTBOUND);
	}
}

static void line_play(struct play *play, char *line, __u64 *now_ns)
{
	char first[32] = "", what[32] = "", id[32] = "";
	int rest = 0;

	line[strcspn(line, "#\n")] = '\0';
	if (sscanf(line, "%31s %31s %n%31s %n", first, what, &rest, id, &rest) < 2)
		return;
	if (!strcmp(first, ">")) {
		if (!strcmp(what, "nat"))
			nat_ask(play, (unsigned int)atoi(id), line + rest);
		else
			event_ask(play, *now_ns, what, id, line + rest);
		return;
	}
	all_asked_for(play);
	if (!strcmp(first, "wedged_after")) {
		diagnose_wedged_after(play->diagnose, (__u16)atoi(what), ns_of(id));
	} else if (!strcmp(first, "reseed") && !strcmp(what, "begin")) {
		diagnose_reseed_begin(play->diagnose);
	} else if (!strcmp(first, "reseed")) {
		diagnose_reseed_end(play->diagnose);
	} else {
		*now_ns = ns_of(first);
		if (!strcmp(what, "tick"))
			assert_int_equal(diagnose_tick(play->diagnose, *now_ns), 0);
		else if (!strcmp(what, "suspects"))
			assert_int_equal(diagnose_suspects(play->diagnose, *now_ns), strcmp(id, "none") != 0);
		else if (!strcmp(what, "closed"))
			diagnose_closed(play->diagnose, strtoull(id, NULL, 16), 0);
		else
			record_play(play, *now_ns, what, id, line + rest);
	}
}

/* Nothing is left of it when all that it told of is gone. */
static void play_end(struct play *play)
{
	struct diagnose *d = play->diagnose;

	all_asked_for(play);
	diagnose_reseed_begin(d);
	diagnose_reseed_end(d);
	assert_int_equal(d->transports.count, 0);
	assert_int_equal(d->destinations.count, 0);
	while (!TAILQ_EMPTY(&d->socket_order)) {
		struct sipkeep_record down = { .cookie = TAILQ_FIRST(&d->socket_order)->cookie };

		listener_down(d, &down);
	}
	assert_int_equal(diagnose_tick(d, ~0ULL), 0);
	assert_int_equal(d->listeners.count, 0);
	assert_int_equal(d->sockets.count, 0);
	assert_int_equal(d->places.count, 0);
	assert_int_equal(play->told_first, play->told_count);
	diagnose_free(d);
}

static void trace_play(const char *dir, const char *name)
{
	struct play *play = calloc(1, sizeof(*play));
	__u64 now_ns = 0;
	char path[4096], line[512];
	FILE *in;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	in = fopen(path, "r");
	if (!in || !play)
		fail_msg("%s: %s", path, strerror(errno));
	play->name = name;
	play->diagnose = diagnose_new(tell, play);
	assert_non_null(play->diagnose);
	diagnose_on_nat(play->diagnose, tell_nat, play);
	while (fgets(line, sizeof(line), in)) {
		play->line++;
		line_play(play, line, &now_ns);
		if (play->told_first == play->told_count)
			play->told_first = play->told_count = 0;
	}
	fclose(in);
	play_end(play);
	free(play);
}

/* Found from where this file was compiled: run in that directory when its path was relative. */
static void recorded_traces(void **state)
{
	const char *self = __FILE__, *tail = "test_diagnose.c";
	struct dirent *entry;
	char dir[4096];
	int played = 0;
	DIR *listing;

	(void)state;
	snprintf(dir, sizeof(dir), "%.*straces", (int)(strlen(self) - strlen(tail)), self);
	listing = opendir(dir);
	if (!listing)
		fail_msg("%s: %s", dir, strerror(errno));
	while ((entry = readdir(listing)))
		if (strstr(entry->d_name, ".trace")) {
			trace_play(dir, entry->d_name);
			played++;
		}
	closedir(listing);
	assert_true(played >= 12);
}

/* ---- what no stream may bring about -------------------------------------------------------------------------- */

#define RECORDS 1000000
#define COOKIES 30000

struct check {
	struct diagnose *diagnose;
	struct sipkeep_record record; /* the one under way */
	bool expected;
	bool wedged[COOKIES]; /* told of this instance */
	__u64 events, hash, wedged_count, restarts, causes;
};

static __u64 random_next(__u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int check_event(void *arg, const struct event *event)
{
	struct check *check = arg;

	check->events++;
	check->hash = (check->hash ^ event->kind ^ event->cause << 8 ^ (__u64)event->gap_ms << 16 ^
		       (__u64)event->open << 40 ^ event->record.cookie ^ event->record.ts_ns) *
		      0x9e3779b97f4a7c15ULL;
	check->causes += event->cause != EVENTS_CAUSE_NONE;
	switch (event->kind) {
	case EVENTS_WEDGED:
		assert_false(check->expected);
		assert_false(check->wedged[event->record.cookie]);
		assert_int_equal(event->record.reason, SIPKEEP_REASON_PEER_FIN);
		check->wedged[event->record.cookie] = true;
		check->wedged_count++;
		break;
	case EVENTS_LISTENER_RESTART:
		assert_false(check->expected); /* its listener_up came first */
		assert_true(event->gap_ms <= DIAGNOSE_RESTART_NS / NS_PER_MS);
		assert_memory_equal(&event->record, &check->record, sizeof(event->record));
		check->restarts++;
		break;
	default:
		assert_true(check->expected);
		assert_int_equal(event->kind, check->record.event);
		assert_memory_equal(&event->record, &check->record, sizeof(event->record));
		check->expected = false;
	}
	return 0;
}

/* Anything that events_check() lets pass; some lives in their order, some not. */
static void random_record(struct sipkeep_record *record, __u64 *state, __u64 *now_ns)
{
	static const __u8 events[] = { SIPKEEP_EVENT_CONNECTED,	   SIPKEEP_EVENT_CONNECTED, SIPKEEP_EVENT_DISCONNECTED,
				       SIPKEEP_EVENT_DISCONNECTED, SIPKEEP_EVENT_DESTROYED, SIPKEEP_EVENT_DESTROYED };
	__u64 dice = random_next(state), more = random_next(state);

	*now_ns += dice % 20 * NS_PER_MS;
	*record = (struct sipkeep_record){
		.ts_ns = *now_ns - dice % 7 * NS_PER_MS, /* clocks of several CPUs */
		.cookie = 1 + more % (COOKIES - 1),
		.age_ns = more % 3 ? 31 * NS_PER_S + more % (3 * NS_PER_S) : more,
		.idle_ns = more % (40 * NS_PER_S),
		.bytes_in = more % 2 * 100,
		.quiet_ms = (__u32)(more % 40000),
		.sip_idle_ms = 32000 + (__u32)(more % 2000),
		.policy = (__u16)(more % 1000 ? more % 5 : more),
		.local_port = (__u16)(5060 + more % 2),
		.remote_port = (__u16)(5060 + more % 3),
		.event = dice % 97 ? events[dice / 97 % 6] : (__u8)(dice / 97 % SIPKEEP_EVENT_MAX),
		.reason = (__u8)(dice % 3 ? SIPKEEP_REASON_PEER_FIN : dice / 3 % SIPKEEP_REASON_MAX),
		.direction = (__u8)(more % 2),
		.flags = (__u8)(dice % 16 ? 0 : dice),
	};
	record->netns_cookie = dice % 2;
	record->local.b[10] = record->local.b[11] = record->remote.b[10] = record->remote.b[11] = dice % 4 ? 0xff : 0;
	record->local.b[12] = dice % 5 ? 192 : 0;
	record->remote.b[13] = (__u8)(more >> 8);
	record->remote.b[14] = (__u8)(more >> 16 & 15);
	if (record->event == SIPKEEP_EVENT_LISTENER_UP || record->event == SIPKEEP_EVENT_LISTENER_DOWN) {
		record->cookie = more % 8; /* two to an address */
		record->local_port = (__u16)(5060 + record->cookie / 2);
	}
}

static void bounded(const struct diagnose *d)
{
	size_t waiting = 0;
	struct outbound *outbound;

	assert_true(d->transports.count <= COOKIES);
	assert_true(d->destinations.count <= d->transports.count);
	assert_true(d->sockets.count <= DIAGNOSE_SOCKETS_MAX);
	assert_true(d->down_count <= DIAGNOSE_SOCKETS_MAX + 1);
	assert_true(d->listeners.count <= d->sockets.count + d->down_count);
	assert_true(d->places.count <= 3 * d->transports.count + d->listeners.count);
	assert_true(d->prefixes.count <= DIAGNOSE_PREFIXES_MAX);
	for (int policy = 0; policy < SIPKEEP_MAX_POLICIES; policy++)
		TAILQ_FOREACH(outbound, &d->waiting[policy], waiting)
		{
			struct outbound *next = TAILQ_NEXT(outbound, waiting);

			waiting++;
			assert_true(!next || next->since_ns >= outbound->since_ns);
		}
	assert_true(waiting <= d->transports.count);
}

static struct check *random_stream(__u64 seed, int records)
{
	struct check *check = calloc(1, sizeof(*check));
	__u64 now_ns = 1000 * NS_PER_S;

	assert_non_null(check);
	check->diagnose = diagnose_new(check_event, check);
	assert_non_null(check->diagnose);
	for (__u16 policy = 0; policy < 4; policy++)
		diagnose_wedged_after(check->diagnose, policy, policy * NS_PER_S / 2);
	for (int i = 0; i < records; i++) {
		random_record(&check->record, &seed, &now_ns);
		check->expected = true;
		assert_int_equal(diagnose_record(check->diagnose, &check->record), 0);
		assert_false(check->expected);
		if (check->record.event == SIPKEEP_EVENT_DESTROYED)
			check->wedged[check->record.cookie] = false;
		if (i % 16 == 0)
			assert_int_equal(diagnose_tick(check->diagnose, now_ns), 0);
		if (i % 50000 == 0)
			bounded(check->diagnose);
	}
	/* Every kind of find was among it. */
	assert_true(check->wedged_count > 0 && check->restarts > 0 && check->causes > 0);
	assert_int_equal(check->events, (__u64)records + check->wedged_count + check->restarts);
	return check;
}

static void check_free(struct check *check)
{
	diagnose_free(check->diagnose);
	free(check);
}

static void each_record_once_and_in_order(void **state)
{
	struct check *check = random_stream(4711, RECORDS);
	struct diagnose *d = check->diagnose;

	(void)state;
	for (__u64 cookie = 1; cookie < COOKIES; cookie++) {
		check->record = (struct sipkeep_record){ .cookie = cookie, .event = SIPKEEP_EVENT_DESTROYED };
		check->expected = true;
		assert_int_equal(diagnose_record(d, &check->record), 0);
	}
	assert_int_equal(d->transports.count, 0);
	assert_int_equal(d->destinations.count, 0);
	assert_true(d->places.count <= d->listeners.count);
	for (int policy = 0; policy < SIPKEEP_MAX_POLICIES; policy++)
		assert_true(TAILQ_EMPTY(&d->waiting[policy]));
	check_free(check);
}

static void the_same_stream_gives_the_same_events(void **state)
{
	struct check *one = random_stream(42, RECORDS / 10), *again = random_stream(42, RECORDS / 10);

	(void)state;
	assert_int_equal(one->events, again->events);
	assert_int_equal(one->hash, again->hash);
	check_free(one);
	check_free(again);
}

static int count_event(void *arg, const struct event *event)
{
	(void)event;
	++*(__u64 *)arg;
	return 0;
}

/* Ends that nobody ever tells of. */
static void what_is_never_ended_is_forgotten(void **state)
{
	__u64 events = 0;
	struct diagnose *d = diagnose_new(count_event, &events);
	struct sipkeep_record record = { .event = SIPKEEP_EVENT_CONNECTED };

	(void)state;
	for (record.cookie = 0; record.cookie < DIAGNOSE_TRANSPORTS_MAX + 1000; record.cookie++)
		assert_int_equal(diagnose_record(d, &record), 0);
	assert_int_equal(events, DIAGNOSE_TRANSPORTS_MAX + 1000);
	assert_int_equal(d->transports.count, DIAGNOSE_TRANSPORTS_MAX);
	assert_int_equal(TAILQ_FIRST(&d->transport_order)->key.cookie, 1000);
	record.event = SIPKEEP_EVENT_LISTENER_UP;
	for (record.cookie = 0; record.cookie < 3 * DIAGNOSE_SOCKETS_MAX; record.cookie++) {
		record.local_port = (__u16)record.cookie;
		assert_int_equal(diagnose_record(d, &record), 0);
	}
	assert_int_equal(d->sockets.count, DIAGNOSE_SOCKETS_MAX);
	assert_int_equal(d->listeners.count, DIAGNOSE_SOCKETS_MAX);
	record.event = SIPKEEP_EVENT_LISTENER_DOWN;
	record.cookie = 1ULL << 40;
	for (int i = 0; i < 3 * DIAGNOSE_SOCKETS_MAX; i++) {
		record.netns_cookie = 1 + (__u64)i;
		assert_int_equal(diagnose_record(d, &record), 0);
	}
	assert_true(d->listeners.count <= 2 * DIAGNOSE_SOCKETS_MAX + 1);
	diagnose_free(d);
}

static int keep_event(void *arg, const struct event *event)
{
	*(struct event *)arg = *event;
	return 0;
}

/* An outsider has any number of networks. */
static void the_oldest_prefix_is_forgotten(void **state)
{
	struct event event;
	struct diagnose *d = diagnose_new(keep_event, &event);
	struct sipkeep_record record = {
		.event = SIPKEEP_EVENT_DISCONNECTED,
		.reason = SIPKEEP_REASON_KEEPALIVE_TIMEOUT,
	};

	(void)state;
	for (__u32 i = 0; i <= DIAGNOSE_PREFIXES_MAX; i++) {
		record.remote.w[0] = i;
		record.cookie++;
		diagnose_record(d, &record);
		assert_int_equal(event.cause, EVENTS_CAUSE_NONE);
		record.cookie++;
		record.remote.w[0] = 1; /* seen again and again */
		diagnose_record(d, &record);
		assert_int_equal(event.cause, i ? EVENTS_CAUSE_NAT_EXPIRED : EVENTS_CAUSE_NONE);
		i += i == 0; /* 1 it is */
	}
	assert_int_equal(d->prefixes.count, DIAGNOSE_PREFIXES_MAX);
	record.cookie++;
	record.remote.w[0] = DIAGNOSE_PREFIXES_MAX;
	diagnose_record(d, &record);
	assert_int_equal(event.cause, EVENTS_CAUSE_NAT_EXPIRED);
	record.cookie++;
	record.remote.w[0] = 0;
	diagnose_record(d, &record);
	assert_int_equal(event.cause, EVENTS_CAUSE_NONE);
	diagnose_free(d);
}

static int refuse_event(void *arg, const struct event *event)
{
	(void)event;
	++*(__u64 *)arg;
	return -EAGAIN;
}

static void what_emit_returns_is_passed_on(void **state)
{
	__u64 events = 0;
	struct diagnose *d = diagnose_new(refuse_event, &events);
	struct sipkeep_record record = { .ts_ns = NS_PER_S, .event = SIPKEEP_EVENT_LISTENER_DOWN, .cookie = 1 };

	(void)state;
	assert_int_equal(diagnose_record(d, &record), -EAGAIN);
	record.event = SIPKEEP_EVENT_LISTENER_UP;
	record.cookie = 2;
	assert_int_equal(diagnose_record(d, &record), -EAGAIN); /* and its restart */
	assert_int_equal(events, 3);
	diagnose_wedged_after(d, 0, NS_PER_S);
	record.event = SIPKEEP_EVENT_DISCONNECTED;
	record.direction = SIPKEEP_OUTBOUND;
	record.reason = SIPKEEP_REASON_PEER_FIN;
	for (record.cookie = 3; record.cookie < 6; record.cookie++)
		assert_int_equal(diagnose_record(d, &record), -EAGAIN);
	events = 0;
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(diagnose_tick(d, 2 * NS_PER_S), -EAGAIN);
		assert_int_equal(events, i);
	}
	assert_int_equal(diagnose_tick(d, 3 * NS_PER_S), 0);
	assert_int_equal(events, 3);
	diagnose_free(d);
}

/* Two records of different clocks, and times that no clock has. */
static void time_may_stand_still_or_jump(void **state)
{
	__u64 events = 0;
	struct diagnose *d = diagnose_new(count_event, &events);
	struct sipkeep_record record = {
		.ts_ns = ~0ULL,
		.age_ns = ~0ULL,
		.idle_ns = ~0ULL,
		.cookie = 1,
		.event = SIPKEEP_EVENT_DISCONNECTED,
		.direction = SIPKEEP_OUTBOUND,
		.reason = SIPKEEP_REASON_PEER_FIN,
		.policy = 65535,
	};

	(void)state;
	diagnose_wedged_after(d, 65535, 1);
	diagnose_wedged_after(d, 1, ~0ULL);
	diagnose_wedged_after(d, 2, 1);
	diagnose_record(d, &record);
	record.policy = 1;
	record.cookie = 2;
	diagnose_record(d, &record);
	record.policy = 2;
	record.cookie = 3;
	diagnose_record(d, &record);
	diagnose_tick(d, 0);
	diagnose_tick(d, ~0ULL);
	assert_int_equal(events, 3);
	record.ts_ns = record.age_ns = 0;
	record.cookie = 4;
	diagnose_record(d, &record);
	diagnose_tick(d, ~0ULL - 1);
	assert_int_equal(events, 4); /* the destination lost a newer one just now */
	diagnose_free(d);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_traces),
		cmocka_unit_test(each_record_once_and_in_order),
		cmocka_unit_test(the_same_stream_gives_the_same_events),
		cmocka_unit_test(what_is_never_ended_is_forgotten),
		cmocka_unit_test(the_oldest_prefix_is_forgotten),
		cmocka_unit_test(what_emit_returns_is_passed_on),
		cmocka_unit_test(time_may_stand_still_or_jump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
