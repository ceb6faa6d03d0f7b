#!/bin/bash
# asterisk16.sh: Debian 11's Asterisk loses the monitor of its registration's transport; what becomes of it without
# sipkeep, and with it.
# prepare: tests/pbx/root bullseye asterisk16 asterisk
here=$(dirname "$(realpath "$0")")
# shellcheck source=../lib/lib.sh
. "$here/../lib/lib.sh"
# shellcheck source=../e2e/e2e.bash
. "$here/../e2e/e2e.bash"
# shellcheck source=asterisk.bash
. "$here/asterisk.bash"
# shellcheck source=asterisk16.bash
. "$here/asterisk16.bash"

# The peer's FIN has come, and Asterisk has done nothing about it.
close_wait() {
	[[ -n $(ss -Htn state close-wait "dst $PEER_ADDRESS") && -z $(ss -Htn state established "dst $PEER_ADDRESS") ]]
}

unnoticed() {
	close_wait && [[ $(connects_made) == "$1" ]] && says 'pjsip show registrations' 'Registered '
}

test_without_sipkeep_it_stays_unreachable_and_says_registered() {
	asterisk_root
	asterisk16_start 120
	monitor_lose
	holds 5 unnoticed "$(connects_made)"
}

# disconnect: the registrar closes; how long until it had the next REGISTER is in BACK_MS.
disconnect() {
	sipend_close registrar fin
	within 10 registered registrar || die "not registered again: $(tail -n 5 "$TMP/registrar.out" "$TMP/events")"
	BACK_MS=$(back_ms)
}

# lives_ended COUNT: so many transports are gone.
lives_ended() {
	[[ $(events '.event == "destroyed"' | jq length) == "$1" ]]
}

# disconnects COUNT: as often in a row, guarded by sipkeep.
disconnects() {
	local count=$1 i worst=0
	for ((i = 1; i <= count; i++)); do
		disconnect
		((BACK_MS <= 3000)) || die "disconnect $i: registered again after $BACK_MS ms: $(tail -n 8 "$TMP/registrar.out" "$TMP/events")"
		((BACK_MS <= worst)) || worst=$BACK_MS
		# The old one ends when the new one is up; which has nothing to do with it.
		wait_for 10 lives_ended "$i"
		is 1 policy_field carrier .active
	done
	echo "registered again after at most $worst ms, $count times of $count," \
		"$(events '.event == "wedged"' | jq length) of them by the action"
}

# What was told of all these transports.
disconnects_told() {
	json_eq . '[]' disorderly_lives
	json_eq 'length' "$(($1 + 1))" events '.event == "connected"'
	json_eq 'length' 0 events '.event == "lost"'
	# Each that was reported wedged had been closed by its peer and was the last one then; it was told once.
	json_eq 'length > 0' true events '.event == "wedged"'
	json_eq '(map(.id) | length == (unique | length)) and all(.[]; .policy == "carrier" and .direction == "outbound")' \
		true events '.event == "wedged"'
	# shellcheck disable=SC2016 # jq's own variables
	json_eq . 0 jq -s '[.[] | select(.event | IN("connected", "disconnected", "wedged"))] | sort_by(.seq) | . as $all
		| [range(1; length) | select($all[.].event == "wedged")
			| select($all[. - 1].event != "disconnected" or $all[. - 1].id != $all[.].id)] | length' "$TMP/events"
	# As many starts of the action, and each of them done.
	json_eq 'length' "$(events '.event == "wedged"' | jq length)" events '.event == "action"'
	json_eq 'all(.[]; .outcome == "done")' true events '.event == "action"'
}

# guarded_registration [NAME]: watched by sipkeep, with the action that deploy/ has for Asterisk, in its root; told which
# registration, or to find out by itself.
guarded_registration() {
	local name=${1:+", \"$1\""}
	install -m 0755 "$here/../../deploy/actions/asterisk-register.sh" "$AST/run/"
	conf <<-CONFIG
		policies = (
		  { name = "carrier"; direction = "outbound"; remote_ports = [ 5060 ]; remotes = [ "203.0.113.0/24" ];
		    wedged_after = 0.5; }
		);
		actions = (
		  { on = [ "wedged" ]; policy = "carrier"; timeout = 10; debounce = 0.1;
		    run = [ "/usr/sbin/chroot", "$AST", "/run/asterisk-register.sh"$name ]; }
		);
	CONFIG
}

# timeout: 240
test_with_sipkeep_it_is_registered_again_within_3_s_20_times_in_a_row() {
	asterisk_root
	guarded_registration carrier
	reader_start
	asterisk16_start 120
	disconnects 20
	disconnects_told 20
}

# timeout: 180
test_the_action_finds_the_registration_by_itself() {
	asterisk_root
	guarded_registration
	reader_start
	asterisk16_start 120
	until [[ $(events '.event == "action"') != '[]' ]]; do
		disconnect
	done
	json_eq 'map([.for, .outcome])' '[["wedged","done"]]' events '.event == "action"'
	json_eq 'map(.cause)' '["monitor_lost"]' events '.event == "wedged"'
}
