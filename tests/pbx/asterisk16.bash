# shellcheck shell=bash
# asterisk16.bash: the Asterisk with the defect, and how to bring it about. Sourced after asterisk.bash.

# asterisk16_start EXPIRATION: registered with the endpoint "registrar".
asterisk16_start() {
	asterisk_configure
	{
		printf '[transport-tcp]\ntype = transport\nprotocol = tcp\nbind = %s:5060\n' "$AST_ADDRESS"
		carrier_registration carrier tcp "$1"
	} | asterisk_file pjsip.conf
	sipend_start registrar --listen "$PEER_ADDRESS:5060" --expires "$1"
	asterisk_start
	wait_for 20 registered registrar
}

# monitor_lose: disconnects until Asterisk doesn't come back by itself, which is a race in it: the second time, mostly.
monitor_lose() {
	local times
	for ((times = 1; times <= 10; times++)); do
		sipend_close registrar fin
		if ! within 3 registered registrar; then
			echo "disconnect $times is the one Asterisk doesn't notice"
			return
		fi
	done
	die "Asterisk noticed ten disconnects in a row: it hasn't the defect"
}

# back_ms: milliseconds from the last disconnect to the next REGISTER, which came on a new connection.
back_ms() {
	jq -s '(map(select(.event == "fin")) | last.ns) as $closed
		| (first(.[] | select(.ns > $closed and .what == "REGISTER" and .event == "received")).ns - $closed) / 1000000 | floor' \
		"$TMP/registrar.out"
}
