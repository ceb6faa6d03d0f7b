#!/bin/bash
# run.sh: `sipkeep run`: loads if need be, prints what is attached, then events, until it is stopped or dies.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

phones() {
	echo "policies = ( { name = \"phones\"; direction = \"inbound\"; local_ports = [ 5060 ]; max_connections_per_source = ${1:-2}; } );" | conf
}

# run NAME [OPTION...]: in the background, RUN is its process id. NAME.out, NAME.err
run() {
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" "${@:2}" >"$TMP/$1.out" 2>"$TMP/$1.err"
	RUN=$BG
	wait_for 20 reads "$RUN"
}

# reads PID: it has the events.
reads() {
	local id
	id=$(stat -c %i "$PINS/$INSTANCE/reader" 2>/dev/null) || return 1
	awk -v pid="$1" -v id="$id" '$2 == "FLOCK" && $5 == pid && $6 ~ ":" id "$" { found = 1 } END { exit !found }' /proc/locks
}

# events_of NAME FILTER: of the lines that are JSON.
events_of() {
	grep '^{' "$TMP/$1.out" | jq -cs "$2"
}

stopped_by() {
	phones
	run "$1" --unload-at-exit
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 got first served
	# First what is attached, then events as they come.
	wait_for 20 eval "[[ \$(events_of $1 'map(select(.event == \"connected\")) | length') == 2 ]]"
	head -n 1 "$TMP/$1.out" | grep -q "^instance $INSTANCE: loaded .* mode enforce"
	grep -q "^  sockops .*$CGROUP" "$TMP/$1.out"
	grep -q "^all well" "$TMP/$1.out"
	[[ $(programs) == "on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops" ]]
	bg_end "$RUN" "$1" || die "exit code $?"
	grep -q "unloaded instance '$INSTANCE'" "$TMP/$1.err"
	nothing_loaded
	# The calls go on: both still have their echo server at the other end.
	[[ $(ss -Htn state established 'sport = :5060' | wc -l) == 2 ]]
	exits 3 sk status
	release first
}

test_unload_at_exit_by_sigint() {
	stopped_by INT
}

test_unload_at_exit_by_sigterm() {
	stopped_by TERM
}

test_stays_loaded_otherwise() {
	phones
	run one
	serve pbx 127.0.0.1 5060
	bg_end "$RUN" INT
	sk status
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 got first served
	# What somebody else loaded isn't unloaded by the one who came later.
	run two --unload-at-exit
	bg_end "$RUN"
	sk status
	release first
	nothing_left phones
}

test_observe_and_cgroup_from_the_command_line() {
	phones
	mkdir "$CGROUP_DIR/below"
	run one --observe --cgroup "$CGROUP/below" --unload-at-exit
	json_eq '[.mode, .cgroups]' "[\"observe\",[\"$CGROUP/below\"]]" sk status -j
	[[ -z $(programs) ]]
	# A reload keeps to them.
	phones 7
	kill -HUP "$RUN"
	wait_for 20 grep -q "max_connections_per_source 2 -> 7" "$TMP/one.err"
	json_eq '[.mode, .cgroups]' "[\"observe\",[\"$CGROUP/below\"]]" sk status -j
	bg_end "$RUN"
	nothing_loaded
}

test_json_prints_events_only() {
	phones
	run one -j
	serve pbx 127.0.0.1 5060
	wait_for 20 grep -q listener_up "$TMP/one.out"
	echo 'policies = nonsense' >"$TMP/sipkeep.conf"
	kill -HUP "$RUN"
	wait_for 20 test -s "$TMP/one.err"
	bg_end "$RUN"
	jq -es 'length > 0 and all(.event)' "$TMP/one.out" >/dev/null || die "$(<"$TMP/one.out")"
}

# Killed: the limits hold, the counts stay exact, the next one goes on where it was.
test_sigkill() {
	phones
	run one -j
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 got first served
	wait_for 20 eval "[[ \$(events_of one 'map(select(.event == \"connected\")) | length') == 2 ]]"
	bg_end "$RUN" KILL || true
	# Nobody reads now.
	burst second --to 127.0.0.1:5060 --procs 1 --connects 4
	is 4 got second refused
	release first
	wait_for 20 is 0 policy_field phones .active
	burst third --to 127.0.0.1:5060 --procs 1 --connects 20
	is 2 got third served
	wait_for 20 is 0 policy_field phones .active
	verified
	run two -j
	wait_for 20 eval "[[ \$(events_of two 'map(select(.event == \"destroyed\")) | length') == 4 ]]"
	# Refusals of the time without a reader are told by the next one, and the later ones once more.
	wait_for 20 eval "[[ \$(cat $TMP/one.out $TMP/two.out | jq -s 'map(select(.event == \"refused\").count) | add') == 23 ]]"
	burst fourth --to 127.0.0.1:5060 --procs 1 --connects 4
	wait_for 20 eval "[[ \$(cat $TMP/one.out $TMP/two.out | jq -s 'map(select(.event == \"refused\").count) | add') == 25 ]]"
	is 25 source_field phones 127.0.0.1 refused
	wait_for 20 is 6 policy_field phones .destroyed
	bg_end "$RUN"
	# One sequence, no number missing, none twice.
	cat "$TMP/one.out" "$TMP/two.out" >"$TMP/all.out"
	json_eq '. == [range(1; length + 1)]' true events_of all 'map(.seq)'
	json_eq . '{"connected":6,"destroyed":6,"disconnected":6,"listener_up":1}' events_of all \
		'map(select(.event != "refused").event) | group_by(.) | map({(.[0]): length}) | add'
	nothing_left phones
}

# Killed while events pour in, again and again: each event is printed, the sequence has no gap.
test_sigkill_amid_events() {
	local i names=()
	phones 0
	run 0 -j
	serve pbx 127.0.0.1 5060
	for i in 1 2 3 4; do
		bg_end "$RUN" KILL || true
		names+=("$i")
		run "$i" -j
		burst "b$i" --to 127.0.0.1:5060 --procs 1 --connects 100
	done
	wait_for 20 is 0 policy_field phones .active
	wait_for 20 is 400 policy_field phones .destroyed
	bg_end "$RUN"
	for i in 0 1 2 3 4; do
		cat "$TMP/$i.out"
	done >"$TMP/all.out"
	# A line cut off in the middle, or told to nobody, would leave a hole. What was taken from the ring in the moment of the
	# kill and not written yet, the next one tells as lost.
	json_eq '.' 1201 events_of all 'map(if .event == "lost" then .count else 1 end) | add'
	# shellcheck disable=SC2016 # jq's variable
	json_eq '.' true events_of all 'reduce .[] as $e ({next: 1, ok: true};
		.ok = (.ok and $e.seq == .next + (if $e.event == "lost" then $e.count - 1 else 0 end)) | .next = $e.seq + 1) | .ok'
	echo "lost: $(events_of all 'map(select(.event == "lost").count)')"
}

test_second_reader_names_the_first() {
	local first
	phones
	run one
	first=$RUN
	fails_well 1 "process $first" -- sk events
	fails_well 1 "process $first" -- sk run -c "$TMP/sipkeep.conf" -j
	fails_well 1 "process $first" -- sk run -c "$TMP/sipkeep.conf" -j --unload-at-exit
	# The first one, and what is loaded, don't notice.
	bg_running "$first"
	sk status
	bg_end "$first"
	exits 0 sk events
	bg "$SIPKEEP" events -f --instance "$INSTANCE" >"$TMP/events.out"
	wait_for 20 reads "$BG"
	fails_well 1 "process $BG" -- sk run -c "$TMP/sipkeep.conf" -j
	bg_end "$BG" INT
}

test_nowhere_to_print() {
	local code=0
	phones
	serve pbx 127.0.0.1 5060
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	burst one --to 127.0.0.1:5060 --procs 1 --connects 2
	timeout 20 "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j 2>"$TMP/err" >&- || code=$?
	((code == 1)) || die "run: exit code $code: $(<"$TMP/err")"
	tells "events can't be written: jsonl on standard output: "
	# What guards is still there, but for the events that it took and could not print.
	exits 1 sk status
	prints "6 events were lost"
	# A full disk may have room again: it stays, and says so.
	code=0
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j 2>"$TMP/err" >/dev/full
	wait_for 20 grep -q "events can't be written, they wait in the kernel: jsonl on standard output: No space left on device" "$TMP/err"
	bg_end "$BG" || code=$?
	((code == 1)) || die "run: exit code $code: $(<"$TMP/err")"
	sk events >"$TMP/events"
	is '["lost"]' jq -cs '[.[].event]' "$TMP/events"
	is 6 jq .count "$TMP/events"
	sk unload
	nothing_loaded
}

# Whoever reads the events may go: that is a normal end.
test_reader_of_the_pipe_goes() {
	phones
	serve pbx 127.0.0.1 5060
	mkfifo "$TMP/pipe"
	# shellcheck disable=SC2016 # for the inner bash
	bg bash -c 'head -n 1 <"$0" >"$1"' "$TMP/pipe" "$TMP/first"
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >"$TMP/pipe" 2>"$TMP/err"
	wait_for 20 reads "$BG"
	burst one --to 127.0.0.1:5060 --procs 1 --connects 2
	wait_for 20 test -s "$TMP/first"
	burst two --to 127.0.0.1:5060 --procs 1 --connects 2
	bg_wait "$BG" || die "exit code $?: $(<"$TMP/err")"
	[[ ! -s $TMP/err ]] || die "told: $(<"$TMP/err")"
	# What it had taken for a reader who is gone is lost, and shown as such.
	exits 1 sk status
	prints "6 events were lost"
}

test_tells_systemd() {
	phones
	perl -e 'use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); bind(S, pack_sockaddr_un($ARGV[0])) or die; $| = 1;
		print "bound\n"; while (sysread(S, my $m, 4096)) { print "$m\n--\n" }' "$TMP/notify" >"$TMP/notified" &
	LIB_RUNNING[$!]=perl
	wait_for 10 grep -q bound "$TMP/notified"
	NOTIFY_SOCKET=$TMP/notify run one --unload-at-exit
	wait_for 20 grep -qx READY=1 "$TMP/notified"
	! grep -q STOPPING "$TMP/notified" || die "STOPPING before the end"
	# Ready means loaded.
	sk status
	bg_end "$RUN"
	wait_for 20 grep -qx STOPPING=1 "$TMP/notified"
}

# A config that is wrong: no READY, exit 2, nothing loaded.
test_not_ready_with_a_bad_config() {
	echo 'policies = ( );' | conf
	exits 2 sk run -c "$TMP/sipkeep.conf"
	tells "$TMP/sipkeep.conf:2: "
	nothing_loaded
}

# A client that is refused at its final ACK, all its SYNs having passed together, is told with its next segment.
test_late_refusal_is_a_reset() {
	phones
	run one -j
	serve pbx 0.0.0.0 5060
	"$TOOLS/halfopen" --to 10.99.0.1:5060 --count 5 >"$TMP/late.json"
	is 2 got late served
	is 3 got late reset
	is true got late "reset_max_ms < $(patience 1)000"
	is 2 count pbx accepted
	# IPv6 too.
	bg_end "${SERVERS[pbx]}" || true
	serve pbx6 :: 5060
	"$TOOLS/halfopen" --to "[fd99::1]:5060" --count 5 >"$TMP/late6.json"
	is 2 got late6 served
	is 3 got late6 reset
	is true got late6 "reset_max_ms < $(patience 1)000"
	bg_end "$RUN"
	nothing_left phones
}
