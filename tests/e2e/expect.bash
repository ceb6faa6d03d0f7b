# shellcheck shell=bash
# expect.bash: what a command says and leaves behind. Sourced by e2e tests after lib.sh and e2e.bash.

PINS=/sys/fs/bpf/sipkeep

# exits CODE COMMAND...: it ends with CODE; its output is in $TMP/out and $TMP/err.
exits() {
	local wanted=$1 code=0
	shift
	"$@" >"$TMP/out" 2>"$TMP/err" || code=$?
	((code == wanted)) || die "exit code $code, not $wanted, from: $*; $(head -c 2000 "$TMP/out" "$TMP/err")"
}

# prints TEXT..., tells TEXT...: each is in what the command of the last `exits` printed, or told on stderr.
prints() {
	local text
	for text in "$@"; do
		grep -qF -- "$text" "$TMP/out" || die "not printed: $text; but: $(<"$TMP/out")"
	done
}

tells() {
	local text
	for text in "$@"; do
		grep -qF -- "$text" "$TMP/err" || die "not told: $text; but: $(<"$TMP/err")"
	done
}

# fails_well CODE TEXT... -- COMMAND...: ends with CODE, tells each TEXT, once, in a sentence of sipkeep's.
fails_well() {
	local code=$1 texts=() again
	shift
	while [[ $1 != -- ]]; do
		texts+=("$1")
		shift
	done
	shift
	exits "$code" "$@"
	tells "${texts[@]}"
	grep -q '^sipkeep: [^ ]' "$TMP/err" || die "nothing of sipkeep's own: $(<"$TMP/err")"
	# Never the error's name alone, nor a number in its place.
	! grep -qE '^sipkeep: ([^:]*: )?(Invalid argument|Operation not permitted|Permission denied|No such file or directory|Unknown error.*|-?[0-9]+)$' \
		"$TMP/err" || die "a bare error: $(<"$TMP/err")"
	again=$(sort "$TMP/err" | uniq -d)
	[[ -z $again ]] || die "told twice: $again"
}

# programs: those attached to the test's cgroup, by name.
programs() {
	bpftool -j cgroup list "$CGROUP_DIR" | jq -r '.[]?.name' | sort | paste -sd ' '
}

# netns_links: what is attached to this network namespace.
netns_links() {
	bpftool -j link list | jq -r --argjson net "$(stat -L -c %i /proc/self/ns/net)" \
		'.[] | select(.netns_ino == $net) | .attach_type' | paste -sd ' '
}

# nothing_loaded: no program on the cgroup or in this network namespace, no pin of any instance. The kernel detaches a
# link a moment after its last pin is gone.
nothing_loaded() {
	local left
	left=$(ls -A "$PINS" 2>/dev/null || true)
	[[ -z $left ]] || die "still pinned: $left"
	wait_for 10 is '' programs
	wait_for 10 is '' netns_links
}
