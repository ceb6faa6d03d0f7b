// SPDX-License-Identifier: GPL-2.0-only
/*
 * diagnose_listener.c: listeners that go and come back, and what was open there.
 *
 * A transport belongs to the listener on its local address and port, or to one on all addresses of that port. Its
 * record has no network namespace: where two of them have listeners on one port, a restart of the one counts the
 * other's.
 */
#include <stdlib.h>
#include <string.h>
#include "diagnose_internal.h"
#include "policy.h"

static const struct sipkeep_addr any_ipv6;
static const struct sipkeep_addr any_ipv4 = { .b = { [10] = 0xff, [11] = 0xff } };

/* ---- places ---- */

static struct place *place_get(struct diagnose *diagnose, const struct sipkeep_addr *addr, __u16 port)
{
	struct place_key key = { .addr = *addr, .port = port };
	struct place *place = table_find(&diagnose->places, &key);

	if (!place) {
		place = calloc(1, sizeof(*place));
		if (!place)
			return NULL;
		place->key = key;
		table_add(&diagnose->places, &place->node);
	}
	place->refs++;
	return place;
}

static void place_put(struct diagnose *diagnose, struct place *place)
{
	if (!place || --place->refs)
		return;
	table_remove(&diagnose->places, &place->node);
	free(place);
}

static void places_put(struct diagnose *diagnose, struct inbound *inbound)
{
	for (int i = 0; i < 3; i++) {
		place_put(diagnose, inbound->places[i]);
		inbound->places[i] = NULL;
	}
}

/* A listener on :: takes IPv4, too, unless it is told not to, which no record says. */
int inbound_add(struct diagnose *diagnose, struct inbound *inbound, const struct sipkeep_record *record)
{
	const struct sipkeep_addr *addrs[3] = { &record->local, NULL, &any_ipv6 };

	if (policy_addr_is_ipv4(&record->local))
		addrs[1] = &any_ipv4;
	for (int i = 0; i < 3; i++) {
		if (!addrs[i])
			continue;
		inbound->places[i] = place_get(diagnose, addrs[i], record->local_port);
		if (!inbound->places[i]) {
			places_put(diagnose, inbound);
			return -1;
		}
	}
	for (int i = 0; i < 3; i++)
		if (inbound->places[i])
			inbound->places[i]->open++;
	return 0;
}

void inbound_close(struct inbound *inbound)
{
	for (int i = 0; i < 3; i++)
		if (inbound->places[i])
			inbound->places[i]->open--;
}

void inbound_remove(struct diagnose *diagnose, struct inbound *inbound)
{
	if (!inbound->transport.closing)
		inbound_close(inbound);
	places_put(diagnose, inbound);
}

bool inbound_is_shaken(const struct inbound *inbound, __u64 now_ns)
{
	for (int i = 0; i < 3; i++)
		if (inbound->places[i] && now_ns <= inbound->places[i]->shaken_until_ns)
			return true;
	return false;
}

/* ---- listeners ---- */

static struct listener_key listener_key_of(const struct sipkeep_record *record)
{
	struct listener_key key = {
		.netns_cookie = record->netns_cookie,
		.addr = record->local,
		.port = record->local_port,
		.udp = !!(record->flags & SIPKEEP_RECORD_UDP),
	};

	return key;
}

static struct listener *listener_make(struct diagnose *diagnose, const struct listener_key *key)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return NULL;
	listener->key = *key;
	if (!key->udp) {
		listener->place = place_get(diagnose, &key->addr, (__u16)key->port);
		if (!listener->place) {
			free(listener);
			return NULL;
		}
	}
	table_add(&diagnose->listeners, &listener->node);
	return listener;
}

/* It has no sockets. */
static void listener_forget(struct diagnose *diagnose, struct listener *listener)
{
	if (listener->down_ns) {
		TAILQ_REMOVE(&diagnose->downs, listener, downs);
		diagnose->down_count--;
	}
	table_remove(&diagnose->listeners, &listener->node);
	place_put(diagnose, listener->place);
	free(listener);
}

static struct listener *socket_forget(struct diagnose *diagnose, struct listener_socket *socket)
{
	struct listener *listener = socket->listener;

	table_remove(&diagnose->sockets, &socket->node);
	TAILQ_REMOVE(&diagnose->socket_order, socket, order);
	free(socket);
	listener->sockets--;
	return listener;
}

static void socket_drop(struct diagnose *diagnose, struct listener_socket *socket)
{
	struct listener *listener = socket_forget(diagnose, socket);

	if (!listener->sockets)
		listener_forget(diagnose, listener);
}

static void socket_add(struct diagnose *diagnose, struct listener *listener, __u64 cookie)
{
	struct listener_socket *socket = calloc(1, sizeof(*socket));

	if (!socket) {
		if (!listener->sockets)
			listener_forget(diagnose, listener);
		return;
	}
	socket->cookie = cookie;
	socket->listener = listener;
	socket->epoch = diagnose->epoch;
	listener->sockets++;
	table_add(&diagnose->sockets, &socket->node);
	TAILQ_INSERT_TAIL(&diagnose->socket_order, socket, order);
	if (diagnose->sockets.count > DIAGNOSE_SOCKETS_MAX)
		socket_drop(diagnose, TAILQ_FIRST(&diagnose->socket_order));
}

void listeners_expire(struct diagnose *diagnose, __u64 now_ns)
{
	struct listener *listener;

	while ((listener = TAILQ_FIRST(&diagnose->downs)) &&
	       (elapsed(now_ns, listener->down_ns) > DIAGNOSE_RESTART_NS ||
		diagnose->down_count > DIAGNOSE_SOCKETS_MAX))
		listener_forget(diagnose, listener);
}

bool listener_up(struct diagnose *diagnose, const struct sipkeep_record *record, struct event *ret_restart)
{
	struct listener_socket *socket = table_find(&diagnose->sockets, &record->cookie);
	struct listener_key key = listener_key_of(record);
	struct listener *listener;
	bool restarted;

	if (socket) {
		socket->epoch = diagnose->epoch;
		return false;
	}
	listeners_expire(diagnose, record->ts_ns);
	listener = table_find(&diagnose->listeners, &key);
	if (!listener)
		listener = listener_make(diagnose, &key);
	if (!listener)
		return false;
	restarted = listener->down_ns;
	if (restarted) {
		*ret_restart = (struct event){
			.kind = EVENTS_LISTENER_RESTART,
			.gap_ms = (__u32)(elapsed(record->ts_ns, listener->down_ns) / NS_PER_MS),
			.open = listener->open,
			.record = *record,
		};
		TAILQ_REMOVE(&diagnose->downs, listener, downs);
		diagnose->down_count--;
		listener->down_ns = 0;
		if (listener->place)
			listener->place->shaken_until_ns = record->ts_ns + DIAGNOSE_RESTART_NS;
	}
	socket_add(diagnose, listener, record->cookie);
	return restarted;
}

/* One that is down as far as is known: its listener_up is on its way, and tells of the restart. */
void listener_open(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct listener_key key = listener_key_of(record);
	struct listener *listener = table_find(&diagnose->listeners, &key);
	struct event none;

	diagnose->listeners_named = true;
	if (!listener || !listener->down_ns)
		listener_up(diagnose, record, &none);
}

void listener_down(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	struct listener_socket *socket = table_find(&diagnose->sockets, &record->cookie);
	struct listener_key key = listener_key_of(record);
	struct listener *listener;

	listeners_expire(diagnose, record->ts_ns);
	if (socket)
		listener = socket_forget(diagnose, socket);
	else
		listener = table_find(&diagnose->listeners, &key);
	if (!listener)
		listener = listener_make(diagnose, &key);
	if (!listener || listener->sockets)
		return;
	if (listener->down_ns)
		TAILQ_REMOVE(&diagnose->downs, listener, downs);
	else
		diagnose->down_count++;
	listener->down_ns = record->ts_ns ? record->ts_ns : 1;
	TAILQ_INSERT_TAIL(&diagnose->downs, listener, downs);
	if (listener->place) {
		listener->open = listener->place->open;
		listener->place->shaken_until_ns = record->ts_ns + DIAGNOSE_RESTART_NS;
	}
}

void listeners_sweep(struct diagnose *diagnose)
{
	struct listener_socket *socket = TAILQ_FIRST(&diagnose->socket_order), *next;

	for (; socket; socket = next) {
		next = TAILQ_NEXT(socket, order);
		if (socket->epoch != diagnose->epoch)
			socket_drop(diagnose, socket);
	}
}

void listeners_free(struct diagnose *diagnose)
{
	while (!TAILQ_EMPTY(&diagnose->socket_order))
		socket_drop(diagnose, TAILQ_FIRST(&diagnose->socket_order));
	while (!TAILQ_EMPTY(&diagnose->downs))
		listener_forget(diagnose, TAILQ_FIRST(&diagnose->downs));
	table_free(&diagnose->sockets);
	table_free(&diagnose->listeners);
	table_free(&diagnose->places);
}
