#!/bin/bash
# limits.sh: the 21st connection of one source meets a closed door, all others an open one.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=pbx.bash
. "$here/pbx.bash"

guard_limit() {
	guard <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ];
		    max_connections_per_source = 20; }
		);
	CONFIG
}

test_the_21st_connection_is_refused_and_another_source_gets_in() {
	pbx_begin
	kamailio_start
	guard_limit
	phones_start twenty 20 "$PHONE_A"
	expect 20 source_field phones "$PHONE_A" active

	phone_refused one_more "$PHONE_A" || die "the 21st was not refused by a reset: $(pbx_complaint one_more)"
	tls_phone_refused one_more_tls "$PHONE_A" || die "the 21st over TLS was not refused: $(<"$PBX_DIR/one_more_tls.log")"
	phone_try other "$PHONE_B" || die "another source was refused: $(pbx_complaint other)"
	tls_phone_start other_tls "$PHONE_C"

	expect 20 source_field phones "$PHONE_A" active
	expect 20 source_field phones "$PHONE_A" peak
	expect 2 source_field phones "$PHONE_A" refused
	expect 1 source_field phones "$PHONE_C" active
	expect 0 source_field phones "$PHONE_B" refused
	sk verify
}

test_a_phone_that_leaves_makes_room_for_one() {
	pbx_begin
	kamailio_start
	guard_limit
	phones_start nineteen 19 "$PHONE_A"
	phones_start last 1 "$PHONE_A"
	phone_refused early "$PHONE_A" || die "the 21st was not refused: $(pbx_complaint early)"
	pbx_end last
	wait_for 10 expect 19 source_field phones "$PHONE_A" active
	phones_start next 1 "$PHONE_A"
	phone_refused late "$PHONE_A" || die "the 21st was not refused again: $(pbx_complaint late)"
	pbx_end nineteen next
	wait_for 10 expect 0 source_field phones "$PHONE_A" active
	sk verify
}

test_ipv6_counts_the_whole_64() {
	pbx_begin
	kamailio_start
	guard_limit
	phones_start ten 10 "$PHONE6_A"
	phones_start ten_more 10 "$PHONE6_B"
	phone_refused a "$PHONE6_A" || die "the 21st of the /64 was not refused: $(pbx_complaint a)"
	phone_refused b "$PHONE6_B" || die "the 21st of the /64 was not refused: $(pbx_complaint b)"
	phone_try c "$PHONE6_C" || die "another /64 was refused: $(pbx_complaint c)"
	sk verify
}

test_phones_registered_before_the_load_count() {
	pbx_begin
	kamailio_start
	phones_start twenty 20 "$PHONE_A"
	guard_limit
	expect 20 source_field phones "$PHONE_A" active
	phone_refused one_more "$PHONE_A" || die "the 21st was not refused by a reset: $(pbx_complaint one_more)"
	phone_try other "$PHONE_B" || die "another source was refused: $(pbx_complaint other)"

	sk unload
	pbx_alive twenty || die "unload cut the registered phones off: $(pbx_complaint twenty)"
	expect 20 established
	phone_try one_more "$PHONE_A" || die "the limit outlives unload: $(pbx_complaint one_more)"
}

established() {
	keepalive_timers "$PBX_ADDRESS" "$PBX_PORT" | wc -l
}
