// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include "command.h"
#include "loading.h"
#include "maps.h"

static int loaded_print(const struct command_context *context, const struct policy_set *set)
{
	struct maps_policy policies[SIPKEEP_MAX_POLICIES];
	struct datapath datapath CLEANUP_DATAPATH;
	struct failure failure;
	unsigned long adopted = 0;
	int count, err = command_open(context, false, &datapath);

	if (err)
		return err;
	count = maps_policies(&datapath, policies, &failure);
	for (int i = 0; i < count; i++)
		adopted += policies[i].active;
	if (context->json)
		return command_json(json_pack("{s:i, s:b, s:s, s:s, s:i, s:i}", "v", 1, "ok", 1, "instance",
					      context->instance, "mode", set->observe ? "observe" : "enforce", "policies",
					      (int)set->policy_count, "adopted", (int)adopted));
	printf("loaded instance '%s' in %s mode: %zu %s at %zu %s, %lu open %s adopted\n", context->instance,
	       set->observe ? "observe" : "enforce", set->policy_count, set->policy_count == 1 ? "policy" : "policies",
	       set->cgroup_count, set->cgroup_count == 1 ? "cgroup" : "cgroups", adopted,
	       adopted == 1 ? "transport" : "transports");
	return command_flush();
}

int cmd_load(struct command_context *context, const struct command *self, int argc, char **argv)
{
	static const struct option own[] = { LOADING_LONG_OPTIONS, {} };
	struct policy_set set CLEANUP_POLICY_SET = {};
	struct loading_options options = {};
	struct failure failure;
	int option, err;

	while ((option = command_option(context, self, own, NULL, argc, argv)) != -1)
		if (!loading_option(&options, option, optarg))
			return option == COMMAND_HELP ? SIPKEEP_EXIT_DONE : SIPKEEP_EXIT_USAGE;
	err = command_no_operands(self, argc, argv);
	if (err)
		return err;
	err = loading_config(context, &options, &set);
	if (err)
		return err;
	if (datapath_load(context->instance, &set, &failure))
		return command_fail(context, &failure, SIPKEEP_EXIT_FAILED);
	return loaded_print(context, &set);
}
