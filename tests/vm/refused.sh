#!/bin/bash
# refused.sh: on a kernel too old, sipkeep says what it misses, and leaves nothing behind. Not among the tests that
# `tests/run` takes by itself: tests/vm has it run on Linux 5.10.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=../e2e/expect.bash
. "$here/../e2e/expect.bash"

MISSING=("bpf_loop" "syscall programs" "numbered network namespaces")

phones() {
	conf <<-CONFIG
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	CONFIG
}

test_probe_names_what_is_missing() {
	local name
	exits 1 "$SIPKEEP" probe
	prints "sipkeep can't run here"
	for name in "${MISSING[@]}"; do
		prints "NO   $name: "
	done
	# And what isn't.
	prints "yes  sockops" "yes  sk_lookup"
	exits 1 "$SIPKEEP" probe -j
	json_eq '[.features[] | select(.essential and (.present | not)).name] | sort' \
		"$(printf '%s\n' "${MISSING[@]}" | jq -cRn '[inputs] | sort')" cat "$TMP/out"
	json_eq .ok false cat "$TMP/out"
	nothing_loaded
}

test_load_and_run_name_it_too() {
	local verb
	phones
	for verb in load run; do
		fails_well 1 "this kernel lacks" "${MISSING[@]}" "Linux 6.1" "sipkeep probe" -- sk "$verb" -c "$TMP/sipkeep.conf"
		nothing_loaded
	done
	exits 1 sk load -c "$TMP/sipkeep.conf" -j
	jq -es 'length == 1 and .[0].ok == false and (.[0].error | contains("bpf_loop"))' "$TMP/out" >/dev/null ||
		die "load -j: $(<"$TMP/out")"
	exits 3 sk status
	nothing_loaded
}

test_check_needs_no_kernel() {
	phones
	exits 0 "$SIPKEEP" check "$TMP/sipkeep.conf"
}
