#!/bin/bash
# verbs.sh: what every verb prints, its JSON, its exit codes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

VERBS=(check load apply unload status stats sources transports events run verify probe)
# Those that work on a loaded instance.
LOADED_VERBS=(status stats sources transports events verify)

phones() {
	cat <<-CONFIG
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = ${1:-0};
		    tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6; },
		  { name = "trunks"; direction = "outbound"; remote_ports = [ 5080 ]; }
		);
	CONFIG
}

test_help() {
	local verb form
	for form in --help -h; do
		exits 0 "$SIPKEEP" "$form"
		prints "${VERBS[@]}" "Exit codes"
	done
	for verb in "${VERBS[@]}"; do
		for form in --help -h; do
			exits 0 "$SIPKEEP" "$verb" "$form"
			prints "sipkeep $verb" --json --instance
			[[ ! -s $TMP/err ]] || die "$verb $form tells: $(<"$TMP/err")"
		done
		# The summary of the list is that of the verb.
		grep -qF "$("$SIPKEEP" "$verb" --help | sed -n '2s/^ *//p')" <("$SIPKEEP" --help) ||
			die "the summary of $verb isn't in the list"
	done
}

test_version() {
	exits 0 "$SIPKEEP" -V
	grep -qE '^sipkeep [0-9]+\.[0-9]+' "$TMP/out"
	exits 0 "$SIPKEEP" --version
	grep -qE '^sipkeep [0-9]+\.[0-9]+' "$TMP/out"
}

test_wrong_usage_is_2() {
	local verb name
	exits 2 "$SIPKEEP"
	exits 2 "$SIPKEEP" --json
	exits 2 "$SIPKEEP" conjure
	tells "'conjure'"
	exits 2 "$SIPKEEP" -c
	for verb in "${VERBS[@]}"; do
		exits 2 "$SIPKEEP" "$verb" --conjure
		tells conjure "sipkeep $verb --help"
		[[ ! -s $TMP/out ]] || die "$verb printed something"
		exits 2 "$SIPKEEP" "$verb" a b
		exits 2 "$SIPKEEP" "$verb" --instance
		for name in '' . .. .hidden a/b ../b 'a b' "$(printf 'x%.0s' {1..65})"; do
			exits 2 "$SIPKEEP" "$verb" --instance "$name"
			tells --instance
		done
		[[ $verb == check ]] || exits 2 "$SIPKEEP" "$verb" operand
	done
	for name in 0 -1 x '' 1x 99999999999999999999; do
		exits 2 sk sources --top "$name"
		tells --top
	done
	exits 2 sk load --cgroup
	nothing_loaded
}

test_not_loaded_is_3() {
	local verb
	phones | conf
	for verb in "${LOADED_VERBS[@]}" unload "apply -c $TMP/sipkeep.conf" "events -f" "stats --prometheus" "sources --top 3"; do
		# shellcheck disable=SC2086 # words
		fails_well 3 "instance '$INSTANCE' is not loaded" -- sk $verb
		[[ ! -s $TMP/out ]] || die "$verb printed: $(<"$TMP/out")"
		# shellcheck disable=SC2086
		exits 3 sk $verb -j
		jq -se 'length == 1 and .[0].v == 1 and .[0].ok == false and (.[0].error | contains("not loaded"))' "$TMP/out" >/dev/null ||
			die "$verb -j: $(<"$TMP/out")"
	done
	# What is wrong with the file comes first.
	exits 2 sk apply -c "$TMP/none.conf"
	nothing_loaded
}

test_options_may_come_first() {
	phones | guard
	exits 0 "$SIPKEEP" --instance "$INSTANCE" --json status
	jq -e --arg i "$INSTANCE" '.instance == $i' "$TMP/out" >/dev/null
	exits 0 "$SIPKEEP" -j --instance="$INSTANCE" stats
	jq -e '.v == 1' "$TMP/out" >/dev/null
	exits 0 "$SIPKEEP" -c "$TMP/sipkeep.conf" --no-color check
}

# A table for people too: its columns' names in the first line, no escape anywhere.
test_tables() {
	phones 3 | guard
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 4
	exits 0 sk status
	prints "instance $INSTANCE" "mode enforce" "$CGROUP" sockops sk_lookup "all well"
	exits 0 sk stats
	prints "POLICY" phones trunks "refused by max_connections_per_source"
	exits 0 sk sources
	prints SOURCE 127.0.0.1
	exits 0 sk transports
	prints ID REMOTE 127.0.0.1:5060 60/10/6 ESTABLISHED
	exits 0 sk verify
	prints "drift 0"
	! grep -q $'\033' <(sk status; sk stats; sk sources; sk transports) || die "colours in a pipe"
	release phones
}

# keys FILTER KEY...: the object has at least these.
keys() {
	local filter=$1 key
	shift
	for key in "$@"; do
		jq -e --arg key "$key" "$filter | has(\$key)" "$TMP/out" >/dev/null || die "no $key in $filter of $(<"$TMP/out")"
	done
}

test_json_shapes() {
	phones 2 | guard
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 3
	is 1 turned_away phones
	wait_for 10 is 2 policy_field phones .active

	exits 0 sk sources -j
	jq -e '.v == 1 and (.sources | length) == 1' "$TMP/out" >/dev/null
	jq -e '.sources[0] | keys == ["active","admitted","last_seen","limit","peak","policy","refused","source"]' "$TMP/out" >/dev/null
	jq -e '.sources[0] | .source == "127.0.0.1" and .policy == "phones" and .active == 2 and .peak == 2 and .admitted == 2
		and .refused == 1 and .limit == 2' "$TMP/out" >/dev/null
	jq -e '.sources[0].last_seen | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$") and ((now - fromdate) | . > -2 and . < 60)' \
		"$TMP/out" >/dev/null || die "last_seen: $(<"$TMP/out")"

	exits 0 sk transports -j
	jq -e '.v == 1 and (.transports | length) == 2' "$TMP/out" >/dev/null
	keys '.transports[0]' id policy direction local remote state age_ms idle_ms keepalive
	keys '.transports[0].keepalive' on idle interval count

	exits 0 sk stats -j
	jq -e '.v == 1 and ([.policies[].name] | sort) == ["phones","trunks"]' "$TMP/out" >/dev/null
	keys . policies events sources map_full
	keys '.policies[0]' name active admitted refused teardowns
	keys .events emitted lost derived
	jq -e '.policies[] | select(.name == "phones") | .active == 2 and .admitted == 2
		and .refused.max_connections_per_source == 1' "$TMP/out" >/dev/null
	# listener_up, two connected, one refused
	jq -e '.events == {"emitted": 4, "lost": 0, "derived": 0} and .sources == 1 and .map_full == 0' "$TMP/out" >/dev/null || die "$(<"$TMP/out")"

	exits 0 sk verify -j
	jq -e '.v == 1 and .drift == 0 and .sources == []' "$TMP/out" >/dev/null

	exits 0 sk status -j
	jq -e '.v == 1 and .ok and .mode == "enforce" and .degraded == []' "$TMP/out" >/dev/null
	jq -e --arg cgroup "$CGROUP" '.cgroups == [$cgroup] and ([.attached[].hook] | sort) ==
		["connect4","connect6","ingress","post_bind4","post_bind6","setsockopt","sk_lookup","sock_release","sockops"]' "$TMP/out" >/dev/null

	exits 0 sk events
	jq -se 'length == 4 and all(.v == 1) and [.[].seq] == [1,2,3,4] and
		([.[].event] | sort) == ["connected","connected","listener_up","refused"]' "$TMP/out" >/dev/null || die "$(<"$TMP/out")"

	release phones
	wait_for 20 is 0 policy_field phones .active
	wait_for 20 is 2 policy_field phones '[.teardowns[]] | add'
	json_eq '.policies[] | select(.name == "phones") | .teardowns' '{"peer_fin":2}' sk stats -j

	exits 0 sk apply -c "$TMP/sipkeep.conf" -j
	jq -e '.v == 1 and .ok and .changes == []' "$TMP/out" >/dev/null
	exits 0 sk unload -j
	jq -e '.v == 1 and .ok' "$TMP/out" >/dev/null
	exits 0 sk load -c "$TMP/sipkeep.conf" -j
	jq -e '.v == 1 and .ok and .adopted == 0 and .policies == 2' "$TMP/out" >/dev/null
	exits 1 sk load -c "$TMP/sipkeep.conf" -j
	jq -e '.v == 1 and .ok == false and (.error | contains("already loaded"))' "$TMP/out" >/dev/null
}

# What is degraded makes status unhealthy.
test_status_exits_1_when_degraded() {
	phones | guard
	exits 0 sk status
	rm "$PINS/$INSTANCE/"link_on_ingress_*
	exits 1 sk status
	prints "degraded: ingress is attached to 0 of 1 cgroups"
	exits 1 sk status -j
	jq -e '.ok == false and (.degraded | length) == 1' "$TMP/out" >/dev/null
	sk unload
	nothing_loaded
}

test_two_instances_side_by_side() {
	local dir=$CGROUP_DIR other=$INSTANCE-b
	mkdir "$dir/a" "$dir/b"
	phones 2 | sed "1i cgroups = [ \"$CGROUP/a\" ];" >"$TMP/a.conf"
	phones 3 | sed "s/5060/5070/; 1i cgroups = [ \"$CGROUP/b\" ];" >"$TMP/b.conf"
	sk load -c "$TMP/a.conf"
	"$SIPKEEP" load --instance "$other" -c "$TMP/b.conf"
	CGROUP_DIR=$dir/a serve a 127.0.0.1 5060
	CGROUP_DIR=$dir/b serve b 127.0.0.2 5070
	hold to_a --to 127.0.0.1:5060 --procs 1 --connects 5
	hold to_b --to 127.0.0.2:5070 --procs 1 --connects 5
	is 2 count a accepted
	is 3 count b accepted
	json_eq '[.transports[].local] | unique' '["127.0.0.1:5060"]' sk transports -j
	json_eq '.policies[0].active' 2 sk stats -j
	json_eq '[.transports[].local] | unique' '["127.0.0.2:5070"]' "$SIPKEEP" transports --instance "$other" -j
	json_eq '.policies[0].active' 3 "$SIPKEEP" stats --instance "$other" -j
	wait_for 20 verified
	"$SIPKEEP" verify --instance "$other"
	# One goes, the other doesn't notice.
	sk unload
	exits 3 sk status
	"$SIPKEEP" status --instance "$other"
	json_eq '.policies[0].active' 3 "$SIPKEEP" stats --instance "$other" -j
	release to_b
	wait_for 20 json_eq '.policies[0].active' 0 "$SIPKEEP" stats --instance "$other" -j
	release to_a
	"$SIPKEEP" unload --instance "$other"
	nothing_loaded
}

# The text format's own rules: HELP and TYPE once before a metric's first sample, the samples of one metric together,
# names and labels well formed, values numbers, no sample twice, counters' names end in _total.
prometheus_valid() {
	awk '
		function wrong(why) { print FILENAME ":" FNR ": " why ": " $0 > "/dev/stderr"; bad = 1 }
		/^# HELP / { if (help[$3]++) wrong("HELP twice"); if (NF < 4) wrong("empty HELP"); next }
		/^# TYPE / {
			if (type[$3] != "") wrong("TYPE twice")
			if (!help[$3]) wrong("TYPE before HELP")
			if ($4 != "gauge" && $4 != "counter") wrong("no such type")
			if (($4 == "counter") != ($3 ~ /_total$/)) wrong("a counter ends in _total, a gauge does not")
			type[$3] = $4; last = $3; next
		}
		/^#/ { wrong("a comment of another kind") ; next }
		!/^[a-z_][a-z0-9_]*(\{[a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*\})? [0-9]+$/ { wrong("not a sample"); next }
		{
			name = $0; sub(/[{ ].*/, "", name)
			if (name !~ /^sipkeep_/) wrong("not ours")
			if (name != last) wrong("not behind its TYPE")
			sample = $0; sub(/ [0-9]+$/, "", sample)
			if (seen[sample]++) wrong("twice")
			samples++
		}
		END { if (samples < 20) { print "only " samples+0 " samples" > "/dev/stderr"; bad = 1 }; exit bad }
	' "$1"
}

test_prometheus() {
	phones 2 | guard
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 5
	exits 0 sk stats --prometheus
	prometheus_valid "$TMP/out"
	prints 'sipkeep_active_transports{policy="phones"} 2' 'sipkeep_active_transports{policy="trunks"} 0' \
		'sipkeep_refused_total{policy="phones",cause="max_connections_per_source"} 3' 'sipkeep_sources 1' \
		'sipkeep_events_lost_total 0'
	release phones
	wait_for 20 is 0 policy_field phones .active
	exits 0 sk stats --prometheus
	prometheus_valid "$TMP/out"
	prints 'sipkeep_teardowns_total{policy="phones",reason="peer_fin"} 2'
	if command -v promtool >/dev/null; then
		promtool check metrics <"$TMP/out"
	fi
}

test_sources_top() {
	local i
	phones | guard
	serve pbx 127.0.0.1 5060
	for i in 2 5 3 4; do
		hold "from$i" --to 127.0.0.1:5060 --from "127.0.0.$i" --procs 1 --connects "$i"
	done
	json_eq '[.sources[] | [.source, .active]]' \
		'[["127.0.0.5",5],["127.0.0.4",4],["127.0.0.3",3],["127.0.0.2",2]]' sk sources -j
	json_eq '[.sources[].source]' '["127.0.0.5","127.0.0.4"]' sk sources -j --top 2
	json_eq '.sources | length' 4 sk sources -j --top 1000000
	exits 0 sk sources --top 1
	[[ $(wc -l <"$TMP/out") == 2 ]] || die "not a head and one line: $(<"$TMP/out")"
	prints 127.0.0.5
	for i in 2 5 3 4; do
		release "from$i"
	done
}

test_transports_fields() {
	local expected
	traffic_begin
	serve old 127.0.0.1 5060
	hold adopted --to 127.0.0.1:5060 --procs 1 --connects 1
	phones | guard
	bg "$TOOLS/server" 127.0.0.1 5080 >"$TMP/carrier.out"
	wait_for 20 grep -q listening "$TMP/carrier.out"
	serve new6 "$V6_A1" 5060
	HOLD_IN=in_cgroup hold out --to 127.0.0.1:5080 --from 127.0.0.7 --procs 1 --connects 1
	hold in6 --to "[$V6_A1]:5060" --from "$V6_B1" --procs 1 --connects 1
	sk transports -j >"$TMP/transports"
	expected='[
		{"policy":"phones","direction":"inbound","local":"127.0.0.1:5060","remote":"127.0.0.1","adopted":true,"on":true},
		{"policy":"phones","direction":"inbound","local":"['"$V6_A1"']:5060","remote":"['"$V6_B1"']","adopted":false,"on":true},
		{"policy":"trunks","direction":"outbound","local":"127.0.0.7","remote":"127.0.0.1:5080","adopted":false,"on":false}]'
	# The clients' ports are the kernel's choice.
	json_eq '[.transports[] | {policy, direction, adopted, on: .keepalive.on,
		local: (if .direction == "outbound" then .local | sub(":[0-9]+$"; "") else .local end),
		remote: (if .direction == "inbound" then .remote | sub(":[0-9]+$"; "") else .remote end)}] | sort_by(.local) | sort_by(.policy)' \
		"$(jq -c 'sort_by(.local) | sort_by(.policy)' <<<"$expected")" cat "$TMP/transports"
	jq -e 'all(.transports[]; .state == "ESTABLISHED" and (.id | test("^[0-9a-f]+$")) and .age_ms >= 0 and .age_ms < 60000
		and .idle_ms >= 0 and .bytes_in == 1 and .bytes_out == 1)' "$TMP/transports" >/dev/null || die "$(<"$TMP/transports")"
	jq -e '[.transports[].id] | length == (unique | length)' "$TMP/transports" >/dev/null
	# The ids are those of the events, and they are the kernel's cookies, as ss -e shows them.
	sk events >"$TMP/events"
	json_eq '[.transports[].id] | sort' "$(events '.event == "connected"' | jq -c '[.[].id] | sort')" cat "$TMP/transports"
	ss -Htne "sport = :5060 and dst [$V6_B1]" | grep -q "sk:$(jq -r '.transports[] | select(.remote | startswith("['"$V6_B1"'")) | .id' "$TMP/transports") "
	# Half closed, it is still a transport.
	kill -STOP "${SERVERS[old]}"
	release adopted
	wait_for 20 json_eq '[.transports[] | select(.adopted)][0].state' CLOSE_WAIT sk transports -j
	kill -CONT "${SERVERS[old]}"
	wait_for 20 json_eq '.transports | length' 2 sk transports -j
	release out
	release in6
	wait_for 20 json_eq '.transports' '[]' sk transports -j
	exits 0 sk transports
	prints "no open transports"
}

test_probe() {
	exits 0 "$SIPKEEP" probe
	prints sockops sk_lookup "sipkeep can run here"
	exits 0 "$SIPKEEP" probe -j
	jq -e '.v == 1 and .ok and (.features | length) > 10 and all(.features[]; .name and (.present | type) == "boolean"
		and (.essential | type) == "boolean" and (.present or .without))' "$TMP/out" >/dev/null || die "$(<"$TMP/out")"
	nothing_loaded
}

test_check_of_the_sample() {
	install -m 0644 "$here/../../deploy/sipkeep.conf" "$TMP/sample.conf"
	exits 0 "$SIPKEEP" check "$TMP/sample.conf"
	prints 'name = "phones"' 'direction = "inbound"' 'mode = "observe"'
	# What it prints is a config, and the same one.
	cp "$TMP/out" "$TMP/printed.conf"
	exits 0 "$SIPKEEP" check "$TMP/printed.conf"
	cmp "$TMP/out" "$TMP/printed.conf"
	exits 0 "$SIPKEEP" check -j "$TMP/sample.conf"
	jq -e '.v == 1 and .ok and .mode == "observe" and ([.policies[].name] == ["phones","trunks"]) and
		([.policies[] | [has("wedged_after"), .wedged_after]] == [[false,null],[true,2]])' "$TMP/out" >/dev/null
	exits 0 "$SIPKEEP" check -c "$TMP/sample.conf"
	exits 2 "$SIPKEEP" check "$TMP/none.conf"
	tells "$TMP/none.conf: " "can't be opened"
	nothing_loaded
}

# The sample as it is, but for the cgroup: it loads, and changes nothing.
test_the_sample_loads() {
	install -m 0644 "$here/../../deploy/sipkeep.conf" "$TMP/sample.conf"
	serve pbx 127.0.0.1 5060
	exits 0 sk load -c "$TMP/sample.conf" --cgroup "$CGROUP"
	prints "in observe mode"
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 150
	is 150 got phones served
	json_eq '[.transports[].keepalive.on] | unique' '[false]' sk transports -j
	is 50 policy_field phones .refused.max_connections_per_source
	release phones
}
