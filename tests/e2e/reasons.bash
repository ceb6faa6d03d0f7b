# shellcheck shell=bash
# reasons.bash: every way to end (tests/tools/endings.c), between the test's own network namespace, which is guarded, and
# one that stands for the rest of the world. Sourced after e2e.bash.

HERE4=192.0.2.1 HERE6=2001:db8:a::1
THERE4=198.51.100. THERE6=2001:db8:c::

# The peers: a namespace behind a link, with the addresses $THERE4 and $THERE6 1 to 5; what is behind its own second link
# can't be reached.
peers_begin() {
	bg unshare --net bash -c 'echo up; exec sleep infinity' >"$TMP/peers"
	PEERS=/proc/$BG/ns/net
	wait_for 10 grep -q up "$TMP/peers"
	ip link add here type veth peer name there netns "$BG"
	ip address add "$HERE4/24" dev here
	ip address add "$HERE6/64" dev here nodad
	ip link set here up
	ip route add "${THERE4}0/24" via 192.0.2.254
	there link add behind type veth peer name nowhere
	there address add 192.0.2.254/24 dev there
	there address add 2001:db8:a::fe/64 dev there nodad
	for n in 1 2 3 4 5; do
		there address add "$THERE4$n/32" dev there
		there address add "$THERE6$n/128" dev there nodad
	done
	# What early demux gave to a socket isn't forwarded. ICMP errors for all, and soon.
	there_set ipv4.ip_early_demux=0 ipv4.ip_forward=1 ipv6.conf.all.forwarding=1 ipv4.icmp_ratemask=0 \
		ipv6.icmp.ratelimit=0 ipv{4,6}.neigh.behind.{mcast_solicit=1,retrans_time_ms=20}
	# Small, so that a window is soon closed.
	there_set ipv4.tcp_rmem="4096 16384 16384"
	there link set lo up
	there link set there up
	there link set nowhere up
	there link set behind up
	ip route add "$THERE6/64" via 2001:db8:a::fe
	# A path that is cut is given up after about 3 s.
	sysctl -qw net.ipv4.tcp_retries2=3
}

there() {
	nsenter --net="$PEERS" ip "$@"
}

there_set() {
	nsenter --net="$PEERS" sysctl -qw "${@/#/net.}"
}

# The paths as endings wants them. Behind a router's last link nobody answers: it sends ICMP errors.
paths_change() {
	local address
	for address in "${THERE4}2/32" "${THERE6}2/128"; do
		there address delete "$address" dev there
		there route add blackhole "$address"
	done
	for address in "${THERE4}3/32" "${THERE6}3/128"; do
		there address delete "$address" dev there
		there route add "$address" dev behind
	done
	ss -HKt dst "${THERE4}4" >/dev/null
	ss -HKt dst "[${THERE6}4]" >/dev/null
	nsenter --net="$PEERS" ss -HKt src "${THERE4}5" >/dev/null
	nsenter --net="$PEERS" ss -HKt src "[${THERE6}5]" >/dev/null
}

run_endings() {
	exec "$TOOLS/endings" --peer "$PEERS" --here "$HERE4,$HERE6" --there "$THERE4,$THERE6" "$@" <"$TMP/go" >"$TMP/expected"
}

endings_open() {
	bg_running "$ENDINGS" || die "endings failed: see above"
	grep -qx open "$TMP/expected"
}

endings_told() {
	bg_running "$ENDINGS" || die "endings failed: see above"
	(($(grep -c '"disconnected"' "$TMP/events") >= $1))
}

# guarded_endings COUNT [OPTION...]: opens COUNT of each case, guarded, and ends them.
guarded_endings() {
	peers_begin
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060, 5062 ]; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5061, 5063 ]; } );
	CONFIG
	mkfifo "$TMP/go"
	bg in_cgroup run_endings --count "$@"
	ENDINGS=$BG
	exec {GO}>"$TMP/go"
	wait_for $((30 + $1 * 4)) endings_open
	paths_change
	echo go >&"$GO"
}

endings_end() {
	echo end >&"$GO"
	bg_wait "$ENDINGS" || die "endings ended with $?"
}

# endings_told_all COUNT [OPTION...]: the same, until all is told and gone; $TMP/events and $TMP/expected.
endings_told_all() {
	local total
	guarded_endings "$@"
	reader_start
	total=$(grep -c '"case"' "$TMP/expected")
	wait_for $((30 + $1 * 2)) endings_told "$total"
	endings_end
	nothing_left phones carrier
	reader_stop
}

# reasons_are_right COUNT: each case COUNT times in each direction over each address family; prints a table.
reasons_are_right() {
	endings_told_all "$1"
	judge
}

# Each connection expected has one `disconnected`, which says what it must.
judge() {
	grep -v '^open$' "$TMP/expected" |
		jq -rn --slurpfile events <(jq -c 'select(.event == "disconnected")' "$TMP/events") '
		($events | group_by("\(.local) \(.remote)") | map({key: "\(.[0].local) \(.[0].remote)", value: .}) | from_entries)
			as $told |
		[inputs | . as $want | ($told["\(.local) \(.remote)"] // []) as $got | . + {
			found: ($got | map("\(.reason), closed by \(.closed_by)") | join("; ")),
			right: (($got | length) == 1 and $got[0].reason == $want.reason and
				$got[0].closed_by == $want.closed_by and $got[0].direction == $want.direction)}] |
		(group_by(.case) | sort_by(.[0].reason) | .[] | . as $all |
			[$all[0].case, (map(.reason) | unique | join(", "))] + [("inbound", "outbound") as $d | (4, 6) as $f |
				$all | map(select(.direction == $d and .family == $f)) |
				"\(map(select(.right)) | length)/\(length)"] | @tsv),
		"right: \(map(select(.right)) | length) of \(length)",
		(map(select(.right | not)) | .[:20][] | "WRONG \(.case) \(.direction) \(.local) \(.remote): \(.found)")' >"$TMP/table"
	{
		printf 'case\treason\tin 4\tin 6\tout 4\tout 6\n'
		cat "$TMP/table"
	} | column -t -s $'\t'
	if grep -q ^WRONG "$TMP/table"; then
		die "wrong: see above"
	fi
	grep -q '^right: [1-9]' "$TMP/table"
}
