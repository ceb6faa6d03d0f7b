#!/bin/bash
# findings.sh: what the diagnosis has found is in `stats`, with what to set, and stays there.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

NEXT=$(dirname "$SIPKEEP")/next/sipkeep # another layout of the maps

# policies [PHONES] [TRUNKS]: their settings.
policies() {
	cat <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; ${1:-} },
		             { name = "trunks"; direction = "outbound"; remote_ports = [ 5060 ]; ${2:-} } );
	CONFIG
}

le() {
	local value=$1 bytes=$2
	while ((bytes--)); do
		printf '%u ' $((value & 255))
		value=$((value >> 8))
	done
}

# found POLICY COUNT QUIET_MS: as the reader of the events notes it.
found() {
	local id
	id=$(bpftool -j map dump pinned "$PINS/$INSTANCE/policy_names" | jq --arg name "$1" '[.[].formatted.value |
		if type == "array" then (map(select(. != 0 and . != "\u0000")) | join("")) else . end] | index($name)')
	# shellcheck disable=SC2046 # bytes
	bpftool map update pinned "$PINS/$INSTANCE/findings" key $(le "$id" 4) value $(le "$2" 8) $(le "$3" 4) $(le 0 4)
}

suggested() {
	json_eq '.suggestions | map([.policy, .cause, .option, .value])' "$1" sk stats -j
}

test_nothing_found() {
	policies | guard
	suggested '[]'
	json_eq '[.policies[].nat_expired]' '[{"count":0,"quiet_ms":null},{"count":0,"quiet_ms":null}]' sk stats -j
	exits 0 sk stats
	! grep -q forgotten "$TMP/out" || die "$(<"$TMP/out")"
}

test_what_was_found_is_suggested_until_it_is_set() {
	policies | guard
	found phones 7 300250
	found trunks 2 0
	exits 0 sk stats
	prints "phones: 7 transports were forgotten" "the soonest after 300.2 s of quiet" \
		"set tcp_keepalive = true and tcp_keepidle = 150"
	prints "trunks: 2 transports were forgotten by a NAT or firewall on the way"
	suggested '[["phones","nat_expired","tcp_keepidle",150]]'
	json_eq '[.policies[].nat_expired]' '[{"count":7,"quiet_ms":300250},{"count":2,"quiet_ms":null}]' sk stats -j
	exits 0 sk stats --prometheus
	prints 'sipkeep_nat_expired_total{policy="phones"} 7' 'sipkeep_nat_expired_total{policy="trunks"} 2' \
		'sipkeep_nat_expired_quiet_seconds{policy="phones"} 300.25' \
		'sipkeep_suggested_keepidle_seconds{policy="phones"} 150'
	! grep -q 'seconds{policy="trunks"}' "$TMP/out" || die "$(<"$TMP/out")"

	policies "tcp_keepalive = true; tcp_keepidle = 151;" | reconfigure
	suggested '[["phones","nat_expired","tcp_keepidle",150]]'
	policies "tcp_keepidle = 150;" | reconfigure
	suggested '[["phones","nat_expired","tcp_keepidle",150]]'
	policies "tcp_keepalive = true; tcp_keepidle = 150;" | reconfigure
	suggested '[]'
	json_eq '[.policies[].nat_expired.count]' '[7,2]' sk stats -j
	found trunks 3 1500 # no less than a second
	suggested '[["trunks","nat_expired","tcp_keepidle",1]]'
}

test_findings_are_kept_across_an_upgrade() {
	local this=$SIPKEEP
	policies | guard
	found phones 4000000000 300250
	found trunks 2 60000
	for SIPKEEP in "$NEXT" "$this"; do
		exits 0 sk upgrade
		json_eq '[.policies[].nat_expired]' '[{"count":4000000000,"quiet_ms":300250},{"count":2,"quiet_ms":60000}]' \
			sk stats -j
	done
}

# thirty_two FIRST: as many policies as a file may have.
thirty_two() {
	local i
	echo "policies = ("
	for ((i = $1; i < $1 + 32; i++)); do
		((i == $1)) || echo ,
		echo "{ name = \"p$i\"; direction = \"inbound\"; local_ports = [ $i ]; }"
	done
	echo ");"
}

# A policy's slot goes to another one when no unused one is left.
test_another_policy_has_findings_of_its_own() {
	policies | guard
	found phones 7 300250
	found trunks 7 300250
	thirty_two 100 | reconfigure
	thirty_two 200 | reconfigure
	json_eq '[.policies | length, (map(.nat_expired.count) | add)]' '[32,0]' sk stats -j
	suggested '[]'
}
