# shellcheck shell=bash
# crash.bash: verbs that are killed at whatever moment, while twenty sources come and go and five of them push over their
# limit. Sourced after faults.bash.

LIMIT=4

# crash_config NAME IDLE [EXEMPT]: what `apply` changes it from and to.
crash_config() {
	conf <<-CONFIG
		policies = ( { name = "$1"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = $LIMIT;
		               tcp_keepalive = true; tcp_keepidle = $2; },
		             { name = "other$2"; direction = "inbound"; local_ports = [ 5070 ]; } );
		exempt = [ "192.0.2.$2/32" ];
	CONFIG
}

crash_begin() {
	SEED=${SEED:-$RANDOM}
	RANDOM=$SEED
	sources_begin
	crash_config phones 60
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	PINS_WHOLE=$(pins_of_instance | paste -sd ' ')
	sk unload >/dev/null
	serve pbx :: 5060
	# Some stay all the while: what is wrong with them doesn't go away with them.
	call_once stay --to 127.0.0.1:5060 --from 127.5.0.1 --sources 10 --each 2
	is 20 got stay served
	call four --to 127.0.0.1:5060 --from 127.3.0.1 --sources 10 --each 2 --greedy 3 --greedy-each 12 --stay 60
	call six --to '[::1]:5060' --from "$SOURCES_V6" --sources 10 --each 2 --greedy 2 --greedy-each 12 --stay 60
	wait_for 20 at_least 100 count pbx accepted
}

crash_end() {
	local name
	hang_up four
	hang_up six
	release stay
	wait_for 30 is 0 count pbx open
	for name in $(sk stats -j | jq -r '.policies[].name'); do
		nothing_left "$name"
	done
	whole
	sk unload >/dev/null
	nothing_loaded
}

# verb_time PREPARE VERB...: how long it takes during this churn, the middle of seven, in microseconds, and a tenth more.
verb_time() {
	local prepare=$1 start times=()
	shift
	for _ in {1..7}; do
		$prepare >/dev/null 2>&1
		start=${EPOCHREALTIME/./}
		"$SIPKEEP" "$1" --instance "$INSTANCE" "${@:2}" >/dev/null
		times+=($((${EPOCHREALTIME/./} - start)))
	done
	mapfile -t times < <(printf '%s\n' "${times[@]}" | sort -n)
	VERB_TIME=$((times[3] * 11 / 10))
}

# killed_within MICROSECONDS COMMAND...: it is killed after some part of that time; KILLED says after how much. Every
# other time in the last quarter of it, where it pins and attaches what took it so long to prepare.
KILLED=
killed_within() {
	local from=$((ROUND % 2 ? 0 : $1 * 3 / 4)) at code=0
	at=$((from + (RANDOM * 32768 + RANDOM) % ($1 - from) + 1))
	shift
	printf -v KILLED '%d.%06d' $((at / 1000000)) $((at % 1000000))
	# The group's stderr takes the shell's own word about it.
	{ timeout -s KILL "$KILLED" "$@" >"$TMP/killed.out" 2>"$TMP/killed.err" || code=$?; } 2>/dev/null
	# 137: killed, 0: it was quicker; anything else is an end of its own making.
	((code == 137 || code == 0)) || die "$(crash_place): exit code $code: $(<"$TMP/killed.err")"
	((code == 0)) || DONE=$((DONE + 1))
}

DONE=0 ROUND=0 VERB_TIME=0
crash_place() {
	echo "SEED=$SEED, round $ROUND, killed after $KILLED s"
}

# recover: one verb, the one that the state asks for.
recover() {
	local code=0
	sk apply -c "$TMP/sipkeep.conf" >"$TMP/recover" 2>&1 || code=$?
	if ((code == 3)); then
		sk load -c "$TMP/sipkeep.conf" >"$TMP/recover" 2>&1 || die "$(crash_place): load: $(<"$TMP/recover")"
	elif ((code)); then
		die "$(crash_place): apply: $(<"$TMP/recover")"
	fi
	LIB_QUIET=yes wait_for_whole || die "$(crash_place): after $(head -n 1 "$TMP/recover"): $(what_is_wrong)"
}

wait_for_whole() {
	local deadline=$((EPOCHSECONDS + 10))
	while ((EPOCHSECONDS <= deadline)); do
		[[ -n $(what_is_wrong) ]] || return 0
		sleep 0.05
	done
	return 1
}

what_is_wrong() {
	local found
	found=$(programs)
	[[ $found == "$HOOKS" ]] || echo "on the cgroup: $found"
	found=$(netns_links)
	[[ $found == sk_lookup ]] || echo "on the network namespace: $found"
	found=$(pins_of_instance | paste -sd ' ')
	[[ $found == "$PINS_WHOLE" ]] || echo "pins: $(diff <(tr ' ' '\n' <<<"$PINS_WHOLE") <(tr ' ' '\n' <<<"$found") | paste -sd ' ')"
	found=$(sk verify -j | jq -c 'select(.drift != 0)')
	[[ -z $found ]] || echo "verify: $found"
}

# never_over: since the last look, no source had more open than its limit. By the server's own account.
never_over() {
	local peak
	peak=$(count pbx source_peak)
	((peak <= LIMIT)) || die "$(crash_place): $peak connections of one source, the limit is $LIMIT"
}

# quieten: what came in while nothing guarded may go; from then on no source is over its limit.
quieten() {
	local refused
	wait_for 30 nobody_over
	wait_for 30 within_limit
	refused=$(total_field '[.policies[].refused[]] | add')
	wait_for 30 at_least $((refused + 50)) total_field '[.policies[].refused[]] | add'
	never_over
}

# What is over it is told with its sockets, the clients' ends among them.
nobody_over() {
	local over
	over=$(sk sources -j | jq -r ".sources[] | select(.active > $LIMIT) | \"\(.source) \(.active)\"") || return 1
	[[ -n $over ]] || return 0
	if [[ -z ${LIB_QUIET:-} ]]; then
		echo "$(crash_place): over the limit of $LIMIT: $over"
		ss -Htano '( sport = :5060 or dport = :5060 )' | sort
		sk transports -j | jq -c '.transports[]'
	fi >&2
	return 1
}

within_limit() {
	kill -HUP "${SERVERS[pbx]}"
	sleep 0.05
	(($(count pbx source_peak) <= LIMIT))
}

said() {
	echo "SEED=$SEED: $1 killed $DONE times in $((ROUND - 1)) tries within its $((VERB_TIME / 1000)) ms;" \
		"$(count pbx accepted) connections, at most $(count pbx source_peak) of one source since the last load;" \
		"drift 0, nothing stray"
}

# load_killed N: from nothing loaded.
load_killed() {
	crash_begin
	verb_time crash_unload load -c "$TMP/sipkeep.conf"
	sk unload >/dev/null
	for ((ROUND = 1; DONE < $1; ROUND++)); do
		((ROUND <= 3 * $1 + 20)) || die "only $DONE of $ROUND were killed"
		killed_within "$VERB_TIME" "$SIPKEEP" load --instance "$INSTANCE" -c "$TMP/sipkeep.conf"
		recover
		((ROUND % 5)) || quieten
		sk unload >/dev/null
	done
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	quieten
	said load
	crash_end
}

crash_unload() {
	sk unload || true
}

# loaded_begin: guarding, and nobody over the limit from here on.
loaded_begin() {
	crash_begin
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	quieten
}

# apply_killed N: from one config to another and back.
apply_killed() {
	loaded_begin
	verb_time apply_prepare apply -c "$TMP/sipkeep.conf"
	for ((ROUND = 1; DONE < $1; ROUND++)); do
		((ROUND <= 3 * $1 + 20)) || die "only $DONE of $ROUND were killed"
		apply_prepare
		killed_within "$VERB_TIME" "$SIPKEEP" apply --instance "$INSTANCE" -c "$TMP/sipkeep.conf"
		never_over
		# In one round of three what comes next is another config still.
		((ROUND % 3)) || crash_config phones 201
		recover
		never_over
	done
	quieten
	said apply
	crash_end
}

apply_prepare() {
	PREPARED=$(((PREPARED + 1) % 200))
	crash_config phones $((PREPARED + 1))
}
PREPARED=0

# renaming_killed N: apply moves every transport to another policy, and is killed amid of it.
renaming_killed() {
	loaded_begin
	verb_time rename_prepare apply -c "$TMP/sipkeep.conf"
	for ((ROUND = 1; DONE < $1; ROUND++)); do
		((ROUND <= 3 * $1 + 20)) || die "only $DONE of $ROUND were killed"
		rename_prepare
		killed_within "$VERB_TIME" "$SIPKEEP" apply --instance "$INSTANCE" -c "$TMP/sipkeep.conf"
		recover
	done
	quieten
	said "apply with renamed policies"
	crash_end
}

rename_prepare() {
	PREPARED=$(((PREPARED + 1) % 3))
	crash_config "name$PREPARED" 60
}

# run_killed N: the reader, now from its first moment on, now while events pour out; and once in a while it must load.
run_killed() {
	crash_begin
	verb_time crash_unload load -c "$TMP/sipkeep.conf"
	sk unload >/dev/null
	VERB_TIME=$((VERB_TIME + 200000))
	sk load -c "$TMP/sipkeep.conf" >/dev/null
	quieten
	for ((ROUND = 1; DONE < $1; ROUND++)); do
		((ROUND <= 3 * $1 + 20)) || die "only $DONE of $ROUND were killed"
		((ROUND % 4)) || sk unload >/dev/null
		killed_within "$VERB_TIME" "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j
		((ROUND % 4 == 0)) || never_over
		recover
		((ROUND % 4)) || quieten
	done
	quieten
	said run
	crash_end
}

# upgrade_killed N
upgrade_killed() {
	loaded_begin
	verb_time true upgrade
	for ((ROUND = 1; DONE < $1; ROUND++)); do
		((ROUND <= 3 * $1 + 20)) || die "only $DONE of $ROUND were killed"
		killed_within "$VERB_TIME" "$SIPKEEP" upgrade --instance "$INSTANCE"
		never_over
		recover
		never_over
	done
	quieten
	said upgrade
	crash_end
}

has_upgrade() {
	"$SIPKEEP" upgrade --help >/dev/null 2>&1
}
