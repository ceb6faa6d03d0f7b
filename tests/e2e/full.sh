#!/bin/bash
# full.sh: twice as many sources as the map has room for.
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

ROOM=500

full_begin() {
	sources_begin
	guard <<-CONFIG
		max_sources = $ROOM;
		on_full = "$1";
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ]; max_connections_per_source = 3; } );
	CONFIG
	serve pbx :: 5060
	reader_start
}

# crowd NAME FAMILY FIRST COUNT: COUNT sources, from the FIRSTth on, with one connection each that stays.
crowd() {
	if [[ $2 == 4 ]]; then
		call_once "$1" --to 127.0.0.1:5060 --from "127.3.$(($3 / 250)).1" --sources "$4" --each 1
	else
		call_once "$1" --to '[::1]:5060' --from "2001:db8:f:$(printf '%x' "$3")::1" --sources "$4" --each 1
	fi
}

actives() {
	sk sources -j | jq -c '[.sources[].active] | group_by(.) | map({"\(.[0])": length}) | add // {}'
}

# full_told: the event that tells it, and no more than one a second of them.
full_told() {
	wait_for 20 eval "[[ \$(events '.event == \"full\"' | jq length) -ge 1 ]]"
	is true eval "events '.event == \"full\"' | jq 'length <= ((.[-1].ts[11:19] | split(\":\") | map(tonumber) | .[0] * 3600 +
		.[1] * 60 + .[2]) - (.[0].ts[11:19] | split(\":\") | map(tonumber) | .[0] * 3600 + .[1] * 60 + .[2]) + 2)'"
}

admitted_when_full() {
	full_begin admit
	crowd all "$1" 0 $((2 * ROOM))
	is $((2 * ROOM)) got all served
	is $((2 * ROOM)) count pbx open
	# As many as there is room for are counted, each as what it is; the rest as uncounted.
	is $ROOM total_field .sources
	is "{\"1\":$ROOM}" actives
	is $ROOM policy_field phones .uncounted
	is $ROOM total_field .map_full
	full_told
	unhealthy "the source map was full $ROOM times" "$ROOM transports were not counted"
	# Those that are counted keep their limit, those that aren't have none.
	crowd more "$1" 0 $((2 * ROOM))
	crowd third "$1" 0 $((2 * ROOM))
	is "{\"3\":$ROOM}" actives
	crowd fourth "$1" 0 $((2 * ROOM))
	is $ROOM got fourth served
	is $ROOM got fourth refused
	is "{\"3\":$ROOM}" actives
	# The end of one that isn't counted takes nothing from one that is.
	release fourth
	wait_for 20 is $((6 * ROOM)) count pbx open
	wait_for 20 is $((6 * ROOM)) policy_field phones .active
	is "{\"3\":$ROOM}" actives
	as_open 5060 >/dev/null 2>&1 && die "the uncounted are counted"
	release all
	release more
	release third
	nothing_left phones
	is $((7 * ROOM)) policy_field phones .destroyed
	is 0 policy_field phones .reserved
}

test_on_full_admit() {
	admitted_when_full 4
}

test_on_full_admit_ipv6() {
	admitted_when_full 6
}

refused_when_full() {
	full_begin refuse
	crowd all "$1" 0 $((2 * ROOM))
	is $ROOM got all served
	is $ROOM eval "jq '.refused + .reset' '$TMP/all.json'"
	is $ROOM count pbx accepted
	is $ROOM count pbx peak
	is $ROOM total_field .sources
	is "{\"1\":$ROOM}" actives
	is 0 policy_field phones .uncounted
	is $ROOM policy_field phones .refused.on_full
	full_told
	unhealthy "the source map was full"
	verified
	# Whoever has an entry still gets its other places.
	crowd more "$1" 0 $((2 * ROOM))
	is $ROOM got more served
	is "{\"2\":$ROOM}" actives
	verified
	release all
	release more
	nothing_left phones
	is "{\"0\":$ROOM}" actives
	# Nothing holds their entries any more: others find room. (In reality after five quiet minutes.)
	is $ROOM "$TOOLS/sweep" "$PINS/$INSTANCE/prog_on_sweep" 0
	is 0 total_field .sources
	crowd others "$1" 2500 $ROOM
	is $ROOM got others served
	is "{\"1\":$ROOM}" actives
	release others
	nothing_left phones
}

test_on_full_refuse() {
	refused_when_full 4
}

test_on_full_refuse_ipv6() {
	refused_when_full 6
}
