# shellcheck shell=bash
# endure.bash: the same again and again, and nothing grows. Sourced after faults.bash; tests/e2e/endure.sh does it for
# seconds, tests/bench/soak_*.sh for hours.

endure_config() {
	conf <<-CONFIG
		policies = ( { name = "in"; direction = "inbound"; local_ports = [ 5060, 5061, 5062, 5063 ];
		               tcp_keepalive = true; tcp_keepidle = $1; },
		             { name = "out"; direction = "outbound"; remote_ports = [ 5060, 5061, 5062, 5063, 5064 ]; },
		             { name = "phones"; direction = "inbound"; local_ports = [ 5070 ]; max_connections_per_source = 6; } );
		exempt = [ "192.0.2.$1/32" ];
	CONFIG
}

# ---- loads in the middle of it

as_open_and_whole() {
	as_open 5070 && verified
}

# one_load: while some come and go and others go every way there is, it is loaded; those that came about that moment
# hold still from then on, and are still there when everything else has gone its way.
one_load() {
	local churn late=$((RANDOM % 150)) family=4
	((RANDOM % 2)) || family=mapped
	call phones --to 127.0.0.1:5070 --from 127.3.0.1 --sources 40 --each 5 --stay 600
	call six --to '[::1]:5070' --from "$SOURCES_V6" --sources 40 --each 5 --stay 600
	bg in_cgroup "$TOOLS/churn" --ports 5060-5063 --family "$family" --count 1500 >"$TMP/churn.json" 2>"$TMP/churn.err"
	churn=$BG
	sleep "0.$(printf '%03d' "$late")" # a moment of the traffic that nobody chose
	sk load -c "$TMP/sipkeep.conf" >"$TMP/load.log" || die "load: $(<"$TMP/load.log")"
	kill -USR2 "${CALLERS[phones]}" "${CALLERS[six]}"
	bg_wait "$churn" || die "churn: $(<"$TMP/churn.err")"
	LIB_QUIET=yes wait_for 20 as_open_and_whole || die
	at_least 40 active_of phones
	[[ $(programs) == "$HOOKS" ]] || die "$(programs)"
	# Those of the churn are all gone.
	is 0 active_of in
	is 0 active_of out
	hang_up phones
	hang_up six
	nothing_left in out phones
	sk unload >/dev/null
	nothing_loaded
}

active_of() {
	policy_field "$1" .active
}

# loads N
loads() {
	local round
	SEED=${SEED:-$RANDOM}
	RANDOM=$SEED
	sources_begin
	endure_config 60
	serve pbx :: 5070
	for ((round = 1; round <= $1; round++)); do
		echo "SEED=$SEED, round $round" >"$TMP/round"
		one_load || die "SEED=$SEED, round $round"
	done
	echo "SEED=$SEED: loaded $1 times amid the traffic: counted what was open, source by source, and 0 at the end"
}

# ---- every way to end, and the memory

every_path() {
	local family=$1 count=$2
	(in_cgroup "$TOOLS/churn" --ports 5060-5063 --family "$family" --count "$count" --stall 120) >"$TMP/churn.json" ||
		die "churn: $(<"$TMP/churn.json")"
	ENDED=$((ENDED + $(jq .connections "$TMP/churn.json")))
}
ENDED=0

none_open() {
	json_eq .transports '[]' sk transports -j
}

all_gone() {
	wait_for 180 none_open
	nothing_left in out
}

# entries MAP...
entries() {
	local map
	for map in "$@"; do
		echo "$map $(bpftool -j map dump pinned "$PINS/$INSTANCE/$map" | jq length)"
	done | paste -sd ' '
}

no_time_wait() {
	[[ -z $(ss -Htan state time-wait) ]]
}

# memory_after CONNECTIONS SLAB_KB [settle]: a warm-up, then so many, after which our maps are as they were, and the kernel's
# unreclaimable memory no more than SLAB_KB larger; settle: not before the last TIME_WAIT, a minute, is over.
memory_after() {
	local size slab before after family policy
	sources_begin
	endure_config 60
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	reader_start
	every_path 4 2000
	every_path 6 2000
	every_path mapped 2000
	all_gone
	[[ -z ${3:-} ]] || wait_for 180 no_time_wait
	size=$(instance_size)
	before=$(entries listeners rules exempts guarded_ports)
	slab=$(slab_kb)
	ENDED=0
	while ((ENDED < $1)); do
		for family in 4 mapped 6; do
			every_path "$family" $(($1 < 300000 ? $1 / 3 + 1 : 33400))
			: >"$TMP/events" # hundreds of megabytes, else
		done
	done
	all_gone
	is "$size" instance_size
	is "$before" entries listeners rules exempts guarded_ports
	[[ -z ${3:-} ]] || wait_for 180 no_time_wait
	wait_for 60 at_most $((slab + $2)) slab_kb
	after=$(slab_kb)
	for policy in in out; do
		is "$(policy_field "$policy" .connected)" policy_field "$policy" .destroyed
		is 0 policy_field "$policy" .uncounted
	done
	is 0 total_field .storage_failed
	reader_stop
	echo "$ENDED connections over every path: drift 0; $size, as before; unreclaimable slab $slab -> $after kB"
}

# ---- apply, again and again

# What must not grow: descriptors of `run`, our objects and their memory.
sizes() {
	echo "$(fds_of "$READER") descriptors, $(instance_size), $(entries rules exempts guarded_ports)"
}

# applies SECONDS PER_SECOND RSS_KB: apply during churn, from one config to another and back; `run` and what is in the
# kernel are as large as at first, RSS but for RSS_KB.
applies() {
	local end size rss round=0 most=0 now
	sources_begin
	endure_config 60
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	serve pbx :: 5070
	# The events' own place must not count: they are read, and thrown away.
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >/dev/null 2>"$TMP/run.err"
	READER=$BG
	wait_for 20 test -d "$PINS/$INSTANCE/reader"
	call phones --to 127.0.0.1:5070 --from 127.3.0.1 --sources 20 --each 4 --greedy 5 --greedy-each 12 --stay 80
	call six --to '[::1]:5070' --from "$SOURCES_V6" --sources 10 --each 4 --stay 80
	bg in_cgroup churn_on
	wait_for 20 at_least 1000 policy_field phones .destroyed
	for round in 1 2 3 4; do
		apply_next
	done
	size=$(sizes)
	rss=$(rss_of "$READER")
	end=$((EPOCHSECONDS + $1))
	while ((EPOCHSECONDS < end)); do
		apply_next
		((round++ % 2)) || wait_for 20 is "$size" sizes # a look of run's at its cgroups takes a descriptor for a moment
		now=$(rss_of "$READER")
		((now <= most)) || most=$now
		((most <= rss + $3)) || die "$round times applied: $most kB resident, $rss at first"
		(($(count pbx source_peak) <= 6)) || die "$(count pbx source_peak) of one source, 6 is the limit"
		sleep "$2"
	done
	touch "$TMP/enough"
	bg_wait "$BG" || die "churn: $(<"$TMP/churn.err")"
	hang_up phones
	hang_up six
	bg_running "$READER" || die "run has ended: $(<"$TMP/run.err")"
	! grep -v '^\(applied\|[-+~]\) ' "$TMP/run.err" || die "run said: $(<"$TMP/run.err")"
	wait_for 180 none_open
	nothing_left_of_run in out phones
	bg_end "$READER"
	echo "$round times applied in $1 s of churn ($(policy_field in .connected) + $(policy_field out .connected) +" \
		"$(policy_field phones .connected) connections): $size; $rss -> at most $most kB resident"
}

churn_on() {
	until [[ -e $TMP/enough ]]; do
		"$TOOLS/churn" --ports 5060-5063 --count 1500 --sources 50 --stall 120 >/dev/null 2>"$TMP/churn.err" || exit 1
	done
}

# As nothing_left, with a reader of another kind.
nothing_left_of_run() {
	local policy
	for policy in "$@"; do
		wait_for 60 is 0 policy_field "$policy" .active
	done
	wait_for 60 is 0 total_field '[.policies[].reserved] | add'
	wait_for 30 is 0 active_sum
	verified || die "drift: $(<"$TMP/verify.json")"
}

# In turn by `apply` and by the SIGHUP that a reload sends to `run`.
APPLIES=0
apply_next() {
	APPLIES=$((APPLIES + 1))
	endure_config $((60 + APPLIES % 2))
	if ((APPLIES % 4 < 2)); then
		sk apply -c "$TMP/sipkeep.conf" >"$TMP/apply.log" || die "apply: $(<"$TMP/apply.log")"
	else
		kill -HUP "$READER"
		RELOADS=$((RELOADS + 1))
		wait_for 20 is "$RELOADS" grep -c '^applied ' "$TMP/run.err"
	fi
}
RELOADS=0

# ---- nobody reads

# reader_stopped CONNECTIONS: the reader stands still while they come and go, three events each, and a limit is tried.
reader_stopped() {
	local connections=$1 round=0 emitted lost delivered limited=0
	sources_begin
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; },
		             { name = "few"; direction = "inbound"; local_ports = [ 5062 ]; max_connections_per_source = 7; } );
	CONFIG
	sk load -c "$TMP/sipkeep.conf"
	reader_start
	serve pbx 127.0.0.1 5060
	serve few 127.0.0.1 5062
	burst first --to 127.0.0.1:5060 --procs 1 --connects 10
	wait_for 20 eval "[[ \$(wc -l <'$TMP/events') -ge 32 ]]"
	kill -STOP "$READER"
	while ((round * 2000 < connections)); do
		burst many --to 127.0.0.1:5060 --from "127.3.$((round % 250)).1" --procs 2 --connects 1000 ||
			die "$(<"$TMP/many.json")"
		is 2000 got many served
		round=$((round + 1))
		if ((round % 10 == 0)); then
			burst limit --to 127.0.0.1:5062 --from 127.4.0.1 --procs 2 --connects 100 --timeout 3
			is 7 got limit served
			limited=$((limited + 1))
			wait_for 20 is 0 policy_field few .active
			is 7 count few peak
		fi
	done
	is $((limited * 7)) count few accepted
	wait_for 30 is 0 policy_field phones .active
	is $((10 + round * 2000)) policy_field phones .destroyed
	lost=$(total_field .events.lost)
	((lost > 0)) || die "nothing was lost: more must happen"
	kill -CONT "$READER"
	wait_for 60 told_all
	# It goes on as before.
	burst last --to 127.0.0.1:5060 --procs 1 --connects 10
	wait_for 20 is $((20 + round * 2000)) policy_field phones .destroyed
	wait_for 60 told_all
	reader_stop
	emitted=$(total_field .events.emitted)
	lost=$(total_field .events.lost)
	delivered=$(grep -vc '"event":"lost"' "$TMP/events")
	is "$((emitted - delivered))" echo "$lost"
	awk '
		{ match($0, /"seq":[0-9]+/); seq = substr($0, RSTART + 6, RLENGTH - 6) + 0 }
		/"event":"lost"/ {
			match($0, /"count":[0-9]+/); n = substr($0, RSTART + 8, RLENGTH - 8) + 0
			lost += n; seen += n
			if (seq != seen) { print "line " NR ": lost up to seq " seq ", not " seen; exit bad = 1 }
			next
		}
		seq != ++seen { print "line " NR ": seq " seq ", not " seen; exit bad = 1 }
		END { if (!bad) print lost + 0 }' "$TMP/events" >"$TMP/told"
	is "$lost" cat "$TMP/told"
	unhealthy "$lost events were lost"
	nothing_left phones few
	echo "$emitted events emitted, $delivered delivered, $lost lost and told as lost; $limited times 7 of 200 got in meanwhile"
}

# told_all: what was emitted is in the file, or told as lost there.
told_all() {
	is "$(total_field .events.emitted)" eval "awk '/\"event\":\"lost\"/ { match(\$0, /\"count\":[0-9]+/)
		n += substr(\$0, RSTART + 8, RLENGTH - 8) - 1 } END { print NR + n }' '$TMP/events'"
}

# ends_apart: the first and the last `disconnected` in $TMP/ended, in milliseconds.
ends_apart() {
	local times
	mapfile -t times < <(grep '"event":"disconnected"' "$TMP/ended" | sed -n '1p;$p' | jq -r .ts |
		date --file=- +%s%3N)
	echo $((times[1] - times[0]))
}

# all_end_at_once N: so many transports, whose PBX is killed while nobody reads: the ring has room for all that they tell.
# PBX and phones are ten processes each, for no process may have so many descriptors.
all_end_at_once() {
	local count=$1 i event servers=() started
	sources_begin
	sysctl -qw net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535
	guard <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ $(seq -s ', ' 5060 5069) ]; } );
	CONFIG
	for i in {0..9}; do
		serve "pbx$i" 127.0.0.1 $((5060 + i))
		call_once "stay$i" --to "127.0.0.1:$((5060 + i))" --from "127.6.$i.1" --sources 10 --each $((count / 100)) \
			--timeout 20000
		servers+=("${SERVERS[pbx$i]}")
	done
	wait_for 60 is "$count" policy_field phones .active
	sk events >"$TMP/begun" # what they told so far
	is "$count" eval "grep -c '\"event\":\"connected\"' $TMP/begun"
	started=${EPOCHREALTIME/./}
	kill -KILL "${servers[@]}"
	wait_for 60 is "$count" policy_field phones .destroyed
	echo "$count transports were gone within $(((${EPOCHREALTIME/./} - started) / 1000)) ms"
	is 0 total_field .events.lost
	started=${EPOCHREALTIME/./}
	sk events >"$TMP/ended"
	echo "$(wc -l <"$TMP/ended") events were read and written in $(((${EPOCHREALTIME/./} - started) / 1000)) ms," \
		"the ends being $(ends_apart) ms apart"
	for event in disconnected destroyed; do
		is "$count" eval "jq -r 'select(.event == \"$event\").id' $TMP/ended | sort -u | wc -l"
		is "$count" eval "grep -c '\"event\":\"$event\"' $TMP/ended"
	done
	is 0 policy_field phones .active
	is "$count" policy_field phones .teardowns.local_close
	sk verify >/dev/null
}
