#!/bin/bash
# actions.sh: what `run` starts for events: the real events, real executables, and what becomes of everything else meanwhile.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

# script NAME: an executable with what stdin has, $TMP/NAME. Its own $dir is $TMP.
script() {
	{
		printf '#!/bin/sh\ndir=%s\n' "$TMP"
		cat
	} >"$TMP/$1"
	chmod 0755 "$TMP/$1"
}

# action_conf ACTION...: two phones a source, and these actions.
action_conf() {
	local IFS=, list
	list="$*"
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 2; } );
		actions = ( $list );
	CONFIG
}

# outcomes FILTER: how many action events match.
outcomes() {
	events ".event == \"action\" and ($1)" | jq length
}

test_an_event_starts_its_action() {
	local line
	script act <<-'SCRIPT'
		cat >"$dir/line"
		tr '\0' '\n' </proc/$$/environ | sort >"$dir/env"
		echo "a word on stdout" # not among the events
		exit 0
	SCRIPT
	action_conf "{ on = [ \"disconnected\" ]; policy = \"phones\"; run = [ \"$TMP/act\" ]; }"
	reader_start
	serve pbx 127.0.0.1 5060
	burst one --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 1 outcomes '.outcome == "done"'
	# Its own line on stdin, to the byte.
	line=$(grep '"event":"disconnected"' "$TMP/events")
	[[ $(<"$TMP/line") == "$line" ]]
	jq -r '"SIPKEEP_ATTEMPT=1", "SIPKEEP_CLOSED_BY=\(.closed_by)", "SIPKEEP_DIRECTION=inbound", "SIPKEEP_EVENT=disconnected",
		"SIPKEEP_ID=\(.id)", "SIPKEEP_LOCAL=127.0.0.1:5060", "SIPKEEP_POLICY=phones", "SIPKEEP_REASON=\(.reason)",
		"SIPKEEP_REMOTE=\(.remote)"' <<<"$line" >"$TMP/wanted"
	grep SIPKEEP_ "$TMP/env" | grep -v INSTANCE | diff "$TMP/wanted" -
	grep -qx "SIPKEEP_INSTANCE=$INSTANCE" "$TMP/env"
	is 11 grep -c = "$TMP/env"
	# The outcome, in its place in the sequence.
	json_eq 'map(select(.event == "action"))[0] | [.for, .policy, .command, .exit_code, .attempt, .error]' \
		"[\"disconnected\",\"phones\",\"$TMP/act\",0,1,null]" jq -s . "$TMP/events"
	json_eq 'map(select(.event == "action"))[0] | [.id, .local, .remote]' "$(jq -c '[.id, .local, .remote]' <<<"$line")" \
		jq -s . "$TMP/events"
	reader_stop
	json_eq '[.[].seq] == [range(1; length + 1)]' true jq -s . "$TMP/events"
	nothing_left phones
}

test_what_fails_is_tried_again_and_told() {
	script fail <<-'SCRIPT'
		exit 3
	SCRIPT
	action_conf "{ on = [ \"connected\" ]; run = [ \"$TMP/fail\" ]; retries = 2; retry_after = 0.1; }" \
		"{ on = [ \"connected\" ]; run = [ \"$TMP/missing\" ]; }"
	# The file is right, but this host lacks it: `check` says so, `run` tells when it would be started.
	exits 2 "$SIPKEEP" check "$TMP/sipkeep.conf"
	tells "$TMP/sipkeep.conf:3: 'run': $TMP/missing can't be started: No such file or directory"
	reader_start
	serve pbx 127.0.0.1 5060
	burst one --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 3 outcomes '.outcome == "failed" and .exit_code == 3'
	wait_for 20 is 1 outcomes '.outcome == "error" and .error == "No such file or directory" and .exit_code == null'
	json_eq 'map(select(.outcome == "failed").attempt)' '[1,2,3]' jq -s . "$TMP/events"
	reader_stop
	is 4 outcomes true
}

test_sighup_takes_other_actions_into_force() {
	local word
	for word in old new; do
		script "$word" <<-SCRIPT
			echo x >>"\$dir/ran.$word"
		SCRIPT
	done
	action_conf "{ on = [ \"destroyed\" ]; run = [ \"$TMP/old\" ]; debounce = 0; }"
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >>"$TMP/events" 2>"$TMP/run.err"
	READER=$BG
	serve pbx 127.0.0.1 5060
	wait_for 20 test -d "$PINS/$INSTANCE/reader"
	burst one --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 1 outcomes ".command == \"$TMP/old\" and .outcome == \"done\""
	# A wrong one changes nothing.
	action_conf "{ on = [ \"destroyed\" ]; run = [ \"new\" ]; }"
	kill -HUP "$READER"
	wait_for 20 grep -q "must be an absolute path" "$TMP/run.err"
	burst two --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 2 outcomes ".command == \"$TMP/old\" and .outcome == \"done\""
	action_conf "{ on = [ \"destroyed\" ]; run = [ \"$TMP/new\" ]; }"
	kill -HUP "$READER"
	wait_for 20 grep -q "^applied" "$TMP/run.err"
	burst three --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 1 outcomes ".command == \"$TMP/new\" and .outcome == \"done\""
	reader_stop
	[[ $(wc -l <"$TMP/ran.old") == 2 && $(wc -l <"$TMP/ran.new") == 1 ]]
}

test_one_that_hangs_holds_nothing_back() {
	script hang <<-'SCRIPT'
		trap '' TERM
		echo $$ >"$dir/pid.new"
		mv "$dir/pid.new" "$dir/pid"
		while :; do sleep 1; done
	SCRIPT
	action_conf "{ on = [ \"connected\" ]; run = [ \"$TMP/hang\" ]; timeout = 3600; debounce = 0; }"
	reader_start
	serve pbx 127.0.0.1 5060
	hold two --to 127.0.0.1:5060 --procs 1 --connects 2
	wait_for 20 test -s "$TMP/pid"
	# The limit is the kernel's, events go on.
	burst more --to 127.0.0.1:5060 --procs 1 --connects 5
	is 5 turned_away more
	release two
	wait_for 20 eval "[[ \$(events '.event == \"destroyed\"' | jq length) == 2 ]]"
	bg_running "$(<"$TMP/pid")"
	is 0 outcomes true
	# `run` ends it when it ends itself, and tells.
	reader_stop
	! bg_running "$(<"$TMP/pid")" || die "it runs on"
	is 1 outcomes '.outcome == "stopped" and .exit_code == 137'
	json_eq '[.[].seq] == [range(1; length + 1)]' true jq -s . "$TMP/events"
	nothing_left phones
}

test_timeout_ends_it_with_its_children() {
	script hang <<-'SCRIPT'
		sleep 1000 &
		echo $! >"$dir/pid.new"
		mv "$dir/pid.new" "$dir/pid"
		wait
	SCRIPT
	action_conf "{ on = [ \"connected\" ]; run = [ \"$TMP/hang\" ]; timeout = 1; retries = 0; }"
	reader_start
	serve pbx 127.0.0.1 5060
	burst one --to 127.0.0.1:5060 --procs 1 --connects 1
	wait_for 20 is 1 outcomes '.outcome == "timeout" and .exit_code == 143 and .duration_ms >= 1000'
	wait_for 20 ended "$(<"$TMP/pid")"
	reader_stop
}

# Whoever inherited it may not look after it.
ended() {
	! bg_running "$1" || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}

# Thousands of events of one source: one start. The next one would be due in an hour: told when `run` ends.
test_a_flood_starts_what_it_should() {
	local count
	count=$(scaled 3000 300)
	script count <<-'SCRIPT'
		echo x >>"$dir/starts"
	SCRIPT
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
		actions = ( { on = [ "connected", "disconnected", "destroyed" ]; run = [ "$TMP/count" ]; debounce = 3600; } );
	CONFIG
	traffic_begin
	reader_start
	serve pbx 127.0.0.1 5060
	burst flood --to 127.0.0.1:5060 --procs 1 --connects "$count"
	is "$count" got flood served
	burst other --to 127.0.0.1:5060 --from 127.0.0.2 --procs 1 --connects 1
	wait_for 60 eval "[[ \$(events '.event == \"destroyed\"' | jq length) == $((count + 1)) ]]"
	wait_for 20 is 2 outcomes '.outcome == "done"'
	[[ $(wc -l <"$TMP/starts") == 2 ]]
	reader_stop
	# The other source's may all have come before its start.
	is 1 outcomes '.outcome == "skipped" and (.count == 1 or .count == 2)'
	is 3 outcomes true
	[[ $(wc -l <"$TMP/starts") == 2 ]]
	json_eq '[.[].seq] == [range(1; length + 1)]' true jq -s . "$TMP/events"
}

# From thousands of sources at once: what can't be started is told, in few events, and nothing grows.
test_a_flood_of_sources_is_bounded() {
	local sources
	sources=$(scaled 600 520)
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
		actions = ( { on = [ "connected" ]; run = [ "/bin/sleep", "3600" ]; debounce = 3600; timeout = 3600; } );
		max_actions = 2;
	CONFIG
	reader_start
	serve pbx 127.0.0.1 5060
	for ((i = 0; i < sources; i++)); do
		burst one --to 127.0.0.1:5060 --from "127.1.$((i / 250)).$((i % 250 + 1))" --procs 1 --connects 1
	done
	wait_for 60 eval "[[ \$(events '.event == \"connected\"' | jq length) == $sources ]]"
	wait_for 20 is $((sources - 512)) skipped_so_far
	reader_stop
	is $((sources - 2)) skipped_so_far
	is 2 outcomes '.outcome == "stopped"'
}

skipped_so_far() {
	events '.event == "action" and .outcome == "skipped"' | jq '[.[].count] | add // 0'
}
