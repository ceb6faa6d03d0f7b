#!/bin/bash
# life.sh: each transport's life is told once, in order, with who ended it and how much went through.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

PEER=$(dirname "$(realpath "$0")")/peer.pl

both_policies() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5060 ]; } );
	CONFIG
}

peer_serve() {
	bg in_cgroup perl "$PEER" serve "$1" 5060 >"$TMP/peer.out"
	wait_for 20 grep -q listening "$TMP/peer.out"
}

# call ADDR HOW N M HOLD: the client's port is in PORT, a second one in PORT2.
call() {
	(in_cgroup perl "$PEER" call "$1" 5060 "${@:2}") >"$TMP/call.out" || die "$2: $(<"$TMP/call.out")"
	PORT=$(sed -n 1p "$TMP/call.out")
	PORT2=$(sed -n 2p "$TMP/call.out")
}

# told COUNT: so many transports, both directions together, are gone.
told() {
	(($(grep -c '"destroyed"' "$TMP/events") == $1))
}

# seq_without_gaps FILE
seq_without_gaps() {
	jq -ens '[inputs[]] | reduce .[] as $e ({last: 0, gaps: 0};
		(.last + ($e.count_lost // 1)) as $next | if $e.seq == $next then . else .gaps += 1 end | .last = $e.seq) | .gaps == 0' \
		<(jq -c '{seq, count_lost: (if .event == "lost" then .count else null end)}' "$1") >/dev/null
}

# one_life POLICY PORT JSON: the three events of the transport with this client port say what JSON says.
one_life() {
	jq -es --arg policy "$1" --arg port ":$2" --argjson want "$3" '
		[.[] | select(.policy == $policy and .event != "refused" and
			(if $policy == "phones" then .remote else .local end | endswith($port)))] as $life |
		($life | map(.event)) == ["connected", "disconnected", "destroyed"] and
		($life | map(.id) | unique | length) == 1 and
		($life | map(.seq) | . == sort) and ($life | map(.ts) | . == sort) and
		$life[0].adopted == false and
		all($life[1:][]; .reason == $want.reason and .closed_by == $want.closed_by and .direction == $want.direction) and
		$life[1].bytes_in == ($want.in // $want.bytes_in) and $life[1].bytes_out == ($want.out // $want.bytes_out) and
		$life[2].bytes_in == $want.bytes_in and $life[2].bytes_out == $want.bytes_out and
		all($life[1:][]; .age_ms >= $want.hold * 0.8 and .age_ms < 60000 and
			.idle_ms >= $want.hold * 0.8 - 20 and .idle_ms <= .age_ms + 20) and
		$life[2].age_ms >= $life[1].age_ms' "$TMP/events" >/dev/null && return
	echo "$1 $2: not $3:" >&2
	grep ":$2\"" "$TMP/events" | grep "\"$1\"" >&2
	return 1
}

# life_over ADDR: every way to end, seen from both ends.
life_over() {
	local n=0 how ports=()
	both_policies
	reader_start
	peer_serve "$2"
	for how in client_fin server_fin client_rst server_rst half; do
		n=$((n + 1))
		call "$1" "$how" $((1000 + n * 111)) $((20000 + n * 3333)) 0.5
		ports+=("$PORT")
	done
	wait_for 20 told 10
	reader_stop
	one_life phones "${ports[0]}" '{"reason":"peer_fin","closed_by":"remote","direction":"inbound","bytes_in":1111,"bytes_out":23333,"hold":500}'
	one_life carrier "${ports[0]}" '{"reason":"local_close","closed_by":"local","direction":"outbound","bytes_in":23333,"bytes_out":1111,"hold":500}'
	one_life phones "${ports[1]}" '{"reason":"local_close","closed_by":"local","direction":"inbound","bytes_in":1222,"bytes_out":26666,"hold":500}'
	one_life carrier "${ports[1]}" '{"reason":"peer_fin","closed_by":"remote","direction":"outbound","bytes_in":26666,"bytes_out":1222,"hold":500}'
	one_life phones "${ports[2]}" '{"reason":"peer_reset","closed_by":"remote","direction":"inbound","bytes_in":1333,"bytes_out":29999,"hold":500}'
	one_life carrier "${ports[2]}" '{"reason":"local_reset","closed_by":"local","direction":"outbound","bytes_in":29999,"bytes_out":1333,"hold":500}'
	one_life phones "${ports[3]}" '{"reason":"local_reset","closed_by":"local","direction":"inbound","bytes_in":1444,"bytes_out":33332,"hold":500}'
	one_life carrier "${ports[3]}" '{"reason":"peer_reset","closed_by":"remote","direction":"outbound","bytes_in":33332,"bytes_out":1444,"hold":500}'
	one_life phones "${ports[4]}" '{"reason":"peer_fin","closed_by":"remote","direction":"inbound","bytes_in":1555,"bytes_out":36665,"out":0,"hold":0}'
	one_life carrier "${ports[4]}" '{"reason":"local_close","closed_by":"local","direction":"outbound","bytes_in":36665,"bytes_out":1555,"in":0,"hold":0}'
	seq_without_gaps "$TMP/events"
	is '"2 1 1 1"' policy_field phones '.teardowns | "\(.peer_fin) \(.local_close) \(.peer_reset) \(.local_reset)"'
	is '"1 2 1 1"' policy_field carrier '.teardowns | "\(.peer_fin) \(.local_close) \(.peer_reset) \(.local_reset)"'
	nothing_left phones carrier
}

test_every_end_over_ipv4() {
	life_over 127.0.0.1 127.0.0.1
}

test_every_end_over_ipv6() {
	life_over ::1 ::1
}

test_every_end_v4_mapped() {
	life_over 127.0.0.1 ::
	jq -es 'all(.[] | select(.event == "connected"); .local | startswith("127.0.0.1:"))' "$TMP/events" >/dev/null
}

test_a_socket_used_twice_is_two_transports() {
	both_policies
	reader_start
	peer_serve 127.0.0.1
	call 127.0.0.1 reuse 500 700 0.2
	wait_for 20 told 4
	reader_stop
	[[ $PORT != "$PORT2" ]]
	one_life carrier "$PORT" '{"reason":"local_reset","closed_by":"local","direction":"outbound","bytes_in":700,"bytes_out":500,"hold":200}'
	one_life carrier "$PORT2" '{"reason":"local_close","closed_by":"local","direction":"outbound","bytes_in":700,"bytes_out":500,"hold":200}'
	one_life phones "$PORT" '{"reason":"peer_reset","closed_by":"remote","direction":"inbound","bytes_in":500,"bytes_out":700,"hold":200}'
	one_life phones "$PORT2" '{"reason":"peer_fin","closed_by":"remote","direction":"inbound","bytes_in":500,"bytes_out":700,"hold":200}'
	jq -es '[.[] | select(.policy == "carrier") | .id] | unique | length == 2' "$TMP/events" >/dev/null
	seq_without_gaps "$TMP/events"
	nothing_left phones carrier
}

last_seq() {
	tail -n 1 "$TMP/events" | jq .seq
}

# The ring holds 32 MiB / 144 bytes = 233,016 records; one connection makes 6.
test_what_the_ring_could_not_hold_is_counted() {
	local emitted lost delivered
	both_policies
	in_cgroup "$TOOLS/churn" --paths client_fin --count 45000 --ports 5060-5060 --procs 1 >"$TMP/churn.json"
	wait_for 20 is 0 policy_field phones .active
	wait_for 20 is 0 policy_field carrier .active
	emitted=$(total_field .events.emitted)
	lost=$(total_field .events.lost)
	is $((6 * 45000 + 2)) echo "$emitted"
	((lost > 30000))
	sk status >"$TMP/status" && die "status calls it healthy: $(<"$TMP/status")"
	grep -q "$lost events were lost" "$TMP/status"

	sk events >"$TMP/events"
	delivered=$(grep -vc '"lost"' "$TMP/events")
	is "$lost" jq -s '[.[] | select(.event == "lost").count] | add' "$TMP/events"
	is "$emitted" echo $((delivered + lost))
	is "$emitted" last_seq
	seq_without_gaps "$TMP/events"
	echo "emitted $emitted = delivered $delivered + lost $lost"

	# And on it goes from there.
	in_cgroup "$TOOLS/churn" --paths client_fin --count 100 --ports 5060-5060 --procs 1 >"$TMP/churn.json"
	wait_for 20 is 0 policy_field phones .active
	wait_for 20 is 0 policy_field carrier .active
	sk events >>"$TMP/events"
	is $((emitted + 602)) last_seq
	seq_without_gaps "$TMP/events"
	is "$lost" total_field .events.lost
	nothing_left phones carrier
}
