#!/bin/bash
# contacts.sh: a PBX that calls back phones which have hung up: every connect() to a dead contact is counted and told.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

DIAL=$here/dial.pl
NEXT=$(dirname "$SIPKEEP")/next/sipkeep # another layout
PHONE=127.0.0.7
PHONE6=$V6_A1
FIRST=41000

phones() {
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } ${1:-} );
		${2:-}
	CONFIG
	reader_start
}

phones_hold() {
	exec perl "$DIAL" phones "$@" <"$TMP/phones.stdin" >"$TMP/phones.out"
}

# ring_up ADDR FROM COUNT [FIRST]: so many phones call the PBX at ADDR, and stay until hang_up.
ring_up() {
	rm -f "$TMP/phones.stdin" "$TMP/phones.out"
	mkfifo "$TMP/phones.stdin"
	: >"$TMP/phones.out"
	bg phones_hold "$1" 5060 "$2" "${4:-$FIRST}" "$3"
	PHONES=$BG
	bg sleep infinity >"$TMP/phones.stdin"
	LINE=$BG
	wait_for 60 grep -q open "$TMP/phones.out"
}

hang_up() {
	bg_end "$LINE" || true
	bg_wait "$PHONES"
	wait_for 60 is 0 policy_field phones .active
}

# were_here ADDR FROM COUNT [FIRST]: phones that have called and hung up.
were_here() {
	ring_up "$@"
	hang_up
}

# call_back ADDR COUNT [TIMES]: the PBX does; what came of it is printed.
call_back() {
	(in_cgroup perl "$DIAL" call "$1" "$FIRST" "${@:2}")
}

# dead REMOTES FAILURES: what stats counts.
dead() {
	json_eq '.stale_contacts | [.remotes, .failures]' "[$1,$2]" sk stats -j
}

# told FILTER JSON: the stale_contact events so far.
told() {
	json_eq "[.[] | $1]" "$2" events '.event == "stale_contact"'
}

refused_over() {
	local at=$1 from=$2 host=$2
	[[ $host != *:* ]] || host="[$host]"
	traffic_begin
	serve pbx "$at" 5060
	phones
	were_here "$at" "$from" 2
	is "ECONNREFUSED 2" call_back "$from" 2
	is "ECONNREFUSED 1" call_back "$from" 1
	is "ECONNREFUSED 1" in_cgroup perl "$DIAL" call "$from" 42000 1 # nobody was ever there
	is "ECONNREFUSED 2" perl "$DIAL" call "$from" "$FIRST" 2 # not the PBX
	dead 2 3
	wait_for 10 told '[.remote, .error, .count]' \
		"[[\"$host:41000\",\"refused\",1],[\"$host:41001\",\"refused\",1],[\"$host:41000\",\"refused\",2]]"
	json_eq 'length' 3 events '.event == "stale_contact" and (keys - ["v","ts","seq","event","id","remote","error","count"] == [])'
	json_eq '[.[].id] | unique | length' 3 events '.event == "stale_contact"'
	nothing_left phones
	json_eq '[.[].direction] | unique' '["inbound"]' events '.event == "connected"'
	sk stats --prometheus >"$TMP/metrics"
	grep -qx 'sipkeep_stale_contacts_total 2' "$TMP/metrics"
	grep -qx 'sipkeep_stale_contact_failures_total 3' "$TMP/metrics"
	sk stats | grep -q '^stale contacts: 2; connects to them that failed: 3, 0 of these without an event$'
}

test_refused_over_ipv4() {
	refused_over 127.0.0.1 "$PHONE"
}

test_refused_over_ipv6() {
	refused_over ::1 "$PHONE6"
}

test_refused_at_a_dual_stack_listener() {
	traffic_begin
	serve pbx :: 5060
	phones
	were_here 127.0.0.1 "$PHONE" 1
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	is "ECONNREFUSED 1" call_back "::ffff:$PHONE" 1
	dead 1 2
	wait_for 10 told '[.remote, .count]' "[[\"$PHONE:41000\",1],[\"$PHONE:41000\",2]]"
}

test_in_observe_mode() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones '' 'mode = "observe";'
	were_here 127.0.0.1 "$PHONE" 1
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	dead 1 1
}

# Whoever closed, and however.
test_every_end_leaves_a_contact() {
	local how port n=0
	traffic_begin
	bg in_cgroup perl "$here/peer.pl" serve 127.0.0.1 5060 >"$TMP/peer.out"
	wait_for 20 grep -q listening "$TMP/peer.out"
	phones
	for how in client_fin server_fin client_rst server_rst; do
		port=$(perl "$here/peer.pl" call 127.0.0.1 5060 "$how" 100 100)
		n=$((n + 1))
		wait_for 20 is "$n" policy_field phones .destroyed
		FIRST=$port is "ECONNREFUSED 1" call_back 127.0.0.1 1
		dead "$n" "$n"
	done
}

test_what_was_adopted_leaves_one() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	ring_up 127.0.0.1 "$PHONE" 1
	phones
	is 1 policy_field phones .active
	hang_up
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	dead 1 1
}

# While the phone is connected from there, it is no dead contact; nor after the PBX has reached it.
test_a_contact_that_lives_again() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones
	were_here 127.0.0.1 "$PHONE" 1
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	ring_up 127.0.0.1 "$PHONE" 1
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	dead 1 1
	hang_up
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	dead 2 2
	wait_for 10 told '.count' '[1,1]'

	bg "$TOOLS/server" "$PHONE" "$FIRST" >"$TMP/phone.out"
	wait_for 20 grep -q listening "$TMP/phone.out"
	is "connected 1" call_back "$PHONE" 1
	bg_end "$BG"
	is "ECONNREFUSED 1" call_back "$PHONE" 1
	dead 2 2
}

# An outbound policy counts and limits as always; what it refuses is no dead contact.
test_with_an_outbound_policy() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones ', { name = "carrier"; direction = "outbound"; remote_ports = [ 41000 ]; max_connections_per_source = 1; }'
	were_here 127.0.0.1 "$PHONE" 2
	is "ECONNREFUSED 2" call_back "$PHONE" 2
	dead 2 2
	nothing_left phones carrier
	is 0 policy_field carrier .connected

	bg "$TOOLS/server" "$PHONE" "$FIRST" >"$TMP/phone.out"
	wait_for 20 grep -q listening "$TMP/phone.out"
	HOLD_IN=in_cgroup hold trunk --to "$PHONE:$FIRST" --procs 1 --connects 1
	is 1 policy_field carrier .active
	were_here 127.0.0.1 127.0.0.8 1
	is "EPERM 1" call_back "$PHONE" 1
	dead 2 2
	release trunk
	nothing_left phones carrier
	wait_for 10 told '[.remote, .count]' "[[\"$PHONE:41000\",1],[\"$PHONE:41001\",1]]"
}

# lives_at ADDR/PREFIX...
lives_at() {
	local address
	for address in "$@"; do
		ip address replace "$address" dev lo
		wait_for 10 settled
	done
}

settled() {
	[[ -z $(ip -6 address show tentative) ]]
}

# device KIND: one of dial.pl's, of that name.
device() {
	bg perl "$DIAL" "$1" "$1" >"$TMP/device.out"
	wait_for 20 grep -q there "$TMP/device.out"
	ip link set "$1" up
}

# away ADDR/PREFIX PBX DEVICE: nobody is there any more, the way there leads through DEVICE.
away() {
	ip address del "$1" dev lo
	ip route replace "$1" dev "$3" src "$2"
}

dialling() {
	exec perl "$DIAL" hold "$1" "$FIRST" <"$TMP/dial.stdin" >"$TMP/dial.out"
}

# dial ADDR: a connect() under way, until `bg_end $CORD`.
dial() {
	rm -f "$TMP/dial.stdin"
	mkfifo "$TMP/dial.stdin"
	bg in_cgroup dialling "$1"
	DIALLER=$BG
	bg sleep infinity >"$TMP/dial.stdin"
	CORD=$BG
	wait_for 20 grep -q dialled "$TMP/dial.out"
}

# The SYN was sent again.
repeated() {
	ss -Htno state syn-sent | grep -q 'timer:(on,[^,]*,[1-9]'
}

nobody_dials() {
	[[ -z $(ss -Htn state syn-sent) ]]
}

# silent_at PBX PHONE PREFIX
silent_at() {
	local host=$2
	[[ $host != *:* ]] || host="[$host]"
	traffic_begin
	sysctl -qw net.ipv4.tcp_syn_retries=1
	device hole
	lives_at "$2/$3" "$1/$3"
	serve pbx "$1" 5060
	phones
	were_here "$1" "$2" 1
	away "$2/$3" "$1" hole
	is "ETIMEDOUT 1" call_back "$2" 1
	dead 1 1

	# The PBX loses patience first: after one SYN went unanswered, not before.
	sysctl -qw net.ipv4.tcp_syn_retries=6
	dial "$2"
	wait_for 20 repeated
	bg_end "$CORD" || true
	bg_wait "$DIALLER"
	wait_for 10 dead 1 2
	# Nor is it what an administrator ends.
	dial "$2"
	wait_for 20 repeated
	ss -K dst "$host" >/dev/null
	wait_for 10 nobody_dials
	bg_end "$CORD" || true
	bg_wait "$DIALLER"
	dead 1 2
	in_cgroup perl "$DIAL" hasty "$2" "$FIRST" >"$TMP/hasty"
	if grep -q 'at once' "$TMP/hasty"; then
		dead 1 2
	fi
	wait_for 10 told '[.remote, .error]' "[[\"$host:41000\",\"timeout\"],[\"$host:41000\",\"timeout\"]]"
}

test_no_answer_over_ipv4() {
	silent_at 192.0.2.10 198.51.100.7 32
}

test_no_answer_over_ipv6() {
	silent_at 2001:db8:c::10 2001:db8:d::7 128
}

# unreachable_at PBX PHONE PREFIX: the router says so, which is ourselves: the packets come back and can't go on.
unreachable_at() {
	local host=$2
	[[ $host != *:* ]] || host="[$host]"
	traffic_begin
	device mirror
	sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip rule add iif mirror unreachable
	ip -6 rule add iif mirror unreachable
	lives_at "$2/$3" "$1/$3"
	serve pbx "$1" 5060
	phones
	were_here "$1" "$2" 1
	away "$2/$3" "$1" mirror
	is "ENETUNREACH 1" call_back "$2" 1
	dead 1 1
	wait_for 10 told '[.remote, .error, .count]' "[[\"$host:41000\",\"unreachable\",1]]"
}

test_unreachable_over_ipv4() {
	unreachable_at 192.0.2.10 198.51.100.7 32
}

test_unreachable_over_ipv6() {
	unreachable_at 2001:db8:c::10 2001:db8:d::7 128
}

# What an operator found after a year: 2,490 subscriptions whose phones were gone.
# timeout: 240
test_2490_stale_subscriptions() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones
	were_here 127.0.0.1 "$PHONE" 2490
	is "ECONNREFUSED 2490" call_back "$PHONE" 2490
	dead 2490 2490
	is "ECONNREFUSED 4980" call_back "$PHONE" 2490 2
	dead 2490 7470
	wait_for 20 everyone_told
	sk stats | grep -q '^stale contacts: 2490;'
}

# Each failure has its event or is counted as untold: a slow machine never has 4,000 in a second.
everyone_told() {
	local untold
	untold=$(total_field .stale_contacts.untold)
	json_eq '[length, ([.[].remote] | unique | length)]' "[$((7470 - untold)),2490]" events '.event == "stale_contact"'
}

told_and_untold() {
	local told
	told=$(events '.event == "stale_contact"' | jq length)
	((told + $(total_field .stale_contacts.untold) == $1))
}

# One dead contact that is called again and again.
# timeout: 240
test_events_are_bounded() {
	local connects failures start seconds told
	connects=$(scaled 5000 500)
	failures=$((8 * connects))
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones
	were_here 127.0.0.1 "$PHONE" 1
	start=${EPOCHREALTIME/./}
	for connects in "$connects" "$connects"; do
		in_cgroup "$TOOLS/burst" --to "$PHONE:$FIRST" --procs 4 --connects "$connects" --timeout "$(patience 10)" \
			>"$TMP/calls.json"
		is $((4 * connects)) got calls refused
	done
	seconds=$(((${EPOCHREALTIME/./} - start) / 1000000))
	dead 1 "$failures"
	wait_for 20 told_and_untold "$failures"
	told=$(events '.event == "stale_contact"' | jq length)
	echo "$failures failures in $seconds s: $told told, $(total_field .stale_contacts.untold) untold"
	((told <= 4000 * (seconds + 2)))
	json_eq '[.[].count] | [min, (unique | length) == length]' '[1,true]' events '.event == "stale_contact"'
}

test_contacts_outlive_another_layout() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	CONFIG
	were_here 127.0.0.1 "$PHONE" 3
	is "ECONNREFUSED 4" call_back "$PHONE" 2 2
	dead 2 4
	for SIPKEEP in "$NEXT" "$SIPKEEP"; do
		exits 0 sk upgrade
	done
	dead 2 4
	is "ECONNREFUSED 3" call_back "$PHONE" 3
	dead 3 7
	sk events >"$TMP/events"
	told '[.remote, .count]' "[[\"$PHONE:41000\",3],[\"$PHONE:41001\",3],[\"$PHONE:41002\",1]]"
}
