#!/bin/bash
# calls.sh: calls through a guarded Kamailio, 200 a second for 30 s: none fails, and each of their transports is counted
# and reported once.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=pbx.bash
. "$here/pbx.bash"

CALLS=6000
RATE=200

# calls_through TRANSPORT LEAST: TRANSPORT is SIPp's t1 (one connection for all calls) or tn (one a call; SIPp 3.7 uses
# some again), LEAST the number of inbound transports that makes at least.
calls_through() {
	local transport=$1 phones carriers
	pbx_begin
	kamailio_start OWN_KEEPIDLE=333 OWN_KEEPINTVL=33 OWN_KEEPCNT=3
	carrier_start
	guard <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ];
		    keepalive_mode = "enforce"; tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6;
		    max_connections_per_source = 10000; },
		  { name = "carrier"; direction = "outbound"; remote_ports = [ $CARRIER_PORT ];
		    tcp_keepalive = true; tcp_keepidle = 40; max_connections_per_source = 8; }
		);
	CONFIG
	pbx_spawn events "$SIPKEEP" events -f --instance "$INSTANCE"

	# A second a call: with tn 200 connections are open at any time (SIPp 3.7 keeps all of them until its end).
	sipp_run calls call "$PHONE_A" -t "$transport" -r "$RATE" -m "$CALLS" -d 1000 -timeout 90 -timeout_error ||
		die "calls failed: $(pbx_complaint calls)"
	expect "$CALLS" sipp_count calls 'SuccessfulCall(C)'
	expect 0 sipp_count calls 'FailedCall(C)'
	expect 0 sipp_count calls 'FatalErrors(C)'
	rate_was_reached || die "only $(sipp_count calls 'CallRate(C)') calls a second were made"
	sk verify
	phones=$(policy_field phones admitted)
	((phones >= $2)) || die "only $phones transports of phones were counted"
	expect 0 refusals

	pbx_end kamailio carrier
	wait_for 20 expect 0 policy_field phones active
	wait_for 20 expect 0 policy_field carrier active
	sk verify

	carriers=$(policy_field carrier admitted)
	((carriers > 0)) || die "no transport to the carrier was counted"
	wait_for 20 expect "$phones" lives phones destroyed
	wait_for 20 expect "$carriers" lives carrier destroyed
	pbx_end events
	expect "$phones" lives phones connected
	expect "$phones" lives phones disconnected
	expect "$carriers" lives carrier connected
	expect "$carriers" lives carrier disconnected
	expect 0 disorderly_lives
	expect 0 lost_events
}

# With a pause of a second at its end, a run of 30 s shows a little less than the rate that was asked for.
rate_was_reached() {
	sipp_count calls 'CallRate(C)' | awk -v rate="$RATE" '{ exit !($1 > 0.9 * rate) }'
}

refusals() {
	sk stats -j | jq '[.policies[].refused[]] | add // 0'
}

# lives POLICY EVENT: how many were reported.
lives() {
	jq -s --arg policy "$1" --arg event "$2" 'map(select(.policy == $policy and .event == $event)) | length' \
		"$PBX_DIR/events.log"
}

# Transports whose events aren't connected, disconnected, destroyed, once each and in that order.
disorderly_lives() {
	jq -s 'map(select(.event | IN("connected", "disconnected", "destroyed"))) | group_by(.id)
		| map(select(map(.event) != ["connected", "disconnected", "destroyed"])) | length' "$PBX_DIR/events.log"
}

lost_events() {
	sk stats -j | jq .events.lost
}

# timeout: 240
test_200_calls_a_second_over_one_connection() {
	calls_through t1 1
}

# timeout: 240
test_200_calls_a_second_over_a_connection_each() {
	calls_through tn $((CALLS / 2))
}
