# shellcheck shell=bash
# faults.bash: callers that never rest, what is open by the kernel's own account, and all that an instance has in the
# kernel. Sourced after e2e.bash and expect.bash by the tests of faults, and by those of tests/bench that take hours.

HOOKS="on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops"

# Sources of IPv6, one /64 each: bound without being configured one by one.
# shellcheck disable=SC2034 # for those who source this
SOURCES_V6=2001:db8:f::1
sources_begin() {
	traffic_begin
	ip -6 route replace local 2001:db8:f::/48 dev lo
	# Orphans that nobody answers to any more are given up soon.
	sysctl -qw net.ipv6.ip_nonlocal_bind=1 net.ipv4.tcp_orphan_retries=1
}

# call NAME OPTION...: callers in the background, until `hang_up NAME`; their account is in $TMP/NAME.json.
declare -A CALLERS=()
call() {
	bg "$TOOLS/callers" "${@:2}" >"$TMP/$1.json" 2>"$TMP/$1.err"
	CALLERS[$1]=$BG
}

hang_up() {
	bg_end "${CALLERS[$1]}" || die "callers: $(<"$TMP/$1.err")"
	unset "CALLERS[$1]"
}

# call_once NAME OPTION...: each connection tried once; those that came about stay until `release NAME`.
call_once() {
	local name=$1 caller
	rm -f "$TMP/$name.stdin" "$TMP/$name.json"
	mkfifo "$TMP/$name.stdin"
	bg call_once_run "$@"
	caller=$BG
	bg sleep infinity >"$TMP/$name.stdin"
	# shellcheck disable=SC2004,SC2034 # e2e.bash has it, with names as keys
	HOLDS[$name]="$caller $BG"
	wait_for 60 grep -q '}' "$TMP/$name.json"
}

call_once_run() {
	exec "$TOOLS/callers" "${@:2}" --once <"$TMP/$1.stdin" >"$TMP/$1.json"
}

# at_least N COMMAND...: COMMAND prints a number no smaller.
at_least() {
	local least=$1 found
	shift
	found=$("$@") || true
	((${found:-0} >= least)) && return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$* is '$found', less than $least" >&2
	return 1
}

# at_most N COMMAND...
at_most() {
	local most=$1 found
	shift
	found=$("$@") || true
	[[ -n $found ]] && ((found <= most)) && return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$* is '$found', more than $most" >&2
	return 1
}

# open_by_source PORT: "SOURCE COUNT" a line (the callers have one address in each /64), of the server ends that are open, as the kernel's socket table has them.
# Those in FIN_WAIT2 and TIME_WAIT are closed on both sides, or nobody's any more.
open_by_source() {
	ss -Htan "sport = :$1" | awk '
		$1 ~ /^(ESTAB|CLOSE-WAIT|LAST-ACK|CLOSING|FIN-WAIT-1)$/ {
			sub(/:[0-9]+$/, "", $5); gsub(/[][]/, "", $5); sub(/^::ffff:/, "", $5)
			if ($5 ~ /:/) sub(/::1$/, "::/64", $5)
			n[$5]++
		}
		END { for (source in n) print source, n[source] }' | sort
}

# The same of the inbound sources, as they are counted.
counted_by_source() {
	sk sources -j | jq -r '.sources[] | select(.active > 0 and (.source | contains(">") | not)) | "\(.source) \(.active)"' | sort
}

# as_open PORT: what is counted is what is open, source by source.
as_open() {
	open_by_source "$1" >"$TMP/open"
	counted_by_source >"$TMP/counted"
	cmp -s "$TMP/open" "$TMP/counted" && return 0
	[[ -n ${LIB_QUIET:-} ]] || diff "$TMP/open" "$TMP/counted" >&2 || true
	return 1
}

# ---- what an instance has in the kernel

pins_of_instance() {
	(cd "$PINS/$INSTANCE" && find . -mindepth 1 ! -path './reader*' | sort)
}

# instance_size: the programs that are attached or pinned, the maps that are pinned or that those use, the links that
# are pinned, and what the maps take.
instance_size() {
	local ours="startswith(\"$PINS/$INSTANCE/\")"
	bpftool -j cgroup list "$CGROUP_DIR" >"$TMP/attached.json"
	bpftool -j link list >"$TMP/links.json"
	bpftool -j -f prog show >"$TMP/programs.json"
	bpftool -j -f map show >"$TMP/maps.json"
	jq -nr --argjson net "$(stat -L -c %i /proc/self/ns/net)" --slurpfile attached "$TMP/attached.json" \
		--slurpfile links "$TMP/links.json" --slurpfile programs "$TMP/programs.json" --slurpfile maps "$TMP/maps.json" "
		([\$attached[0][]?.id] + [\$links[0][] | select(.netns_ino == \$net).prog_id]) as \$hooked |
		[\$programs[0][] | select((.id | IN(\$hooked[])) or any(.pinned[]?; $ours))] as \$p |
		[\$p[].map_ids[]?] as \$used |
		[\$maps[0][] | select((.id | IN(\$used[])) or any(.pinned[]?; $ours))] as \$m |
		\"\(\$p | length) programs, \(\$m | length) maps, \([\$m[].bytes_memlock] | add) bytes\"" |
		sed "s/,/, $(find "$PINS/$INSTANCE" -name 'link_*' | wc -l) links,/"
}

fds_of() {
	find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l
}

rss_of() {
	awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status"
}

slab_kb() {
	awk '$1 == "SUnreclaim:" { print $2 }' /proc/meminfo
}

# whole: every hook once, each pin there and none besides, nothing lost from the counts.
whole() {
	wait_for 10 is "$HOOKS" programs
	wait_for 10 is sk_lookup netns_links
	is "$PINS_WHOLE" eval 'pins_of_instance | paste -sd " "' || die "pins: $(diff <(tr ' ' '\n' <<<"$PINS_WHOLE") <(pins_of_instance))"
	wait_for 20 verified || die "drift: $(<"$TMP/verify.json")"
}

# unhealthy TEXT...: status exits with 1 and names each.
unhealthy() {
	local text code=0
	sk status -j >"$TMP/status" || code=$?
	((code == 1)) || die "status exits with $code: $(<"$TMP/status")"
	for text in "$@"; do
		jq -e --arg text "$text" 'any(.degraded[]; contains($text))' "$TMP/status" >/dev/null ||
			die "status doesn't name '$text': $(<"$TMP/status")"
	done
}
