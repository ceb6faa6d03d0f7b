#!/bin/bash
# early.sh: what must hold in a machine's first minutes, when its clock is smaller than any period that is counted back
# from it. tests/vm has it run first of all.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$(dirname "$(realpath "$0")")/../e2e/e2e.bash"

test_a_source_is_kept_though_nothing_is_open() {
	local up
	read -r up _ </proc/uptime
	((${up%.*} < 240)) || skip "this machine is up for $up s"
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 5; } );
	CONFIG
	serve pbx 127.0.0.1 5060
	burst phone --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 5
	wait_for 20 is 0 policy_field phones .active
	# The reader begins with a sweep, which removes sources that were idle for five minutes.
	sk events >"$TMP/events"
	is 5 source_field phones 127.0.0.5 peak
	is 5 source_field phones 127.0.0.5 admitted
}
