#!/bin/bash
# soak_endure.sh: what tests/e2e/endure.sh and faults.sh do for seconds, for as long as it takes: 1,000,000 connections
# over every way to end, 1,000,000 events that nobody reads, 100 loads amid the traffic, 30 minutes of an apply a second.
# Smaller: CONNECTIONS=, EVENTS=, LOADS=, MINUTES=.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=../e2e/expect.bash
. "$here/../e2e/expect.bash"
# shellcheck source=../e2e/faults.bash
. "$here/../e2e/faults.bash"
# shellcheck source=../e2e/endure.bash
. "$here/../e2e/endure.bash"

# timeout: 14400
test_every_path_leaves_no_memory_behind() {
	memory_after "${CONNECTIONS:-1000000}" 16384 settle
}

# timeout: 3600
test_reader_stands_still() {
	reader_stopped $((${EVENTS:-1000000} / 3 + 2000))
}

# timeout: 7200
test_load_amid_traffic() {
	loads "${LOADS:-100}"
}

# timeout: 14400
test_apply_a_second() {
	applies $((${MINUTES:-30} * 60)) 1 1024
}

# Sources that hold nothing make room for others, when they have been quiet for five minutes and somebody reads.
# timeout: 900
test_room_again_after_five_minutes() {
	sources_begin
	guard <<-CONFIG
		max_sources = 100;
		on_full = "refuse";
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	CONFIG
	reader_start
	serve pbx 127.0.0.1 5060
	call_once first --to 127.0.0.1:5060 --from 127.3.0.1 --sources 100 --each 1
	is 100 got first served
	release first
	wait_for 20 is 0 policy_field phones .active
	call_once others --to 127.0.0.1:5060 --from 127.3.1.1 --sources 100 --each 1
	is 0 got others served
	release others
	wait_for 400 is 0 total_field .sources
	call_once again --to 127.0.0.1:5060 --from 127.3.1.1 --sources 100 --each 1
	is 100 got again served
	release again
	nothing_left phones
}
