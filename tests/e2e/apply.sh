#!/bin/bash
# apply.sh: the running state follows the file: at once, whole, with the counts kept.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

# phones [NAME] [SETTINGS]
phones() {
	echo "policies = ( { name = \"${1:-phones}\"; direction = \"inbound\"; local_ports = [ 5060 ]; ${2:-} } );"
}

# applied LINE...: apply prints exactly these.
applied() {
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	[[ $(<"$TMP/out") == "$(printf '%s\n' "$@")" ]] || die "apply printed: $(<"$TMP/out")"
}

test_prints_the_difference() {
	conf <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 20; },
		  { name = "old"; direction = "outbound"; remote_ports = [ 5080 ]; } );
		exempt = [ "192.0.2.10/32" ];
	CONFIG
	sk load -c "$TMP/sipkeep.conf"
	applied "nothing to change"
	conf <<-CONFIG
		mode = "observe";
		on_full = "refuse";
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; max_connections_per_source = 30;
		    remotes = [ "203.0.113.0/24" ]; tcp_keepidle = 60; max_rate_per_source = 10.0; },
		  { name = "trunks"; direction = "outbound"; remote_ports = [ 5080 ]; } );
		exempt = [ "192.0.2.11/32" ];
	CONFIG
	exits 0 sk apply -c "$TMP/sipkeep.conf" --dry-run
	sort "$TMP/out" >"$TMP/dry"
	sk apply -c "$TMP/sipkeep.conf" >"$TMP/wet"
	cat >"$TMP/wanted" <<-LINES
		~ mode enforce -> observe
		~ on_full admit -> refuse
		- policy old
		+ policy trunks
		~ policy phones: local_ports [ 5060 ] -> [ 5060, 5061 ]
		~ policy phones: tcp_keepidle unset -> 60
		~ policy phones: keepalive_mode unset -> "default"
		~ policy phones: max_connections_per_source 20 -> 30
		~ policy phones: max_rate_per_source 0 -> 10
		~ policy phones: burst_per_source unset -> 10
		~ policy phones: remotes - 0.0.0.0/0
		~ policy phones: remotes - ::/0
		~ policy phones: remotes + 203.0.113.0/24
		- exempt 192.0.2.10/32
		+ exempt 192.0.2.11/32
	LINES
	diff <(sort "$TMP/wanted") <(sort "$TMP/wet")
	diff <(sort "$TMP/wanted"; echo "(dry run: nothing was changed)") <(cat "$TMP/dry") ||
		diff <({ cat "$TMP/wanted"; echo "(dry run: nothing was changed)"; } | sort) "$TMP/dry"
	# Once more: all of it was taken in.
	applied "nothing to change"
	exits 0 sk apply -c "$TMP/sipkeep.conf" -j --dry-run
	jq -e '.v == 1 and .ok and .dry_run and .changes == []' "$TMP/out" >/dev/null
}

test_dry_run_changes_nothing() {
	phones phones "max_connections_per_source = 2;" | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 2
	phones phones "max_connections_per_source = 9; tcp_keepalive = true;" | conf
	exits 0 sk apply -c "$TMP/sipkeep.conf" --dry-run
	prints "~ policy phones: max_connections_per_source 2 -> 9" "nothing was changed"
	burst second --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got second refused
	json_eq '.sources[0].limit' 2 sk sources -j
	json_eq '[.transports[].keepalive.on] | unique' '[false]' sk transports -j
	exits 0 sk apply -c "$TMP/sipkeep.conf" --dry-run -j
	jq -e '.dry_run and (.changes | length) > 0' "$TMP/out" >/dev/null
	# The same file, meant: now it counts.
	sk apply -c "$TMP/sipkeep.conf"
	burst third --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got third served
}

test_a_bad_file_changes_nothing() {
	phones phones "max_connections_per_source = 2;" | guard
	serve pbx 127.0.0.1 5060
	phones phones "max_connections_per_source = 9; colour = 1;" | conf
	exits 2 sk apply -c "$TMP/sipkeep.conf"
	tells "$TMP/sipkeep.conf:2: "
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 got first served
	is 1 turned_away first
}

test_limit_raised_and_lowered() {
	phones phones "max_connections_per_source = 2;" | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 2
	burst more --to 127.0.0.1:5060 --procs 1 --connects 2
	is 2 got more refused
	phones phones "max_connections_per_source = 5;" | reconfigure
	hold second --to 127.0.0.1:5060 --procs 1 --connects 5
	is 3 got second served
	is 2 turned_away second
	json_eq '.sources[0] | [.active, .limit, .admitted, .refused]' '[5,5,5,4]' sk sources -j
	# Lowered: nobody is thrown out, nobody gets in before they are below it.
	phones phones "max_connections_per_source = 1;" | reconfigure
	json_eq '.sources[0] | [.active, .limit]' '[5,1]' sk sources -j
	burst more --to 127.0.0.1:5060 --procs 1 --connects 2
	is 2 got more refused
	release second
	wait_for 20 is 2 policy_field phones .active
	burst more --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got more refused
	release first
	wait_for 20 is 0 policy_field phones .active
	burst more --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got more served
	# No limit at all.
	phones | reconfigure
	burst many --to 127.0.0.1:5060 --procs 1 --connects 50
	is 50 got many served
	nothing_left phones
}

test_counts_and_statistics_are_kept() {
	phones phones "max_connections_per_source = 3;" | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 4
	phones phones "max_connections_per_source = 4; refuse_with = \"drop\";" | reconfigure
	json_eq '.policies[0] | [.active, .admitted, .connected, .refused.max_connections_per_source]' '[3,3,3,1]' sk stats -j
	json_eq '.sources[0] | [.active, .peak, .admitted, .refused]' '[3,3,3,1]' sk sources -j
	verified
	release first
	nothing_left phones
}

# recounted POLICY SOURCE ACTIVE: after an apply the transports are where the new policies want them, and nowhere else.
recounted() {
	wait_for 10 is "$3" source_field "$1" "$2" active
	wait_for 10 is "$3" policy_field "$1" .active
	exits 0 sk verify -j
	jq -e '.drift == 0' "$TMP/out" >/dev/null
	json_eq '[.transports[].policy] | unique' "[\"$1\"]" sk transports -j
}

test_renamed_policy_is_recounted() {
	phones phones "max_connections_per_source = 5;" | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	phones desks "max_connections_per_source = 4;" | conf
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	prints "- policy phones" "+ policy desks"
	recounted desks 127.0.0.1 3
	json_eq '[.policies[].name]' '["desks"]' sk stats -j
	# The three count against the new limit.
	hold second --to 127.0.0.1:5060 --procs 1 --connects 3
	is 1 got second served
	release second
	release first
	nothing_left desks
	is 4 policy_field desks .destroyed
}

test_changed_prefix_length_is_recounted() {
	phones phones "max_connections_per_source = 5;" | guard
	serve pbx 127.0.0.1 5060
	hold a --to 127.0.0.1:5060 --from 127.0.0.2 --procs 1 --connects 2
	hold b --to 127.0.0.1:5060 --from 127.0.0.3 --procs 1 --connects 3
	phones phones "max_connections_per_source = 6; source_prefix_ipv4 = 24;" | reconfigure
	recounted phones 127.0.0.0/24 5
	hold c --to 127.0.0.1:5060 --from 127.0.0.4 --procs 1 --connects 2
	is 1 got c served
	is 1 turned_away c
	# And apart again.
	phones phones "max_connections_per_source = 6;" | reconfigure
	is 2 source_field phones 127.0.0.2 active
	is 3 source_field phones 127.0.0.3 active
	is 1 source_field phones 127.0.0.4 active
	verified
	release a
	release b
	release c
	nothing_left phones
}

test_changed_prefix_length_is_recounted_in_ipv6() {
	traffic_begin
	phones | guard
	serve pbx :: 5060
	hold a --to "[::1]:5060" --from "$V6_A1" --procs 1 --connects 2
	hold b --to "[::1]:5060" --from "$V6_A2" --procs 1 --connects 1
	is 3 source_field phones 2001:db8:a::/64 active
	phones phones "source_prefix_ipv6 = 128;" | reconfigure
	is 2 source_field phones "$V6_A1" active
	is 1 source_field phones "$V6_A2" active
	is 0 source_field phones 2001:db8:a::/64 active
	verified
	phones phones "source_prefix_ipv6 = 32;" | reconfigure
	recounted phones 2001:db8::/32 3
	release a
	release b
	nothing_left phones
}

# A policy that begins to cover open transports counts them, one that ceases to doesn't any more.
test_coverage_grows_and_shrinks() {
	phones | guard
	serve sip 127.0.0.1 5060
	serve tls 127.0.0.1 5061
	hold sip --to 127.0.0.1:5060 --procs 1 --connects 2
	hold tls --to 127.0.0.1:5061 --procs 1 --connects 3
	is 2 policy_field phones .active
	echo 'policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; } );' | reconfigure
	recounted phones 127.0.0.1 5
	echo 'policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5061 ]; } );' | reconfigure
	release sip
	release tls
	nothing_left phones
}

test_keepalive_reaches_open_transports() {
	phones | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 2
	json_eq '[.transports[].keepalive.on] | unique' '[false]' sk transports -j
	phones phones "tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; tcp_user_timeout = 5;" | reconfigure
	json_eq '[.transports[].keepalive | [.on, .idle, .interval, .count, .user_timeout]] | unique' '[[true,60,10,6,5]]' sk transports -j
	[[ $(ss -Htno state established 'sport = :5060' | grep -c 'timer:(keepalive,') == 2 ]]
	phones phones "tcp_keepalive = true; tcp_keepidle = 90;" | reconfigure
	json_eq '[.transports[].keepalive | [.on, .idle]] | unique' '[[true,90]]' sk transports -j
	phones phones "tcp_keepalive = false;" | reconfigure
	json_eq '[.transports[].keepalive.on] | unique' '[false]' sk transports -j
	[[ $(ss -Htno state established 'sport = :5060' | grep -c 'timer:(keepalive,') == 0 ]]
}

test_observe_and_enforce() {
	local settings="max_connections_per_source = 2; tcp_keepalive = true;"
	phones phones "$settings" | sed '1i mode = "observe";' | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 4
	is 4 got first served
	is 2 policy_field phones .refused.max_connections_per_source
	json_eq '[.transports[].keepalive.on] | unique' '[false]' sk transports -j
	phones phones "$settings" | conf
	applied "~ mode observe -> enforce"
	# Those who are in stay in, with their keepalive now; nobody else comes in.
	json_eq '[.transports[].keepalive.on] | unique' '[true]' sk transports -j
	is 4 policy_field phones .active
	burst more --to 127.0.0.1:5060 --procs 1 --connects 2
	is 2 got more refused
	json_eq .mode enforce sk status -j
	phones phones "$settings" | sed '1i mode = "observe";' | conf
	applied "~ mode enforce -> observe"
	burst more --to 127.0.0.1:5060 --procs 1 --connects 2
	is 2 got more served
	release first
	nothing_left phones
}

test_what_can_not_change_is_refused() {
	phones phones "max_connections_per_source = 2;" | guard
	phones phones "max_connections_per_source = 9;" | conf
	sed -i "s|$CGROUP|$CGROUP/none|" "$TMP/sipkeep.conf"
	fails_well 1 "$CGROUP/none" "'cgroups'" -- sk apply -c "$TMP/sipkeep.conf"
	json_eq .cgroups "[\"$CGROUP\"]" sk status -j
	phones phones "max_connections_per_source = 9;" | sed '1i max_sources = 4711;' | conf
	fails_well 1 "'max_sources'" 262144 "sipkeep unload" "sipkeep load" -- sk apply -c "$TMP/sipkeep.conf"
	# Nothing of the rest was taken in.
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 got first served
}

# While connections come and go, each sees one policy or the other, and the counts stay right. The limit is out of
# reach: a burst may begin before the server has closed the one before it.
test_apply_under_traffic() {
	local i
	phones phones "max_connections_per_source = 4000;" | guard
	serve pbx 127.0.0.1 5060
	# shellcheck disable=SC2016 # for the inner bash
	bg bash -c 'while "$0" --to 127.0.0.1:5060 --procs 1 --connects 30 >>"$1"; do :; done' "$TOOLS/burst" "$TMP/bursts"
	for i in {1..12}; do
		if ((i % 2)); then
			phones desks "max_connections_per_source = 4000; source_prefix_ipv4 = 24;" | reconfigure
		else
			phones phones "max_connections_per_source = 4000;" | reconfigure
		fi
	done
	wait_for 20 test -s "$TMP/bursts"
	bg_end "$BG" || true
	json_eq 'unique' '[30]' eval "jq -s '[.[].served]' '$TMP/bursts'"
	wait_for 30 json_eq '[.policies[].active] | add' 0 sk stats -j
	wait_for 30 verified
}

# hammer NAME COUNT: bursts one after another, each held to its end, until $TMP/stop is there.
hammer() {
	while [[ ! -e $TMP/stop ]]; do
		"$TOOLS/burst" --to 127.0.0.1:5060 --from "$2" --procs 2 --connects 40 --timeout 20 >>"$TMP/$1.bursts"
	done
}

# At no moment without its limit: neither is a transport uncounted by the policies that come, nor one under way missed.
test_limits_hold_while_transports_move() {
	local round rounds shape hammer applies=0
	local shapes=("phones|" "callers|" "callers|source_prefix_ipv4 = 24;" "phones|source_prefix_ipv4 = 16;")
	phones phones "max_connections_per_source = 10;" | guard
	reader_start # whoever is refused at the last step learns of it
	serve pbx 127.0.0.1 5060
	bg hammer one 127.0.7.1
	hammer=$BG
	rounds=$(scaled 15 4)
	for ((round = 0; round < rounds; round++)); do
		for shape in "${shapes[@]:1}" "${shapes[0]}"; do
			phones "${shape%%|*}" "max_connections_per_source = 10; ${shape#*|}" | reconfigure
			applies=$((applies + 1))
		done
	done
	touch "$TMP/stop"
	bg_wait "$hammer"
	is 10 count pbx peak
	jq -es 'all(.[]; .other == 0 and .mute == 0) and length > 3' "$TMP/one.bursts" >/dev/null ||
		die "$(cat "$TMP/one.bursts")"
	nothing_left phones
	echo "$applies applies during $(wc -l <"$TMP/one.bursts") bursts: never more than 10 at once"
}

# A writer that dies in the middle: the next one ends what it left, whichever step it was.
test_an_interrupted_apply_is_ended() {
	local i start whole kills=30 left=0
	phones phones "max_connections_per_source = 50;" | guard
	serve pbx 127.0.0.1 5060
	hold calls --to 127.0.0.1:5060 --procs 1 --connects 50
	start=${EPOCHREALTIME/./}
	phones name "max_connections_per_source = 50; source_prefix_ipv4 = 16;" | reconfigure
	whole=$((${EPOCHREALTIME/./} - start))
	for ((i = 0; i < kills; i++)); do
		phones "name$((i % 2))" "max_connections_per_source = 50; source_prefix_ipv4 = $((32 - i % 3 * 8));" | conf
		bg "$SIPKEEP" apply --instance "$INSTANCE" -c "$TMP/sipkeep.conf" >"$TMP/out" 2>&1
		sleep "$(printf '0.%06d' $((whole * (i + 1) / kills)))"
		bg_end "$BG" KILL || left=$((left + 1))
		# Whatever is in force holds at once ...
		burst more --to 127.0.0.1:5060 --procs 1 --connects 3 --timeout 5
		[[ $(got more served) == 0 ]] || die "kill $i: $(got more served) more were let in: $(sk stats -j)"
		# ... and the next writer, verify among them, finds every transport counted once.
		verified || die "kill $i: $(<"$TMP/verify.json")"
		json_eq '[.policies[].active] | add' 50 sk stats -j
	done 2>"$TMP/killed"
	echo "$left of $kills applies killed, spread over the $((whole / 1000)) ms that one takes"
	((left > 0))
	release calls
	wait_for 30 is 0 active_sum
	verified
}

test_sighup_does_it_too() {
	local run
	phones phones "max_connections_per_source = 2;" | guard
	serve pbx 127.0.0.1 5060
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >"$TMP/events" 2>"$TMP/run.err"
	run=$BG
	wait_for 20 grep -q listener_up "$TMP/events"
	phones phones "max_connections_per_source = 3;" | conf
	kill -HUP "$run"
	wait_for 20 grep -q "~ policy phones: max_connections_per_source 2 -> 3" "$TMP/run.err"
	wait_for 20 grep -q "applied $TMP/sipkeep.conf: 1 change" "$TMP/run.err"
	hold first --to 127.0.0.1:5060 --procs 1 --connects 4
	is 3 got first served
	# A bad file is told, and changes nothing.
	phones phones "max_connections_per_source = 9; colour = 1;" | conf
	kill -HUP "$run"
	wait_for 20 grep -q "$TMP/sipkeep.conf:2: " "$TMP/run.err"
	burst more --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got more refused
	bg_running "$run"
	bg_end "$run"
	release first
}
