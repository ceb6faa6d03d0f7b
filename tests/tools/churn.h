/* What the parts of churn share: options and output (churn.c), making connections (churn_conn.c), ending them in
 * every way (churn_paths.c, churn_special.c). */
#ifndef TOOLS_CHURN_H
#define TOOLS_CHURN_H

#include "net.h"

#define BATCH_MAX 1024
#define PORTS_MAX 1024
#define PATHS_MAX 32

#define each(i, n) for ((i) = 0; (i) < (n); (i)++)

enum family { FAMILY_4, FAMILY_6, FAMILY_MAPPED };

struct config {
	enum family family;
	union addr listen, target;	/* of the listeners; of the clients (differ with FAMILY_MAPPED) */
	unsigned port_lo, port_hi, dead_port, procs, sources;
	unsigned batch, stall_s;
	unsigned long count;
	bool selected[PATHS_MAX];
};

/* Shared with the parent. */
struct tally {
	unsigned long inbound, outbound, failed;	/* established ends; connects that failed, as they should */
};

struct pair {
	int client, server;	/* -1: none */
};

/* One process: its listeners, its current batch, its tallies. */
struct lane {
	const struct config *cfg;
	unsigned index, n_ports, port, seq;
	int listeners[PORTS_MAX];
	struct pair pairs[BATCH_MAX];
	const char *path;	/* for messages */
	struct tally *tally;	/* of the current path */
};

struct path {
	const char *name;
	const char *closer, *how;	/* which end closes first, and how the other one sees it */
	unsigned per_pair;		/* connections for each of n; 0: none is ever established */
	void (*run)(struct lane *l, unsigned n);
};

extern const struct path paths[];
extern const unsigned n_paths;

/* Ends the process with a message that names the path. */
void churn_fail(struct lane *l, const char *what) __attribute__((noreturn));		/* with errno */
void churn_unexpected(struct lane *l, const char *what) __attribute__((noreturn));	/* without */

void lane_open(struct lane *l);
void lane_relisten(struct lane *l);
int lane_listener(const struct lane *l);
/* The address to connect to, of the client's family, with that port. */
void lane_target(const struct lane *l, int family, unsigned port, union addr *ret_addr);
unsigned lane_port(const struct lane *l);

/* A socket of the family's next kind and next source address, not connected yet. */
int client_socket(struct lane *l, int extra_flags);
/* A blocking connect of an unconnected socket to the current listener; must succeed. */
void client_connect(struct lane *l, int fd);
int socket_family(struct lane *l, int fd);

/* n established connections in l->pairs, counted, after data in both directions. */
void open_pairs(struct lane *l, unsigned n);
/* One connection from the current listener; waits for it. */
int accept_one(struct lane *l, union addr *ret_peer);
/* Accepts as many as there are clients in l->pairs and finds each its client; counts the server ends. */
void accept_pairs(struct lane *l, unsigned n);
void exchange(struct lane *l, unsigned n);
void put(struct lane *l, int fd, const char *text);
void expect(struct lane *l, int fd, const char *text);
void expect_eof(struct lane *l, int fd);
void expect_reset(struct lane *l, int fd);
void linger_zero(struct lane *l, int fd);
void close_client(struct lane *l, unsigned i);
void close_server(struct lane *l, unsigned i);
void shut(struct lane *l, int fd);	/* SHUT_WR */

/* In churn_special.c */
void path_listener_closed(struct lane *l, unsigned n);
void path_overflow(struct lane *l, unsigned n);
void path_simultaneous(struct lane *l, unsigned n);
void path_client_killed(struct lane *l, unsigned n);
void path_refused(struct lane *l, unsigned n);
void path_refused_reuse(struct lane *l, unsigned n);
void path_unroutable(struct lane *l, unsigned n);
void path_unroutable_reuse(struct lane *l, unsigned n);

#endif
