#!/bin/bash
# keepalive.sh: the policy's keepalive on accepted and outgoing sockets, as the application, ss and sipkeep see it.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

# The system's own, unlike any other number here.
SYSTEM_IDLE=7100 SYSTEM_INTVL=71 SYSTEM_CNT=11

# begin: the system's defaults, the addresses, and the program that stands for a PBX: it listens or connects and does to
# its socket what it is told on stdin: "get", "set NAME VALUE", "large NAME VALUE" (with far more bytes than the option).
begin() {
	traffic_begin
	sysctl -qw net.ipv4.tcp_keepalive_time=$SYSTEM_IDLE net.ipv4.tcp_keepalive_intvl=$SYSTEM_INTVL \
		net.ipv4.tcp_keepalive_probes=$SYSTEM_CNT
	cat >"$TMP/pbx.pl" <<-'PERL'
		use strict; use Socket qw(:all);
		my %options = (on => [SOL_SOCKET, SO_KEEPALIVE], idle => [6, 4], intvl => [6, 5], cnt => [6, 6],
			timeout => [6, 18], sndbuf => [SOL_SOCKET, SO_SNDBUF], nodelay => [6, 1]);
		my ($how, $address, $port, $from) = @ARGV;
		my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
		sub place { my ($a, $p) = @_; my $n = inet_pton($family, $a);
			return $family == AF_INET6 ? pack_sockaddr_in6($p, $n) : pack_sockaddr_in($p, $n) }
		$| = 1;
		my ($s, $c);
		socket($s, $family, SOCK_STREAM, 0) or die "socket: $!";
		setsockopt($s, SOL_SOCKET, SO_REUSEADDR, pack("i", 1));
		if ($how eq "listen") {
			bind($s, place($address, $port)) && listen($s, 8) or die "listen: $!";
			print "listening\n";
			accept($c, $s) or die "accept: $!";
			my $byte;
			sysread($c, $byte, 1) && syswrite($c, $byte) or die "echo: $!";
		} else {
			!$from || bind($s, place($from, 0)) or die "bind: $!";
			connect($s, place($address, $port)) or die "connect: $!";
			$c = $s;
		}
		print "connected\n";
		while (<STDIN>) {
			my ($what, $name, $value) = split;
			if ($what eq "get") {
				print join(" ", map { unpack("i", getsockopt($c, $_->[0], $_->[1])) }
					@options{qw(on idle intvl cnt timeout)}), "\n";
			} elsif ($what eq "getone") {
				print unpack("i", getsockopt($c, $options{$name}[0], $options{$name}[1])), "\n";
			} else {
				my $data = pack("i", $value) . ($what eq "large" ? "\0" x 10000 : "");
				print setsockopt($c, $options{$name}[0], $options{$name}[1], $data) ? "ok" : "$!", "\n";
			}
		}
	PERL
}

declare -A PBX_IN=() PBX_OUT=()
# pbx NAME listen|connect ADDRESS PORT [FROM]: in the cgroup, or as PBX_BORN says.
pbx() {
	local name=$1 in out
	mkfifo "$TMP/$name.in" "$TMP/$name.reply"
	exec {in}<>"$TMP/$name.in" {out}<>"$TMP/$name.reply"
	PBX_IN[$name]=$in PBX_OUT[$name]=$out
	# shellcheck disable=SC2086,SC2217 # none, or one word; perl reads it
	bg ${PBX_BORN-in_cgroup} perl "$TMP/pbx.pl" "${@:2}" <"$TMP/$name.in" >"$TMP/$name.reply"
	hears "$name" "$([[ $2 == listen ]] && echo listening || echo connected)"
}

# hears NAME LINE: that is what it says next.
hears() {
	local line
	read -r -t "$(patience 20)" line <&"${PBX_OUT[$1]}" || die "$1 says nothing; it should: $2"
	[[ $line == "$2" ]] || die "$1 says '$line', not '$2'"
}

# asks NAME LINE COMMAND: so it answers.
asks() {
	echo "${*:3}" >&"${PBX_IN[$1]}"
	hears "$1" "$2"
}

# has NAME "ON IDLE INTERVAL COUNT TIMEOUT_MS"
has() {
	asks "$1" "$2" get
}

# called NAME ADDRESS PORT [FROM]: a phone of the test's, outside of the cgroup, calls the listening pbx NAME.
called() {
	hold "phone_$1" --to "$2:$3" ${4:+--from "$4"} --procs 1 --connects 1
	hears "$1" connected
}

# lists PORT [ON,IDLE,INTERVAL,COUNT,TIMEOUT]: what `transports` says of the ones with this local or remote port.
lists() {
	json_eq '[.transports[] | select((.local, .remote) | endswith(":'"$1"'")) | .keepalive |
		[.on, .idle, .interval, .count, .user_timeout]] | unique' "[[$2]]" sk transports -j
}

# seconds ADDRESS PORT: until the next probe of the connections with this local end, as ss, which knows nothing of sipkeep,
# sees it.
seconds() {
	local host=$1
	[[ $host != *:* ]] || host="[$host]"
	ss -Htno state established "( src $host and sport = :$2 )" | awk '{
		seconds = "off"
		if (match($0, /timer:\(keepalive,[^,]*,/)) {
			text = substr($0, RSTART + 17, RLENGTH - 18); seconds = 0
			if (match(text, /^[0-9]+min/)) { seconds = 60 * substr(text, 1, RLENGTH - 3); text = substr(text, RLENGTH + 1) }
			seconds += int(text)
		}
		print seconds
	}'
}

# probes_in ADDRESS PORT LEAST MOST
probes_in() {
	local found
	found=$(seconds "$1" "$2")
	[[ $found =~ ^[0-9]+$ && $found -ge $3 && $found -le $4 ]] || die "ss: next probe on $1 port $2 in '$found' s, not $3 to $4"
}

test_accepted_sockets() {
	local address
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; tcp_keepalive = true;
		  tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; tcp_user_timeout = 4.5; } );
	CONFIG
	pbx four listen 127.0.0.1 5060
	called four 127.0.0.1 5060
	has four "1 60 10 6 4500"
	probes_in 127.0.0.1 5060 30 60
	pbx six listen "$V6_A1" 5060
	called six "[$V6_A1]" 5060 "$V6_B1"
	has six "1 60 10 6 4500"
	probes_in "$V6_A1" 5060 30 60
	lists 5060 true,60,10,6,4.5
	is 2 policy_field phones .keepalive.set
	is 0 policy_field phones .keepalive.failed
	# An IPv4 phone at an IPv6 listener.
	pbx mapped listen :: 5061
	called mapped 127.0.0.1 5061
	has mapped "0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0"
}

test_v4_mapped_listener() {
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "127.0.0.0/8" ];
		  tcp_keepalive = true; tcp_keepidle = 61; tcp_user_timeout = 3; } );
	CONFIG
	pbx mapped listen :: 5060
	called mapped 127.0.0.1 5060
	has mapped "1 61 $SYSTEM_INTVL $SYSTEM_CNT 3000"
}

test_outgoing_sockets() {
	begin
	guard <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5080 ]; tcp_keepalive = true;
		  tcp_keepidle = 30; tcp_keepintvl = 5; tcp_keepcnt = 3; tcp_user_timeout = 20; } );
	CONFIG
	for address in 127.0.0.1 "$V6_A1"; do
		bg "$TOOLS/server" "$address" 5080 >"$TMP/$address.out"
		wait_for 20 grep -q listening "$TMP/$address.out"
	done
	bg "$TOOLS/server" 127.0.0.1 5081 >"$TMP/other.out"
	wait_for 20 grep -q listening "$TMP/other.out"
	pbx four connect 127.0.0.1 5080 127.0.0.5
	has four "1 30 5 3 20000"
	probes_in 127.0.0.5 "$(ss -Htn state established 'src 127.0.0.5' | awk '{ sub(/.*:/, "", $3); print $3; exit }')" 10 30
	pbx six connect "$V6_A1" 5080 "$V6_A2"
	has six "1 30 5 3 20000"
	lists 5080 true,30,5,3,20
	# Another port of the same carrier, and a socket outside of the cgroup, are nobody's business.
	pbx other connect 127.0.0.1 5081
	has other "0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0"
	PBX_BORN='' pbx outside connect 127.0.0.1 5080
	has outside "0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0"
	is 2 policy_field carrier .keepalive.set
}

# Each option by itself; what isn't named keeps the system's value.
test_each_option_alone() {
	local port=5060 setting wanted
	begin
	{
		echo 'policies = ('
		while read -r setting wanted; do
			port=$((port + 1))
			echo "{ name = \"p$port\"; direction = \"inbound\"; local_ports = [ $port ]; $setting = ${wanted%%,*}; },"
		done <<-SETTINGS
			tcp_keepalive true
			tcp_keepidle 62
			tcp_keepintvl 12
			tcp_keepcnt 7
			tcp_user_timeout 1.5
		SETTINGS
		echo '{ name = "none"; direction = "inbound"; local_ports = [ 5060 ]; } );'
	} | guard
	port=5060
	while read -r wanted; do
		pbx "p$port" listen 127.0.0.1 "$port"
		called "p$port" 127.0.0.1 "$port"
		has "p$port" "$wanted"
		port=$((port + 1))
	done <<-WANTED
		0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0
		1 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0
		0 62 $SYSTEM_INTVL $SYSTEM_CNT 0
		0 $SYSTEM_IDLE 12 $SYSTEM_CNT 0
		0 $SYSTEM_IDLE $SYSTEM_INTVL 7 0
		0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 1500
	WANTED
	# On, with the system's times: probes in two hours, or here in 7100 s.
	probes_in 127.0.0.1 5061 7000 7100
	[[ $(seconds 127.0.0.1 5060) == off ]]
	[[ $(seconds 127.0.0.1 5062) == off ]]
	# The policy without options sets nothing and counts nothing.
	is 0 policy_field none .keepalive.set
	is 1 policy_field p5061 .keepalive.set
}

# Keepalive that the listener's own setting would bring can be switched off.
test_false_switches_it_off() {
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; tcp_keepalive = false; } );
	CONFIG
	serve pbx 127.0.0.1 5060 --setsockopt-on-listener keepalive=1,keepidle=50
	hold phone --to 127.0.0.1:5060 --procs 1 --connects 1
	lists 5060 "false,50,$SYSTEM_INTVL,$SYSTEM_CNT,0"
	[[ $(seconds 127.0.0.1 5060) == off ]]
}

test_policy_by_prefix_and_port() {
	local from wanted
	begin
	guard <<-CONFIG
		policies = (
		  { name = "any"; direction = "inbound"; tcp_keepidle = 101; },
		  { name = "net"; direction = "inbound"; remotes = [ "127.1.0.0/16", "2001:db8:a::/48" ]; tcp_keepidle = 102; },
		  { name = "host"; direction = "inbound"; remotes = [ "127.1.2.3", "2001:db8:a::2" ]; tcp_keepidle = 103; },
		  { name = "port"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "127.0.0.0/8" ]; tcp_keepidle = 104; },
		  { name = "port6"; direction = "inbound"; local_ports = [ 5060 ]; remotes = [ "2001:db8:b::/64" ]; tcp_keepidle = 105; }
		);
	CONFIG
	serve sip 127.0.0.1 5060
	serve other 127.0.0.1 5070
	serve sip6 "$V6_A1" 5060
	# PORT FROM IDLE: an exact port beats any port, then the longest prefix wins.
	while read -r port from wanted; do
		case $from in
		*:*) hold "c$port$from" --to "[$V6_A1]:$port" --from "$from" --procs 1 --connects 1 ;;
		*) hold "c$port$from" --to "127.0.0.1:$port" --from "$from" --procs 1 --connects 1 ;;
		esac
		json_eq '[.transports[] | select((.local | endswith(":'"$port"'")) and (.remote | contains("'"$from"'"))) | .keepalive.idle]' \
			"[$wanted]" sk transports -j
	done <<-CASES
		5070 127.0.0.9 101
		5070 127.1.9.9 102
		5070 127.1.2.3 103
		5060 127.0.0.9 104
		5060 127.1.2.3 104
		5060 2001:db8:b::1 105
		5060 2001:db8:a::1 102
		5060 2001:db8:a::2 103
	CASES
}

test_default_mode_leaves_the_pbx_the_last_word() {
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; tcp_keepalive = true; tcp_keepidle = 60;
		  tcp_keepintvl = 10; tcp_keepcnt = 6; } );
	CONFIG
	serve pbx 127.0.0.1 5060 --setsockopt-after-accept keepidle=300,keepcnt=4,user_timeout=7000
	hold phone --to 127.0.0.1:5060 --procs 1 --connects 3
	is 0 count pbx setsockopt_failed
	lists 5060 true,300,10,4,7
	probes_in_all 127.0.0.1 5060 250 300
	is 0 policy_field phones .keepalive.overridden
}

probes_in_all() {
	local found count=0
	for found in $(seconds "$1" "$2"); do
		[[ $found =~ ^[0-9]+$ && $found -ge $3 && $found -le $4 ]] || die "ss: next probe in $found s"
		count=$((count + 1))
	done
	((count > 0)) || die "ss shows nothing"
}

test_enforce_mode_keeps_what_the_policy_names() {
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5061 ]; keepalive_mode = "enforce";
		  tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; } );
	CONFIG
	serve pbx 127.0.0.1 5060 --setsockopt-after-accept keepalive=0,keepidle=300,keepintvl=30,keepcnt=4,user_timeout=7000
	hold phone --to 127.0.0.1:5060 --procs 1 --connects 3
	# To the PBX it all went well; the timeout, which the policy doesn't name, is its own.
	is 0 count pbx setsockopt_failed
	lists 5060 true,60,10,6,7
	probes_in_all 127.0.0.1 5060 30 60
	is 12 policy_field phones .keepalive.overridden
	pbx six listen "$V6_A1" 5061
	called six "[$V6_A1]" 5061
	asks six ok set idle 999
	asks six ok large cnt 99
	asks six ok set timeout 1234
	asks six ok set nodelay 1
	has six "1 60 10 6 1234"
	asks six 1 getone nodelay
	is 14 policy_field phones .keepalive.overridden
}

test_enforce_on_outgoing_sockets() {
	begin
	guard <<-CONFIG
		policies = ( { name = "carrier"; direction = "outbound"; remote_ports = [ 5080 ]; keepalive_mode = "enforce";
		  tcp_keepalive = true; tcp_keepidle = 30; tcp_user_timeout = 9; } );
	CONFIG
	bg "$TOOLS/server" 127.0.0.1 5080 >"$TMP/carrier.out"
	wait_for 20 grep -q listening "$TMP/carrier.out"
	pbx out connect 127.0.0.1 5080
	asks out ok set on 0
	asks out ok set idle 999
	asks out ok set timeout 1
	asks out ok set intvl 33
	has out "1 30 33 $SYSTEM_CNT 9000"
	is 3 policy_field carrier .keepalive.overridden
}

test_observe_sets_nothing() {
	begin
	guard <<-CONFIG
		mode = "observe";
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; keepalive_mode = "enforce";
		  tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; tcp_user_timeout = 3; } );
	CONFIG
	pbx four listen 127.0.0.1 5060
	called four 127.0.0.1 5060
	has four "0 $SYSTEM_IDLE $SYSTEM_INTVL $SYSTEM_CNT 0"
	[[ $(seconds 127.0.0.1 5060) == off ]]
	asks four ok set idle 222
	has four "0 222 $SYSTEM_INTVL $SYSTEM_CNT 0"
	# What would have been set is counted.
	is 1 policy_field phones .keepalive.set
	is 0 policy_field phones .keepalive.overridden
}

test_adopted_transports_get_it() {
	begin
	pbx four listen 127.0.0.1 5060
	called four 127.0.0.1 5060
	pbx six listen "$V6_A1" 5060
	called six "[$V6_A1]" 5060
	bg "$TOOLS/server" 127.0.0.1 5080 >"$TMP/carrier.out"
	wait_for 20 grep -q listening "$TMP/carrier.out"
	pbx out connect 127.0.0.1 5080
	guard <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; keepalive_mode = "enforce";
		    tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; tcp_user_timeout = 4.5; },
		  { name = "carrier"; direction = "outbound"; remote_ports = [ 5080 ]; tcp_keepalive = true; tcp_keepidle = 30; } );
	CONFIG
	has four "1 60 10 6 4500"
	has six "1 60 10 6 4500"
	has out "1 30 $SYSTEM_INTVL $SYSTEM_CNT 0"
	probes_in 127.0.0.1 5060 30 60
	asks four ok set idle 999
	asks out ok set idle 999
	has four "1 60 10 6 4500"
	has out "1 999 $SYSTEM_INTVL $SYSTEM_CNT 0"
	is 1 policy_field phones .keepalive.overridden
	# Reversible: afterwards the PBX may do what it likes.
	sk unload
	asks four ok set idle 999
	has four "1 999 10 6 4500"
}

# Options longer than what a cgroup program gets to see.
test_large_options_still_work() {
	begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; tcp_keepalive = true; } );
	CONFIG
	pbx four listen 127.0.0.1 5060
	called four 127.0.0.1 5060
	asks four ok large sndbuf 50000
	asks four 100000 getone sndbuf
	asks four ok large nodelay 1
	asks four 1 getone nodelay
	asks four ok large idle 333
	asks four 333 getone idle
	PBX_BORN='' pbx outside connect 127.0.0.1 5060
	asks outside ok large sndbuf 50000
	bg in_cgroup perl -e 'use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); setsockopt(S, SOL_SOCKET, SO_SNDBUF, pack("i", 50000) . "\0" x 10000) or die "$!"'
	bg_wait "$BG"
}
