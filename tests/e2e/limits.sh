#!/bin/bash
# limits.sh: no more than N, exactly, whoever asks and however many at once.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

phones() {
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; $1 } );
		${2:-}
	CONFIG
}

# one_run N OPTION...: 4 times 2,000 connects at once, 10 get in.
one_run() {
	local run=$1
	shift
	serve pbx 127.0.0.1 5060
	burst burst --to 127.0.0.1:5060 --procs 4 --connects "$(scaled 2000)" "$@" || die "run $run: $(<"$TMP/burst.json")"
	is 10 got burst served || die "run $run: $(<"$TMP/burst.json")"
	is 10 count pbx accepted
	is 10 count pbx peak
	is 10 count pbx bytes # not a byte of the others
	wait_for 20 is 0 policy_field phones .active
	serve_end pbx
}

# timeout: 240
test_20_runs_of_8000_simultaneous_connects() {
	local run runs lost=0 ms=0
	traffic_begin
	phones 'max_connections_per_source = 10;'
	reader_start
	runs=$(scaled 20)
	for ((run = 1; run <= runs; run++)); do
		one_run "$run" --timeout "$(patience 10)"
		is 0 got burst mute || die "run $run: $(<"$TMP/burst.json")"
		lost=$((lost + $(got burst reset)))
		ms=$((ms + $(got burst ms)))
	done
	echo "$runs of $runs runs: accepted 10, peak 10; $lost refused at their final ACK, all by RST; $((ms / runs)) ms a run"
	is 10 source_field phones 127.0.0.1 peak
	nothing_left phones
}

test_exact_without_a_reader() {
	local run runs mute=0
	traffic_begin
	phones 'max_connections_per_source = 10;'
	runs=$(scaled 5)
	for ((run = 1; run <= runs; run++)); do
		one_run "$run" --timeout "$(patience 2)"
		mute=$((mute + $(got burst mute)))
	done
	echo "$runs of $runs runs: accepted 10, peak 10; $mute left without an answer"
	nothing_left phones
}

test_ipv6_counts_the_64() {
	traffic_begin
	phones 'max_connections_per_source = 10;'
	reader_start
	serve pbx "::" 5060
	hold first --to "[::1]:5060" --from "$V6_A1" --procs 2 --connects 3
	is 6 got first served
	hold second --to "[::1]:5060" --from "$V6_A2" --procs 2 --connects "$(scaled 1000)" --timeout "$(patience 10)"
	is 4 got second served # with the other address of the /64
	is 0 got second mute
	hold third --to "[::1]:5060" --from "$V6_B1" --procs 2 --connects "$(scaled 1000)" --timeout "$(patience 10)"
	is 10 got third served # another /64
	is 10 source_field phones 2001:db8:a::/64 active
	is 10 source_field phones 2001:db8:b::/64 active
	is 20 count pbx accepted
	release first
	release second
	release third
	nothing_left phones
}

test_v4_mapped_counts_as_ipv4() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5062 ];
		               max_connections_per_source = 10; } );
	CONFIG
	reader_start
	serve dual "::" 5060
	serve plain 127.0.0.1 5062
	hold first --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 4
	hold second --to "[::ffff:127.0.0.1]:5060" --from ::ffff:127.0.0.5 --procs 1 --connects 3
	hold third --to 127.0.0.1:5062 --from 127.0.0.5 --procs 1 --connects 100 --timeout "$(patience 10)"
	is 4 got first served
	is 3 got second served
	is 3 got third served # one source, whatever the family of the listener or of the client's socket
	is 0 got third mute
	is 10 source_field phones 127.0.0.5 active
	is 7 count dual accepted
	is 3 count plain accepted
	hold other --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 10
	is 10 got other served # another source
	release first
	release second
	release third
	release other
	nothing_left phones
}

test_max_connections_holds_over_all_sources() {
	local name served=0
	traffic_begin
	phones 'max_connections = 25; max_connections_per_source = 20;'
	reader_start
	serve pbx 127.0.0.1 5060
	for name in 1 2 3 4; do
		mkfifo "$TMP/s$name.stdin"
		bg hold_burst "s$name" --to 127.0.0.1:5060 --from "127.0.0.1$name" --procs 1 --connects "$(scaled 1000)" --timeout "$(patience 15)"
		HOLDS[s$name]=$BG
		bg sleep infinity >"$TMP/s$name.stdin"
		HOLDS[s$name]+=" $BG"
	done
	for name in s1 s2 s3 s4; do
		wait_for 60 grep -q '}' "$TMP/$name.json"
		served=$((served + $(got "$name" served)))
		is 0 got "$name" mute
	done
	((served == 25)) || die "$served served: $(cat "$TMP"/s?.json)"
	is 25 count pbx accepted
	is 25 count pbx peak
	is 25 policy_field phones .active
	for name in s1 s2 s3 s4; do
		(($(got "$name" served) <= 20))
		release "$name"
	done
	nothing_left phones
}

test_rate_lets_exactly_the_burst_in() {
	local each
	each=$(scaled 500)
	traffic_begin
	phones 'max_rate_per_source = 0.01; burst_per_source = 7;'
	reader_start
	serve pbx 127.0.0.1 5060
	burst first --to 127.0.0.1:5060 --from 127.0.0.5 --procs 4 --connects "$each" --timeout "$(patience 10)"
	is 7 got first served
	is 0 got first mute
	burst again --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 5
	is 0 got again served
	is 5 got again refused # by RST at the SYN
	burst other --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 7
	is 7 got other served
	is 14 count pbx accepted
	# One whose SYN was on its way when the last token went is dropped there, and counted again when its retry is refused.
	between $((4 * each - 7 + 5)) $((4 * each - 7 + 5 + 8)) policy_field phones .refused.max_rate_per_source
	nothing_left phones
}

# between LEAST MOST COMMAND...
between() {
	local found
	found=$("${@:3}")
	((found >= $1 && found <= $2)) || die "${*:3} is '$found', not from $1 to $2"
}

one_gets_in() {
	burst one --to 127.0.0.1:5060 --from "$1" --procs 1 --connects 1 && is 1 got one served
}

test_rate_refills() {
	traffic_begin
	phones 'max_rate_per_source = 2.0; burst_per_source = 1;'
	serve pbx 127.0.0.1 5060
	burst first --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 20
	(($(got first served) >= 1 && $(got first served) <= 3)) || die "$(<"$TMP/first.json")"
	wait_for 20 one_gets_in 127.0.0.5
}

test_exempt_is_never_limited_but_counted() {
	traffic_begin
	phones 'max_connections_per_source = 3; max_rate_per_source = 0.01; burst_per_source = 3;' \
		'exempt = [ "127.0.0.5/32" ];'
	serve pbx 127.0.0.1 5060
	hold exempt --to 127.0.0.1:5060 --from 127.0.0.5 --procs 2 --connects 50
	is 100 got exempt served
	is 100 source_field phones 127.0.0.5 active
	is 0 source_field phones 127.0.0.5 refused
	is 0 policy_field phones '[.refused[]] | add'
	hold other --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 20 --timeout 3
	is 3 got other served
	release exempt
	release other
	nothing_left phones
}

test_observe_refuses_nothing_and_counts_what_it_would() {
	local run all
	all=$((4 * $(scaled 500)))
	traffic_begin
	phones 'max_connections_per_source = 10;' 'mode = "observe";'
	reader_start
	serve pbx 127.0.0.1 5060
	for ((run = 1; run <= 5; run++)); do
		hold all --to 127.0.0.1:5060 --from 127.0.0.5 --procs 4 --connects $((all / 4))
		is "$all" got all served
		is $((run * (all - 10))) source_field phones 127.0.0.5 refused
		is $((run * (all - 10))) policy_field phones .refused.max_connections_per_source
		is "$all" source_field phones 127.0.0.5 active
		release all
		wait_for 20 is 0 policy_field phones .active
	done
	is $((5 * all)) count pbx accepted
	refused_told() {
		events '.event == "refused"' | jq -e --argjson all $((5 * (all - 10))) 'map(.count) | add == $all' >/dev/null
	}
	wait_for 20 refused_told
	is true eval "events '.event == \"refused\"' | jq 'all(.[]; .observed and .limit == 10 and .source == \"127.0.0.5\")'"
	nothing_left phones
}

test_zero_is_no_limit() {
	local all
	all=$((4 * $(scaled 500)))
	traffic_begin
	phones 'max_connections_per_source = 0; max_connections = 0; max_rate_per_source = 0;'
	serve pbx 127.0.0.1 5060
	hold all --to 127.0.0.1:5060 --procs 4 --connects $((all / 4))
	is "$all" got all served
	is "$all" policy_field phones .active
	is 0 policy_field phones '[.refused[]] | add'
	release all
	nothing_left phones
}

test_refuse_with_drop_is_silent() {
	traffic_begin
	phones 'max_connections_per_source = 5; refuse_with = "drop";'
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 5
	is 5 got first served
	burst more --to 127.0.0.1:5060 --from 127.0.0.5 --procs 2 --connects 10 --timeout 2
	is 20 got more pending # no RST, no SYN-ACK
	is 5 count pbx accepted
	is 5 count pbx peak
	# Dropped SYNs are sent again, and each is counted.
	(($(policy_field phones .refused.max_connections_per_source) >= 20))
	release first
	nothing_left phones
}

test_prefix_of_ipv4_sources() {
	traffic_begin
	phones 'max_connections_per_source = 10; source_prefix_ipv4 = 24;'
	reader_start
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --from 127.1.2.3 --procs 1 --connects 6
	hold second --to 127.0.0.1:5060 --from 127.1.2.200 --procs 1 --connects 100 --timeout "$(patience 10)"
	hold third --to 127.0.0.1:5060 --from 127.1.3.3 --procs 1 --connects 100 --timeout "$(patience 10)"
	is 6 got first served
	is 4 got second served
	is 10 got third served
	is 10 source_field phones 127.1.2.0/24 active
	is 10 source_field phones 127.1.3.0/24 active
	release first
	release second
	release third
	nothing_left phones
}

test_exact_port_beats_any_port_and_longest_prefix_wins() {
	traffic_begin
	guard <<-CONFIG
		policies = (
		  { name = "any"; direction = "inbound"; remotes = [ "127.1.2.0/24" ]; max_connections_per_source = 2; },
		  { name = "port"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "127.0.0.0/8" ];
		    max_connections_per_source = 4; },
		  { name = "net"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "127.3.0.0/16" ];
		    max_connections_per_source = 6; },
		  { name = "host"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "127.3.3.3/32" ];
		    max_connections_per_source = 8; }
		);
	CONFIG
	reader_start
	serve sip 127.0.0.1 5060
	serve other 127.0.0.1 5070
	check_policy() {
		hold try --to "127.0.0.1:$3" --from "$2" --procs 1 --connects 50 --timeout "$(patience 10)"
		is "$4" got try served
		is "$4" source_field "$1" "$2" active
		release try
		wait_for 20 is 0 source_field "$1" "$2" active
	}
	check_policy any 127.1.2.3 5070 2
	check_policy port 127.1.2.3 5060 4 # though its prefix is shorter
	check_policy net 127.3.1.1 5060 6
	check_policy host 127.3.3.3 5060 8
	hold none --to 127.0.0.1:5070 --from 127.9.9.9 --procs 1 --connects 50
	is 50 got none served # no policy matches it
	release none
	nothing_left any port net host
}

test_a_freed_place_is_free_at_once() {
	local round
	traffic_begin
	phones 'max_connections_per_source = 10;'
	reader_start
	serve pbx 127.0.0.1 5060
	hold nine --to 127.0.0.1:5060 --procs 1 --connects 9
	hold one --to 127.0.0.1:5060 --procs 1 --connects 1
	for ((round = 0; round < 10; round++)); do
		release one
		wait_for 20 is 9 policy_field phones .active
		hold one --to 127.0.0.1:5060 --procs 2 --connects 100 --timeout "$(patience 10)"
		is 1 got one served
		is 0 got one mute
	done
	is 10 count pbx peak
	release one
	release nine
	nothing_left phones
}

# ---- outbound

carrier() {
	guard <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5060 ]; $1 } );
		${2:-}
	CONFIG
}

# The carrier's own server is nobody's business: it runs outside of the cgroup.
carrier_serve() {
	bg "$TOOLS/server" "$2" 5060 --backlog 65535 --count-file "$TMP/$1.count" >"$TMP/$1.out"
	wait_for 20 grep -q listening "$TMP/$1.out"
}

hold_out() {
	HOLD_IN=in_cgroup hold "$@"
}

burst_out() {
	local code=0
	(in_cgroup "$TOOLS/burst" "${@:2}") >"$TMP/$1.json" 2>"$TMP/$1.err" || code=$?
	return "$code"
}

test_outbound_is_exact_per_destination() {
	local all
	all=$((4 * $(scaled 500)))
	traffic_begin
	carrier 'max_connections_per_source = 10;'
	carrier_serve one 127.0.1.1
	carrier_serve two 127.0.1.2
	hold_out first --to 127.0.1.1:5060 --procs 4 --connects $((all / 4))
	is 10 got first served
	is $((all - 10)) got first denied # connect() fails with EPERM
	hold_out second --to 127.0.1.2:5060 --procs 4 --connects 100
	is 10 got second served # another destination
	is 390 got second denied
	hold_out bound --to 127.0.1.1:5060 --from 127.0.0.7 --procs 1 --connects 50
	is 10 got bound served # another local address
	is 20 count one accepted
	is 10 count two accepted
	is 10 source_field carrier "* > 127.0.1.1:5060" active
	is 10 source_field carrier "127.0.0.7 > 127.0.1.1:5060" active
	is $((all - 10 + 390 + 40)) policy_field carrier .refused.max_connections_per_source
	release first
	wait_for 20 is 20 policy_field carrier .active
	hold_out again --to 127.0.1.1:5060 --procs 1 --connects 50
	is 10 got again served
	release second
	release bound
	release again
	nothing_left carrier
}

test_outbound_ipv6_and_mapped() {
	traffic_begin
	carrier 'max_connections_per_source = 10;'
	carrier_serve six "::"
	hold_out six --to "[$V6_A1]:5060" --procs 2 --connects 50
	is 10 got six served
	is 90 got six denied
	hold_out mapped --to "[::ffff:127.0.1.1]:5060" --procs 1 --connects 6
	hold_out four --to 127.0.1.1:5060 --procs 1 --connects 50
	is 6 got mapped served
	is 4 got four served # one destination, by whichever family of socket
	is 46 got four denied
	release six
	release mapped
	release four
	nothing_left carrier
}

test_outbound_failures_give_their_place_back() {
	local round
	traffic_begin
	carrier 'max_connections_per_source = 10;'
	for ((round = 0; round < 5; round++)); do
		burst_out refused --to 127.0.1.1:5060 --procs 1 --connects 10
		is 10 got refused refused # nobody listens; none is denied
		is 0 policy_field carrier .active
		is 0 policy_field carrier .reserved
		# ENETUNREACH: the connect() never becomes a SYN.
		burst_out unroutable --to 192.0.2.1:5060 --procs 1 --connects 10 && die "there is a route to 192.0.2.1"
		is 10 got unroutable other
		is 0 policy_field carrier .reserved
	done
	is 0 policy_field carrier '[.refused[]] | add'
	carrier_serve one 127.0.1.1
	hold_out all --to 127.0.1.1:5060 --procs 4 --connects 100
	is 10 got all served
	is 390 got all denied
	release all
	nothing_left carrier
}

# Nobody answers there: all of them are still on their way when the next one asks.
nowhere() {
	ip route add 198.51.100.0/24 dev lo
	burst_out nowhere --to 198.51.100.1:5060 --procs 2 --connects 20 --timeout 2
}

test_outbound_connects_under_way_hold_a_place() {
	traffic_begin
	carrier 'max_connections_per_source = 10;'
	nowhere
	is 10 got nowhere pending
	is 30 got nowhere denied
	is 30 policy_field carrier .refused.max_connections_per_source
	nothing_left carrier
	is 0 policy_field carrier .connected
}

test_outbound_observe_counts_connects_under_way() {
	traffic_begin
	carrier 'max_connections_per_source = 10;' 'mode = "observe";'
	nowhere
	is 40 got nowhere pending
	is 30 policy_field carrier .refused.max_connections_per_source
	nothing_left carrier
}

test_outbound_observe_denies_nothing() {
	local all
	all=$((4 * $(scaled 500)))
	traffic_begin
	carrier 'max_connections_per_source = 10;' 'mode = "observe";'
	carrier_serve one 127.0.1.1
	hold_out all --to 127.0.1.1:5060 --procs 4 --connects $((all / 4))
	is "$all" got all served
	is $((all - 10)) policy_field carrier .refused.max_connections_per_source
	is "$all" policy_field carrier .active
	release all
	nothing_left carrier
}

test_outbound_max_connections() {
	traffic_begin
	carrier 'max_connections = 12;'
	carrier_serve all "::"
	hold_out first --to 127.0.1.1:5060 --procs 1 --connects 8
	hold_out second --to 127.0.1.2:5060 --procs 4 --connects 100
	is 8 got first served
	is 4 got second served
	is 396 got second denied
	is 396 policy_field carrier .refused.max_connections
	release first
	release second
	nothing_left carrier
}
