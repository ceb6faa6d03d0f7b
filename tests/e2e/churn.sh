#!/bin/bash
# churn.sh: connections by the hundred thousand, closed in every way there is: nothing is left, nothing is forgotten.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

# Inbound, outbound, and the failed ones: the churn's listeners, and the port and the address nobody is at.
guard_churn() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "in"; direction = "inbound"; local_ports = [ 5060, 5061, 5062, 5063 ]; $1 },
		             { name = "out"; direction = "outbound"; remote_ports = [ 5060, 5061, 5062, 5063, 5064 ]; } );
	CONFIG
}

# churn FAMILY COUNT OPTION...: adds what it did to IN and OUT.
IN=0 OUT=0
churn() {
	(in_cgroup "$TOOLS/churn" --ports 5060-5063 --family "$1" --count "$2" --stall "$(patience 30)" "${@:3}") >"$TMP/churn.$1.json" ||
		die "churn: $(<"$TMP/churn.$1.json")"
	IN=$((IN + $(jq '[.by_path[].inbound] | add' "$TMP/churn.$1.json")))
	OUT=$((OUT + $(jq '[.by_path[].outbound] | add' "$TMP/churn.$1.json")))
	echo "family $1: $(jq -r '"\(.connections) connections and \(.failed) failed in \(.ms) ms by \(.by_path | length) paths"' \
		"$TMP/churn.$1.json")"
}

none_open() {
	json_eq .transports '[]' sk transports -j
}

# balanced: every account says IN and OUT, and that they are over.
balanced() {
	local policy expected field
	# An orphan may stay in FIN_WAIT1 for a while, retransmitting: it is open, and counted.
	wait_for 120 none_open
	nothing_left in out
	for policy in in out; do
		expected=$IN
		[[ $policy == in ]] || expected=$OUT
		for field in connected disconnected destroyed admitted '[.teardowns[]] | add'; do
			is "$expected" policy_field "$policy" "${field/#[a-z]/.${field:0:1}}" || die "$policy: $(sk stats -j)"
		done
		is 0 policy_field "$policy" .uncounted
	done
	is 0 total_field .overrun
	is 0 total_field .storage_failed
	is 0 total_field .map_full
	is 0 total_field .aborts_lost
	echo "$IN in, $OUT out: connected = disconnected = destroyed, active 0, reserved 0, drift 0"
}

# timeout: 300
test_200000_connections() {
	guard_churn ''
	churn 4 "$(scaled 80000)"
	churn 6 "$(scaled 60000)"
	churn mapped "$(scaled 60000)"
	((IN >= $(scaled 200000)))
	balanced
}

# Every event once: counted by awk, for they are hundreds of thousands.
# timeout: 300
test_each_event_once() {
	guard_churn ''
	reader_start
	churn 4 "$(scaled 16000)"
	churn mapped "$(scaled 8000)"
	churn 6 "$(scaled 8000)"
	balanced
	sweep
	is 0 total_field .events.lost
	reader_stop
	awk -v in_=$IN -v out=$OUT '
		function value(key) {
			return match($0, "\"" key "\":\"[^\"]*\"") ? substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5) : ""
		}
		match($0, /"seq":[0-9]+/) {
			seq = substr($0, RSTART + 6, RLENGTH - 6)
			if (seq != NR) { print "line " NR " has seq " seq; bad = 1; exit }
		}
		{ event = value("event") }
		event ~ /^(connected|disconnected|destroyed)$/ {
			id = value("id")
			policy = value("policy")
			n[policy " " event]++
			step = event == "connected" ? 1 : event == "disconnected" ? 2 : 3
			if (life[id] != step - 1) { print id " goes from " life[id] + 0 " to " step; bad = 1; exit }
			life[id] = step
		}
		event ~ /^(lost|full|refused)$/ { print; bad = 1; exit }
		END {
			if (bad) exit 1
			for (id in life) {
				if (life[id] != 3) { print id " stops at " life[id]; exit 1 }
				transports++
			}
			if (transports != in_ + out || n["in connected"] != in_ || n["out connected"] != out) {
				print transports " transports, " n["in connected"] " in, " n["out connected"] " out"; exit 1
			}
			print NR " events of " transports " transports, each once and in order"
		}' "$TMP/events" || die "events: see above"
}

under_way() {
	(($(policy_field in .admitted) > 100))
}

test_verify_during_churn() {
	local churn passes=0
	guard_churn ''
	bg in_cgroup "$TOOLS/churn" --ports 5060-5063 --count "$(scaled 40000 20000)" --sources 50 --stall "$(patience 30)" >"$TMP/churn.json"
	churn=$BG
	wait_for 20 under_way
	while bg_running "$churn" && ((passes < 40)); do
		sk verify -j >"$TMP/verify.json" || true
		is 0 jq .drift "$TMP/verify.json" || die "pass $passes: $(<"$TMP/verify.json")"
		passes=$((passes + 1))
	done
	bg_wait "$churn" || die "churn: $(<"$TMP/churn.json")"
	((passes >= 3))
	echo "$passes times verified during $(jq .ms "$TMP/churn.json") ms of churn: drift 0"
	nothing_left in out
}

# Limits that refuse some of it: what is refused must leave nothing behind either.
test_churn_over_a_limit() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "in"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 5;
		               max_connections = 40; },
		             { name = "out"; direction = "outbound"; remote_ports = [ 5060 ]; max_connections_per_source = 50; } );
	CONFIG
	reader_start
	serve pbx 127.0.0.1 5060
	local round rounds pids=() pid source
	rounds=$(scaled 5)
	for ((round = 0; round < rounds; round++)); do
		pids=()
		for source in 1 2 3 4 5 6 7 8; do
			bg in_cgroup "$TOOLS/burst" --to 127.0.0.1:5060 --from "127.0.1.$source" --procs 2 --connects 100 \
				--timeout "$(patience 5)" >"$TMP/b$source.json"
			pids+=("$BG")
		done
		for pid in "${pids[@]}"; do
			bg_wait "$pid"
		done
		jq -es 'all(.[]; .mute == 0 and .other == 0)' "$TMP"/b?.json >/dev/null || die "$(cat "$TMP"/b?.json)"
	done
	(($(policy_field in .refused.max_connections_per_source) > 100))
	(($(count pbx peak) <= 40))
	nothing_left in out
	is "$(policy_field in .connected)" policy_field in .destroyed
	is "$(policy_field out .connected)" policy_field out .destroyed
	is "$(count pbx accepted)" policy_field in .connected
}

churn_on() {
	while [[ ! -e $TMP/enough ]]; do
		(in_cgroup "$TOOLS/churn" --ports 5060-5063 --count "$(scaled 6000 2000)" --concurrency "$(scaled 512 64)" \
			--stall "$(patience 30)") >"$TMP/churn.json" ||
			die "churn: $(<"$TMP/churn.json")"
	done
}

# What is open at each load ends in every way there is, and is counted for good if its end isn't seen.
# timeout: 300
test_loads_amid_churn() {
	local churn load loads adopted=0
	guard_churn ''
	bg churn_on
	churn=$BG
	wait_for 20 under_way
	loads=$(scaled 20 3)
	for ((load = 0; load < loads; load++)); do
		sk unload >/dev/null
		sk load -c "$TMP/sipkeep.conf" -j >"$TMP/load.json" || die "load: $(<"$TMP/load.json")"
		adopted=$((adopted + $(jq .adopted "$TMP/load.json")))
	done
	touch "$TMP/enough"
	bg_wait "$churn" || die "churn: $(<"$TMP/churn.json")"
	wait_for 120 none_open
	nothing_left in out
	((adopted > loads)) || die "$adopted adopted at $loads loads"
	echo "$adopted adopted at $loads loads"
}
