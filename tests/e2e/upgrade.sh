#!/bin/bash
# upgrade.sh: another version's programs take over: at no moment without a limit, with the counts kept.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

THIS=$SIPKEEP
OTHER=$(dirname "$SIPKEEP")/other/sipkeep # another version, of the same layout of the maps
NEXT=$(dirname "$SIPKEEP")/next/sipkeep # another layout
HOOKS="on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops"

phones() {
	echo "policies = ( { name = \"phones\"; direction = \"inbound\"; local_ports = [ 5060 ]; ${1:-} } );"
}

# upgraded BINARY: to its version; what it says is in $TMP/upgrade.
upgraded() {
	"$1" upgrade --instance "$INSTANCE" -j >"$TMP/upgrade" || die "upgrade: $(<"$TMP/upgrade")"
	jq -e .changed "$TMP/upgrade" >/dev/null || die "nothing was upgraded: $(<"$TMP/upgrade")"
	SIPKEEP=$1
}

# All ids of what is attached, and of what is pinned.
program_ids() {
	bpftool -j cgroup list "$CGROUP_DIR" | jq -c '[.[].id] | sort'
	bpftool -j link list | jq -c --argjson net "$(stat -L -c %i /proc/self/ns/net)" \
		'[.[] | select(.netns_ino == $net) | .prog_id]'
}

pins() {
	(cd "$PINS" && find . | sort)
}

# hammer NAME SOURCE [SECONDS]: bursts one after another, each held to its end, until $TMP/stop is there. With no reader, a
# client refused at its final ACK waits for those seconds.
hammer() {
	while [[ ! -e $TMP/stop ]]; do
		"$TOOLS/burst" --to 127.0.0.1:5060 --from "$2" --procs 2 --connects 40 --timeout "${3:-20}" >>"$TMP/$1.bursts"
	done
}

hammered() {
	touch "$TMP/stop"
	bg_wait "$HAMMER"
	is 10 count pbx peak
	jq -es 'all(.[]; .other == 0 and .mute == 0) and length > 3' "$TMP/one.bursts" >/dev/null ||
		die "$(cat "$TMP/one.bursts")"
}

# Each number once, from 1 on.
sequence_whole() {
	jq -es '[.[].seq] == [range(1; length + 1)] and all(.[]; .event != "lost")' "$TMP/events" >/dev/null ||
		die "seq: $(jq -cs '[.[].seq] | [., .[1:]] | transpose | map(select(.[1] and .[0] + 1 != .[1])) | .[:5]' "$TMP/events")"
}

# Each transport is connected, disconnected and destroyed once.
lives_whole() {
	jq -es '[.[] | select(.event == "connected" or .event == "disconnected" or .event == "destroyed")] | group_by(.id) |
		all(.[]; map(.event) == ["connected", "disconnected", "destroyed"])' "$TMP/events" >/dev/null ||
		die "lives: $(jq -cs '[.[] | select(.event == "connected" or .event == "disconnected" or .event == "destroyed")] |
			group_by(.id) | map(map(.event) | join(" ")) | group_by(.) | map([.[0], length])' "$TMP/events")"
}

test_programs_are_replaced_and_all_is_kept() {
	local before after pins
	phones "max_connections_per_source = 3; tcp_keepalive = true; tcp_keepidle = 77;" | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 5
	before=$(program_ids) pins=$(pins)
	sk stats -j >"$TMP/stats"
	sk sources -j | jq 'del(.sources[].last_seen)' >"$TMP/sources"
	sk transports -j | jq '[.transports[] | del(.age_ms, .idle_ms)]' >"$TMP/transports"
	exits 0 sk upgrade
	prints "nothing to upgrade"
	[[ $(program_ids) == "$before" ]]
	exits 0 "$OTHER" status --instance "$INSTANCE"
	prints "'sipkeep upgrade' puts this one's in" "all well"
	upgraded "$OTHER"
	json_eq '[.changed, .recounted, .to]' '[true,false,"0.2.0-other"]' cat "$TMP/upgrade"
	after=$(program_ids)
	[[ $(jq -s 'add | length' <<<"$after") == 9 ]]
	jq -es --argjson before "$(jq -s add <<<"$before")" 'add - $before | length == 9' <<<"$after" >/dev/null ||
		die "before: $before; after: $after"
	[[ $(programs) == "$HOOKS" ]]
	[[ $(pins) == "$pins" ]] || die "pins: $(diff <(echo "$pins") <(pins))"
	diff "$TMP/stats" <(sk stats -j)
	diff "$TMP/sources" <(sk sources -j | jq 'del(.sources[].last_seen)')
	diff "$TMP/transports" <(sk transports -j | jq '[.transports[] | del(.age_ms, .idle_ms)]')
	verified
	burst more --to 127.0.0.1:5060 --procs 1 --connects 2
	is 2 got more refused
	json_eq .version 0.2.0-other sk status -j
	exits 0 sk upgrade
	prints "nothing to upgrade" 0.2.0-other
	release first
	nothing_left phones
	sk unload >/dev/null
	nothing_loaded
}

test_limit_holds_during_upgrades() {
	local i
	phones "max_connections_per_source = 10;" | guard
	reader_start
	serve pbx 127.0.0.1 5060
	bg hammer one 127.0.7.1
	HAMMER=$BG
	for i in {1..5}; do
		upgraded "$OTHER"
		upgraded "$THIS"
	done
	hammered
	nothing_left phones
	reader_stop
	sequence_whole
	lives_whole
	[[ $(programs) == "$HOOKS" ]]
	echo "10 upgrades during $(wc -l <"$TMP/one.bursts") bursts, $(wc -l <"$TMP/events") events"
}

test_a_killed_upgrade_is_ended() {
	local i start whole kills=20 left=0 binary pins
	phones "max_connections_per_source = 50;" | guard
	serve pbx 127.0.0.1 5060
	hold calls --to 127.0.0.1:5060 --procs 1 --connects 50
	pins=$(pins)
	start=${EPOCHREALTIME/./}
	upgraded "$OTHER"
	whole=$((${EPOCHREALTIME/./} - start))
	for ((i = 0; i < kills; i++)); do
		binary=$OTHER
		((i % 2)) || binary=$THIS
		bg "$binary" upgrade --instance "$INSTANCE" >"$TMP/out" 2>&1
		sleep "$(printf '0.%06d' $((whole * (i + 1) / kills)))"
		bg_end "$BG" KILL || left=$((left + 1))
		burst more --to 127.0.0.1:5060 --procs 1 --connects 3 --timeout 5
		[[ $(got more served) == 0 ]] || die "kill $i: $(got more served) more were let in: $(sk stats -j)"
		verified || die "kill $i: $(<"$TMP/verify.json")"
		json_eq '[.policies[].active] | add' 50 sk stats -j
	done 2>"$TMP/killed"
	echo "$left of $kills upgrades killed, spread over the $((whole / 1000)) ms that one takes"
	((left > 0))
	exits 0 sk apply -c "$TMP/sipkeep.conf"
	exits 0 "$OTHER" upgrade --instance "$INSTANCE"
	exits 0 "$OTHER" upgrade --instance "$INSTANCE"
	prints "nothing to upgrade"
	[[ $(programs) == "$HOOKS" && $(pins) == "$pins" ]] || die "$(programs); $(diff <(echo "$pins") <(pins))"
	release calls
	nothing_left phones
	sk unload >/dev/null
	nothing_loaded
}

is_locked() {
	! flock --nonblock "$PINS/$INSTANCE" true
}

test_what_is_refused() {
	fails_well 3 "is not loaded" -- sk upgrade
	exits 0 sk upgrade --help
	exits 2 sk upgrade now
	phones | guard
	bg flock --close "$PINS/$INSTANCE" sleep infinity
	wait_for 5 is_locked
	fails_well 1 "it is being changed by process" -- "$OTHER" upgrade --instance "$INSTANCE"
	bg_end "$BG" || true
	json_eq .version "$(sk -V | sed 's/sipkeep //')" sk status -j
}

test_another_layout_is_recounted() {
	local i connections pins
	connections=$(scaled 5000 1000)
	traffic_begin
	phones "max_connections_per_source = 20000; tcp_keepalive = true; tcp_keepidle = 77;" | guard
	serve pbx 127.0.0.1 5060
	hold some --to 127.0.0.1:5060 --procs 4 --connects $((connections / 4))
	is "$connections" policy_field phones .active
	sk stats -j | jq '.policies' >"$TMP/stats"
	sk sources -j | jq 'del(.sources[].last_seen)' >"$TMP/sources"
	pins=$(pins | grep -v reader)
	for i in "$NEXT" "$THIS" "$NEXT"; do
		fails_well 1 "another layout" "sipkeep upgrade" -- "$i" status --instance "$INSTANCE"
		upgraded "$i"
		json_eq .recounted true cat "$TMP/upgrade"
		echo "recounted $connections transports in $(jq .ms "$TMP/upgrade") ms"
		(($(jq .ms "$TMP/upgrade") < $(patience 2000)))
		diff "$TMP/stats" <(sk stats -j | jq '.policies')
		diff "$TMP/sources" <(sk sources -j | jq 'del(.sources[].last_seen)')
		verified || die "$(head -c 2000 "$TMP/verify.json")"
		[[ $(programs) == "$HOOKS" ]]
		[[ $(pins | grep -v reader) == "$pins" ]] || die "pins: $(diff <(echo "$pins") <(pins))"
		[[ $(netns_links) == sk_lookup ]]
		exits 0 sk upgrade
		prints "nothing to upgrade"
	done
	release some
	nothing_left phones
	is "$connections" policy_field phones .destroyed
	sk unload >/dev/null
	nothing_loaded
}

test_limit_holds_while_the_layout_changes() {
	local i
	phones "max_connections_per_source = 10;" | guard
	serve pbx 127.0.0.1 5060
	bg hammer one 127.0.7.1 5
	HAMMER=$BG
	for i in {1..5}; do
		upgraded "$NEXT"
		upgraded "$THIS"
	done
	touch "$TMP/stop"
	bg_wait "$HAMMER"
	is 10 count pbx peak
	jq -es 'all(.[]; .other == 0) and length > 3' "$TMP/one.bursts" >/dev/null || die "$(cat "$TMP/one.bursts")"
	nothing_left phones
	is "$(jq -s '[.[].served] | add' "$TMP/one.bursts")" policy_field phones .admitted
	json_eq '.policies[0] | [.connected, .disconnected, .destroyed] | unique | length' 1 sk stats -j
	echo "10 upgrades during $(wc -l <"$TMP/one.bursts") bursts"
}

# install BINARY: as a package does, at $TMP/sipkeep.
install_version() {
	cp "$1" "$TMP/sipkeep.new"
	mv "$TMP/sipkeep.new" "$TMP/sipkeep"
}

# `run` goes on as the command that is installed by then.
test_each_event_once_while_the_layout_changes() {
	local i version run
	phones "max_connections_per_source = 10;" | guard
	install_version "$THIS"
	SIPKEEP=$TMP/sipkeep
	reader_start
	run=$READER
	serve pbx 127.0.0.1 5060
	bg hammer one 127.0.7.1
	HAMMER=$BG
	for i in {1..3}; do
		for version in "$NEXT" "$THIS"; do
			install_version "$version"
			upgraded "$TMP/sipkeep"
			wait_for 10 reads "$run" "$version"
		done
	done
	hammered
	nothing_left phones
	bg_running "$run"
	reader_stop
	sequence_whole
	lives_whole
	is "$(jq -s '[.[].served] | add' "$TMP/one.bursts")" policy_field phones .admitted
	is "$(events '.event == "connected"' | jq length)" policy_field phones .connected
	[[ $(programs) == "$HOOKS" ]]
	echo "6 upgrades during $(wc -l <"$TMP/one.bursts") bursts, $(wc -l <"$TMP/events") events"
}

# reads PID BINARY: it is this binary by now, and reads.
reads() {
	cmp -s "/proc/$1/exe" "$2" && ! flock --nonblock "$PINS/$INSTANCE/reader" true
}

# Nobody read: what the old ring held is told as lost, to the number.
test_unread_events_are_lost_and_told() {
	phones | guard
	serve pbx 127.0.0.1 5060
	hold some --to 127.0.0.1:5060 --procs 1 --connects 4
	upgraded "$NEXT"
	release some
	nothing_left phones
	wait_for 10 is 4 policy_field phones .destroyed
	sk events >"$TMP/events"
	json_eq 'map(select(.event == "lost"))[0] | [.count, .seq]' '[5,5]' jq -s . "$TMP/events"
	json_eq '[.[].seq] | unique' '[5,6,7,8,9,10,11,12,13]' jq -s . "$TMP/events"
}

test_a_killed_change_of_layout_is_ended() {
	local i start whole kills=20 left=0 binary
	phones "max_connections_per_source = 50;" | guard
	serve pbx 127.0.0.1 5060
	hold calls --to 127.0.0.1:5060 --procs 1 --connects 50
	start=${EPOCHREALTIME/./}
	upgraded "$NEXT"
	whole=$((${EPOCHREALTIME/./} - start))
	for ((i = 0; i < kills; i++)); do
		binary=$NEXT
		[[ $SIPKEEP != "$NEXT" ]] || binary=$THIS
		bg "$binary" upgrade --instance "$INSTANCE" >"$TMP/out" 2>&1
		sleep "$(printf '0.%06d' $((whole * (i + 1) / kills)))"
		bg_end "$BG" KILL || left=$((left + 1))
		burst more --to 127.0.0.1:5060 --procs 1 --connects 3 --timeout 5
		[[ $(got more served) == 0 ]] || die "kill $i: $(got more served) more were let in"
		! "$binary" stats --instance "$INSTANCE" >/dev/null 2>&1 || SIPKEEP=$binary
		if ((i % 2)); then
			exits 0 sk apply -c "$TMP/sipkeep.conf"
		else
			exits 0 sk upgrade
		fi
		verified || die "kill $i: $(<"$TMP/verify.json")"
		json_eq '[.policies[] | [.active, .admitted]] | add' '[50,50]' sk stats -j
		[[ $(programs) == "$HOOKS" && $(netns_links) == sk_lookup && ! -e $PINS/$INSTANCE+next ]] ||
			die "kill $i: $(programs); $(netns_links); $(pins)"
	done 2> >(grep -v Killed >&2)
	echo "$left of $kills upgrades killed, spread over the $((whole / 1000)) ms that one takes"
	((left > 0))
	release calls
	nothing_left phones
	sk unload >/dev/null
	nothing_loaded
}
