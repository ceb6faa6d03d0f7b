#!/bin/bash
# shellcheck disable=SC2016 # $ms is jq's
# silence.sh: how long ago the last SIP message passed, and how long the peer had been quiet. What is in the records of
# the ring only is read there (tests/tools/records.c).
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=reasons.bash
. "$here/reasons.bash"

both_policies() {
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5060, 5061 ]; } );
	CONFIG
}

# The outbound end's record, in $TMP/record, when it is there.
record_taken() {
	"$TOOLS/records" "/sys/fs/bpf/sipkeep/$INSTANCE/events" >>"$TMP/records"
	jq -c 'select(.direction == 1)' "$TMP/records" >"$TMP/record"
	[[ -s $TMP/record ]]
}

# record_says FILTER: with $ms, what the test measured itself; a tick of the kernel is up to 10 ms.
record_says() {
	wait_for 20 record_taken
	jq -es --argjson ms "$MS" "length == 1 and (.[0] | $1)" "$TMP/record" >/dev/null ||
		die "not $1, where ms is $MS: $(<"$TMP/record")"
}

silence() {
	MS=$(in_cgroup perl "$here/silence.pl" "$@")
}

# Reasons by their numbers: 1 peer_fin, 2 peer_reset, 3 local_close, 5 keepalive_timeout.

test_pings_are_no_messages() {
	both_policies
	silence pings 5060 8 0.2
	record_says '.reason == 3 and .sip_idle_ms >= $ms - 20 and .sip_idle_ms <= .age_ms and .idle_ms < .sip_idle_ms'
	# Inbound, what passed small and large isn't told apart.
	jq -es '[.[] | select(.direction == 0)] | length == 1 and (.[0] | .sip_idle_ms - .idle_ms | . >= -10 and . <= 10)' \
		"$TMP/records" >/dev/null
}

tls_client() {
	exec openssl s_client "$1" -connect "127.0.0.1:$2" <"$TMP/say" >"$TMP/client" 2>&1
}

# tls_call OPTION WORD: a message each way over TLS, pings, and the end, with its close_notify: by the server, to whom
# WORD says so, or by the client.
tls_call() {
	local port=5061 began n
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pbx.example \
		-keyout "$TMP/key" -out "$TMP/cert" 2>"$TMP/req" || die "openssl: $(<"$TMP/req")"
	bg openssl s_server "$1" -accept "127.0.0.1:$port" -cert "$TMP/cert" -key "$TMP/key" -rev >"$TMP/server" 2>&1
	wait_for 20 grep -q ACCEPT "$TMP/server"
	mkfifo "$TMP/say"
	bg in_cgroup tls_client "$1" "$port"
	exec {SAY}>"$TMP/say"
	wait_for 20 grep -q '^---$' "$TMP/client"
	printf '%0400d\n' 1 >&"$SAY"
	wait_for 20 grep -q '^10000' "$TMP/client"
	began=${EPOCHREALTIME/./}
	for ((n = 1; n <= 6; n++)); do
		sleep 0.2
		echo "ping$n" >&"$SAY"
		wait_for 20 grep -q "^${n}gnip" "$TMP/client"
	done
	MS=$(((${EPOCHREALTIME/./} - began) / 1000))
	if [[ -n $2 ]]; then
		echo "$2" >&"$SAY"
	else
		exec {SAY}>&-
	fi
}

# The close_notify comes a moment before the FIN; either end's FIN may be first.
NOTIFIED='(.reason == 3 or .reason == 1) and .sip_idle_ms >= $ms - 20 and .sip_idle_ms <= .age_ms and .idle_ms < .sip_idle_ms'

test_a_close_notify_of_ours_is_no_message() {
	both_policies
	tls_call -tls1_3 ''
	record_says "$NOTIFIED"
}

test_a_close_notify_of_the_peer_is_no_message() {
	both_policies
	tls_call -tls1_3 CLOSE
	record_says "$NOTIFIED"
}

test_a_close_notify_of_tls_1_2_is_no_message() {
	both_policies
	tls_call -tls1_2 CLOSE
	record_says "$NOTIFIED"
}

test_data_to_a_peer_that_forgot() {
	both_policies
	silence data 5060 1.5
	record_says '.reason == 2 and .quiet_ms >= 1480 and .quiet_ms <= $ms + 20'
}

test_a_probe_to_a_peer_that_forgot() {
	both_policies
	silence probe 5060 2
	record_says '.reason == 2 and .quiet_ms >= 1980 and .quiet_ms <= $ms + 20'
}

test_the_first_of_many_probes() {
	guarded_endings 2 --case cut_with_keepalive
	wait_for 60 records_are 8
	jq -es 'all(.[]; .reason == 5 and .quiet_ms >= 980 and .quiet_ms < 1980)' "$TMP/records" >/dev/null ||
		die "not 1 s, of 3 in all: $(<"$TMP/records")"
	endings_end
}

records_are() {
	"$TOOLS/records" "/sys/fs/bpf/sipkeep/$INSTANCE/events" >>"$TMP/records"
	is "$1" grep -c reason "$TMP/records"
}
