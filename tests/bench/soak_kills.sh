#!/bin/bash
# soak_kills.sh: a thousand times SIGKILL at random moments during churn, as tests/e2e/crash.sh does it some thirty
# times. KILLS= for another number. Each test prints its SEED; with SEED= set its delays are the same again.
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
# shellcheck source=../e2e/crash.bash
. "$here/../e2e/crash.bash"

KILLS_WANTED=${KILLS:-1000}

# timeout: 7200
test_load_killed() {
	load_killed $((KILLS_WANTED * 3 / 10))
}

# timeout: 7200
test_apply_killed() {
	apply_killed $((KILLS_WANTED * 2 / 10))
}

# timeout: 7200
test_apply_with_renamed_policies_killed() {
	renaming_killed $((KILLS_WANTED * 2 / 10))
}

# timeout: 7200
test_run_killed() {
	run_killed $((KILLS_WANTED * 3 / 10))
}

# timeout: 7200
test_upgrade_killed() {
	if has_upgrade; then
		upgrade_killed $((KILLS_WANTED * 3 / 10))
	else
		echo "this version has no upgrade yet"
	fi
}
