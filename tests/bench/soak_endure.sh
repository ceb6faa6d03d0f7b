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

# timeout: 3600
test_all_end_at_once() {
	all_end_at_once "${TRANSPORTS:-100000}"
}
