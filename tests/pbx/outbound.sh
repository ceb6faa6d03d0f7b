#!/bin/bash
# outbound.sh: Kamailio as a client: over the limit of a destination its connect() fails with EPERM.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=pbx.bash
. "$here/pbx.bash"

guard_carrier() {
	guard <<-CONFIG
		policies = (
		  { name = "carrier"; direction = "outbound"; remote_ports = [ $CARRIER_PORT ]; remotes = [ "203.0.113.0/24" ];
		    max_connections_per_source = 1; }
		);
	CONFIG
}

call() {
	sipp_run "$1" call "$PHONE_A" -t tn -m 1 -timeout 20 -timeout_error
}

# carrier_take NAME: another program of the PBX's host takes a connection to the carrier and holds it until
# pbx_end NAME. True when it got one.
carrier_take() {
	# shellcheck disable=SC2016 # for the inner bash
	pbx_spawn_guarded "$1" bash -c 'exec 3<>"/dev/tcp/$0/$1" && echo connected && exec sleep infinity' \
		"$CARRIER_ADDRESS" "$CARRIER_PORT"
	wait_for 10 connected_or_ended "$1"
	pbx_alive "$1"
}

connected_or_ended() {
	grep -q connected "$PBX_DIR/$1.log" || ! pbx_alive "$1"
}

carrier_field() {
	sk sources -j | jq -r --arg field "$1" '[.sources[] | select(.policy == "carrier") | .[$field]] | add // 0'
}

test_kamailio_gets_eperm_over_the_destinations_limit() {
	pbx_begin
	kamailio_start
	carrier_start
	guard_carrier
	carrier_take other || die "no connection to the carrier: $(<"$PBX_DIR/other.log")"
	expect 1 carrier_field active

	if call refused; then
		die "the call went through a connection over the limit"
	fi
	grep -q 'Operation not permitted' "$PBX_DIR/kamailio.log" ||
		die "Kamailio wasn't told EPERM: $(tail -n 5 "$PBX_DIR/kamailio.log")"
	expect 1 carrier_field active
	(($(carrier_field refused) > 0)) || die "the refusal was not counted"

	pbx_end other
	wait_for 10 expect 0 carrier_field active
	call admitted || die "the call failed with the place free again: $(pbx_complaint admitted)"
	expect 1 carrier_field active
	sk verify
}

test_kamailios_own_connection_counts_and_carries_further_calls() {
	pbx_begin
	kamailio_start
	carrier_start
	guard_carrier
	call first || die "the first call failed: $(pbx_complaint first)"
	expect 1 carrier_field active
	if carrier_take other; then
		die "a second connection to the carrier came up"
	fi
	grep -q 'Operation not permitted' "$PBX_DIR/other.log" || die "connect() failed otherwise: $(<"$PBX_DIR/other.log")"
	call second || die "a call over the open connection failed: $(pbx_complaint second)"
	expect 1 carrier_field active

	pbx_end kamailio
	wait_for 10 expect 0 carrier_field active
	sk verify
}

test_a_connection_made_before_the_load_counts() {
	pbx_begin
	kamailio_start
	carrier_start
	call first || die "the first call failed: $(pbx_complaint first)"
	guard_carrier
	if carrier_take other; then
		die "a second connection to the carrier came up"
	fi
	call second || die "a call over the open connection failed: $(pbx_complaint second)"
}
