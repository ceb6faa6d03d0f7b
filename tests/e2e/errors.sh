#!/bin/bash
# errors.sh: what is in the way is told by what, which object, why and what to do; nothing is left half loaded.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=e2e.bash
. "$here/e2e.bash"
# shellcheck source=expect.bash
. "$here/expect.bash"

phones() {
	cat <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 2; } );
	CONFIG
}

# as_nobody COMMAND...: a user who may do nothing.
as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

test_not_root() {
	local verb sipkeep=/mnt/sipkeep
	phones | conf
	# Where nobody can read them; the test's own directory is root's.
	mount -t tmpfs -o mode=0755 none /mnt
	install -m 0755 "$SIPKEEP" "$sipkeep"
	install -m 0644 "$TMP/sipkeep.conf" /mnt/sipkeep.conf

	as_nobody "$sipkeep" check /mnt/sipkeep.conf >/dev/null
	fails_well 1 root sudo -- as_nobody "$sipkeep" load --instance "$INSTANCE" -c /mnt/sipkeep.conf
	fails_well 1 root sudo -- as_nobody "$sipkeep" run --instance "$INSTANCE" -c /mnt/sipkeep.conf
	exits 1 as_nobody "$sipkeep" probe
	prints "isn't root"
	nothing_loaded

	sk load -c "$TMP/sipkeep.conf" >/dev/null
	for verb in status stats sources transports events verify "apply -c /mnt/sipkeep.conf" unload; do
		# shellcheck disable=SC2086 # words
		fails_well 1 sudo "$PINS" -- as_nobody "$sipkeep" $verb --instance "$INSTANCE"
	done
	sk status
	sk unload
	nothing_loaded
}

bpffs_mounted() {
	[[ $(stat -f -c %T /sys/fs/bpf) == bpf_fs ]]
}

test_no_bpffs() {
	phones | conf
	while bpffs_mounted; do
		umount /sys/fs/bpf
	done
	fails_well 3 "not loaded" "bpffs" "sipkeep load" -- sk status
	exits 3 sk unload
	tells "not loaded"
	sk load -c "$TMP/sipkeep.conf"
	bpffs_mounted
	[[ $(stat -c %a "$PINS/$INSTANCE") == 700 ]]
	sk status
	sk unload
	nothing_loaded
}

# Neither there nor to be mounted.
test_bpffs_impossible() {
	phones | conf
	while bpffs_mounted; do
		umount /sys/fs/bpf
	done
	mount -t tmpfs none /sys/fs
	fails_well 1 /sys/fs/bpf "mount" -- sk load -c "$TMP/sipkeep.conf"
	[[ -z $(programs) ]]
}

test_no_cgroup2() {
	local hierarchy=${CGROUP_DIR%"$CGROUP"}
	phones | conf
	umount -l "$hierarchy"
	! grep -q ' cgroup2 ' /proc/self/mounts || skip "cgroup2 is mounted more than once"
	fails_well 1 "no cgroup2 is mounted" "mount -t cgroup2" -- sk load -c "$TMP/sipkeep.conf"
	[[ ! -e $PINS ]] || die "still there: $(ls -AR "$PINS")"
	mount -t cgroup2 none "$hierarchy"
	nothing_loaded
	sk load -c "$TMP/sipkeep.conf"
	sk unload
}

test_cgroup_missing() {
	local file
	phones | conf
	sed -i "s|$CGROUP|$CGROUP/none|" "$TMP/sipkeep.conf"
	fails_well 1 "$CGROUP/none" "No such file" "'cgroups'" -- sk load -c "$TMP/sipkeep.conf"
	nothing_loaded
	fails_well 1 "$CGROUP/nowhere" -- sk load -c "$TMP/sipkeep.conf" --cgroup "$CGROUP/nowhere"
	fails_well 2 --cgroup -- sk load -c "$TMP/sipkeep.conf" --cgroup relative
	fails_well 2 --cgroup -- sk load -c "$TMP/sipkeep.conf" --cgroup "$CGROUP/../x"
	# A file of the hierarchy is no cgroup.
	file=$CGROUP/cgroup.procs
	fails_well 1 "$file" -- sk load -c "$TMP/sipkeep.conf" --cgroup "$file"
	nothing_loaded
	# One of several: all or nothing.
	mkdir "$CGROUP_DIR/a"
	phones | sed "1i cgroups = [ \"$CGROUP/a\", \"$CGROUP/b\" ];" >"$TMP/two.conf"
	fails_well 1 "$CGROUP/b" -- sk load -c "$TMP/two.conf"
	nothing_loaded
	[[ -z $(bpftool -j cgroup list "$CGROUP_DIR/a" | jq -r '.[]?.name') ]]
}

# config_refused PATH TEXT...: by every verb that reads one, in the same words.
config_refused() {
	local path=$1 verb
	shift
	for verb in check "load --instance $INSTANCE" "run --instance $INSTANCE" "apply --instance $INSTANCE"; do
		# shellcheck disable=SC2086 # words
		exits 2 "$SIPKEEP" $verb -c "$path"
		tells "$path: " "$@"
	done
	nothing_loaded
}

test_config_that_can_not_be_read() {
	config_refused "$TMP/none.conf" "can't be opened"
	mkdir "$TMP/directory.conf"
	config_refused "$TMP/directory.conf" "regular file"
	mkfifo "$TMP/fifo.conf"
	config_refused "$TMP/fifo.conf" "regular file"
	ln -s loop.conf "$TMP/loop.conf"
	config_refused "$TMP/loop.conf" "can't be opened"
	phones | conf
	chmod g+w "$TMP/sipkeep.conf"
	config_refused "$TMP/sipkeep.conf" "may be written by its group" "chmod go-w"
	chmod 0602 "$TMP/sipkeep.conf"
	config_refused "$TMP/sipkeep.conf" "or by others" "chmod go-w"
	chmod 0644 "$TMP/sipkeep.conf"
	chown 65534 "$TMP/sipkeep.conf"
	config_refused "$TMP/sipkeep.conf" "belongs to user 65534" "chown root"
	chown 0 "$TMP/sipkeep.conf"
	mount -t tmpfs -o mode=0755 none /mnt
	install -m 0755 "$SIPKEEP" /mnt/sipkeep
	install -m 0600 "$TMP/sipkeep.conf" /mnt/sipkeep.conf
	exits 2 as_nobody /mnt/sipkeep check /mnt/sipkeep.conf
	tells "/mnt/sipkeep.conf: can't be opened"
	: >"$TMP/empty.conf"
	config_refused "$TMP/empty.conf" "'policies' is missing"
}

test_config_errors_all_in_one_go() {
	local verb
	cat >"$TMP/bad.conf" <<-CONFIG
		cgroups = [ "$CGROUP" ];
		mode = "watch";
		max_sources = 0;
		colour = "blue";
		policies = (
		  { name = "phones"; direction = "inbound"; local_ports = [ 70000 ];
		    tcp_keepidle = -1;
		    remotes = [ "192.0.2.7/24" ]; },
		  { name = "a b"; direction = "sideways"; }
		);
		sinks = ( { type = "jsonlines"; } );
		actions = ( { on = [ "wedge" ]; run = [ "asterisk" ]; } );
	CONFIG
	for verb in check load apply run; do
		exits 2 "$SIPKEEP" "$verb" --instance "$INSTANCE" -c "$TMP/bad.conf"
		for line in 2 3 4 6 7 8 9 11 12; do
			grep -qE "^$TMP/bad.conf:$line: [^ ].* .*" "$TMP/err" || die "$verb: nothing about line $line: $(<"$TMP/err")"
		done
		! grep -qvE "^$TMP/bad.conf:[0-9]+: " "$TMP/err" || die "$verb: a line without FILE:LINE: $(<"$TMP/err")"
		[[ ! -s $TMP/out ]] || die "$verb printed: $(<"$TMP/out")"
		exits 2 "$SIPKEEP" "$verb" --instance "$INSTANCE" -c "$TMP/bad.conf" -j
		jq -se 'length == 1 and (.[0] | .v == 1 and .ok == false and ([.errors[].line] | unique) == [2,3,4,6,7,8,9,11,12])' \
			"$TMP/out" >/dev/null || die "$verb -j: $(<"$TMP/out")"
	done
	nothing_loaded
}

test_syntax_error_has_its_line() {
	printf 'mode = "observe";\npolicies = (\n  { name = "a"; direction = ; }\n);\n' >"$TMP/bad.conf"
	exits 2 "$SIPKEEP" check "$TMP/bad.conf"
	tells "$TMP/bad.conf:3: syntax error"
}

test_a_wrong_sink_is_refused() {
	{
		echo 'sinks = ( { type = "syslog"; } );'
		phones
	} | conf
	config_refused_at 2 "'type' must be \"jsonl\", \"journald\" or \"socket\", not \"syslog\""
	nothing_loaded
}

config_refused_at() {
	exits 2 sk load -c "$TMP/sipkeep.conf"
	tells "$TMP/sipkeep.conf:$1: $2"
}

test_already_loaded() {
	phones | guard
	fails_well 1 "already loaded" "sipkeep apply" "sipkeep unload" -- sk load -c "$TMP/sipkeep.conf"
	# The first is untouched by it.
	sk status
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 count pbx accepted
	release phones
	sk unload
	nothing_loaded
	fails_well 3 "not loaded" -- sk unload
}

# foreign HOOK ATTACH_TYPE: another's program, attached to the test's cgroup in the old way, alone.
foreign() {
	clang -O2 -target bpf -x c -c -o "$TMP/foreign.o" - <<-PROGRAM
		__attribute__((section("$1"), used)) int foreign_guard(void *ctx) { return 1; }
	PROGRAM
	bpftool prog load "$TMP/foreign.o" /sys/fs/bpf/foreign
	bpftool cgroup attach "$CGROUP_DIR" "$2" pinned /sys/fs/bpf/foreign
}

foreign_end() {
	bpftool cgroup detach "$CGROUP_DIR" "$1" pinned /sys/fs/bpf/foreign
	rm /sys/fs/bpf/foreign
}

test_another_program_in_the_way() {
	local hook type
	phones | conf
	while read -r hook type; do
		foreign "$hook" "$type"
		fails_well 1 foreign_guard "$CGROUP" detach ALLOW_MULTI -- sk load -c "$TMP/sipkeep.conf"
		[[ $(programs) == foreign_guard ]] || die "on the cgroup: $(programs)"
		[[ ! -e $PINS ]]
		foreign_end "$type"
		nothing_loaded
	done <<-HOOKS
		cgroup_skb/ingress cgroup_inet_ingress
		sockops cgroup_sock_ops
		cgroup/setsockopt cgroup_setsockopt
		cgroup/connect4 cgroup_inet4_connect
		cgroup/connect6 cgroup_inet6_connect
		cgroup/post_bind4 cgroup_inet4_post_bind
		cgroup/post_bind6 cgroup_inet6_post_bind
	HOOKS
	sk load -c "$TMP/sipkeep.conf"
	sk unload
}

test_another_program_above() {
	phones | conf
	mkdir "$CGROUP_DIR/below"
	foreign sockops cgroup_sock_ops
	fails_well 1 foreign_guard "$CGROUP/below" above -- sk load -c "$TMP/sipkeep.conf" --cgroup "$CGROUP/below"
	foreign_end cgroup_sock_ops
	nothing_loaded
}

# A neighbour who lets others be is no obstacle, and stays.
test_another_program_beside() {
	phones | conf
	foreign sockops "cgroup_sock_ops"
	bpftool cgroup detach "$CGROUP_DIR" cgroup_sock_ops pinned /sys/fs/bpf/foreign
	bpftool cgroup attach "$CGROUP_DIR" cgroup_sock_ops pinned /sys/fs/bpf/foreign multi
	sk load -c "$TMP/sipkeep.conf"
	sk status
	sk unload
	[[ $(programs) == foreign_guard ]]
	foreign_end cgroup_sock_ops
}

# damaged TEXT...: every verb that needs it says so, and the instance can be removed.
damaged() {
	local verb
	for verb in stats sources transports status verify events "apply -c $TMP/sipkeep.conf"; do
		# shellcheck disable=SC2086 # words
		fails_well 1 "$@" "sipkeep unload" -- sk $verb
	done
	sk unload
	nothing_loaded
}

test_a_pin_is_gone() {
	phones | guard
	rm "$PINS/$INSTANCE/sources"
	damaged "$PINS/$INSTANCE/sources" damaged
	sk load -c "$TMP/sipkeep.conf"
	rm "$PINS/$INSTANCE/prog_on_list"
	fails_well 1 "$PINS/$INSTANCE/prog_on_list" damaged "sipkeep unload" -- sk transports
	fails_well 1 "$PINS/$INSTANCE/prog_on_list" -- sk verify
	sk unload
	nothing_loaded
}

test_a_pin_is_anothers() {
	local dir=$PINS/$INSTANCE
	phones | guard
	rm "$dir/sources"
	bpftool map create "$dir/sources" type hash key 4 value 4 entries 1 name foreign
	damaged "$dir/sources" "not a map of sipkeep's"

	# Under our name, but of another shape: reading it must not run over what was made for ours.
	phones | guard
	rm "$dir/sources"
	bpftool map create "$dir/sources" type hash key 40 value 16384 entries 8 name sources
	damaged "$dir/sources" "not a map of sipkeep's"
	phones | guard
	rm "$dir/shared"
	bpftool map create "$dir/shared" type array key 4 value 16384 entries 1 name shared
	damaged "$dir/shared" "not a map of sipkeep's"

	# Not even a map.
	phones | guard
	rm "$dir/config"
	bpftool prog pin pinned "$dir/prog_on_list" "$dir/config"
	damaged "$dir/config"
	phones | guard
	rm "$dir/rules"
	mkdir "$dir/rules"
	damaged "$dir/rules"

	phones | guard
	rm "$dir/meta"
	bpftool map create "$dir/meta" type array key 4 value 8 entries 1 name meta
	damaged "$dir"
}

test_another_versions_layout() {
	local bytes
	phones | guard
	read -r -a bytes < <(bpftool -j map lookup pinned "$PINS/$INSTANCE/meta" key 0 0 0 0 | jq -r '.value | .[0] = "0x7f" | join(" ")')
	bpftool map update pinned "$PINS/$INSTANCE/meta" key 0 0 0 0 value "${bytes[@]}"
	damaged "another version"
}

test_pin_directory_open_to_others() {
	phones | conf
	mkdir -m 0700 "$PINS"
	mkdir -m 0755 "$PINS/$INSTANCE"
	fails_well 1 "$PINS/$INSTANCE" "mode 0700" "remove it or mend" -- sk load -c "$TMP/sipkeep.conf"
	chmod 0700 "$PINS/$INSTANCE"
	chown 65534 "$PINS/$INSTANCE"
	fails_well 1 "$PINS/$INSTANCE" "belong to root" -- sk load -c "$TMP/sipkeep.conf"
	rmdir "$PINS/$INSTANCE"
	chmod 0777 "$PINS"
	fails_well 1 "$PINS " "mode 0700" -- sk load -c "$TMP/sipkeep.conf"
	rmdir "$PINS"
	nothing_loaded
	sk load -c "$TMP/sipkeep.conf"
	sk unload
}

test_leftovers_of_an_interrupted_load() {
	phones | conf
	# The bare directory.
	mkdir -m 0700 "$PINS" "$PINS/$INSTANCE"
	exits 3 sk status
	sk load -c "$TMP/sipkeep.conf"
	# Everything but the last pin: what it attached doesn't count beside the new ones.
	rm "$PINS/$INSTANCE/meta"
	exits 3 sk status
	exits 3 sk transports
	sk load -c "$TMP/sipkeep.conf"
	[[ $(programs) == "on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops" ]] || die "$(programs)"
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 3
	is 2 count pbx accepted
	is 2 policy_field phones .connected
	release phones
	# unload takes them too.
	rm "$PINS/$INSTANCE/meta"
	sk unload
	nothing_loaded
}

# Killed at whatever point: the next load finds its way, or the next unload leaves nothing.
test_load_killed_at_any_point() {
	local ms later
	phones | conf
	for ms in 5 15 25 40 60 80 100 130 160 200 250 300; do
		later=$(printf '%04d' $((ms * SIPKEEP_SCALE)))
		timeout -s KILL "${later%???}.${later: -3}" "$SIPKEEP" load --instance "$INSTANCE" -c "$TMP/sipkeep.conf" >/dev/null 2>&1 || true
		if ((ms % 2)); then
			sk unload >/dev/null 2>&1 || true
			nothing_loaded
		elif ! sk status >/dev/null 2>&1; then
			sk load -c "$TMP/sipkeep.conf" >/dev/null
			sk status >/dev/null
			[[ $(programs) == "on_connect4 on_connect6 on_ingress on_post_bind4 on_post_bind6 on_setsockopt on_sock_release on_sockops" ]] || die "$(programs)"
		fi
	done
	sk unload >/dev/null 2>&1 || true
	nothing_loaded
}

test_lock_is_held() {
	local dir=$PINS/$INSTANCE
	phones | guard
	bg flock -o "$dir" sleep infinity
	wait_for 10 eval "! flock -n '$dir' true"
	fails_well 1 "$dir" "process $BG" -- sk unload
	fails_well 1 "$dir" "process $BG" -- sk apply -c "$TMP/sipkeep.conf"
	fails_well 1 "$dir" "process $BG" -- sk load -c "$TMP/sipkeep.conf"
	# Those that only look aren't held up.
	sk status
	sk stats >/dev/null
	bg_end "$BG" || true
	wait_for 20 flock -n "$dir" true
	sk unload
	nothing_loaded
}

# Two at once: one loads, the other says so.
test_two_loads_at_once() {
	local first second code=0
	phones | conf
	bg "$SIPKEEP" load --instance "$INSTANCE" -c "$TMP/sipkeep.conf" >"$TMP/1.out" 2>&1
	first=$BG
	bg "$SIPKEEP" load --instance "$INSTANCE" -c "$TMP/sipkeep.conf" >"$TMP/2.out" 2>&1
	second=$BG
	bg_wait "$first" || code=$((code + $?))
	bg_wait "$second" || code=$((code + $?))
	((code == 1)) || die "exit codes: $code in all: $(cat "$TMP"/[12].out)"
	cat "$TMP"/[12].out | grep -q "already loaded\|by process"
	sk status
	sk unload
	nothing_loaded
}

# closed, full: what COMMAND prints has nowhere to go.
closed() {
	"$@" >&-
}
full() {
	"$@" >/dev/full
}

test_nowhere_to_print() {
	local how verb
	phones | guard
	serve pbx 127.0.0.1 5060
	hold phones --to 127.0.0.1:5060 --procs 1 --connects 2
	for how in closed full; do
		for verb in "check $TMP/sipkeep.conf" "check -j $TMP/sipkeep.conf" probe "probe -j" -V --help; do
			# shellcheck disable=SC2086 # words
			fails_well 1 "standard output" -- $how "$SIPKEEP" $verb
		done
		for verb in status "status -j" stats "stats -j" "stats --prometheus" sources "sources -j" transports "transports -j" \
			verify "verify -j" "apply -c $TMP/sipkeep.conf" "apply -j -c $TMP/sipkeep.conf"; do
			# shellcheck disable=SC2086 # words
			fails_well 1 "standard output" -- $how sk $verb
		done
	done
	# It is still whole.
	sk status
	verified
	for how in closed full; do
		fails_well 1 "standard output" -- $how sk unload
		nothing_loaded
		fails_well 1 "standard output" -- $how sk load -c "$TMP/sipkeep.conf"
		sk status
	done
	release phones
}

# More events than a buffer holds, and nowhere to print them.
test_events_nowhere_to_print() {
	local how
	phones | guard
	serve pbx 127.0.0.1 5060
	for how in closed full; do
		for _ in {1..30}; do
			burst one --to 127.0.0.1:5060 --procs 1 --connects 2
		done
		wait_for 20 is 0 policy_field phones .active
		exits 1 "$how" sk events
		grep -qE '^sipkeep: .*(output|events).*' "$TMP/err" || die "$how: $(<"$TMP/err")"
		burst one --to 127.0.0.1:5060 --procs 1 --connects 2
	done
	fails_well 1 "events can't be written" -- closed timeout 20 "$SIPKEEP" events -f --instance "$INSTANCE"
	# A full disk may have room again: it waits for that.
	burst one --to 127.0.0.1:5060 --procs 1 --connects 2
	bg full "$SIPKEEP" events -f --instance "$INSTANCE" 2>"$TMP/err"
	wait_for 20 grep -q "events can't be written, they wait in the kernel: jsonl on standard output: No space left on device" "$TMP/err"
	bg_running "$BG" || die "events -f has ended: $(<"$TMP/err")"
}
