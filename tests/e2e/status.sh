#!/bin/bash
# What `status` must notice by itself: anything that makes a guard look whole that isn't.
# shellcheck source=tests/lib/lib.sh
source "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/e2e/e2e.bash
source "$(dirname "$0")/e2e.bash"

status_names() {
	local code=0
	sk status -j >"$TMP/status" || code=$?
	[[ $code == 1 ]] || die "status exits with $code: $(<"$TMP/status")"
	jq -e --arg text "$1" '.ok == false and any(.degraded[]; contains($text))' "$TMP/status" >/dev/null ||
		die "status doesn't name '$1': $(<"$TMP/status")"
}

test_a_listener_outside_the_cgroups_is_named() {
	guard <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	X
	serve inside 127.0.0.1 5060
	bg "$TOOLS/server" 127.0.0.1 5070 >"$TMP/other.out" # no guarded port: nobody's business
	wait_for 20 grep -q listening "$TMP/other.out"
	sk status >"$TMP/well"
	grep -q 'all well' "$TMP/well" || die "$(<"$TMP/well")"
	bg "$TOOLS/server" 127.0.0.2 5060 >"$TMP/outside.out"
	wait_for 20 grep -q listening "$TMP/outside.out"
	status_names "the listener at 127.0.0.2:5060 is in none of the attached cgroups"
	bg_end "$BG" || true
	sk status >/dev/null
}

test_a_hook_that_was_detached_is_named() {
	guard <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	X
	rm "/sys/fs/bpf/sipkeep/$INSTANCE/"link_on_ingress_*
	status_names "ingress is attached to 0 of 1 cgroups"
	rm "/sys/fs/bpf/sipkeep/$INSTANCE/"link_on_sk_lookup_*
	status_names "sk_lookup is not attached"
}

test_sockets_without_storage_are_counted_as_such() {
	guard <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	X
	serve pbx 127.0.0.1 5060
	sysctl -qw net.core.optmem_max=16 # no room for a socket's state
	"$TOOLS/burst" --to 127.0.0.1:5060 --procs 1 --connects 5 >"$TMP/burst"
	status_names "sockets had no room for their state"
	json_eq '.policies[0].uncounted' 5 sk stats -j
	json_eq '.policies[0].active' 0 sk stats -j
	json_eq '.policies[0].reserved' 0 sk stats -j
	json_eq '.drift' 0 sk verify -j
}

# A reader of an instance that isn't there any more must not wait for events that nobody will send.
test_a_reader_ends_when_the_instance_is_unloaded() {
	local code=0
	guard <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	X
	bg "$SIPKEEP" events -f --instance "$INSTANCE" >"$TMP/events" 2>"$TMP/events.err"
	wait_for 20 test -d "/sys/fs/bpf/sipkeep/$INSTANCE/reader"
	sk unload
	sk load -c "$TMP/sipkeep.conf" # another instance by the same name
	bg_wait "$BG" || code=$?
	[[ $code == 0 ]] || die "events -f ended with $code"
	grep -q 'the instance was unloaded' "$TMP/events.err"
}

# Where the iterator can't set the state callback, and only there.
test_what_stands_in_for_the_state_callback_is_named() {
	local present hooks='[.attached[] | select(.hook == "set_state")] | length'
	guard <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; } );
	X
	present=$("$SIPKEEP" probe -j | jq '.features[] | select(.name == "state callback set from the iterator").present')
	if [[ $present == true ]]; then
		json_eq "$hooks" 0 sk status -j
		return
	fi
	"$SIPKEEP" probe | grep -q 'set_state, .* stands in'
	json_eq "$hooks" 1 sk status -j
	rm "/sys/fs/bpf/sipkeep/$INSTANCE/link_on_set_state_0"
	status_names "set_state is not attached"
	sk apply -c "$TMP/sipkeep.conf"
	json_eq "$hooks" 1 sk status -j
	json_eq .ok true sk status -j
}
