#!/bin/bash
# handshake.sh: handshakes held half-open and completed at the same instant: the final ACK decides.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"

CLIENT=10.99.0.2
CLIENT6=fd99::/64 # fd99::2

phones() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
		               max_connections_per_source = 10; $1 } );
		${2:-}
	CONFIG
}

# complete COUNT OPTION...: a server and COUNT handshakes completed at once; what became of them is in $TMP/half.json.
complete() {
	local count=$1
	shift
	serve pbx "::" 5060
	"$TOOLS/halfopen" --count "$count" "$@" >"$TMP/half.json" || die "halfopen: $(<"$TMP/half.json")"
	is "$count" got half synacks || die "$(<"$TMP/half.json")"
}

# exactly_ten COUNT SOURCE: what must hold after `complete`.
exactly_ten() {
	is 10 got half served || die "$(<"$TMP/half.json")"
	is 10 count pbx accepted
	is 10 count pbx peak
	is 10 count pbx bytes
	is 10 source_field phones "$2" peak
	is $(($1 - 10)) source_field phones "$2" refused
	over
}

over() {
	serve_end pbx
	nothing_left phones
}

# The refused ones learn of it within a second of their next packet.
all_told() {
	is 0 got half mute || die "$(<"$TMP/half.json")"
	jq -e --argjson second "$(patience 1)" '.reset_max_ms < 1000 * $second' "$TMP/half.json" >/dev/null || die "$(<"$TMP/half.json")"
	echo "$1: $(jq -r '"\(.served) served, \(.reset) reset, the slowest \(.reset_max_ms) ms after its byte; \(
		.handshakes) final ACKs in \(.ack_burst_us) us from \(.threads) threads"' "$TMP/half.json")"
}

ten_and_told() {
	phones ''
	reader_start
	complete 200 --to 10.99.0.1:5060 --from "$CLIENT" "${@:2}"
	if [[ $* == *--dup-acks* ]]; then
		exactly_ten 200 "$CLIENT"
	else
		exactly_ten 200 "$CLIENT"
	fi
	all_told "$1"
}

test_200_at_once() {
	ten_and_told "bare ACKs"
}

test_200_at_once_data_later() {
	ten_and_told "data after 300 ms" --data-after-ms 300
}

test_200_at_once_with_data() {
	ten_and_told "ACKs with data" --ack-with-data
}

test_200_at_once_duplicated() {
	ten_and_told "each ACK 3 times" --dup-acks 3
}

test_200_at_once_duplicated_with_data() {
	ten_and_told "each ACK 3 times, with data" --dup-acks 3 --ack-with-data
}

test_200_at_once_after_wrong_acks() {
	ten_and_told "wrong ACKs first" --wrong-ack
}

test_200_at_once_ipv6() {
	phones ''
	reader_start
	complete 200 --to "[fd99::1]:5060" --from fd99::2
	exactly_ten 200 "$CLIENT6"
	all_told "IPv6"
}

test_4000_at_once() {
	local all
	all=$(scaled 4000 200)
	phones ''
	reader_start
	complete "$all" --to 10.99.0.1:5060 --from "$CLIENT"
	exactly_ten "$all" "$CLIENT"
	all_told "$all"
	is 0 total_field .aborts_lost
}

test_rounds_from_one_place() {
	local round rounds
	phones ''
	reader_start
	rounds=$(scaled 10 2)
	for ((round = 1; round <= rounds; round++)); do
		serve pbx "::" 5060
		# The same ports each time: what was refused before is forgotten.
		"$TOOLS/halfopen" --to 10.99.0.1:5060 --from "$CLIENT" --first-port 20000 --timeout "$(patience 10)" >"$TMP/half.json"
		is 10 got half served || die "round $round: $(<"$TMP/half.json")"
		is 0 got half mute || die "round $round: $(<"$TMP/half.json")"
		is 10 count pbx accepted
		serve_end pbx
		wait_for 20 is 0 policy_field phones .active
	done
	is $((rounds * 190)) source_field phones "$CLIENT" refused
	nothing_left phones
}

test_without_a_reader_still_exactly_ten() {
	local options
	phones ''
	for options in "" "--ack-with-data" "--dup-acks 3" "--wrong-ack"; do
		# shellcheck disable=SC2086 # several words
		complete 200 --to 10.99.0.1:5060 --from "$CLIENT" --timeout 4 $options
		is 10 got half served || die "$options: $(<"$TMP/half.json")"
		is 10 count pbx accepted
		is 10 count pbx bytes
		is 190 got half '|.mute + .reset'
		echo "no reader ${options:-bare ACKs}: $(jq -c '{served, reset, mute}' "$TMP/half.json")"
		serve_end pbx
		nothing_left phones
	done
}

test_a_reader_that_comes_later_frees_the_mute() {
	phones ''
	serve pbx "::" 5060
	bg "$TOOLS/halfopen" --to 10.99.0.1:5060 --from "$CLIENT" --timeout "$(patience 30)" >"$TMP/half.json"
	half=$BG
	wait_for 20 is 10 count pbx accepted
	reader_start
	bg_wait "$half"
	is 10 got half served
	is 190 got half reset
	serve_end pbx
	nothing_left phones
}

test_observe_lets_all_in() {
	phones '' 'mode = "observe";'
	complete 200 --to 10.99.0.1:5060 --from "$CLIENT"
	is 200 got half served
	is 190 source_field phones "$CLIENT" refused
	serve_end pbx
	nothing_left phones
}

test_the_whole_policy_is_exact_too() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections = 10; } );
	CONFIG
	reader_start
	complete 200 --to 10.99.0.1:5060 --from "$CLIENT" --dup-acks 2
	exactly_ten 200 "$CLIENT"
	all_told "max_connections"
}

test_rate_is_exact_too() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
		               max_rate_per_source = 0.01; burst_per_source = 10; } );
	CONFIG
	reader_start
	complete 200 --to 10.99.0.1:5060 --from "$CLIENT" --dup-acks 2
	exactly_ten 200 "$CLIENT"
	all_told "max_rate_per_source"
}
