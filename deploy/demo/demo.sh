#!/bin/bash
# demo.sh: sipkeep at work on a real Kamailio, in under a minute; what `sudo make demo` runs. Everything happens in a
# network namespace, a mount namespace and a cgroup of its own, all gone at the end.
#
#   SIPKEEP   the binary; build/sipkeep of this checkout when unset
set -euo pipefail

here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
SIPKEEP=$(realpath -m "${SIPKEEP:-$root/build/sipkeep}")
INSTANCE=demo

bold='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
	bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
fi

die() {
	echo "${red}demo: $*${plain}" >&2
	exit 1
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds.
wait_for() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < deadline)) || die "waited in vain for: $*"
		sleep 0.05
	done
}

# shellcheck source=../../tests/pbx/pbx.bash
. "$root/tests/pbx/pbx.bash"

# The command as the reader sees it, on the demo's own instance.
sipkeep() {
	local verb=$1
	shift
	"$SIPKEEP" "$verb" --instance "$INSTANCE" "$@"
}

check_requirements() {
	local missing
	((EUID == 0)) || die "needs root, to load BPF programs and to make namespaces: sudo make demo"
	[[ -x $SIPKEEP ]] || die "$SIPKEEP isn't there: build it with make"
	missing=$(pbx_missing)
	[[ -z $missing ]] || die "not installed: ${missing//$'\n'/, }; \`sudo make demo\` installs them"
}

# The whole script once more, inside namespaces of its own.
enter_namespaces() {
	if [[ ${1:-} != inside ]]; then
		exec unshare --net --mount --propagation private "$0" inside
	fi
}

cleanup() {
	local code=$?
	trap '' INT TERM HUP PIPE
	pbx_end_all
	if [[ -n ${loaded:-} ]]; then
		sipkeep unload >/dev/null 2>&1 || code=1
	fi
	if [[ -n ${CGROUP_DIR:-} ]]; then
		rmdir "$CGROUP_DIR" || code=1
	fi
	if [[ -n ${PBX_DIR:-} ]]; then
		rm -rf "$PBX_DIR"
	fi
	exit "$code"
}

prepare() {
	local hierarchy
	mount -t bpf bpf /sys/fs/bpf || die "no bpffs could be mounted on /sys/fs/bpf"
	hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	[[ -n $hierarchy ]] || die "no cgroup2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup"
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP PIPE
	CGROUP=/sipkeep-demo-$$
	mkdir "$hierarchy$CGROUP" || die "the cgroup $hierarchy$CGROUP could not be made"
	CGROUP_DIR=$hierarchy$CGROUP
	PBX_DIR=$(mktemp -d)
	pbx_prepare
}

chapter() {
	printf '\n%s== %s ==%s\n' "$bold" "$*" "$plain"
}

say() {
	fold -s -w 110 <<<"$*" | sed 's/ $//'
}

# show COMMAND...: as somebody at a prompt would see it.
show() {
	local word line=''
	for word in "$@"; do
		[[ $word != *' '* ]] || word="'$word'"
		line+=" $word"
	done
	printf '%s$%s%s\n' "$bold" "$line" "$plain"
	"$@"
}

# The phones' connections at the PBX's end, with their kernel timers.
phone_timers() {
	pbx_wait_quiet
	show ss -tno state established "src $PBX_ADDRESS and ( sport = :$PBX_PORT or sport = :$PBX_TLS_PORT )"
}

# told EVENT ADDRESS: the events of this kind about this remote address, so far.
told() {
	grep -F "\"event\":\"$1\"" "$PBX_DIR/events.log" | grep -F "\"$2"
}

wait_until_told() {
	wait_for 15 told "$@" >/dev/null
	told "$@"
}

chapter_pbx() {
	chapter "1. A PBX that knows nothing of sipkeep"
	say "Kamailio listens on $PBX_ADDRESS, port $PBX_PORT (TCP) and $PBX_TLS_PORT (TLS), in a cgroup of its own." \
		"Behind one NAT address, $PHONE_A, two phones register over TCP and one over TLS. Kamailio's keepalive is off:" \
		"no timer is shown, and the NAT router may forget them."
	kamailio_start
	carrier_start
	phones_start first_phones 2 "$PHONE_A"
	tls_phone_start tls_phone "$PHONE_A"
	phone_timers
}

chapter_keepalive() {
	chapter "2. Keepalive, without a restart"
	say "sipkeep is loaded with this configuration, and takes on the connections that are open already:"
	sed "s|CGROUP|$CGROUP|" "$here/demo.conf" >"$PBX_DIR/demo.conf"
	chmod 600 "$PBX_DIR/demo.conf"
	sed -n '/^policies/,$p' "$PBX_DIR/demo.conf"
	loaded=yes
	show sipkeep load -c "$PBX_DIR/demo.conf"
	pbx_spawn events "$SIPKEEP" events -f --instance "$INSTANCE"
	say "The same connections now have a keepalive timer (60 s until the first probe), Kamailio was not touched:"
	phone_timers
	show sipkeep transports
}

chapter_limit() {
	chapter "3. The 21st connection"
	say "17 more phones register from $PHONE_A. That makes 20, the limit of one source."
	phones_start more_phones 17 "$PHONE_A"
	say "One more from there:"
	phone_refused refused_phone "$PHONE_A" || die "it was not refused: $(pbx_complaint refused_phone)"
	say "   SIPp: $(pbx_complaint refused_phone)"
	say "A reset answered its SYN: it knows at once and can try its next server; Kamailio never saw it. The event:"
	wait_until_told refused "$PHONE_A"
	say "From another address, $PHONE_B:"
	phone_try other_phone "$PHONE_B" || die "it was refused: $(pbx_complaint other_phone)"
	say "   SIPp: registered, 200 OK"
}

chapter_life() {
	chapter "4. The life of one transport"
	say "A phone at $PHONE_C connects, registers, stays for two seconds and leaves. The events, as they come:"
	local options
	mapfile -t options < <(sipp_options visitor)
	pbx_spawn visitor sipp "$PBX_ADDRESS:$PBX_PORT" -sf "$PBX_FILES/register.xml" -i "$PHONE_C" \
		-t tn -m 1 -d 2000 "${options[@]}"
	wait_until_told connected "$PHONE_C:"
	wait_until_told disconnected "$PHONE_C:"
	wait_until_told destroyed "$PHONE_C:"
	pbx_end visitor
}

chapter_summary() {
	chapter "5. Calls, and the sum of it all"
	say "200 calls a second for 5 s, through Kamailio to the carrier at $CARRIER_ADDRESS:"
	sipp_run calls call "$PHONE_B" -t t1 -r 200 -m 1000 -d 200 -timeout 30 -timeout_error ||
		die "calls failed: $(pbx_complaint calls)"
	say "   SIPp: $(sipp_count calls 'SuccessfulCall(C)') calls went well, $(sipp_count calls 'FailedCall(C)') failed"
	show sipkeep stats
	show sipkeep sources
	say "Counted again, from the kernel's own socket tables:"
	show sipkeep verify
}

chapter_end() {
	chapter "6. Gone without a trace"
	show sipkeep unload
	loaded=
	say "$(keepalive_timers "$PBX_ADDRESS" "$PBX_PORT" | wc -l) phones over TCP and" \
		"$(keepalive_timers "$PBX_ADDRESS" "$PBX_TLS_PORT" | wc -l) over TLS are still connected." \
		"That was all, in $SECONDS s."
}

check_requirements
enter_namespaces "$@"
prepare
chapter_pbx
chapter_keepalive
chapter_limit
chapter_life
chapter_summary
chapter_end
