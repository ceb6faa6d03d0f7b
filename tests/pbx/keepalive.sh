#!/bin/bash
# keepalive.sh: Kamailio's TCP and TLS connections get the policy's keepalive, whatever Kamailio sets itself.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=pbx.bash
. "$here/pbx.bash"

KAMAILIOS_OWN=(OWN_KEEPIDLE=333 OWN_KEEPINTVL=33 OWN_KEEPCNT=3)
KAMAILIOS_LATER=(LATER_KEEPIDLE=444 LATER_KEEPINTVL=44 LATER_KEEPCNT=4)

# guard_keepalive MODE
guard_keepalive() {
	guard <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ];
		    keepalive_mode = "$1"; tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; },
		  { name = "carrier"; direction = "outbound"; remote_ports = [ $CARRIER_PORT ];
		    keepalive_mode = "$1"; tcp_keepalive = true; tcp_keepidle = 40; tcp_keepintvl = 5; tcp_keepcnt = 2; }
		);
	CONFIG
}

# phones_of_every_kind: over TCP, TCP on IPv6, and TLS.
phones_of_every_kind() {
	phones_start tcp 2 "$PHONE_A"
	phones_start tcp6 2 "$PHONE6_A"
	tls_phone_start tls "$PHONE_A"
}

# expect_timers LEAST MOST: the seconds until the next probe of the five phones, as ss, which knows nothing of sipkeep,
# sees them.
expect_timers() {
	local seconds count=0
	pbx_wait_quiet
	while read -r seconds; do
		((count += 1))
		[[ $seconds != off ]] || die "ss shows a connection without keepalive"
		((seconds >= $1 && seconds <= $2)) || die "ss shows the next keepalive in $seconds s, not in $1 to $2"
	done < <(keepalive_timers "$PBX_ADDRESS" "$PBX_PORT"
		keepalive_timers "$PBX_ADDRESS6" "$PBX_PORT"
		keepalive_timers "$PBX_ADDRESS" "$PBX_TLS_PORT")
	((count == 5)) || die "ss shows $count phones, not 5"
}

# expect_kept "ON IDLE INTERVAL COUNT": as the kernel has it on the phones' connections, by kind.
expect_kept() {
	expect "$1" kernel_keepalive "$PBX_ADDRESS:$PBX_PORT" phones
	expect "$1" kernel_keepalive "[$PBX_ADDRESS6]:$PBX_PORT" phones
	expect "$1" kernel_keepalive "$PBX_ADDRESS:$PBX_TLS_PORT" phones
}

call_once() {
	sipp_run call call "$PHONE_B" -t tn -m 1 -timeout 20 -timeout_error || die "the call failed: $(pbx_complaint call)"
}

distinct_timers() {
	keepalive_timers "$@" | sort -u
}

test_kamailio_without_keepalive_gets_the_policys() {
	pbx_begin
	kamailio_start
	carrier_start
	phones_start before 2 "$PHONE_B"
	pbx_wait_quiet
	expect off distinct_timers "$PBX_ADDRESS" "$PBX_PORT"
	pbx_end before

	guard_keepalive default
	phones_of_every_kind
	call_once
	expect_timers 30 60
	expect_kept "true 60 10 6"
	expect "true 40 5 2" kernel_keepalive "" carrier
}

test_policy_replaces_what_kamailio_sets_before_a_connection_is_up() {
	pbx_begin
	kamailio_start "${KAMAILIOS_OWN[@]}"
	carrier_start
	guard_keepalive default
	phones_of_every_kind
	call_once
	expect_timers 30 60
	expect_kept "true 60 10 6"
	expect "true 40 5 2" kernel_keepalive "" carrier
}

test_options_left_out_stay_kamailios() {
	pbx_begin
	kamailio_start "${KAMAILIOS_OWN[@]}"
	guard <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ];
		    tcp_keepalive = true; tcp_keepidle = 60; }
		);
	CONFIG
	phones_of_every_kind
	expect_kept "true 60 33 3"
}

test_default_mode_leaves_kamailio_the_last_word() {
	pbx_begin
	kamailio_start "${KAMAILIOS_LATER[@]}"
	guard_keepalive default
	phones_of_every_kind
	expect_timers 400 444
	expect_kept "true 444 44 4"
}

test_enforce_mode_holds_against_kamailio() {
	pbx_begin
	kamailio_start "${KAMAILIOS_OWN[@]}" "${KAMAILIOS_LATER[@]}"
	carrier_start
	guard_keepalive enforce
	phones_of_every_kind
	call_once
	expect_timers 30 60
	expect_kept "true 60 10 6"
	expect "true 40 5 2" kernel_keepalive "" carrier
	if grep -q 'setsockopt' "$PBX_DIR/kamailio.log"; then
		die "Kamailio met an error where it should see success: $(grep setsockopt "$PBX_DIR/kamailio.log")"
	fi
}

test_phones_connected_before_the_load_get_it_too() {
	pbx_begin
	kamailio_start "${KAMAILIOS_OWN[@]}"
	carrier_start
	phones_of_every_kind
	call_once
	expect_timers 300 333
	guard_keepalive enforce
	expect_timers 30 60
	expect_kept "true 60 10 6"
	expect "true 40 5 2" kernel_keepalive "" carrier
}

test_observe_mode_sets_nothing() {
	pbx_begin
	kamailio_start "${KAMAILIOS_OWN[@]}"
	phones_start before 2 "$PHONE_A"
	guard <<-CONFIG
		mode = "observe";
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ];
		    keepalive_mode = "enforce"; tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; }
		);
	CONFIG
	phones_start after 2 "$PHONE_B"
	expect "true 333 33 3" kernel_keepalive "$PBX_ADDRESS:$PBX_PORT" phones
}
