#!/bin/bash
# actions.sh: the shipped actions on a real PBX: its connection is lost, the action has it register again.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"

REGISTER=$(realpath "$here/../../deploy/actions/kamailio-register.sh")

# kamailio_row UUID DOMAIN PROXY: a registration of the uac module's, as db_text keeps it.
kamailio_row() {
	local proxy=${3//:/\\:}
	echo "0:$1:pbx:example.org:pbx:$2:realm:pbx:password:$(printf '%032d' 0):$proxy:3600:0:0:127.0.0.1\\:5099:tcp\\:127.0.0.1\\:5099"
}

kamailio_start() {
	command -v kamailio >/dev/null || skip "kamailio isn't installed"
	mkdir "$TMP/db"
	head -n 1 /usr/share/kamailio/dbtext/kamailio/uacreg >"$TMP/db/uacreg"
	kamailio_row there 127.0.0.1 'sip:127.0.0.1:5060;transport=tcp' >>"$TMP/db/uacreg"
	kamailio_row elsewhere 127.0.0.9 'sip:127.0.0.9:5060;transport=tcp' >>"$TMP/db/uacreg"
	cp /usr/share/kamailio/dbtext/kamailio/version "$TMP/db"
	cat >"$TMP/kamailio.cfg" <<-CONFIG
		log_stderror=yes
		children=1
		tcp_children=1
		listen=tcp:127.0.0.1:5099
		loadmodule "ctl.so"
		loadmodule "tm.so"
		loadmodule "sl.so"
		loadmodule "rr.so"
		loadmodule "pv.so"
		loadmodule "db_text.so"
		loadmodule "uac.so"
		modparam("ctl", "binrpc", "unix:$TMP/ctl")
		modparam("uac", "reg_db_url", "text://$TMP/db")
		modparam("uac", "reg_contact_addr", "127.0.0.1:5099")
		modparam("uac", "reg_timer_interval", 1)
		request_route { exit; }
	CONFIG
	bg in_cgroup kamailio -f "$TMP/kamailio.cfg" -DD -E -w "$TMP" -Y "$TMP" >"$TMP/kamailio.log" 2>&1
	wait_for 30 eval "kamcmd -s unix:$TMP/ctl uac.reg_dump 2>/dev/null | grep -q 'l_uuid: elsewhere'"
}

# registrar_start: the carrier; REGISTRAR is its process id.
registrar_start() {
	command -v sipp >/dev/null || skip "sipp isn't installed (Debian package sip-tester)"
	bg sipp -sf "$here/registrar.xml" -i 127.0.0.1 -p 5060 -t t1 -nostdin >"$TMP/sipp.log" 2>&1
	REGISTRAR=$BG
	wait_for 20 eval "ss -Hltn 'sport = :5060' | grep -q LISTEN"
}

# connections COUNT: so many to the carrier were made so far.
connections() {
	is "$1" eval "events '.event == \"connected\" and .remote == \"127.0.0.1:5060\"' | jq length"
}

test_kamailio_registers_again() {
	registrar_start
	kamailio_start
	wait_for 20 registered # at its start
	conf <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5060 ]; } );
		actions = ( { on = [ "disconnected" ]; policy = "carrier"; run = [ "$REGISTER", "-s", "unix:$TMP/ctl" ]; } );
	CONFIG
	reader_start
	wait_for 20 connections 1 # adopted
	# The carrier goes, and comes back. By itself, Kamailio would come back at the next refresh, within the hour.
	bg_end "$REGISTRAR" KILL || true
	registrar_start
	wait_for 20 connections 2
	wait_for 20 eval "[[ \$(events '.event == \"action\" and .outcome == \"done\"' | jq length) -ge 1 ]]"
	# To where the connection was lost, and nowhere else.
	[[ $(events '.event == "connected" and .remote != "127.0.0.1:5060"') == "[]" ]]
	reader_stop
}

# Kamailio has had its answer: online, 0x4, is among the flags.
registered() {
	(($(kamcmd -s "unix:$TMP/ctl" uac.reg_info l_uuid there | awk '$1 == "flags:" { print $2 }') & 4))
}

test_kamailio_failures_are_failures() {
	local code
	kamailio_start
	for code in "SIPKEEP_REMOTE=127.0.0.2:5060 $REGISTER -s unix:$TMP/ctl" "$REGISTER -s unix:$TMP/ctl nosuch" \
		"$REGISTER -s unix:$TMP/nothing there"; do
		! env -u SIPKEEP_REMOTE bash -c "$code" 2>"$TMP/err" || die "succeeded: $code"
		grep -q '^kamailio-register: ' "$TMP/err" || die "says nothing: $code"
	done
}
