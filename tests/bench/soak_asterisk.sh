#!/bin/bash
# soak_asterisk.sh: how long Debian 11's Asterisk stays unreachable without sipkeep: from the disconnect that it doesn't
# notice to the refresh of its registration, here 10 s before its 120 s are over.
# prepare: tests/pbx/root bullseye asterisk16 asterisk
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=../pbx/asterisk.bash
. "$here/../pbx/asterisk.bash"
# shellcheck source=../pbx/asterisk16.bash
. "$here/../pbx/asterisk16.bash"

# timeout: 240
test_unreachable_until_the_refresh() {
	asterisk_root
	asterisk16_start 120
	monitor_lose
	within 150 registered registrar || die "not even the refresh brought it back"
	echo "unreachable for $(back_ms) ms"
}
