/* endings.h: the cases of endings, and what they do to connections. */
#ifndef TOOLS_ENDINGS_H
#define TOOLS_ENDINGS_H

#include "net.h"

enum path { AS_IT_IS = 1, CUT, CUT_WITH_ICMP, KILLED_HERE, KILLED_THERE };

struct pair {
	int here;
	int there;
};

struct batch {
	const struct ending *ending;
	struct pair *pairs;
	unsigned count;
	int listener;
	bool inbound;
};

struct ending {
	const char *name;
	enum path path;
	const char *reason;		 /* what it must be called */
	const char *reason_outbound;	 /* for a connection made from here; NULL: the same */
	void (*prepare)(struct batch *b); /* before the paths change */
	void (*finish)(struct batch *b);  /* after that */
	bool unaccepted;
};

#define each(b, p) for (struct pair *p = (b)->pairs; p < (b)->pairs + (b)->count; p++)

extern const struct ending endings[];
extern const unsigned endings_count;

void put(int fd, const char *text);
void readable(int fd); /* waits until it is */
void take(int fd);     /* reads what is there, at least a byte */
void shut(int *fd);    /* closes it, unless it is closed already */

#endif
