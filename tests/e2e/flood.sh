#!/bin/bash
# flood.sh: who forges a victim's address uses up nothing of it.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

PBX=10.99.0.1
VICTIM=10.98.0.7

# flood WHAT OPTION...: its figures go to stdout.
flood() {
	"$TOOLS/synflood" --to "$PBX:5060" "${@:2}" >"$TMP/flood.json" || die "synflood: $(<"$TMP/flood.json")"
	echo "$1: $(<"$TMP/flood.json")"
}

# begin BACKLOG: the server and its guard.
begin() {
	traffic_begin
	sysctl -qw "net.ipv4.tcp_max_syn_backlog=$1"
	ip address add "$PBX/32" dev lo
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
		               max_connections_per_source = 10; } );
	CONFIG
	reader_start
	serve pbx "$PBX" 5060 --backlog "$1"
}

# no_trace: of no forged source. What the ACKs of forged cookies made are entries that each next one clears away, two
# for one; a sweep takes the last.
no_trace() {
	# Of a cookie's ACK each CPU may hold the last one's place until its next packet.
	(($(other_sources | jq length) <= $(nproc --all))) || die "$(other_sources | jq length) sources stayed behind"
	(($(total_field .sources) < 100)) || die "$(total_field .sources) entries stayed behind"
	sweep
	is '[]' other_sources
	(($(total_field .sources) <= 1)) || die "$(total_field .sources) entries stayed behind"
}

other_sources() {
	sk sources -j | jq -c --arg v "$VICTIM" '[.sources[].source | select(. != $v)]'
}

# up_to_its_limit: the victim connects as if nothing had happened, and nobody else has left a trace.
up_to_its_limit() {
	no_trace
	is 0 policy_field phones .active
	is 0 policy_field phones '[.refused[]] | add'
	is 0 count pbx accepted
	"$TOOLS/halfopen" --to "$PBX:5060" --from "$VICTIM" --count 50 --first-port 40000 >"$TMP/victim.json"
	is 10 got victim served || die "$(<"$TMP/victim.json")"
	is 40 got victim reset || die "$(<"$TMP/victim.json")"
	is 10 count pbx accepted
	is 10 source_field phones "$VICTIM" peak
	(($(source_field phones "$VICTIM" refused) >= 40))
	is '[]' other_sources
	nothing_left phones
}

test_100000_forged_syns() {
	begin 65535
	flood "forged" --count "$(scaled 100000)"
	flood "the victim's address" --count "$(scaled 10000)" --sources "$VICTIM"
	up_to_its_limit
}

test_100000_forged_syns_with_forged_acks() {
	begin 65535
	flood "forged" --count "$(scaled 100000)" --acks
	flood "the victim's address" --count "$(scaled 10000)" --sources "$VICTIM" --acks
	up_to_its_limit
}

test_forged_ipv6() {
	PBX=fd98::1 VICTIM=fd97::7
	traffic_begin
	ip address add "$PBX/128" dev lo nodad
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
		               max_connections_per_source = 10; } );
	CONFIG
	reader_start
	serve pbx "$PBX" 5060
	PBX="[$PBX]"
	flood "forged" --count "$(scaled 20000)" --acks
	flood "the victim's address" --count "$(scaled 10000)" --sources "$VICTIM" --acks
	VICTIM=fd97::/64
	no_trace
	"$TOOLS/halfopen" --to "$PBX:5060" --from fd97::7 --count 50 --first-port 40000 >"$TMP/victim.json"
	is 10 got victim served || die "$(<"$TMP/victim.json")"
	is '[]' other_sources
	nothing_left phones
}

# Few places for half-open connections: the listener answers with SYN cookies, and any ACK might be one.
test_forged_acks_among_syn_cookies() {
	begin 256
	flood "forged" --count "$(scaled 100000)" --acks
	flood "the victim's address" --count "$(scaled 10000)" --sources "$VICTIM" --acks
	up_to_its_limit
}

test_phones_connect_during_a_flood() {
	local round flood
	begin 65535
	for ((round = 1; round <= 3; round++)); do
		bg "$TOOLS/synflood" --to "$PBX:5060" --count "$(scaled 50000)" --acks >"$TMP/flood.json"
		flood=$BG
		hold phone --to "$PBX:5060" --from 127.0.0.5 --procs 2 --connects 10 --timeout "$(patience 15)"
		is 10 got phone served || die "round $round: $(<"$TMP/phone.json")"
		is 0 got phone mute || die "round $round: $(<"$TMP/phone.json")"
		bg_wait "$flood"
		is 10 source_field phones 127.0.0.5 active
		release phone
		wait_for 20 is 0 policy_field phones .active
	done
	nothing_left phones
}
