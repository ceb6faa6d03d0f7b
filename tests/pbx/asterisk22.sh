#!/bin/bash
# asterisk22.sh: what sipkeep says of a current Asterisk: reloads, stale subscriptions, silent and idle connections.
# prepare: tests/pbx/root sid asterisk22 asterisk
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=asterisk.bash
. "$here/asterisk.bash"

LISTENERS='["192.0.2.10:5060","192.0.2.10:5061"]'

# pjsip_conf ALLOW_RELOAD [OPTION]: TCP and TLS transports with that option more; a registration and a phone.
pjsip_conf() {
	local protocol
	for protocol in tcp tls; do
		cat <<-CONFIG
			[transport-$protocol]
			type = transport
			protocol = $protocol
			bind = $AST_ADDRESS:$([[ $protocol == tls ]] && echo 5061 || echo 5060)
			allow_reload = $1
			${2:-}
		CONFIG
	done
	cat <<-CONFIG
		cert_file = /etc/asterisk/certificate.pem
		priv_key_file = /etc/asterisk/key.pem
		method = tlsv1_2

		[phone]
		type = endpoint
		context = from-sip
		aors = phone
		allow = ulaw

		[phone]
		type = aor
		max_contacts = 10
	CONFIG
	carrier_registration carrier tcp 120
	carrier_registration secure tls 120
}

# asterisk22_start ALLOW_RELOAD: guarded, registered over TCP and TLS with "registrar"; connections of "phone" are inbound.
asterisk22_start() {
	asterisk_root
	asterisk_configure
	certificate_make
	install -m 0644 "$TMP/certificate.pem" "$TMP/key.pem" "$AST/etc/asterisk/"
	pjsip_conf "$1" | asterisk_file pjsip.conf
	printf '[from-sip]\nexten => lamp,hint,Custom:lamp\n' | asterisk_file extensions.conf
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5060, 5061 ]; } );
	CONFIG
	reader_start
	sipend_start registrar --listen "$PEER_ADDRESS:5060" \
		--certificate "$TMP/certificate.pem" --key "$TMP/key.pem" --listen-tls "$PEER_ADDRESS:5061"
	sipend_start phone --from "$PHONE_ADDRESS"
	asterisk_start
	wait_for 20 is 2 registrations
	wait_for 20 json_eq 'map(.local) | sort' "$LISTENERS" events '.event == "listener_up"'
}

registrations() {
	asterisk 'pjsip show registrations' | grep -c ' Registered '
}

# phones_connect: inbound, one over TCP and one over TLS, each of which has had an answer.
phones_connect() {
	sipend phone connect "$AST_ADDRESS:5060"
	sipend phone connect "$AST_ADDRESS:5061" tls
	sipend phone register 1
	sipend phone options 2
	wait_for 20 json_eq 'map(.conn) | sort' '[1,2]' told phone '.event == "received" and .what == "200"'
}

reload() {
	says 'module reload res_pjsip.so' 'reloaded successfully' || die "the reload failed"
}

# trace_start FILE / trace_end: the calls on sockets of Asterisk's.
trace_start() {
	bg strace -f -ttt -T -e trace=bind,listen,close -o "$TMP/strace" -p "$ASTERISK" 2>"$TMP/strace.err"
	TRACE=$BG
	wait_for 20 grep -q attached "$TMP/strace.err"
}

# gaps_traced: by the calls close() of a listener and listen() on its successor: "least most" of each, in ms. Each call
# has begun after the time that strace has for it, and ended before that and its duration.
gaps_traced() {
	awk '{ call = $3; at = $2; duration = substr($NF, 2) + 0; fd = $3; sub(/.*\(/, "", fd); fd += 0 }
		call ~ /^close\(/ { begun[fd] = at; ended[fd] = at + duration }
		call ~ /^listen\(/ { printf "%.3f %.3f\n", (at - ended[fd]) * 1000, (at + duration - begun[fd]) * 1000 }' \
		"$TMP/strace"
}

test_a_reload_with_a_change_is_one_restart_per_listener() {
	local least most gap
	asterisk22_start yes
	phones_connect
	trace_start
	pjsip_conf yes 'tos = 0x60' | asterisk_file pjsip.conf
	reload
	wait_for 20 json_eq 'map(.local) | sort' "$LISTENERS" events '.event == "listener_restart"'
	bg_end "$TRACE" INT || true
	# The gap, between what the calls allow; two listeners, in this order.
	while read -r least most && read -r gap <&3; do
		awk -v gap="$gap" -v least="$least" -v most="$most" 'BEGIN { exit !(gap >= least - 1 && gap <= most + 1) }' ||
			die "a gap of $gap ms: by Asterisk's calls, it was from $least to $most ms"
		echo "a gap of $gap ms, by Asterisk's calls from $least to $most ms"
	done < <(gaps_traced) 3< <(events '.event == "listener_restart"' | jq 'sort_by(.local) | .[].gap_ms')
	# Of each listener, the one it accepted.
	json_eq 'map(.open)' '[1,1]' events '.event == "listener_restart"'
	# All four live on.
	json_eq length 0 events '.event == "disconnected"'
	json_eq 'length' 4 events '.event == "listener_up"'
	json_eq 'length' 2 events '.event == "listener_down"'
}

test_a_reload_with_nothing_changed_is_none_and_a_touched_certificate_one_for_tls() {
	asterisk22_start no
	phones_connect
	reload
	# Had it done anything, that would come before this.
	touch "$AST/etc/asterisk/certificate.pem"
	reload
	wait_for 20 json_eq 'map(.local)' '["192.0.2.10:5061"]' events '.event == "listener_restart"'
	json_eq 'map(.local) | sort' '["192.0.2.10:5060","192.0.2.10:5061","192.0.2.10:5061"]' events '.event == "listener_up"'
	json_eq length 0 events '.event == "disconnected"'
	echo "a gap of $(events '.event == "listener_restart"' | jq '.[0].gap_ms') ms"
}

test_a_reload_with_nothing_changed_is_none_even_where_it_is_allowed() {
	asterisk22_start yes
	reload
	json_eq length 0 events '.event == "listener_down"'
	pjsip_conf yes 'tos = 0x60' | asterisk_file pjsip.conf
	reload
	wait_for 20 json_eq 'length' 2 events '.event == "listener_restart"'
	json_eq length 2 events '.event == "listener_down"'
}

lamp() {
	asterisk "devstate change Custom:lamp $1" >/dev/null
}

test_a_notify_to_a_subscriber_that_has_gone_is_a_stale_contact() {
	local contact
	asterisk22_start no
	sipend phone connect "$AST_ADDRESS:5060"
	sipend phone subscribe 1 presence lamp
	wait_for 20 json_eq length 1 told phone '.event == "received" and .what == "NOTIFY"'
	lamp INUSE
	wait_for 20 json_eq length 2 told phone '.event == "received" and .what == "NOTIFY"'
	contact=$(told phone '.event == "connected"' | jq -r '.[0].local')
	json_eq length 0 events '.event == "stale_contact"'

	sipend_close phone fin
	wait_for 20 json_eq length 1 events ".event == \"destroyed\" and .remote == \"$contact\""
	says 'pjsip show subscriptions inbound' '1 active' || die "Asterisk took the subscription off its list"
	lamp NOT_INUSE
	wait_for 20 json_eq 'map([.remote, .error, .count])' "[[\"$contact\",\"refused\",1]]" events '.event == "stale_contact"'
	lamp INUSE
	wait_for 20 json_eq 'map([.remote, .error, .count])' "[[\"$contact\",\"refused\",1],[\"$contact\",\"refused\",2]]" \
		events '.event == "stale_contact"'
}

# pjclient NAME TRANSPORT PORT: a client of PJSIP's in the cgroup that sends a SUBSCRIBE there and no more.
pjclient() {
	bg in_cgroup chroot "$AST" /run/pjclient libasteriskpj.so.2 SUBSCRIBE "sip:$1@$PEER_ADDRESS:$3;transport=$2" \
		>"$TMP/$1.out"
	wait_for 20 grep -q answered "$TMP/$1.out"
}

# at SECONDS COMMAND CONN: the endpoint "client" is told so long after that connection's last SIP message, however long
# it took to get here. (uptime is the clock that `ns` has, unless the machine has slept.)
at() {
	local last
	last=$(told client ".conn == $3" | jq 'last.ns')
	bg sipend_later "$(awk -v last="$last" -v after="$1" '{ print last / 1e9 + after - $1 }' /proc/uptime)" "$2" "$3"
}

sipend_later() {
	sleep "$1"
	sipend client "${@:2}"
}

# port NAME CONN: of the endpoint's side of a connection.
port() {
	told "$1" ".conn == $2" | jq -r 'first.local | sub(".*:"; "")'
}

# end_of PORT: [reason, cause] of the transport with this port, on whichever side; nothing while it is open.
end_of() {
	events '.event == "disconnected"' | jq -c --arg port ":$1" \
		'map(select((.remote | endswith($port)) or (.local | endswith($port))) | [.reason, .cause])[0] // empty'
}

cause_of() {
	end_of "$1" | jq -r '.[1]'
}

# What a connection looks like that PJSIP's idle timer ends, and what only seems so: each is closed so long after its last
# SIP message as its name says.
idle_clients_start() {
	SIPEND_IN=in_cgroup sipend_start client
	sipend client connect "$PEER_ADDRESS:5070" # 1: 20 s
	sipend client connect "$PEER_ADDRESS:5070" # 2: 45 s
	sipend client connect "$PEER_ADDRESS:5070" # 3: 33 s, and CRLF CRLF every 10 s
	sipend client options all
	wait_for 10 json_eq 'map(.conn) | sort' '[1,2,3]' told client '.event == "received"'
	at 20 fin 1
	at 45 fin 2
	at 10 ping 3
	at 20 ping 3
	at 30 ping 3
	at 33 fin 3
}

# timeout: 180
test_connections_closed_for_silence_are_told_from_others() {
	asterisk22_start no
	sipend phone connect "$AST_ADDRESS:5060"     # and says nothing
	sipend phone connect "$AST_ADDRESS:5061" tls # nothing but its handshake
	sipend phone connect "$AST_ADDRESS:5061" # not even that
	# Those of PJSIP's own have a port each to be told by.
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5060, 5061, 5070, 5071, 5072 ]; } );
	CONFIG
	sk apply -c "$TMP/sipkeep.conf" >/dev/null
	sipend_start peer --listen "$PEER_ADDRESS:5070"
	sipend_start idle --listen "$PEER_ADDRESS:5072" \
		--certificate "$TMP/certificate.pem" --key "$TMP/key.pem" --listen-tls "$PEER_ADDRESS:5071"
	install -m 0755 "$TOOLS/pjclient" "$AST/run/"
	pjclient pjsip-tcp tcp 5072
	pjclient pjsip-tls tls 5071
	idle_clients_start

	wait_for 60 is '["local_close","silent_inbound"]' end_of "$(port phone 1)"
	# Its handshake was payload: nothing tells the kernel that no request came after it.
	wait_for 60 is '["local_close",null]' end_of "$(port phone 2)"
	wait_for 60 is '["local_close","pjsip_idle_timer"]' end_of 5072
	# Its close_notify goes first: the peer's FIN may come before its own.
	wait_for 60 is pjsip_idle_timer cause_of 5071
	wait_for 60 is '["local_close",null]' end_of "$(port client 1)"
	wait_for 60 is '["local_close",null]' end_of "$(port client 2)"
	wait_for 60 is '["local_close","pjsip_idle_timer"]' end_of "$(port client 3)"
	json_eq . '[]' disorderly_lives
}
