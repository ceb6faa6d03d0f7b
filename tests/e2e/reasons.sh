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

# Three of each kind: the first may be a phone without power, from the second on it is the path.
test_a_path_that_forgets_is_named() {
	endings_told_all 3 --case cut_with_keepalive
	jq -es 'map(select(.event == "disconnected")) | length == 12 and
		(group_by([.direction, (.remote | split(":")[:-1])]) | length == 4 and
			all(.[]; map(.cause) == [null, "nat_expired", "nat_expired"]))' "$TMP/events" >/dev/null ||
		die "$(events '.event == "disconnected"')"
	# IPv4 and IPv6, three each; they were quiet for the second that their keepalive waits.
	json_eq '[.policies[].nat_expired.count]' '[6,6]' sk stats -j
	json_eq 'all(.policies[]; .nat_expired.quiet_ms | . >= 900 and . <= 2500)' true sk stats -j
}
