#!/bin/bash
# endure.sh: loads, connections and applies, again and again: nothing is forgotten, nothing grows. The same for hours:
# tests/bench/soak_endure.sh.
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
# shellcheck source=endure.bash
. "$here/endure.bash"

# timeout: 300
test_load_amid_traffic() {
	loads 5
}

# timeout: 300
test_every_path_leaves_no_memory_behind() {
	memory_after 12000 65536
}

# timeout: 300
test_apply_again_and_again() {
	applies 10 0.2 1024
}

# timeout: 300
test_all_end_at_once() {
	all_end_at_once "$(scaled 10000 1000)"
}
