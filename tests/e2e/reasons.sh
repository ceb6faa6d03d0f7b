#!/bin/bash
# reasons.sh: who ended a transport, and why. tests/bench/soak_reasons.sh has more of the same.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=reasons.bash
. "$here/reasons.bash"

test_every_way_to_end() {
	reasons_are_right 4
}
