# shellcheck shell=bash
# e2e.bash: servers, bursts of clients and what sipkeep says of them. Sourced by the e2e tests after lib.sh.
#
# A server is born in the test's cgroup, its clients outside of it. Everything has a NAME; its output is $TMP/NAME.*.

# Room for thousands of handshakes at once, and IPv6 addresses: two in one /64, one in another.
V6_A1=2001:db8:a::1 V6_A2=2001:db8:a::2 V6_B1=2001:db8:b::1
traffic_begin() {
	local address
	sysctl -qw net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535 net.ipv4.tcp_syncookies=1
	for address in "$V6_A1" "$V6_A2" "$V6_B1"; do
		ip address replace "$address/128" dev lo nodad
	done
}

# guard: loads with the configuration on stdin.
guard() {
	conf
	sk load -c "$TMP/sipkeep.conf" >"$TMP/load.log" || die "load: $(<"$TMP/load.log")"
}

# reconfigure: applies the configuration on stdin.
reconfigure() {
	conf
	sk apply -c "$TMP/sipkeep.conf" >"$TMP/apply.log" || die "apply: $(<"$TMP/apply.log")"
}

# reader_start: `sipkeep run` in the background, its events in $TMP/events.
reader_start() {
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >>"$TMP/events"
	READER=$BG
	wait_for 20 test -d "/sys/fs/bpf/sipkeep/$INSTANCE/reader"
}

# reader_stop: what is still in the ring is printed before it ends.
reader_stop() {
	bg_end "$READER" || die "sipkeep run ended with $?"
	READER=
}

declare -A SERVERS=()
# serve NAME ADDR PORT [OPTION...]: a server in the cgroup.
serve() {
	local name=$1
	rm -f "$TMP/$name.out" "$TMP/$name.count"
	bg in_cgroup "$TOOLS/server" "$2" "$3" --backlog 65535 --count-file "$TMP/$name.count" "${@:4}" >"$TMP/$name.out"
	SERVERS[$name]=$BG
	wait_for 20 grep -q listening "$TMP/$name.out"
}

serve_end() {
	bg_end "${SERVERS[$1]}" "${2:-TERM}" || true
	unset "SERVERS[$1]"
}

# count NAME FIELD: accepted, open, peak or bytes of a server.
count() {
	jq ".$2" "$TMP/$1.count" 2>/dev/null
}

# is VALUE COMMAND...: COMMAND prints VALUE.
is() {
	local expected=$1 found
	shift
	found=$("$@") || true
	[[ $found != "$expected" ]] || return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$* is '$found', not '$expected'" >&2
	return 1
}

# burst NAME OPTION...: clients that end at once; what became of them is in $TMP/NAME.json.
burst() {
	"$TOOLS/burst" "${@:2}" >"$TMP/$1.json"
}

# got NAME FIELD: of a burst, a hold, a halfopen.
got() {
	jq ".$2" "$TMP/$1.json"
}

# turned_away NAME: at their SYN; or at their final ACK, when all SYNs of a burst came before the first place was taken.
# Which of the two is for the machine to say, unless the limit was reached before.
turned_away() {
	jq '.refused + .reset + .mute' "$TMP/$1.json"
}

hold_burst() {
	exec "$TOOLS/burst" "${@:2}" --hold-until-stdin-eof <"$TMP/$1.stdin" >"$TMP/$1.json"
}

declare -A HOLDS=()
# hold NAME OPTION...: a burst whose connections stay open until `release NAME`.
hold() {
	local name=$1 burst
	rm -f "$TMP/$name.stdin" "$TMP/$name.json"
	mkfifo "$TMP/$name.stdin"
	# shellcheck disable=SC2086 # a word, or none
	bg ${HOLD_IN:-} hold_burst "$@"
	burst=$BG
	bg sleep infinity >"$TMP/$name.stdin"
	HOLDS[$name]="$burst $BG"
	wait_for 60 grep -q '}' "$TMP/$name.json"
}

release() {
	local burst sleep
	read -r burst sleep <<<"${HOLDS[$1]}"
	bg_end "$sleep" || true
	bg_wait "$burst"
	unset "HOLDS[$1]"
}

# source_field POLICY SOURCE FIELD: 0 (or null) when there is no such entry.
source_field() {
	sk sources -j | jq --arg p "$1" --arg s "$2" --arg f "$3" \
		'[.sources[] | select(.policy == $p and .source == $s)[$f]] | add // 0'
}

# policy_field POLICY FILTER: of stats.
policy_field() {
	sk stats -j | jq --arg p "$1" ".policies[] | select(.name == \$p) | $2"
}

total_field() {
	sk stats -j | jq "$1"
}

verified() {
	sk verify -j >"$TMP/verify.json" && [[ $(jq .drift "$TMP/verify.json") == 0 ]]
}

# sweep: a CPU that took a place for a final ACK, of which nothing came, gives it back with its next packet, or with the
# reader's sweep: has one done now.
sweep() {
	local reader=${READER:-}
	[[ -z $reader ]] || reader_stop
	wait_for 20 swept
	[[ -z $reader ]] || reader_start
}

swept() {
	sk events >>"$TMP/events"
	is 0 total_field '[.policies[].reserved] | add'
}

active_sum() {
	sk sources -j | jq '[.sources[].active] | add // 0'
}

# nothing_left POLICY...: every place given back, by every account.
nothing_left() {
	local policy
	for policy in "$@"; do
		wait_for 30 is 0 policy_field "$policy" .active
	done
	[[ $(total_field '[.policies[].reserved] | add') == 0 ]] || sweep
	wait_for 30 is 0 active_sum
	verified || die "drift: $(<"$TMP/verify.json")"
}

# events FILTER: the events so far that match, as one JSON array.
events() {
	jq -cs "[.[] | select($1)]" "$TMP/events"
}
