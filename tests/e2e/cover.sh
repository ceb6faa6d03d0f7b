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
	# shellcheck disable=SC2031 # set by `bg`
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

HELD=
hold_in() {
	local HOLD_IN=in_held
	HELD=$1
	hold "${@:2}"
}

in_held() {
	in_container "$HELD" "$@"
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

lookup_pins() {
	find "$PINS/$INSTANCE" -name 'link_on_sk_lookup_*' | wc -l
}

cgroup_pins() {
	find "$PINS/$INSTANCE" -name 'link_on_*' ! -name 'link_on_sk_lookup_*' | wc -l
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

test_a_namespace_that_appears_and_dies() {
	local inode
	traffic_begin
	conf <<<"$PHONES"
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	run_start
	well || die "$(<"$TMP/status")"
	container one
	serve_in one pbx 127.0.0.1 5060
	inode=$(container_inode one)
	# The listener's record tells of it: at once, not at the next rescan.
	wait_for 3 grep -q "+ sk_lookup in network namespace $inode" "$TMP/run.err"
	grep -q "$inode" <<<"$(lookups)"
	well || die "$(<"$TMP/status")"
	hold_in one some --to 127.0.0.1:5060 --procs 1 --connects 5
	is 3 got some served
	is 2 got some refused
	verified || die "$(<"$TMP/verify.json")"
	release some
	nothing_left phones
	# It dies with its last process: its link goes.
	serve_end pbx
	bg_end "${CONTAINERS[one]}" || true
	wait_for 20 is 1 lookup_pins
	well || die "$(<"$TMP/status")"
	bg_running "$READER"
	bg_end "$READER"
}

# What a namespace holds when `run` finds it only at its rescan: no listener of its own has told of it.
test_a_namespace_found_at_the_rescan_is_adopted() {
	traffic_begin
	conf <<-CONFIG
		policies = ( { name = "out"; direction = "outbound"; remote_ports = [ 5062 ]; } );
	CONFIG
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	run_start
	container one
	in_container one true
	bg in_container one "$TOOLS/server" 127.0.0.1 5062 >"$TMP/peer.out"
	wait_for 20 grep -q listening "$TMP/peer.out"
	hold_in one some --to 127.0.0.1:5062 --procs 1 --connects 2
	wait_for 15 grep -q "+ sk_lookup in network namespace $(container_inode one)" "$TMP/run.err"
	verified || die "$(<"$TMP/verify.json")"
	release some
	bg_end "$READER"
}

# Refused at their final ACK in a second namespace: `run` ends the half-open handshakes there, too.
test_a_refusal_at_the_final_ack_in_a_namespace() {
	traffic_begin
	conf <<<"$PHONES"
	container one
	in_container one sysctl -qw net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	run_start
	serve_in one pbx "::" 5060
	in_container one "$TOOLS/halfopen" --count 50 --to 10.99.0.1:5060 --from 10.99.0.2 >"$TMP/half.json"
	is 3 got half served
	is 47 got half reset
	is 0 got half mute
	jq -e '.reset_max_ms < 1000' "$TMP/half.json" >/dev/null || die "$(<"$TMP/half.json")"
	# Nor does the socket that ended them keep the namespace once its last process is gone.
	serve_end pbx
	bg_end "${CONTAINERS[one]}" || true
	wait_for 30 is 1 lookup_pins
	bg_end "$READER"
}

# ---- cgroups ------------------------------------------------------------------------------------------------------

service() {
	echo "cgroups = [ \"$CGROUP/service\" ]; $PHONES" >"$TMP/sipkeep.conf"
	chmod 0644 "$TMP/sipkeep.conf"
}

in_service() {
	CGROUP_DIR=$CGROUP_DIR/service "$@"
}

# hooks: those at the service's cgroup, by the kernel.
hooks() {
	bpftool -j cgroup list "$CGROUP_DIR/service" 2>/dev/null | jq -r '.[]?.name' | sort | paste -sd ' '
}
HOOKS="on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops"

# cgroup_pins_alive: links at the service's cgroup as it is now. Quicker than asking bpftool.
cgroup_pins_alive() {
	find "$PINS/$INSTANCE" -name "link_on_*_$(stat -c %i "$CGROUP_DIR/service")" | wc -l
}

service_end() {
	serve_end pbx KILL
	wait_for 10 rmdir "$CGROUP_DIR/service"
}

test_a_service_restarts() {
	local i start took all=()
	traffic_begin
	mkdir "$CGROUP_DIR/service"
	service
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	in_service serve pbx 127.0.0.1 5060
	run_start
	well || die "$(<"$TMP/status")"
	for i in {1..5}; do
		service_end
		degraded "cgroup $CGROUP/service is gone"
		json_eq .cgroups "[\"$CGROUP/service\"]" eval 'sk status -j || true'
		mkdir "$CGROUP_DIR/service"
		start=${EPOCHREALTIME/./}
		LIB_QUIET=yes wait_for 5 is 8 cgroup_pins_alive
		took=$((${EPOCHREALTIME/./} - start))
		[[ $(hooks) == "$HOOKS" ]]
		all+=($((took / 1000)))
		in_service serve pbx 127.0.0.1 5060
		well || die "$(<"$TMP/status")"
	done
	echo "ms from mkdir to attached again: ${all[*]}"
	# On a machine that is busy with other things, too, a majority.
	(($(printf '%s\n' "${all[@]}" | sort -n | sed -n 3p) < 1000)) || die "that is too long: ${all[*]}"
	hold some --to 127.0.0.1:5060 --procs 1 --connects 5
	is 3 got some served
	is 2 got some refused
	is 3 source_field phones 127.0.0.1 active
	verified || die "$(<"$TMP/verify.json")"
	release some
	nothing_left phones
	bg_end "$READER"
	sk unload >/dev/null
	nothing_loaded
}

# Nobody followed: what the new cgroup has opened meanwhile is adopted by the next run, or by apply.
test_what_was_open_before_is_adopted() {
	local by
	traffic_begin
	for by in run apply; do
		mkdir -p "$CGROUP_DIR/service"
		service
		sk load -c "$TMP/sipkeep.conf" >/dev/null
		in_service serve pbx 127.0.0.1 5060
		hold "old-$by" --to 127.0.0.1:5060 --procs 1 --connects 1
		service_end
		mkdir "$CGROUP_DIR/service"
		in_service serve pbx 127.0.0.1 5060
		hold "new-$by" --to 127.0.0.1:5060 --procs 1 --connects 2
		degraded "cgroup $CGROUP/service was made anew and isn't attached to"
		: >"$TMP/events"
		if [[ $by == run ]]; then
			run_start
			wait_for 5 well
			wait_for 5 json_eq length 2 events '.event == "connected" and .adopted'
			bg_end "$READER"
		else
			exits 0 sk apply -c "$TMP/sipkeep.conf"
			prints "~ cgroup $CGROUP/service: attached sockops, sock_release, setsockopt, post_bind4, post_bind6, ingress, connect4, connect6"
			exits 0 sk apply -c "$TMP/sipkeep.conf"
			prints "nothing to change"
		fi
		well || die "$(<"$TMP/status")"
		json_eq '[.transports[] | [.adopted, .keepalive.idle]]' '[[true,77],[true,77]]' sk transports -j
		wait_for 20 is 2 source_field phones 127.0.0.1 active
		verified || die "$(<"$TMP/verify.json")"
		release "old-$by"
		release "new-$by"
		nothing_left phones
		service_end
		sk unload >/dev/null
	done
	nothing_loaded
}

# ---- apply ----------------------------------------------------------------------------------------------------------

# guarding PATH...: the config with these cgroups, below the test's own.
guarding() {
	local list
	list=$(printf "\"$CGROUP%s\", " "$@")
	echo "cgroups = [ ${list%, } ]; $PHONES" >"$TMP/sipkeep.conf"
	chmod 0644 "$TMP/sipkeep.conf"
}

# serve_at CGROUP NAME ADDR PORT
serve_at() {
	CGROUP_DIR=$CGROUP_DIR$1 serve "${@:2}"
}

at() {
	bpftool -j cgroup list "$CGROUP_DIR$1" | jq -r '.[]?.name' | sort | paste -sd ' '
}

test_apply_changes_the_cgroups() {
	traffic_begin
	mkdir "$CGROUP_DIR/a" "$CGROUP_DIR/b" "$CGROUP_DIR/c"
	guarding /a /b
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	serve_at /a a 127.0.0.1 5060
	serve_at /b b 127.0.0.2 5060
	serve_at /c c 127.0.0.3 5060
	hold a --to 127.0.0.1:5060 --from 127.0.1.1 --procs 1 --connects 2
	hold b --to 127.0.0.2:5060 --from 127.0.1.2 --procs 1 --connects 2
	hold c --to 127.0.0.3:5060 --from 127.0.1.3 --procs 1 --connects 5
	guarding /b /c
	exits 0 sk apply -c "$TMP/sipkeep.conf" --dry-run
	prints "- cgroup $CGROUP/a" "+ cgroup $CGROUP/c" "nothing was changed"
	[[ $(at /a) == "$HOOKS" && -z $(at /c) ]]
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	[[ $(<"$TMP/out") == "- cgroup $CGROUP/a"$'\n'"+ cgroup $CGROUP/c" ]] || die "$(<"$TMP/out")"
	[[ -z $(at /a) && $(at /b) == "$HOOKS" && $(at /c) == "$HOOKS" ]]
	json_eq .cgroups "[\"$CGROUP/b\",\"$CGROUP/c\"]" eval 'sk status -j || true'
	# What was open in the new one is counted, what is in the old one isn't any more, and goes on.
	is 5 source_field phones 127.0.1.3 active
	is 2 source_field phones 127.0.1.2 active
	is 0 source_field phones 127.0.1.1 active
	is 7 policy_field phones .active
	verified || die "$(<"$TMP/verify.json")"
	is 2 count a open
	burst a2 --to 127.0.0.1:5060 --from 127.0.1.1 --procs 1 --connects 6
	is 6 got a2 served
	burst a3 --to 127.0.0.1:5060 --from 127.0.1.3 --procs 1 --connects 1
	is 1 got a3 served # no listener of ours: nobody's limit
	burst c2 --to 127.0.0.3:5060 --from 127.0.1.3 --procs 1 --connects 1
	is 1 got c2 refused
	degraded "the listener at 127.0.0.1:5060 is in none of the attached cgroups"
	# And back, while those are open still.
	guarding /a /b
	sk apply -c "$TMP/sipkeep.conf" >/dev/null
	is 2 source_field phones 127.0.1.1 active
	is 0 source_field phones 127.0.1.3 active
	verified || die "$(<"$TMP/verify.json")"
	release a
	release b
	release c
	nothing_left phones
	sk unload >/dev/null
	nothing_loaded
}

# The new one lies in the old, then the other way round: a transport that both cover is counted once.
test_apply_narrows_and_widens() {
	local i
	traffic_begin
	mkdir "$CGROUP_DIR/a" "$CGROUP_DIR/b"
	guarding ''
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	serve_at /a a 127.0.0.1 5060
	serve_at /b b 127.0.0.2 5060
	hold a --to 127.0.0.1:5060 --from 127.0.1.1 --procs 1 --connects 2
	hold b --to 127.0.0.2:5060 --from 127.0.1.2 --procs 1 --connects 2
	# shellcheck disable=SC2016 # for the inner bash
	bg bash -c 'while "$0" --to 127.0.0.1:5060 --from 127.0.1.4 --procs 1 --connects 3 && "$0" --to 127.0.0.2:5060 \
		--from 127.0.1.5 --procs 1 --connects 3; do :; done >>"$1"' "$TOOLS/burst" "$TMP/bursts"
	for i in {1..5}; do
		guarding /a
		sk apply -c "$TMP/sipkeep.conf" >/dev/null
		[[ -z $(at '') && -z $(at /b) && $(at /a) == "$HOOKS" ]]
		is 2 source_field phones 127.0.1.1 active
		is 0 source_field phones 127.0.1.2 active
		guarding ''
		sk apply -c "$TMP/sipkeep.conf" >/dev/null
		[[ $(at '') == "$HOOKS" && -z $(at /a) ]]
		is 2 source_field phones 127.0.1.1 active
		is 2 source_field phones 127.0.1.2 active
	done
	bg_end "$BG" || true
	[[ -s $TMP/bursts ]]
	wait_for 10 is 4 policy_field phones .active
	verified || die "$(<"$TMP/verify.json")"
	release a
	release b
	nothing_left phones
}

# All or nothing: a program in the way at one of the new ones.
test_apply_that_can_not_attach_changes_nothing() {
	traffic_begin
	mkdir "$CGROUP_DIR/a" "$CGROUP_DIR/b" "$CGROUP_DIR/c"
	guarding /a
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	guarding /b /c
	serve_at /a a 127.0.0.1 5060
	hold a --to 127.0.0.1:5060 --procs 1 --connects 2
	bpftool cgroup attach "$CGROUP_DIR/c" sock_ops pinned "$PINS/$INSTANCE/prog_on_drain" # alone
	fails_well 1 "$CGROUP/c" "BPF_F_ALLOW_MULTI" "on_drain" -- sk apply -c "$TMP/sipkeep.conf"
	[[ $(at /a) == "$HOOKS" && -z $(at /b) ]]
	json_eq .cgroups "[\"$CGROUP/a\"]" sk status -j
	is 2 policy_field phones .active
	verified || die "$(<"$TMP/verify.json")"
	release a
	nothing_left phones
}

# ---- what status and apply make of damage -------------------------------------------------------------------------

test_a_namespace_without_sk_lookup() {
	local inode
	traffic_begin
	conf <<<"$PHONES"
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	# Nobody runs: it comes up unseen, and is guarded by the cgroup's hooks alone.
	container one
	serve_in one pbx 127.0.0.1 5060
	inode=$(container_inode one)
	degraded "the listener at 127.0.0.1:5060 in network namespace $inode has no sk_lookup"
	hold_in one some --to 127.0.0.1:5060 --procs 1 --connects 3
	is 3 got some served
	burst_in one more --to 127.0.0.1:5060 --procs 1 --connects 1 --timeout 2
	is 1 got more pending
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	prints "+ sk_lookup in network namespace $inode"
	well || die "$(<"$TMP/status")"
	burst_in one more --to 127.0.0.1:5060 --procs 1 --connects 1
	is 1 got more refused
	# A listener there that no guarded cgroup has.
	bg in_container one "$TOOLS/server" 127.0.0.2 5060 >"$TMP/outside.out"
	wait_for 20 grep -q listening "$TMP/outside.out"
	degraded "the listener at 127.0.0.2:5060 in network namespace $inode is in none of the attached cgroups"
	bg_end "$BG" || true
	release some
	nothing_left phones
}

test_apply_mends_what_was_detached() {
	conf <<<"$PHONES"
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	rm "$PINS/$INSTANCE/"link_on_ingress_* "$PINS/$INSTANCE/"link_on_sk_lookup_*
	degraded "ingress is attached to 0 of 1 cgroups; 'sipkeep apply' attaches it"
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	prints "~ cgroup $CGROUP: attached ingress" "+ sk_lookup in network namespace"
	well || die "$(<"$TMP/status")"
	[[ $(programs) == "$HOOKS" ]]
}

# A path that doesn't fit its map is refused before anything is loaded.
test_a_path_too_long() {
	local long
	long=$(printf '/%.0s%0200d' 1 1 2 2 3 3 4 4 5 5 6 6)
	echo "cgroups = [ \"$long\" ]; $PHONES" >"$TMP/sipkeep.conf"
	exits 2 sk load -c "$TMP/sipkeep.conf"
	tells "is too long"
	conf <<<"$PHONES"
	fails_well 1 "1023 bytes" -- sk load -c "$TMP/sipkeep.conf" --cgroup "$long"
	nothing_loaded
}

is_locked() {
	! flock --nonblock "$PINS/$INSTANCE" true
}

# While somebody else changes the instance, `run` waits, and doesn't stop reading.
test_the_lock_is_waited_for() {
	mkdir "$CGROUP_DIR/service"
	service
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	run_start
	rmdir "$CGROUP_DIR/service"
	bg flock --close "$PINS/$INSTANCE" sleep infinity
	wait_for 5 is_locked
	mkdir "$CGROUP_DIR/service"
	sleep 0.5
	[[ -z $(hooks) ]]
	bg_end "$BG" || true
	wait_for 5 is "$HOOKS" hooks
	bg_end "$READER"
}

# ---- attached by systemd ------------------------------------------------------------------------------------------

# What systemd does with BPFProgram=, in the same words: TYPE for bpftool, NAME of the program.
systemd_attaches() {
	local type name
	while read -r type name; do
		bpftool cgroup attach "$CGROUP_DIR/service" "$type" pinned "$PINS/$INSTANCE/prog_on_$name" multi
	done <<-PROGRAMS
		sock_ops sockops
		ingress ingress
		connect4 connect4
		connect6 connect6
		setsockopt setsockopt
		post_bind4 post_bind4
		post_bind6 post_bind6
	PROGRAMS
}

# Whichever comes first, systemd or `run`: nothing is counted twice, and the hook systemd has no name for is attached.
test_programs_that_systemd_attached() {
	local order
	traffic_begin
	for order in before after; do
		mkdir "$CGROUP_DIR/service"
		service
		sk load -c "$TMP/sipkeep.conf" >/dev/null
		rmdir "$CGROUP_DIR/service"
		[[ $order == before ]] || run_start
		mkdir "$CGROUP_DIR/service"
		[[ $order == before ]] || wait_for 5 is "$HOOKS" hooks
		systemd_attaches
		in_service serve pbx 127.0.0.1 5060
		# Both of them, for now, when systemd came second.
		hold one --to 127.0.0.1:5060 --procs 1 --connects 2
		[[ $order == after ]] || run_start
		wait_for 15 is "$HOOKS" hooks
		well || die "$(<"$TMP/status")"
		[[ $(grep -c "by another than sipkeep" "$TMP/status") == 7 ]] || die "$(<"$TMP/status")"
		hold two --to 127.0.0.1:5060 --procs 1 --connects 3
		is 1 got two served
		is 2 got two refused
		is 3 source_field phones 127.0.0.1 active
		verified || die "$(<"$TMP/verify.json")"
		release one
		release two
		nothing_left phones
		serve_end pbx
		wait_for 10 json_eq length 0 bpftool -j map dump pinned "$PINS/$INSTANCE/listeners"
		bg_end "$READER"
		sk unload >/dev/null
		is '' hooks
		rmdir "$CGROUP_DIR/service"
	done
}

# ---- what a removed cgroup leaves behind --------------------------------------------------------------------------

# A server that writes more than the client takes and is killed: its socket goes on without it, in no cgroup's list.
deaf_client() {
	exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:5060") or die; $| = 1;
		print "open\n"; sleep 1000'
}

flood_server() {
	exec perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1:5060", Listen => 5, ReuseAddr => 1)
		or die; $| = 1; print "listening\n"; my $c = $l->accept; $c->blocking(0);
		while (defined $c->syswrite("x" x 65536)) { } print "full\n"; sleep 1000'
}

test_sockets_that_outlive_their_cgroup_are_counted_to_their_end() {
	local client
	mkdir "$CGROUP_DIR/service"
	service
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	run_start
	bg in_service in_cgroup flood_server >"$TMP/flood.out"
	SERVERS[pbx]=$BG
	wait_for 10 grep -q listening "$TMP/flood.out"
	bg deaf_client >"$TMP/deaf.out"
	client=$BG
	wait_for 10 grep -q full "$TMP/flood.out"
	is 1 source_field phones 127.0.0.1 active
	service_end
	ss -Htn state fin-wait-1 sport = :5060 | grep -q . || skip "the kernel kept no orphan"
	is 1 source_field phones 127.0.0.1 active
	verified || die "away: $(<"$TMP/verify.json")"
	mkdir "$CGROUP_DIR/service"
	wait_for 5 is "$HOOKS" hooks
	well || die "$(<"$TMP/status")"
	# Of the old cgroup, and counted and listed still.
	is 1 source_field phones 127.0.0.1 active
	json_eq '[.transports[].state]' '["FIN_WAIT1"]' sk transports -j
	verified || die "back: $(<"$TMP/verify.json")"
	in_service serve pbx 127.0.0.1 5060
	hold some --to 127.0.0.1:5060 --procs 1 --connects 4
	is 2 got some served
	verified || die "with both: $(<"$TMP/verify.json")"
	# Its end is seen: the client's reset.
	bg_end "$client" KILL || true
	wait_for 10 is 2 source_field phones 127.0.0.1 active
	wait_for 5 json_eq length 1 events '.event == "destroyed"'
	verified || die "after: $(<"$TMP/verify.json")"
	release some
	nothing_left phones
	# The old cgroup's links go when its last socket has.
	wait_for 20 is 8 cgroup_pins
	bg_end "$READER"
}

# ---- what the unit may do -----------------------------------------------------------------------------------------

# A PBX of another user, in a namespace of its own, seen with the capabilities that the unit leaves.
nobody_main() {
	echo "$BASHPID" >"$CGROUP_DIR/cgroup.procs"
	exec unshare --net bash -c 'ip link set lo up; echo up; exec setpriv --reuid=65534 --regid=65534 --clear-groups sleep 1000'
}

bounded() {
	local unit=$here/../../deploy/systemd/sipkeep.service set
	set=$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | sed 's/CAP_/+/g; s/ /,/g' | tr '[:upper:]' '[:lower:]')
	setpriv --bounding-set "-all,$set" "$@"
}

test_the_capabilities_of_the_unit_are_enough() {
	traffic_begin
	conf <<<"$PHONES"
	bg nobody_main >"$TMP/one.container"
	CONTAINERS[one]=$BG
	wait_for 20 grep -q up "$TMP/one.container"
	serve_in one pbx 127.0.0.1 5060
	wait_for 10 is 65534 stat -c %u "/proc/${CONTAINERS[one]}"
	hold_in one some --to 127.0.0.1:5060 --procs 1 --connects 2
	bounded "$SIPKEEP" load --instance "$INSTANCE" -c "$TMP/sipkeep.conf" >"$TMP/load.log"
	bounded "$SIPKEEP" status --instance "$INSTANCE" >"$TMP/status" || die "$(<"$TMP/status")"
	grep -q "network namespace $(container_inode one)" "$TMP/status" || die "$(<"$TMP/status")"
	is 2 source_field phones 127.0.0.1 active
	bounded "$SIPKEEP" verify --instance "$INSTANCE"
	release some
}
