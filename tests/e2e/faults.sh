#!/bin/bash
# faults.sh: no memory for a socket's state, no descriptors, no disk, no bpffs, pins that are gone or another's, nobody
# who reads: a clean message, what guards goes on, and what was lost is counted.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"
# shellcheck source=faults.bash
. "$here/faults.bash"
# shellcheck source=endure.bash
. "$here/endure.bash"

# phones [LIMIT]
phones() {
	cat <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
		               max_connections_per_source = ${1:-3}; },
		             { name = "carrier"; direction = "outbound"; remote_ports = [ 5080 ]; } );
	CONFIG
}

# ---- no memory for a socket's state

# The sysctl belongs to the network namespace, and so goes with the test's.
storage_fails() {
	OPTMEM=$(sysctl -n net.core.optmem_max)
	sysctl -qw net.core.optmem_max=16
}

storage_works() {
	sysctl -qw net.core.optmem_max="$OPTMEM"
}

hold_out() {
	HOLD_IN=in_cgroup hold "$@"
}

# uncounted_begin: seven open that have no state, of which no account says they are counted.
uncounted_begin() {
	sources_begin
	phones | guard
	serve pbx 127.0.0.1 5060
	bg "$TOOLS/server" 127.0.0.2 5080 >"$TMP/carrier.out"
	wait_for 20 grep -q listening "$TMP/carrier.out"
	hold before --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 2
	is 2 source_field phones 127.0.0.5 active
	storage_fails
	hold in --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 3
	is 3 got in served
	hold_out out --to 127.0.0.2:5080 --procs 1 --connects 4
	is 4 got out served
	is 3 policy_field phones .uncounted
	is 4 policy_field carrier .uncounted
	at_least 7 total_field .storage_failed
	is 2 policy_field phones .active
	is 0 policy_field carrier .active
	is 0 total_field '[.policies[].reserved] | add'
	unhealthy "had no room for their state"
	unhealthy "policy phones: 3 transports were not counted"
	unhealthy "policy carrier: 4 transports were not counted"
	# The recount knows of them, too.
	exits 1 sk verify -j
	is 3 jq '[.sources[] | select(.policy == "phones" and .source == "127.0.0.6") | .open - .counted] | add' "$TMP/out"
}

# uncounted_end: all of them are counted now, and hold their places.
uncounted_end() {
	wait_for 20 is 5 policy_field phones .active
	is 4 policy_field carrier .active
	is 3 source_field phones 127.0.0.6 active
	verified
	as_open 5060 || die "$(diff "$TMP/open" "$TMP/counted")"
	burst more --to 127.0.0.1:5060 --from 127.0.0.6 --procs 1 --connects 2
	is 2 got more refused
	release before
	release in
	release out
	nothing_left phones carrier
}

test_no_storage_is_repaired_by_apply() {
	uncounted_begin
	storage_works
	# The file is the same: what is to be changed is what isn't counted.
	sk apply -c "$TMP/sipkeep.conf"
	uncounted_end
}

test_no_storage_is_repaired_by_another_config() {
	uncounted_begin
	storage_works
	phones | sed 's/max_connections_per_source = 3/& ; tcp_keepidle = 60/' | reconfigure
	uncounted_end
}

test_no_storage_is_repaired_by_run() {
	uncounted_begin
	storage_works
	reader_start
	uncounted_end
	reader_stop
}

# Those that are open when it comes, and no memory for any.
test_no_storage_at_load() {
	sources_begin
	phones | conf
	serve pbx 127.0.0.1 5060
	hold before --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 3
	storage_fails
	sk load -c "$TMP/sipkeep.conf"
	is 0 policy_field phones .active
	# Without its listener's state they can't even be told to be inbound: something amiss is all that can be said.
	at_least 1 total_field .storage_failed
	unhealthy "had no room for their state"
	storage_works
	sk apply -c "$TMP/sipkeep.conf"
	is 3 source_field phones 127.0.0.5 active
	verified
	release before
	nothing_left phones
}

# A listener's state can't be had: what it accepts is limited all the same, and that something is amiss is shown.
test_no_storage_for_a_listener() {
	sources_begin
	phones | guard
	reader_start
	storage_fails
	serve pbx 127.0.0.1 5060
	storage_works
	hold many --to 127.0.0.1:5060 --from 127.0.0.5 --procs 2 --connects 20 --timeout 5
	is 3 got many served
	is 3 count pbx accepted
	is 3 source_field phones 127.0.0.5 active
	unhealthy "had no room for their state"
	release many
	nothing_left phones
}

# ---- nobody reads

test_reader_stands_still() {
	reader_stopped 80000
}

# ---- no descriptors

# few_files COMMAND...: no more than eight, of which three are taken.
few_files() {
	(
		ulimit -n 8
		"$@"
	)
}

# vk VERB [ARGUMENT...]: as sk, but it ends.
vk() {
	timeout 20 "$SIPKEEP" "$1" --instance "$INSTANCE" "${@:2}"
}

# clean CODES COMMAND...: ends with one of the codes ("0 1"), and when it isn't 0, with a sentence of sipkeep's.
clean() {
	local codes=$1 code=0
	shift
	"$@" >"$TMP/out" 2>"$TMP/err" || code=$?
	[[ " $codes " == *" $code "* ]] || die "exit code $code, none of $codes, from: $*; $(head -c 2000 "$TMP/out" "$TMP/err")"
	((code)) || return 0
	[[ -s $TMP/err || -s $TMP/out ]] || die "exit code $code without a word from: $*"
	! grep -qvE '^(sipkeep: |libbpf: |$)' "$TMP/err" || die "not of sipkeep's: $(<"$TMP/err"), from: $*"
	! grep -qE '^sipkeep: ([^:]*: )?(Invalid argument|Bad file descriptor|No such file or directory|Unknown error.*|-?[0-9]+)$' \
		"$TMP/err" || die "a bare error: $(<"$TMP/err"), from: $*"
}

# still_guarding: three get in and no more.
still_guarding() {
	burst guarded --to 127.0.0.1:5060 --from 127.0.0.9 --procs 1 --connects 8 --timeout 3
	is 3 got guarded served
	wait_for 20 is 0 source_field phones 127.0.0.9 active
}

test_eight_descriptors() {
	local verb
	phones | conf
	clean "0 1" few_files "$SIPKEEP" check "$TMP/sipkeep.conf"
	clean "0 1" few_files "$SIPKEEP" probe
	clean 1 few_files vk load -c "$TMP/sipkeep.conf"
	tells "Too many open files"
	nothing_loaded
	clean 1 few_files vk run -c "$TMP/sipkeep.conf"
	tells "Too many open files"
	nothing_loaded
	sk load -c "$TMP/sipkeep.conf"
	serve pbx 127.0.0.1 5060
	PINS_WHOLE=$(pins_of_instance | paste -sd ' ')
	for verb in status stats "stats --prometheus" sources transports verify events "events -f" \
		"apply -c $TMP/sipkeep.conf" "apply --dry-run -c $TMP/sipkeep.conf" "run -c $TMP/sipkeep.conf"; do
		# shellcheck disable=SC2086 # words
		clean 1 few_files vk $verb
		tells "Too many open files"
		# Not what it isn't: damaged, not loaded.
		! grep -qE "damaged|not loaded|sipkeep unload" "$TMP/err" || die "$verb: wrong advice: $(<"$TMP/err")"
	done
	whole
	still_guarding
	clean "0 1" few_files vk unload
	[[ ! -e $PINS/$INSTANCE ]] || sk unload
	nothing_loaded
}

# However many there are: it works or says what is wrong, and what it couldn't do it hasn't begun.
test_any_number_of_descriptors() {
	local files code loaded=0
	phones | conf
	for files in 3 8 16 24 {29..101..3}; do
		code=0
		(
			ulimit -n "$files"
			sk load -c "$TMP/sipkeep.conf"
		) >"$TMP/out" 2>"$TMP/err" || code=$?
		if ((code)); then
			((code == 1)) || ((files < 5)) || die "$files files: exit code $code: $(<"$TMP/err")"
			[[ ! -e $PINS/$INSTANCE ]] || die "$files files: left behind: $(find "$PINS"): $(<"$TMP/err")"
			nothing_loaded
		else
			loaded=$((loaded + 1))
			sk status >/dev/null || die "$files files: $(sk status)"
			[[ $(programs) == "$HOOKS" ]] || die "$files files: $(programs)"
			sk unload
			((loaded < 2)) || break
		fi
	done
	((loaded)) || die "not even $files files are enough: $(<"$TMP/err")"
	echo "$files files are enough"
	nothing_loaded
}

# ---- no room under the events

# disk_full, disk_free: the events' file has no room left, or has again.
disk_begin() {
	mkdir -p "$TMP/disk"
	mount -t tmpfs -o size=32m none "$TMP/disk"
}

disk_full() {
	dd if=/dev/zero of="$TMP/disk/filler" bs=64k 2>/dev/null || true
}

# whole_sequence FILE: each number from 1 to the last one is a line's, or is told as lost.
whole_sequence() {
	# After half a line, cut off by the disk's end, the next one begins.
	sed -n 's/.*\({"v":1,.*}\)$/\1/p' "$1" >"$TMP/lines"
	awk -v last="$2" '
		{ match($0, /"seq":[0-9]+/); seq = substr($0, RSTART + 6, RLENGTH - 6) + 0; have[seq] = 1 }
		/"event":"lost"/ {
			match($0, /"count":[0-9]+/)
			for (n = substr($0, RSTART + 8, RLENGTH - 8) + 0; n > 0; n--) have[seq - n + 1] = 1
		}
		END {
			for (n = 1; n <= last; n++)
				if (!(n in have)) { missing++; if (missing == 1) first = n }
			if (missing) { print missing " of " last " events are neither printed nor told as lost, the first is " first; exit 1 }
		}' "$TMP/lines" || die "events are missing"
}

# disk_runs_full VERB...: its output goes to a disk that runs full, twice.
disk_runs_full() {
	local round code reader
	sources_begin
	phones 0 | sed 's/max_connections_per_source = 0/max_connections_per_source = 3/' | conf
	sk load -c "$TMP/sipkeep.conf"
	serve pbx 127.0.0.1 5060
	disk_begin
	: >"$TMP/err"
	for round in 1 2; do
		bg "$SIPKEEP" "$@" --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >>"$TMP/disk/events" 2>>"$TMP/err"
		reader=$BG
		wait_for 20 test -d "$PINS/$INSTANCE/reader"
		call phones --to 127.0.0.1:5060 --from 127.3.0.1 --sources 20 --each 2 --stay 20
		wait_for 20 at_least $((round * 200)) policy_field phones .destroyed
		disk_full
		# Either it ends, and says why, or it stays.
		wait_for 30 at_least $((round * 2500)) policy_field phones .destroyed
		hang_up phones
		still_guarding
		if ! bg_running "$reader"; then
			code=0
			bg_wait "$reader" || code=$?
			((code == 1)) || die "exit code $code: $(<"$TMP/err")"
			reader=
		fi
		grep -q '^sipkeep: .*No space left on device' "$TMP/err" || die "not told: $(<"$TMP/err")"
		sk status -j | jq -e '.attached | length == 9' >/dev/null || die "$(sk status)"
		rm "$TMP/disk/filler"
		[[ -z $reader ]] || bg_end "$reader"
	done
	# There is room again, and whoever reads now says all there is to say.
	bg "$SIPKEEP" "$@" --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >>"$TMP/disk/events" 2>>"$TMP/err"
	reader=$BG
	burst last --to 127.0.0.1:5060 --procs 1 --connects 2
	wait_for 20 is 0 policy_field phones .active
	sk stats -j >"$TMP/stats"
	wait_for 20 grep -q "\"seq\":$(jq .events.emitted "$TMP/stats")," "$TMP/disk/events"
	bg_end "$reader"
	whole_sequence "$TMP/disk/events" "$(jq .events.emitted "$TMP/stats")"
	nothing_left phones
}

test_run_on_a_full_disk() {
	disk_runs_full run
}

test_events_on_a_full_disk() {
	disk_runs_full events -f
}

# ---- no bpffs

test_bpffs_unmounted_and_mounted_again() {
	local run code=0 verb
	phones | conf
	sk load -c "$TMP/sipkeep.conf"
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --procs 1 --connects 2
	bg "$SIPKEEP" run --instance "$INSTANCE" -c "$TMP/sipkeep.conf" -j >"$TMP/events" 2>"$TMP/run.err"
	run=$BG
	wait_for 20 test -d "$PINS/$INSTANCE/reader"
	wait_for 20 grep -q connected "$TMP/events"
	umount -l /sys/fs/bpf
	# `run` says why it ends; no verb takes the instance for loaded.
	bg_wait "$run" || code=$?
	((code <= 1)) || die "run ended with $code: $(<"$TMP/run.err")"
	grep -q "unloaded" "$TMP/run.err" || die "$(<"$TMP/run.err")"
	for verb in status stats sources transports verify events "apply -c $TMP/sipkeep.conf" unload; do
		# shellcheck disable=SC2086 # words
		clean 3 vk $verb
		tells "not loaded"
	done
	mount -t bpf bpf /sys/fs/bpf
	nothing_loaded
	sk load -c "$TMP/sipkeep.conf"
	PINS_WHOLE=$(pins_of_instance | paste -sd ' ')
	whole
	is 2 policy_field phones .active
	still_guarding
	release first
	nothing_left phones
	sk unload
	nothing_loaded
}

# Only out of sight: it guards on, and is there again with its pins.
test_bpffs_out_of_sight() {
	local verb
	phones | guard
	serve pbx 127.0.0.1 5060
	hold first --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 2
	mkdir "$TMP/aside"
	mount --bind /sys/fs/bpf "$TMP/aside"
	umount /sys/fs/bpf
	for verb in status stats sources transports verify events "apply -c $TMP/sipkeep.conf" unload; do
		# shellcheck disable=SC2086 # words
		clean 3 vk $verb
		tells "not loaded"
	done
	hold second --to 127.0.0.1:5060 --from 127.0.0.5 --procs 1 --connects 3
	is 1 got second served
	mount --bind "$TMP/aside" /sys/fs/bpf
	PINS_WHOLE=$(pins_of_instance | paste -sd ' ')
	whole
	is 3 source_field phones 127.0.0.5 active
	release first
	release second
	nothing_left phones
	sk unload
	nothing_loaded
}

# ---- pins

VERBS=(status stats sources transports verify events "apply -c")

# each_verb CODES: each that needs the instance ends with one of them, cleanly.
each_verb() {
	local verb
	for verb in "${VERBS[@]}"; do
		[[ $verb != apply* ]] || verb+=" $TMP/sipkeep.conf"
		# shellcheck disable=SC2086 # words
		clean "$1" vk $verb
	done
}

unwell() {
	! sk status >"$TMP/out" 2>"$TMP/err"
}

# timeout: 240
test_each_pin_gone_in_turn() {
	local pin pins whole=0
	phones | conf
	sk load -c "$TMP/sipkeep.conf"
	mapfile -t pins < <(pins_of_instance)
	((${#pins[@]} >= 29)) || die "pins: ${pins[*]}"
	serve pbx 127.0.0.1 5060
	for pin in "${pins[@]}"; do
		rm "$PINS/$INSTANCE/$pin"
		# It must not pass for whole. The kernel detaches a link a moment after its last pin is gone.
		if [[ $pin == *link_* ]]; then
			wait_for 5 unwell
		fi
		each_verb "0 1 3"
		# apply has put a link back. Nobody else can.
		if [[ $pin == *link_* ]]; then
			sk status >"$TMP/out" || die "without $pin, after apply: $(<"$TMP/out")"
		elif sk status >"$TMP/out" 2>"$TMP/err"; then
			echo "without $pin status says: $(tail -n 1 "$TMP/out")"
			whole=$((whole + 1))
		fi
		sk unload >"$TMP/out" 2>"$TMP/err" || die "unload without $pin: $(<"$TMP/err")"
		nothing_loaded
		sk load -c "$TMP/sipkeep.conf" >"$TMP/out" 2>"$TMP/err" || die "load after $pin: $(<"$TMP/err")"
	done
	((whole == 0)) || die "$whole of ${#pins[@]} damaged instances pass for whole"
	still_guarding
	sk unload
	nothing_loaded
}

# Half of them, at random.
test_many_pins_gone() {
	local seed=${SEED:-$RANDOM} round pin pins gone
	phones | conf
	RANDOM=$seed
	for round in {1..10}; do
		sk load -c "$TMP/sipkeep.conf" >"$TMP/out" 2>"$TMP/err" || die "seed $seed, round $round: load: $(<"$TMP/err")"
		mapfile -t pins < <(pins_of_instance)
		gone=()
		for pin in "${pins[@]}"; do
			((RANDOM % 2)) || gone+=("$pin")
		done
		(cd "$PINS/$INSTANCE" && rm "${gone[@]}")
		echo "seed $seed, round $round: without ${gone[*]}"
		each_verb "1 3"
		# What is left may be unloaded, or be loaded over when it isn't a whole instance any more.
		if [[ -e $PINS/$INSTANCE/meta ]] || ((round % 2)); then
			sk unload >"$TMP/out" 2>"$TMP/err" || die "unload: $(<"$TMP/err")"
			nothing_loaded
		else
			sk load -c "$TMP/sipkeep.conf" >/dev/null
			wait_for 10 is "$HOOKS" programs
			sk unload >/dev/null
			nothing_loaded
		fi
	done
}

# Others' things in our directory: in nobody's way, and gone with it.
test_foreign_pins() {
	local dir=$PINS/$INSTANCE name
	phones | guard
	serve pbx 127.0.0.1 5060
	bpftool map create "$dir/foreign" type hash key 4 value 4 entries 1 name foreign
	bpftool prog pin pinned "$dir/prog_on_list" "$dir/prog_foreign"
	bpftool map create "$dir/link_foreign" type hash key 4 value 4 entries 1 name foreign
	ln -s meta "$dir/link_symlink"
	mkdir "$dir/link_directory" "$dir/directory"
	each_verb "0 1"
	still_guarding
	sk unload >"$TMP/out" 2>"$TMP/err" || die "unload: $(<"$TMP/err")"
	nothing_loaded
	# A pin of ours is a link of another's: told apart, and unload takes it out.
	phones | guard
	for name in sources meta "$(basename "$dir"/link_on_ingress_*)" prog_on_sweep; do
		rm "$dir/$name"
		ln -s "$dir/shared" "$dir/$name"
		each_verb "0 1 3"
		! sk status >"$TMP/out" 2>&1 || die "status takes it for whole with a foreign $name: $(<"$TMP/out")"
		sk unload >"$TMP/out" 2>"$TMP/err" || die "unload with a foreign $name: $(<"$TMP/err")"
		nothing_loaded
		sk load -c "$TMP/sipkeep.conf" >"$TMP/out"
	done
	sk unload
	nothing_loaded
}

# What unload must not do: take what is behind a link, or what lies deeper.
test_unload_takes_nothing_of_others() {
	local dir=$PINS/$INSTANCE
	phones | guard
	mkdir -p /sys/fs/bpf/others
	bpftool map create /sys/fs/bpf/others/map type hash key 4 value 4 entries 1 name others
	ln -s ../../others "$dir/directory"
	sk unload >"$TMP/out" 2>"$TMP/err" || die "unload: $(<"$TMP/err")"
	[[ -e /sys/fs/bpf/others/map ]] || die "another's pin is gone"
	nothing_loaded
	# A directory with something in it can't be removed: told by its name, and what guards is out all the same.
	phones | guard
	mkdir "$dir/directory"
	bpftool map create "$dir/directory/map" type hash key 4 value 4 entries 1 name others
	fails_well 1 "$dir/directory" -- sk unload
	wait_for 10 is '' programs
	wait_for 10 is '' netns_links
	rm -r "$dir/directory"
	[[ ! -e $dir ]] || sk unload
	nothing_loaded
}
