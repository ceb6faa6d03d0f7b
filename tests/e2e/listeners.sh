#!/bin/bash
# listeners.sh: listeners come and go; what was there before the load is adopted.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

PEER=$(dirname "$(realpath "$0")")/peer.pl
UDP=$(dirname "$(realpath "$0")")/udp.pl

phones() {
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; $1 } );
		${2:-}
	CONFIG
}

seen() {
	is "$2" eval "events '$1' | jq length"
}

test_listeners_are_told() {
	local address
	traffic_begin
	phones ''
	reader_start
	for address in 127.0.0.1 0.0.0.0 ::1 ::; do
		: >"$TMP/events"
		serve pbx "$address" 5060
		serve other "$address" 5070 # not guarded
		[[ $address != *:* ]] || address="[$address]"
		wait_for 10 seen ".event == \"listener_up\" and .local == \"$address:5060\"" 1
		seen '.event == "listener_down"' 0
		serve_end pbx
		serve_end other
		wait_for 10 seen ".event == \"listener_down\" and .local == \"$address:5060\"" 1
		seen '.event | test("^listener_(up|down)$")' 2
		is 1 eval "events '.event | startswith(\"listener\")' | jq '[.[].id] | unique | length'"
	done
}

test_a_killed_listener_is_told() {
	traffic_begin
	phones ''
	reader_start
	serve pbx 127.0.0.1 5061
	wait_for 10 seen '.event == "listener_up" and .local == "127.0.0.1:5061"' 1
	serve_end pbx KILL
	wait_for 10 seen '.event == "listener_down" and .local == "127.0.0.1:5061"' 1
}

# udp NAME ADDR PORT [OPTION...]: a UDP socket of the PBX, until udp_end NAME.
declare -A SOCKETS=()
udp() {
	bg in_cgroup perl "$UDP" "${@:2}" >"$TMP/udp-$1.out"
	SOCKETS[$1]=$BG
	wait_for 20 grep -q bound "$TMP/udp-$1.out"
}

udp_end() {
	bg_end "${SOCKETS[$1]}" "${2:-TERM}" || true
}

# udp_told EVENT LOCAL COUNT
udp_told() {
	seen ".event == \"$1\" and .local == \"$2\" and .protocol == \"udp\"" "$3"
}

test_udp_listeners_are_told() {
	local address signal
	traffic_begin
	phones ''
	reader_start
	for address in 127.0.0.1 0.0.0.0 ::1 ::; do
		for signal in TERM KILL; do
			: >"$TMP/events"
			udp pbx "$address" 5060
			udp media "$address" 5070 # not guarded
			udp ephemeral "$address" 0
			udp connected "$address" 0 --connect 5060
			local at=$address:5060
			[[ $address != *:* ]] || at="[$address]:5060"
			wait_for 10 udp_told listener_up "$at" 1
			seen '.event == "listener_down"' 0
			udp_end media
			udp_end ephemeral
			udp_end connected
			udp_end pbx "$signal"
			wait_for 10 udp_told listener_down "$at" 1
			seen '.event | test("^listener_(up|down)$")' 2
			is 1 eval "events '.event | startswith(\"listener\")' | jq '[.[].id] | unique | length'"
		done
	done
	# It is no TCP listener: nothing is refused there, nobody is told that it should be.
	sk status >"$TMP/status" || die "$(<"$TMP/status")"
}

test_udp_listeners_that_share_a_port() {
	traffic_begin
	phones ''
	reader_start
	udp one 127.0.0.1 5060 --reuseport
	udp two 127.0.0.1 5060 --reuseport
	wait_for 10 udp_told listener_up 127.0.0.1:5060 2
	udp_end one
	wait_for 10 udp_told listener_down 127.0.0.1:5060 1
	udp_end two
	wait_for 10 udp_told listener_down 127.0.0.1:5060 2
	is '[2,2]' eval "events '.event | startswith(\"listener\")' | jq -c 'group_by(.id) | map(length)'"
}

# Under a policy for any port, media streams' sockets would be listeners.
test_udp_sockets_under_a_policy_for_any_port() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "all"; direction = "inbound"; } );
	CONFIG
	reader_start
	udp media 127.0.0.1 5070
	udp_end media
	serve pbx 127.0.0.1 5060
	wait_for 10 seen '.event == "listener_up" and .protocol == "tcp"' 1
	seen '.event | test("^listener_(up|down)$")' 1
}

test_an_adopted_udp_listener_is_told_of_its_end() {
	local address at
	traffic_begin
	for address in 127.0.0.1 ::1; do
		udp "pbx$address" "$address" 5060
		udp "media$address" "$address" 5070
		udp "connected$address" "$address" 5061 --connect 5070
	done
	bg perl "$UDP" 127.0.0.9 5060 >"$TMP/other.out" # not the PBX's
	wait_for 20 grep -q bound "$TMP/other.out"
	other=$BG
	phones ''
	reader_start
	bg_end "$other" || true
	for address in 127.0.0.1 ::1; do
		at=$address:5060
		[[ $address != *:* ]] || at="[$address]:5060"
		udp_end "media$address"
		udp_end "connected$address"
		udp_end "pbx$address"
		wait_for 10 udp_told listener_down "$at" 1
	done
	seen '.event | test("^listener_(up|down)$")' 2
}

# A port that is guarded from now on, and one that is so no more.
test_udp_listeners_follow_the_policies() {
	traffic_begin
	phones ''
	reader_start
	udp pbx 127.0.0.1 5070
	reconfigure <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5070 ]; } );
	CONFIG
	udp other 127.0.0.1 5060
	udp_end pbx
	wait_for 10 udp_told listener_down 127.0.0.1:5070 1
	udp_end other
	udp last 127.0.0.1 5070
	wait_for 10 udp_told listener_up 127.0.0.1:5070 1
	seen '.event | test("^listener_(up|down)$")' 2
}

adopted_listener_refuses() {
	local to=$2
	traffic_begin
	serve pbx "$1" 5060
	phones 'max_connections_per_source = 10;'
	reader_start
	hold ten --to "$to:5060" --procs 2 --connects 200 --timeout "$(patience 10)"
	is 10 got ten served
	is 0 got ten mute
	burst more --to "$to:5060" --procs 1 --connects 20
	is 20 got more refused # by RST at the SYN, which only a known listener gets
	is 10 count pbx accepted
	release ten
	nothing_left phones
	serve_end pbx
	wait_for 10 seen '.event == "listener_down"' 1
}

test_an_adopted_listener_refuses() {
	adopted_listener_refuses 127.0.0.1 127.0.0.1
}

test_an_adopted_wildcard_listener_refuses() {
	adopted_listener_refuses 0.0.0.0 127.0.0.1
}

test_an_adopted_dual_stack_listener_refuses_ipv4() {
	adopted_listener_refuses :: 127.0.0.1
}

test_an_adopted_dual_stack_listener_refuses_ipv6() {
	adopted_listener_refuses :: "[::1]"
}

# keepalive_of POLICY
keepalive_of() {
	sk transports -j | jq -c --arg p "$1" \
		'[.transports[] | select(.policy == $p).keepalive | {on, idle, interval, count}] | unique'
}

test_open_transports_are_adopted() {
	traffic_begin
	serve pbx :: 5060
	bg "$TOOLS/server" 127.0.0.1 5062 >"$TMP/carrier.out"
	wait_for 20 grep -q listening "$TMP/carrier.out"
	hold four --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 4
	hold six --to "[::1]:5060" --from "$V6_A1" --procs 1 --connects 3
	HOLD_IN=in_cgroup hold out --to 127.0.0.1:5062 --procs 1 --connects 2
	hold unguarded --to 127.0.0.1:5062 --procs 1 --connects 2
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 5;
		               tcp_keepalive = true; tcp_keepidle = 61; tcp_keepintvl = 11; tcp_keepcnt = 5; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5062 ]; max_connections_per_source = 3;
		               tcp_keepalive = true; tcp_keepidle = 31; tcp_keepintvl = 7; tcp_keepcnt = 3; } );
	CONFIG
	verified || die "$(<"$TMP/verify.json")"
	is 4 source_field phones 127.0.0.5 active
	is 3 source_field phones 2001:db8:a::/64 active
	is 7 policy_field phones .active
	is 2 policy_field carrier .active
	is '[{"on":true,"idle":61,"interval":11,"count":5}]' keepalive_of phones
	is '[{"on":true,"idle":31,"interval":7,"count":3}]' keepalive_of carrier
	reader_start
	wait_for 10 seen '.event == "connected" and .adopted' 9
	seen '.event == "connected" and (.adopted | not)' 0
	is '["inbound","inbound","inbound","inbound","inbound","inbound","inbound","outbound","outbound"]' \
		eval "events '.event == \"connected\"' | jq -c '[.[].direction] | sort'"

	# They have their place in the limits.
	hold more --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 20 --timeout "$(patience 10)"
	is 1 got more served
	is 0 got more mute
	hold another --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 20 --timeout "$(patience 10)"
	is 5 got another served

	# And they end like any other.
	release four
	wait_for 20 is 1 source_field phones 127.0.0.5 active
	release more
	release another
	release six
	release out
	release unguarded
	wait_for 20 seen '.event == "destroyed"' $((9 + 1 + 5))
	is '[]' eval "jq -cs 'group_by(.id) | map(map(.event)) | map(select(.[0] == \"connected\")) | unique - [[\"connected\",\"disconnected\",\"destroyed\"]]' \
		'$TMP/events'"
	nothing_left phones carrier
}

silent_client() {
	exec perl "$PEER" open 127.0.0.1 5060 1 <"$TMP/silent"
}

half_closed() {
	ss -Htn state close-wait sport = :5060 | grep -q .
}

test_half_closed_transports_are_adopted() {
	traffic_begin
	bg in_cgroup perl "$PEER" serve 127.0.0.1 5060 >"$TMP/peer.out"
	wait_for 20 grep -q listening "$TMP/peer.out"
	# The server is busy with a silent client: the next one stays in the accept queue and is half-closed there.
	mkfifo "$TMP/silent"
	bg silent_client >"$TMP/silent.out"
	bg sleep infinity >"$TMP/silent"
	sleep=$BG
	wait_for 10 grep -q open "$TMP/silent.out"
	bg perl "$PEER" call 127.0.0.1 5060 half 100 200 >"$TMP/half.out"
	wait_for 10 half_closed
	phones ''
	reader_start
	is 2 policy_field phones .active
	wait_for 10 seen '.event == "disconnected" and .reason == "peer_fin"' 1
	verified || die "$(<"$TMP/verify.json")"
	bg_end "$sleep" || true
	wait_for 20 seen '.event == "destroyed"' 2
	seen '.event == "disconnected"' 2
	nothing_left phones
}

test_unload_and_load_again_keeps_the_counts_true() {
	traffic_begin
	serve pbx 127.0.0.1 5060
	phones 'max_connections_per_source = 10;'
	hold seven --to 127.0.0.1:5060 --procs 1 --connects 7
	is 7 policy_field phones .active
	sk unload >"$TMP/unload.log"
	hold two --to 127.0.0.1:5060 --procs 1 --connects 2
	phones 'max_connections_per_source = 10;'
	is 9 policy_field phones .active
	verified || die "$(<"$TMP/verify.json")"
	reader_start
	hold more --to 127.0.0.1:5060 --procs 1 --connects 30 --timeout "$(patience 10)"
	is 1 got more served
	release two
	release more
	release seven
	nothing_left phones
}
