#!/bin/bash
# cover.sh: what is guarded follows the services: network namespaces of their own, cgroups that go and come back.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

PHONES='policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 3;
	tcp_keepalive = true; tcp_keepidle = 77; } );'

# One that opens a network namespace of its own and waits.
container_main() {
	echo "$BASHPID" >"$CGROUP_DIR/cgroup.procs"
	exec unshare --net bash -c 'ip link set lo up; echo up; exec sleep infinity'
}

# container NAME: a process in the cgroup, in a network namespace of its own. `in_container NAME COMMAND...` runs there.
declare -A CONTAINERS=()
container() {
	bg container_main >"$TMP/$1.container"
	CONTAINERS[$1]=$BG
	wait_for 20 grep -q up "$TMP/$1.container"
}

in_container() {
	local name=$1
	shift
	if [[ $1 == hold_burst ]]; then
		exec nsenter --net="/proc/${CONTAINERS[$name]}/ns/net" "$TOOLS/burst" "${@:3}" --hold-until-stdin-eof \
			<"$TMP/$2.stdin" >"$TMP/$2.json"
	fi
	if [[ -n ${LIB_BG:-} ]]; then
		exec nsenter --net="/proc/${CONTAINERS[$name]}/ns/net" "$@"
	fi
	nsenter --net="/proc/${CONTAINERS[$name]}/ns/net" "$@"
}

container_inode() {
	stat -L -c %i "/proc/${CONTAINERS[$1]}/ns/net"
}

# serve_in CONTAINER NAME ADDR PORT: as serve. hold_in, burst_in: clients there.
serve_in() {
	local name=$2
	rm -f "$TMP/$name.out" "$TMP/$name.count"
	bg in_cgroup in_container "$1" "$TOOLS/server" "$3" "$4" --backlog 4096 --count-file "$TMP/$name.count" >"$TMP/$name.out"
	SERVERS[$name]=$BG
	wait_for 20 grep -q listening "$TMP/$name.out"
}

hold_in() {
	local HOLD_IN="in_container $1"
	hold "${@:2}"
}

burst_in() {
	in_container "$1" "$TOOLS/burst" "${@:3}" >"$TMP/$2.json"
}

# run_start: `sipkeep run` in the background, its events in $TMP/events, what it tells in $TMP/run.err.
run_start() {
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >>"$TMP/events" 2>>"$TMP/run.err"
	READER=$BG
	wait_for 20 test -d "/sys/fs/bpf/sipkeep/$INSTANCE/reader"
}

# degraded TEXT: status exits with 1 and says so, to people and as JSON.
degraded() {
	exits 1 sk status
	prints "degraded: $1"
	exits 1 sk status -j
	jq -e --arg text "$1" '.ok == false and any(.degraded[]; contains($text))' "$TMP/out" >/dev/null ||
		die "not in the JSON: $(<"$TMP/out")"
}

well() {
	sk status >"$TMP/status" && grep -q 'all well' "$TMP/status"
}

# lookups: the network namespaces sk_lookup is attached in, by status.
lookups() {
	sk status -j | jq -r '[.attached[] | select(.hook == "sk_lookup").where] | sort | join(",")'
}

test_a_namespace_of_its_own() {
	traffic_begin
	conf <<<"$PHONES"
	container one
	serve_in one pbx 127.0.0.1 5060
	hold_in one before --to 127.0.0.1:5060 --procs 1 --connects 2
	exits 0 sk load -c "$TMP/sipkeep.conf"
	prints "2 open transports adopted"
	well || die "$(<"$TMP/status")"
	grep -q "sk_lookup .*network namespace $(container_inode one)" "$TMP/status" || die "$(<"$TMP/status")"
	# Adopted with their keepalive, listed, verified, in the one direction the listener gives them.
	is 2 source_field phones 127.0.0.1 active
	json_eq '[.transports[] | [.direction, .local, .adopted, .keepalive.on, .keepalive.idle]] | unique' \
		'[["inbound","127.0.0.1:5060",true,true,77]]' sk transports -j
	json_eq '.transports | length' 2 sk transports -j
	verified || die "$(<"$TMP/verify.json")"
	# Over the limit: the first takes the last place, the others a RST.
	burst_in one more --to 127.0.0.1:5060 --procs 1 --connects 4
	is 1 got more served
	is 3 got more refused
	is 0 got more mute
	# Namespaces of the same address don't mix up: nobody listens here, and its own limit holds in each.
	burst here --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got here refused
	release before
	nothing_left phones
	sk unload >/dev/null
	nothing_loaded
}
