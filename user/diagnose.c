// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include "diagnose.h"

struct diagnose {
	int (*emit)(void *arg, const struct event *event);
	void *arg;
};

struct diagnose *diagnose_new(int (*emit)(void *arg, const struct event *event), void *arg)
{
	struct diagnose *diagnose = calloc(1, sizeof(*diagnose));

	if (diagnose)
		*diagnose = (struct diagnose){ emit, arg };
	return diagnose;
}

void diagnose_free(struct diagnose *diagnose)
{
	free(diagnose);
}

void diagnose_wedged_after(struct diagnose *diagnose, __u16 policy, __u64 wedged_after_ns)
{
	(void)diagnose;
	(void)policy;
	(void)wedged_after_ns;
}

void diagnose_open(struct diagnose *diagnose, const struct sipkeep_record *connected, __u64 closing_ns)
{
	(void)diagnose;
	(void)connected;
	(void)closing_ns;
}

int diagnose_record(struct diagnose *diagnose, const struct sipkeep_record *record)
{
	const struct event event = { .kind = record->event, .record = *record };

	return diagnose->emit(diagnose->arg, &event);
}

int diagnose_tick(struct diagnose *diagnose, __u64 now_ns)
{
	(void)diagnose;
	(void)now_ns;
	return 0;
}
