# shellcheck shell=bash
# lib.sh: what every file of tests/e2e and tests/pbx sources first. Such a file defines functions test_*, no more;
# tests/run calls each in namespaces and a cgroup of its own, which are gone when it ends. A test that needs longer than
# 120 s says so in the line before it: "# timeout: 300".
#
# A test has
#   SIPKEEP       build/sipkeep
#   INSTANCE      the name of its instance
#   CGROUP        its cgroup as the config wants it, relative to the cgroup2 mount
#   CGROUP_DIR    the same as an absolute path
#   TMP           an empty directory, its working directory
#   TOOLS         where the programs of tests/tools are
#   PREPARED      what the file's line "# prepare: COMMAND" printed last (see tests/run)
#   SIPKEEP_SCALE how many times slower than others the machine is (1; tests/vm says otherwise): `scaled`, `patience`
# and passes when it returns; under `set -e` every command of it must succeed.

if [[ -z ${SIPKEEP_TEST:-} ]]; then
	# Called by hand.
	exec "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../run" "$0"
fi
set -euo pipefail
SIPKEEP_SCALE=${SIPKEEP_SCALE:-1}

# What ended the test: the line of the test, and the command, which may be somewhere below it.
lib_failed() {
	((BASH_SUBSHELL == 0)) || return 0
	trap - ERR
	lib_place
	echo "$LIB_PLACE: exit code $1 from: $2" >&2
	sed -n "${LIB_PLACE##*:}s/^[[:space:]]*/    /p" "$0" >&2
}

# FILE:LINE of the test's file that is being executed, in LIB_PLACE.
lib_place() {
	local i
	for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
		if [[ ${BASH_SOURCE[i]} == "$0" ]]; then
			break
		fi
	done
	LIB_PLACE=${0##*/}:${BASH_LINENO[i - 1]}
}

set -o errtrace
trap 'lib_failed "$?" "$BASH_COMMAND"' ERR
trap 'bg_end_all' EXIT

# die MESSAGE: fails the test.
die() {
	trap - ERR
	lib_place
	echo "$LIB_PLACE: $*" >&2
	exit 1
}

# skip REASON: this machine can't do it.
skip() {
	echo "$*"
	trap - ERR
	exit 77
}

# scaled N [LEAST]: what takes a slow machine as long as N take others; at least LEAST (1).
scaled() {
	local count=$(($1 / SIPKEEP_SCALE)) least=${2:-1}
	echo $((count < least ? least : count))
}

# patience SECONDS: as long for a slow machine.
patience() {
	echo $(($1 * SIPKEEP_SCALE))
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; fails the test when it doesn't. Slow machines are given longer.
wait_for() {
	local seconds=$(($1 * SIPKEEP_SCALE)) deadline quiet=yes
	deadline=$((${EPOCHREALTIME/./} + seconds * 1000000))
	shift
	until LIB_QUIET=$quiet "$@"; do
		[[ $quiet == yes ]] || die "waited $seconds s in vain for: $*"
		# The last time, it may say what it found instead.
		((${EPOCHREALTIME/./} < deadline)) || quiet=
		sleep 0.05
	done
}

# in_cgroup COMMAND...: born in the test's cgroup: a socket belongs to the cgroup it was created in.
in_cgroup() {
	if [[ -n ${LIB_BG:-} ]]; then
		echo "$BASHPID" >"$CGROUP_DIR/cgroup.procs"
		lib_exec "$@"
	fi
	(
		echo "$BASHPID" >"$CGROUP_DIR/cgroup.procs"
		lib_exec "$@"
	)
}

# Bash makes what it starts in the background deaf to SIGINT.
lib_exec() {
	if [[ $(type -t "$1") == function ]]; then
		"$@"
		exit
	fi
	exec env --default-signal=INT,QUIT "$@"
}

# bg COMMAND...: in the background until the test ends; its process id is in BG. `bg in_cgroup COMMAND...` works too, and
# redirections as usual.
BG=
declare -A LIB_RUNNING=()
bg() {
	{
		trap - EXIT
		LIB_BG=yes
		lib_exec "$@"
	} <&0 &
	BG=$!
	LIB_RUNNING[$BG]=$1
}

# bg_end PID [SIGNAL]: ends it (TERM) and waits until it is gone. Returns its exit code.
bg_end() {
	local code=0
	kill -"${2:-TERM}" "$1" 2>/dev/null || true
	bg_wait "$1" || code=$?
	return "$code"
}

# bg_wait PID: until it ends by itself. Returns its exit code.
bg_wait() {
	local code=0
	wait "$1" || code=$?
	unset "LIB_RUNNING[$1]"
	return "$code"
}

bg_running() {
	kill -0 "$1" 2>/dev/null
}

bg_end_all() {
	local pid
	for pid in "${!LIB_RUNNING[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in "${!LIB_RUNNING[@]}"; do
		wait "$pid" 2>/dev/null || true
	done
}

# conf: the configuration on stdin, guarding the test's cgroup, in $TMP/sipkeep.conf.
conf() {
	{
		echo "cgroups = [ \"$CGROUP\" ];"
		cat
	} >"$TMP/sipkeep.conf"
	chmod 0644 "$TMP/sipkeep.conf"
}

# sk VERB [ARGUMENT...]: sipkeep on the test's instance.
sk() {
	local verb=$1
	shift
	"$SIPKEEP" "$verb" --instance "$INSTANCE" "$@"
}

# json_eq FILTER EXPECTED COMMAND...: what jq's FILTER makes of COMMAND's output is EXPECTED (JSON, or a plain string).
# Says what it found instead.
json_eq() {
	local filter=$1 plain=$2 expected found
	shift 2
	# jq 1.7 prints 5.0 as it was written, 1.6 as 5.
	local as_number='(.. | select(type == "number")) |= . + 0'
	expected=$(jq -cS "$as_number" <<<"$plain" 2>/dev/null) && [[ -n $expected ]] ||
		expected=$(jq -cn --arg text "$plain" '$text')
	found=$("$@" | jq -cS "($filter) | $as_number") || return 1
	[[ $found != "$expected" ]] || return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$*: $filter is $found, not $expected" >&2
	return 1
}
