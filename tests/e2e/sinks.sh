#!/bin/bash
# sinks.sh: where events go: files that are rotated, the journal, a socket for any number of readers; and what becomes of
# events when one of them can't take them.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

# sinks TEXT: the config, with these sinks.
sinks() {
	conf <<-EOF
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
		sinks = ( $1 );
	EOF
}

# run NAME: in the background, RUN is its process id. NAME.out, NAME.err
run() {
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >"$TMP/$1.out" 2>"$TMP/$1.err"
	RUN=$BG
	wait_for 20 test -d "$PINS/$INSTANCE/reader"
}

# churn COUNT: connections of every kind, three lines each or more.
churn() {
	in_cgroup "$TOOLS/churn" --count "$1" --ports 5060-5060 --dead-port 5999 --procs 1 >"$TMP/churn.out" ||
		die "churn: $(<"$TMP/churn.out")"
}

# last_seq FILE: of its last line.
last_seq() {
	tail -n 1 "$1" | jq .seq
}

emitted() {
	total_field '.events.emitted + .events.derived'
}

# whole FIRST: stdin is lines of JSON, their numbers go up from FIRST without a gap that a `lost` line doesn't explain.
# FIRST - : whatever it begins with.
whole() {
	jq -es --argjson first "${1/#-/null}" '
		reduce .[] as $e ({next: $first, ok: true};
			.ok = (.ok and (.next == null or $e.seq == .next + (if $e.event == "lost" then $e.count - 1 else 0 end)))
			| .next = $e.seq + 1) | .ok' >/dev/null || die "a gap, a double or a cut line"
}

# rotated FILE: all there is of it, oldest first.
rotated() {
	local number name
	for number in $(find "${1%/*}" -name "${1##*/}.*" | sed 's/.*\.//' | sort -rn); do
		name=$1.$number
		cat "$name"
	done
	cat "$1"
}

# caught_up FILE: every event so far is in it, or what it was rotated into.
caught_up() {
	local seq
	seq=$(last_seq "$1" 2>/dev/null) || return 1
	[[ $seq == "$(emitted)" ]]
}

# ---- files

# timeout: 300
test_rotation_under_load() {
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; max_size = \"64K\"; max_total = \"60M\"; }"
	run one
	churn "$(scaled 6000 600)"
	wait_for 60 caught_up "$TMP/e.jsonl"
	bg_end "$RUN"
	[[ -e $TMP/e.jsonl.5 ]] || die "not rotated: $(ls -l "$TMP")"
	rotated "$TMP/e.jsonl" | whole 1
	find "$TMP" -name 'e.jsonl*' -size +64k | grep . && die "larger than 64K"
	[[ $(stat -c %a "$TMP/e.jsonl") == 640 ]]
	# Killed at any time, and started again, it goes on where it was.
	run two
	churn "$(scaled 1000 200)"
	bg_end "$RUN" KILL || true
	run three
	churn "$(scaled 1000 200)"
	wait_for 60 caught_up "$TMP/e.jsonl"
	bg_end "$RUN"
	# A line that the kill has cut stands alone; each number is there, or told as lost.
	rotated "$TMP/e.jsonl" | jq -cR 'fromjson? // empty' >"$TMP/all"
	(($(rotated "$TMP/e.jsonl" | wc -l) - $(wc -l <"$TMP/all") <= 1)) || die "more than one cut line"
	is "$(last_seq "$TMP/e.jsonl")" jq -s '[.[] | if .event == "lost" then range(.seq - .count + 1; .seq + 1) else .seq end] |
		unique | length' "$TMP/all"
}

# The file system holds the cap and not much more: were it exceeded for a moment, that would be seen.
# timeout: 300
test_total_cap_at_any_moment() {
	mkdir "$TMP/small"
	mount -t tmpfs -o size=284k,mode=755 tmpfs "$TMP/small" # 256 KiB and a page for each of the files
	sinks "{ type = \"jsonl\"; path = \"$TMP/small/e.jsonl\"; max_size = \"64K\"; max_total = \"256K\"; }"
	run one
	churn "$(scaled 6000 600)"
	bg_end "$RUN" # what is in the ring is written before
	[[ ! -s $TMP/one.err ]] || die "told: $(<"$TMP/one.err")"
	rotated "$TMP/small/e.jsonl" | whole -
	(($(cat "$TMP/small"/e.jsonl* | wc -c) > 128 * 1024)) || die "less than half of the cap is kept"
}

# As the shipped example does it, with the signal sent by its process id.
# timeout: 300
test_logrotate() {
	local i
	command -v logrotate >/dev/null || die "logrotate isn't installed: sudo make deps"
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; max_size = 0; }"
	run one
	sed "s|/var/log/sipkeep/\*.jsonl|$TMP/e.jsonl|; s|systemctl kill.*|kill -USR1 $RUN|; /compress/d" \
		"$here/../../deploy/logrotate/sipkeep" >"$TMP/logrotate.conf"
	chmod 644 "$TMP/logrotate.conf"
	bg churn "$(scaled 6000 600)"
	for i in 1 2 3 4 5; do
		wait_for 60 test -s "$TMP/e.jsonl"
		logrotate -f -s "$TMP/state" "$TMP/logrotate.conf" || die "logrotate: $i"
	done
	bg_wait "$BG"
	churn 10 # the last rotation may have come after the last of the others
	wait_for 60 eval "[[ -s $TMP/e.jsonl ]] && caught_up $TMP/e.jsonl"
	bg_end "$RUN"
	[[ -e $TMP/e.jsonl.5 && ! -s $TMP/one.err ]] || die "$(ls -l "$TMP") $(<"$TMP/one.err")"
	rotated "$TMP/e.jsonl" | whole 1
}

# A full disk: said once, what waits follows when there is room, and no line is cut.
# timeout: 300
test_full_disk() {
	mkdir "$TMP/small"
	mount -t tmpfs -o size=128k,mode=755 tmpfs "$TMP/small"
	sinks "{ type = \"jsonl\"; path = \"$TMP/small/e.jsonl\"; max_size = 0; }"
	run one
	churn "$(scaled 2000 400)"
	wait_for 60 grep -q "No space left on device" "$TMP/one.err"
	mount -o remount,size=64m "$TMP/small"
	wait_for 60 caught_up "$TMP/small/e.jsonl"
	bg_end "$RUN"
	is 1 grep -c "No space left on device" "$TMP/one.err"
	whole 1 <"$TMP/small/e.jsonl"
	is 0 total_field .events.lost
}

test_file_of_another_run() {
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; }"
	run one
	fails_well 1 "$TMP/e.jsonl" "another process writes this file" -- \
		"$SIPKEEP" run --instance "$INSTANCE-2" -c "$TMP/sipkeep.conf" -j
	bg_end "$RUN"
	"$SIPKEEP" unload --instance "$INSTANCE-2"
}

# A reload with other sinks, or other settings for the same file.
test_reload() {
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; }"
	run one
	churn 10
	wait_for 20 caught_up "$TMP/e.jsonl"
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; max_size = \"64K\"; }, { type = \"socket\"; path = \"$TMP/s\"; }"
	kill -HUP "$RUN"
	wait_for 20 test -S "$TMP/s"
	churn 200
	wait_for 20 caught_up "$TMP/e.jsonl"
	[[ -e $TMP/e.jsonl.1 ]] || die "not rotated: $(ls -l "$TMP") $(<"$TMP/one.err")"
	# A sink that can't be opened: the others go on, and it is told.
	sinks "{ type = \"jsonl\"; path = \"$TMP/nowhere/e.jsonl\"; }"
	kill -HUP "$RUN"
	wait_for 20 grep -q "$TMP/nowhere can't be opened: No such file or directory; make it first" "$TMP/one.err"
	churn 10
	wait_for 20 caught_up "$TMP/e.jsonl"
	bg_end "$RUN"
	rotated "$TMP/e.jsonl" | whole 1
	[[ ! -e $TMP/s ]] || die "the socket is still there"
}

# ---- the socket

# reader NAME: what comes goes to NAME.lines; a file NAME.wait makes it read nothing until that is gone.
reader() {
	# shellcheck disable=SC2016 # Perl's variables
	bg perl -e '
		use Socket;
		my ($path, $out, $wait) = @ARGV;
		socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "$!";
		connect($s, pack_sockaddr_un($path)) or die "$path: $!";
		open(my $o, ">", $out) or die "$out: $!";
		while (-e $wait) { select(undef, undef, undef, 0.05) }
		while (sysread($s, my $text, 65536)) { syswrite($o, $text) }' \
		"$TMP/s" "$TMP/$1.lines" "$TMP/$1.wait"
	READERS[$1]=$BG
	wait_for 20 test -e "$TMP/$1.lines"
}
declare -A READERS=()

# One that doesn't read loses what is more than is kept for it (16 MiB) and is told exactly how much; the other loses
# nothing, nor does the file.
# timeout: 600
test_slow_reader_next_to_a_fast_one() {
	local seq
	sinks "{ type = \"socket\"; path = \"$TMP/s\"; mode = \"0600\"; }, { type = \"jsonl\"; path = \"$TMP/e.jsonl\"; }"
	run one
	touch "$TMP/slow.wait"
	reader fast
	reader slow
	# The kept lines are no more than 65,536, whatever their length.
	while churn 5000 && wait_for 60 caught_up "$TMP/e.jsonl"; do
		(($(last_seq "$TMP/e.jsonl") < 75000)) || break
	done
	seq=$(last_seq "$TMP/e.jsonl")
	wait_for 60 eval "[[ \$(last_seq $TMP/fast.lines) == $seq ]]"
	rm "$TMP/slow.wait"
	wait_for 60 eval "[[ \$(last_seq $TMP/slow.lines) == $seq ]]"
	bg_end "$RUN"
	bg_wait "${READERS[fast]}"
	bg_wait "${READERS[slow]}"
	whole 1 <"$TMP/e.jsonl"
	cmp "$TMP/fast.lines" "$TMP/e.jsonl" || die "the fast reader has something else than the file"
	whole 1 <"$TMP/slow.lines"
	# What it was told is what it lacks.
	is "$((seq - $(grep -vc '"event":"lost"' "$TMP/slow.lines")))" \
		jq -s 'map(select(.event == "lost").count) | add' "$TMP/slow.lines"
	(($(jq -s 'map(select(.event == "lost").count) | add' "$TMP/slow.lines") > 5000)) || die "it lost next to nothing"
}

# heard FILE: what the file of the sink has last, this reader has, too.
heard() {
	[[ -s $1 && $(last_seq "$1") == "$(last_seq "$TMP/e.jsonl")" ]]
}

test_events_while_run_reads() {
	local first second
	sinks "{ type = \"jsonl\"; path = \"$TMP/e.jsonl\"; }"
	run one
	bg "$SIPKEEP" events -f --instance "$INSTANCE" >"$TMP/first" 2>"$TMP/first.err"
	first=$BG
	bg "$SIPKEEP" events -f --instance "$INSTANCE" >"$TMP/second" 2>"$TMP/second.err"
	second=$BG
	wait_for 20 eval "churn 1 && [[ -s $TMP/first && -s $TMP/second ]]"
	churn 200
	wait_for 20 caught_up "$TMP/e.jsonl"
	wait_for 20 heard "$TMP/first"
	wait_for 20 heard "$TMP/second"
	bg_end "$first" INT
	churn 50
	wait_for 20 caught_up "$TMP/e.jsonl"
	bg_end "$RUN"
	bg_wait "$second"
	heard "$TMP/second"
	whole - <"$TMP/first"
	whole - <"$TMP/second"
	cmp "$TMP/second" <(tail -n "$(wc -l <"$TMP/second")" "$TMP/e.jsonl") || die "not the same lines"
	[[ ! -e /run/sipkeep/$INSTANCE.sock ]]
}

test_socket_that_is_in_use() {
	sinks "{ type = \"socket\"; path = \"$TMP/s\"; mode = \"0660\"; }"
	run one
	[[ $(stat -c %a "$TMP/s") == 660 ]]
	fails_well 1 "$TMP/s: process $RUN listens there already" -- \
		"$SIPKEEP" run --instance "$INSTANCE-2" -c "$TMP/sipkeep.conf" -j
	"$SIPKEEP" unload --instance "$INSTANCE-2"
	# Killed, it leaves the socket; the next one replaces it.
	bg_end "$RUN" KILL || true
	[[ -S $TMP/s ]]
	run two
	reader one
	churn 10
	wait_for 20 test -s "$TMP/one.lines"
	bg_end "$RUN"
	bg_wait "${READERS[one]}"
	whole - <"$TMP/one.lines"
	[[ ! -e $TMP/s ]]
}

# ---- the journal

# A journald of our own, which sees nothing of the host's and whom nobody else sees: journal_begin, journal_start.
journal_begin() {
	[[ -x /lib/systemd/systemd-journald ]] || die "systemd-journald isn't installed: sudo make deps"
	mkdir -p /run/systemd /run/log
	mount -t tmpfs -o mode=755 tmpfs /run/systemd
	mount -t tmpfs -o mode=755 tmpfs /run/log
	mkdir -p /run/systemd/journal /run/systemd/journald.conf.d
	printf '%s\n' '[Journal]' Storage=volatile RateLimitBurst=0 ReadKMsg=no Audit=no ForwardToSyslog=no ForwardToWall=no \
		>/run/systemd/journald.conf.d/test.conf
}

journal_start() {
	bg /lib/systemd/systemd-journald >"$TMP/journald.out" 2>&1
	JOURNALD=$BG
	wait_for 20 test -S /run/systemd/journal/socket
}

# journal MATCH...: the entries, as JSON.
journal() {
	journalctl -q --no-pager -o json --directory=/run/log/journal "$@"
}

# entries COUNT MATCH...: there are so many.
entries() {
	local wanted=$1 found
	shift
	found=$(journal "$@" | wc -l)
	[[ $found != "$wanted" ]] || return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$found entries of $*, not $wanted" >&2
	return 1
}

test_journal() {
	journal_begin
	journal_start
	sinks '{ type = "journald"; }, { type = "jsonl"; path = "'"$TMP"'/e.jsonl"; }'
	run one
	serve pbx 127.0.0.1 5060
	burst few --to 127.0.0.1:5060 --procs 1 --connects 5
	wait_for 20 is 5 policy_field phones .destroyed
	wait_for 20 caught_up "$TMP/e.jsonl"
	wait_for 20 entries 5 SIPKEEP_EVENT=destroyed
	# Each field is what the line says.
	journal SIPKEEP_EVENT=disconnected "SIPKEEP_INSTANCE=$INSTANCE" | jq -cS \
		'[.SIPKEEP_SEQ, .SIPKEEP_ID, .SIPKEEP_POLICY, .SIPKEEP_DIRECTION, .SIPKEEP_LOCAL, .SIPKEEP_REMOTE,
		.SIPKEEP_REASON, .SIPKEEP_CLOSED_BY, .SIPKEEP_AGE_MS, .SIPKEEP_BYTES_IN, .SIPKEEP_TS]' | sort >"$TMP/journal"
	jq -cS 'select(.event == "disconnected") | [.seq, .id, .policy, .direction, .local, .remote, .reason, .closed_by,
		.age_ms, .bytes_in, .ts] | map(tostring)' "$TMP/e.jsonl" | sort >"$TMP/lines"
	is 5 grep -c . "$TMP/lines"
	diff "$TMP/lines" "$TMP/journal" || die "the journal says something else"
	journal -n 1 SIPKEEP_EVENT=disconnected | jq -e '.PRIORITY == "6" and .SYSLOG_IDENTIFIER == "sipkeep" and
		(.MESSAGE | startswith("phones: 127.0.0.1:")) and (.MESSAGE_ID | length == 32)' >/dev/null || die "no such entry"
	# One id for each kind, by which it is found.
	is 0 eval 'journal | jq -s "map(select(.SIPKEEP_EVENT)) | group_by(.SIPKEEP_EVENT) | map(map(.MESSAGE_ID) | unique | length)
		| map(select(. != 1)) | length"'
	wait_for 20 entries 5 "MESSAGE_ID=$(journal -n 1 SIPKEEP_EVENT=connected | jq -r .MESSAGE_ID)"
	bg_end "$RUN"
	bg_end "$JOURNALD" || true
}

# Journald is stopped: the file has everything at once; what is more than is kept for the journal is counted and told
# there when it goes on, and nothing twice.
# timeout: 600
test_journal_stands_still() {
	local seq
	journal_begin
	journal_start
	sinks '{ type = "journald"; }, { type = "jsonl"; path = "'"$TMP"'/e.jsonl"; }'
	run one
	churn 10
	wait_for 20 caught_up "$TMP/e.jsonl"
	wait_for 20 entries "$(wc -l <"$TMP/e.jsonl")" "SIPKEEP_INSTANCE=$INSTANCE"
	kill -STOP "$JOURNALD"
	# 8 MiB are kept.
	while churn 3000 && wait_for 60 caught_up "$TMP/e.jsonl"; do
		(($(stat -c %s "$TMP/e.jsonl") < 12 * 1024 * 1024)) || break
	done
	kill -CONT "$JOURNALD"
	wait_for 120 entries 1 SIPKEEP_EVENT=journal_lost
	churn 10
	wait_for 20 caught_up "$TMP/e.jsonl"
	seq=$(last_seq "$TMP/e.jsonl")
	wait_for 120 entries 1 "SIPKEEP_SEQ=$seq"
	whole 1 <"$TMP/e.jsonl"
	journal "SIPKEEP_INSTANCE=$INSTANCE" | jq -c '{event: .SIPKEEP_EVENT, seq: (.SIPKEEP_SEQ // "0" | tonumber),
		count: (.SIPKEEP_COUNT // "0" | tonumber)}' >"$TMP/journal"
	# So many numbers are missing; none is there twice.
	jq -es --argjson seq "$seq" '(map(select(.event == "journal_lost").count) | add) as $lost |
		map(select(.seq > 0).seq) as $have | $lost > 0 and ($have | unique | length) == ($have | length) and
		($have | length) + $lost == $seq' "$TMP/journal" >/dev/null || die "what is told as lost isn't what is missing"
	bg_end "$RUN"
	bg_end "$JOURNALD" || true
}

# No journal at all, and one that comes later: nothing is lost that fits.
test_journal_comes_later() {
	journal_begin
	sinks '{ type = "journald"; }, { type = "jsonl"; path = "'"$TMP"'/e.jsonl"; }'
	run one
	churn 100
	wait_for 20 caught_up "$TMP/e.jsonl"
	journal_start
	wait_for 60 entries "$(wc -l <"$TMP/e.jsonl")" "SIPKEEP_INSTANCE=$INSTANCE"
	# It goes, and the next one has what came in between.
	bg_end "$JOURNALD" || true
	churn 100
	wait_for 20 caught_up "$TMP/e.jsonl"
	journal_start
	wait_for 60 entries "$(wc -l <"$TMP/e.jsonl")" "SIPKEEP_INSTANCE=$INSTANCE"
	# An end with a journal that stands still doesn't take long.
	kill -STOP "$JOURNALD"
	churn "$(scaled 1000 400)"
	wait_for 60 caught_up "$TMP/e.jsonl"
	kill "$RUN"
	wait_for 20 eval "! kill -0 $RUN 2>/dev/null"
	bg_wait "$RUN" || die "exit code $?"
	kill -CONT "$JOURNALD"
	bg_end "$JOURNALD" || true
}
