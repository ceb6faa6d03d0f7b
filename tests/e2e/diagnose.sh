#!/bin/bash
# diagnose.sh: what the diagnosis makes of real sockets. Its rules and their limits are in tests/unit/test_diagnose.c.
# shellcheck source=../lib/lib.sh
. "$(dirname "$(realpath "$0")")/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$(dirname "$(realpath "$0")")/e2e.bash"
# shellcheck source=reasons.bash
. "$(dirname "$(realpath "$0")")/reasons.bash"

# reloader ADDR PORT: a server that listens anew for each line it reads: "keep" what was accepted, or close "all" of it,
# once the listener is closed.
reloader() {
	cat >"$TMP/reloader.pl" <<-'PERL'
		use strict; use warnings; use IO::Select; use IO::Socket::IP;
		my ($addr, $port) = @ARGV;
		$| = 1;
		sub listener { IO::Socket::IP->new(LocalHost => $addr, LocalPort => $port, Listen => 100, ReuseAddr => 1) or die $@ }
		my ($listener, @accepted, $byte, $order) = (listener());
		print "listening\n";
		while (1) {
			for my $ready (IO::Select->new($listener, \*STDIN)->can_read()) {
				if ($ready == $listener) {
					my $client = $listener->accept();
					syswrite $client, $byte if sysread $client, $byte, 1;
					push @accepted, $client;
				} else {
					exit 0 unless sysread STDIN, $order, 100;
					close $listener;
					@accepted = () if $order =~ /all/;
					$listener = listener();
				}
			}
		}
	PERL
	exec perl "$TMP/reloader.pl" "$@"
}

restarts() {
	is "$1" eval "events '.event == \"listener_restart\"' | jq length"
}

gone() {
	is "$1" eval "events '.event == \"destroyed\"' | jq length"
}

# reloads ADDR: three transports are open at the first restart, and go with the second.
reloads() {
	local address=$1 to=$1
	[[ $address != *:* ]] || to="[$address]"
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5070 ]; } );
	CONFIG
	reader_start
	mkfifo "$TMP/orders"
	exec {orders}<>"$TMP/orders" # waits for no other end
	bg in_cgroup reloader "$address" 5060 <"$TMP/orders" >"$TMP/reloader"
	wait_for 20 grep -q listening "$TMP/reloader"
	serve other "$address" 5070
	hold phones --to "$to:5060" --procs 1 --connects 3
	hold others --to "$to:5070" --procs 1 --connects 2
	echo keep >&"$orders"
	wait_for 20 restarts 1
	echo all >&"$orders"
	wait_for 20 restarts 2
	release phones
	release others
	wait_for 20 gone 5
	reader_stop
	jq -es --arg local "$to:5060" 'map(select(.event == "listener_restart")) |
		all(.[]; .local == $local and .protocol == "tcp" and .open == 3 and .gap_ms >= 0 and .gap_ms <= 2000)' \
		"$TMP/events" >/dev/null || die "$(events '.event == "listener_restart"')"
	# Each tells of the listener_up before it.
	jq -es '. as $all | to_entries | map(select(.value.event == "listener_restart")) |
		all(.[]; $all[.key - 1] as $up | $up.event == "listener_up" and $up.id == .value.id and $up.seq + 1 == .value.seq)' \
		"$TMP/events" >/dev/null || die "$(<"$TMP/events")"
	jq -es 'map(select(.event == "disconnected" or .event == "destroyed")) | group_by(.id) |
		all(.[]; .[0].cause == (if .[0].local | endswith(":5060") then "listener_restart" else null end) and
			.[1].cause == .[0].cause) and length == 5' "$TMP/events" >/dev/null ||
		die "$(events '.event == "disconnected" or .event == "destroyed"')"
}

test_a_reload_over_ipv4() {
	reloads 127.0.0.1
}

test_a_reload_over_ipv6() {
	reloads ::1
}

test_a_reload_on_all_addresses() {
	reloads ::
}

# caller ADDR: connects for each line it reads, and closes nothing of its own until its input ends. What listens there, in
# another process, closes each connection at once.
caller() {
	exec perl -MIO::Socket::IP -e '$| = 1; my @open;
		while (<STDIN>) { push @open, IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => 5061) or die $@; print "connected\n" }' "$1"
}

closer() {
	exec perl -MIO::Socket::IP -e '$| = 1;
		my $l = IO::Socket::IP->new(LocalHost => $ARGV[0], LocalPort => 5061, Listen => 100, ReuseAddr => 1) or die $@;
		print "listening\n"; while (my $c = $l->accept()) { close $c }' "$1"
}

wedged() {
	is "$1" eval "events '.event == \"wedged\"' | jq length"
}

# wedges ADDR: two connections, each left in CLOSE_WAIT; their ends come when the caller ends.
wedges() {
	traffic_begin
	guard <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5061 ]; wedged_after = 0.3; } );
	CONFIG
	reader_start
	mkfifo "$TMP/orders"
	exec {orders}<>"$TMP/orders"
	bg closer "$1" >"$TMP/closer"
	wait_for 20 grep -q listening "$TMP/closer"
	bg in_cgroup caller "$1" <"$TMP/orders" >"$TMP/caller"
	local caller=$BG
	echo >&"$orders"
	wait_for 20 wedged 1
	echo >&"$orders"
	wait_for 20 wedged 2
	bg_end "$caller" || true
	wait_for 20 gone 2
	reader_stop
	jq -es '[.[] | select(.policy == "carrier")] | group_by(.id) | length == 2 and
		all(.[]; map(.event) == ["connected", "disconnected", "wedged", "destroyed"] and .[2].reason == "peer_fin" and
			.[2].age_ms >= .[1].age_ms + 300 and all(.[1:][]; .cause == null))' "$TMP/events" >/dev/null ||
		die "$(<"$TMP/events")"
	jq -es '[.[].seq] == [range(1; length + 1)]' "$TMP/events" >/dev/null || die "$(<"$TMP/events")"
}

test_wedged_over_ipv4() {
	wedges 127.0.0.1
}

test_wedged_over_ipv6() {
	wedges ::1
}

# caller_of PORTS: connects to $1 from each of these ports; for each line it reads, closes one, the first first.
caller_of() {
	exec perl -MIO::Socket::IP -e '$| = 1; my ($to, @ports) = @ARGV;
		my @open = map { IO::Socket::IP->new(LocalPort => $_, PeerHost => $to, PeerPort => 5061) or die $@ } @ports;
		print "connected\n"; while (<STDIN>) { close shift @open }' "$@"
}

# there_closer: closer, in the peers' namespace.
there_closer() {
	exec nsenter --net="$PEERS" bash -c "$(declare -f closer); closer ${THERE4}1"
}

# What the PBX closes after the peer did isn't wedged, be it that the peer never says that it knows.
test_what_the_pbx_has_closed_is_not_wedged() {
	peers_begin
	guard <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5061 ]; wedged_after = 1.0; } );
	CONFIG
	reader_start
	mkfifo "$TMP/orders"
	exec {orders}<>"$TMP/orders"
	bg there_closer >"$TMP/closer"
	wait_for 20 grep -q listening "$TMP/closer"
	bg in_cgroup caller_of "${THERE4}1" 40001 40002 <"$TMP/orders" >"$TMP/caller"
	wait_for 20 eval "[[ \$(events '.event == \"disconnected\"' | jq length) == 2 ]]"
	# Its FIN doesn't come through.
	ip link set here down
	echo >&"$orders"
	wait_for 20 eval "ss -Htn state last-ack | grep -q :40001"
	wait_for 20 wedged 1
	ss -Htn state last-ack | grep -q :40001 || die "it is gone: $(ss -Htan)"
	is "$HERE4:40002" eval "events '.event == \"wedged\"' | jq -r '.[].local'"
}
