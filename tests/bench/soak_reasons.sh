#!/bin/bash
# soak_reasons.sh: what tests/e2e/reasons.sh does a few times, 50 times each (COUNT=), all at once.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=../e2e/reasons.bash
. "$here/../e2e/reasons.bash"

# timeout: 900
test_every_way_to_end_many_times() {
	reasons_are_right "${COUNT:-50}"
}
