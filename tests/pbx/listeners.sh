#!/bin/bash
# listeners.sh: Kamailio's listeners, TCP, TLS and UDP, as they come and go.
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=pbx.bash
. "$here/pbx.bash"

# listeners EVENT: "PROTOCOL LOCAL" of each so far, in one line.
listeners() {
	jq -r --arg event "$1" 'select(.event == $event) | "\(.protocol) \(.local)"' "$PBX_DIR/events.log" | sort | paste -sd ' '
}

kamailio_comes_and_goes() {
	local all
	all="tcp $PBX_ADDRESS:$PBX_PORT tcp $PBX_ADDRESS:$PBX_TLS_PORT tcp [$PBX_ADDRESS6]:$PBX_PORT"
	all+=" udp $PBX_ADDRESS:$PBX_PORT udp [$PBX_ADDRESS6]:$PBX_PORT"
	pbx_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ $PBX_PORT, $PBX_TLS_PORT ]; } );
	CONFIG
	pbx_spawn events "$SIPKEEP" events -f --instance "$INSTANCE"
	kamailio_start "LISTEN_UDP=udp:$PBX_ADDRESS:$PBX_PORT listen=udp:[$PBX_ADDRESS6]:$PBX_PORT"
	wait_for 10 expect "$all" listeners listener_up
	expect "" listeners listener_down
	"$@"
	wait_for 20 expect "$all" listeners listener_down
	expect "$all" listeners listener_up
	expect 0 events_twice
}

# Listeners with more than one listener_up or listener_down.
events_twice() {
	jq -s '[.[] | select(.event | startswith("listener"))] | group_by([.id, .event]) | map(select(length > 1)) | length' \
		"$PBX_DIR/events.log"
}

kamailio_crashes() {
	echo 1 >"$CGROUP_DIR/cgroup.kill"
	pbx_end kamailio
}

test_kamailio_starts_and_stops() {
	kamailio_comes_and_goes pbx_end kamailio
}

test_kamailio_crashes() {
	kamailio_comes_and_goes kamailio_crashes
}
