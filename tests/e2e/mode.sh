#!/bin/bash
# mode.sh: observing and enforcing, for good and for a time that runs out in the kernel.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

phones() {
	echo "${1:-}"
	echo "policies = ( { name = \"phones\"; direction = \"inbound\"; local_ports = [ 5060 ]; max_connections_per_source = 2;
		tcp_keepalive = true; tcp_keepidle = 60; keepalive_mode = \"enforce\"; } );"
}

# lets_in NUMBER: of five more connections.
lets_in() {
	burst more --to 127.0.0.1:5060 --procs 1 --connects 5
	[[ $(got more served) == "$1" ]]
}

mode_is() {
	json_eq '[.mode, .mode_until]' "[\"$1\",${2:-null}]" sk status -j
}

test_off_and_on() {
	phones | guard
	serve pbx 127.0.0.1 5060
	lets_in 2
	exits 0 sk enforce off
	prints "mode observe"
	mode_is observe
	lets_in 5
	(($(policy_field phones .refused.max_connections_per_source) >= 6)) # told, not done
	wait_for 20 is 0 policy_field phones .active
	# What comes while it observes keeps its own keepalive, until it enforces again.
	hold first --to 127.0.0.1:5060 --procs 1 --connects 1
	json_eq '[.transports[].keepalive.on]' '[false]' sk transports -j
	exits 0 sk enforce on -j
	json_eq . '{"v":1,"ok":true,"mode":"enforce","until":null,"then":null}' cat "$TMP/out"
	json_eq '[.transports[].keepalive | [.on, .idle]]' '[[true,60]]' sk transports -j
	lets_in 1
	release first
	# Each change is an event; none where nothing changes.
	sk enforce on
	sk events >"$TMP/events"
	is '[["observe",null],["enforce",null]]' jq -cs '[.[] | select(.event == "mode") | [.mode, .until]]' "$TMP/events"
	verified
}

# No process of ours lives: the kernel itself goes back.
test_for_a_time_with_nobody_alive() {
	phones | guard
	serve pbx 127.0.0.1 5060
	exits 0 sk enforce off --for 3
	prints "mode observe until 20" ", then enforce"
	lets_in 5
	is '["observe",true]' jq -c '[.mode, (.mode_until | type == "string")]' <(sk status -j)
	wait_for 20 lets_in 2
	mode_is enforce
	# And the other way round.
	phones 'mode = "observe";' | reconfigure
	exits 0 sk enforce on --for 2s
	prints "mode enforce until 20" ", then observe"
	lets_in 2
	wait_for 20 lets_in 5
	mode_is observe
}

test_run_tells_that_the_time_is_over() {
	phones | guard
	serve pbx 127.0.0.1 5060
	reader_start
	sk enforce off --for 2
	hold first --to 127.0.0.1:5060 --procs 1 --connects 1
	json_eq '[.transports[].keepalive.on]' '[false]' sk transports -j
	# Then what came meanwhile gets its keepalive, too.
	wait_for 20 json_eq '[.transports[].keepalive.on]' '[true]' sk transports -j
	release first
	reader_stop
	is '[["observe","string"],["enforce","null"]]' \
		jq -cs '[.[] | select(.event == "mode") | [.mode, (.until | type)]]' "$TMP/events"
}

test_a_time_is_changed_by_the_next_one() {
	phones | guard
	sk enforce off --for 1h
	sk enforce off --for 30d >"$TMP/out"
	prints "mode observe until" "then enforce"
	exits 0 sk enforce off # for good
	mode_is observe
	sk enforce on --for 1h
	# For a time, to what it goes back to anyway: for good.
	exits 0 sk enforce off --for 5m
	[[ $(<"$TMP/out") == "mode observe" ]] || die "$(<"$TMP/out")"
	# The file says enforce: apply ends the time, and shows that it does.
	sk enforce on --for 1h
	exits 0 sk apply -c "$TMP/sipkeep.conf" --dry-run
	prints "~ mode enforce until 20" "-> enforce"
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	mode_is enforce
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	prints "nothing to change"
}

test_wrong_words() {
	local words
	fails_well 3 "not loaded" -- sk enforce on
	phones | guard
	for words in "" maybe "on off"; do
		# shellcheck disable=SC2086 # words
		fails_well 2 enforce -- sk enforce $words
	done
	for words in 0 x -1 31d 10m5s 1.5h 99999999999999999999 m; do
		fails_well 2 "is no time from 1s to 30d" -- sk enforce off --for "$words"
	done
	mode_is enforce
}
