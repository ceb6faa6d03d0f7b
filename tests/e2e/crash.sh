#!/bin/bash
# crash.sh: verbs killed with SIGKILL at random moments during churn. A failure names its SEED, which repeats the
# delays: SEED=4711 tests/run --filter ... tests/e2e/crash.sh. tests/bench/soak_kills.sh does it a thousand times.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"
# shellcheck source=faults.bash
. "$here/faults.bash"
# shellcheck source=crash.bash
. "$here/crash.bash"

test_load_killed() {
	load_killed 7
}

test_apply_killed() {
	apply_killed 6
}

test_apply_with_renamed_policies_killed() {
	renaming_killed 6
}

# The same where chance seldom hits: between the switch to the new policies and the recount. The next apply of the same
# file must not take it for done.
test_apply_ended_before_its_recount() {
	local dir=$PINS/$INSTANCE
	loaded_begin
	rename_prepare
	mv "$dir/prog_on_adopt" "$dir/prog_aside"
	exits 1 sk apply -c "$TMP/sipkeep.conf"
	mv "$dir/prog_aside" "$dir/prog_on_adopt"
	recover
	crash_end
}

# Every transport moves to another policy, under the same limit: not one more gets in because of that.
test_apply_with_renamed_policies_keeps_the_limit() {
	loaded_begin
	for ((ROUND = 1; ROUND <= 30; ROUND++)); do
		rename_prepare
		sk apply -c "$TMP/sipkeep.conf" >/dev/null
		KILLED=no
		never_over
	done
	crash_end
}

test_run_killed() {
	run_killed 6
}

test_upgrade_killed() {
	if has_upgrade; then
		upgrade_killed 6
	else
		echo "this version has no upgrade yet"
	fi
}
