// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "outlet.h"

void outlets_free(struct outlets *outlets)
{
	for (size_t i = 0; i < outlets->sink_count; i++)
		free(outlets->sinks[i].path);
	for (size_t i = 0; i < outlets->action_count; i++)
		outlet_action_free(&outlets->actions[i]);
	free(outlets->sinks);
	free(outlets->actions);
	memset(outlets, 0, sizeof(*outlets));
}

struct outlets *outlets_take(struct outlets *from)
{
	struct outlets *outlets = malloc(sizeof(*outlets));

	if (!outlets)
		return NULL;
	*outlets = *from;
	memset(from, 0, sizeof(*from));
	return outlets;
}

void outlets_delete(struct outlets *outlets)
{
	if (outlets)
		outlets_free(outlets);
	free(outlets);
}
