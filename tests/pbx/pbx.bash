# shellcheck shell=bash
# pbx.bash: a real Kamailio with SIPp's phones and carrier around it. Sourced by the pbx tests and by the demo.
#
#   phones 198.51.100.x  --TCP, TLS-->  Kamailio 192.0.2.10 (in the cgroup)  --TCP-->  carrier 203.0.113.5
#
# All of them live on the loopback interface of the network namespace this runs in, which must be a private one.
# Whoever sources this provides
#   die MESSAGE                   ends with an error
#   wait_for SECONDS COMMAND...   waits until COMMAND succeeds, dies after SECONDS
#   CGROUP_DIR                    absolute path of the cgroup the PBX is born in
#   PBX_DIR                       an empty directory for sockets, keys and logs
# and has pbx_end_all called at its end, unless all its processes end with it.

PBX_FILES=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

PBX_ADDRESS=192.0.2.10
PBX_ADDRESS6=2001:db8::10
PBX_PORT=5060
PBX_TLS_PORT=5061
CARRIER_ADDRESS=203.0.113.5
CARRIER_PORT=5060
PHONE_A=198.51.100.21
PHONE_B=198.51.100.22
PHONE_C=198.51.100.23
PHONE6_A=2001:db8:0:a::1 # one /64
PHONE6_B=2001:db8:0:a::2
PHONE6_C=2001:db8:0:c::1 # another

# What was started and not yet ended: name -> pid.
declare -A PBX_PIDS=()

# The packages this needs, one line each that is missing.
pbx_missing() {
	local wanted command
	for wanted in kamailio:kamailio sipp:sip-tester openssl:openssl ss:iproute2 ip:iproute2 jq:jq; do
		command=${wanted%%:*}
		if ! command -v "$command" >/dev/null; then
			echo "$command (Debian package ${wanted#*:})"
		fi
	done
	if ! compgen -G '/usr/lib/*/kamailio/modules/tls.so' >/dev/null; then
		echo "Kamailio's TLS module (Debian package kamailio-tls-modules)"
	fi
}

# Room for SIPp's sockets (a shell's usual limit is 1,024), addresses and a certificate.
pbx_prepare() {
	local address
	ulimit -Sn 8192 2>/dev/null || die "SIPp needs a limit of 8192 open files, $(ulimit -Hn) are allowed: ulimit -Hn"
	ip link set lo up
	for address in "$PBX_ADDRESS" "$CARRIER_ADDRESS" "$PHONE_A" "$PHONE_B" "$PHONE_C"; do
		ip address replace "$address/32" dev lo
	done
	for address in "$PBX_ADDRESS6" "$PHONE6_A" "$PHONE6_B" "$PHONE6_C"; do
		ip address replace "$address/128" dev lo nodad
	done
	if ! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pbx.example \
		-keyout "$PBX_DIR/key.pem" -out "$PBX_DIR/certificate.pem" 2>"$PBX_DIR/openssl.log"; then
		die "no certificate could be made: $(<"$PBX_DIR/openssl.log")"
	fi
}

# pbx_spawn NAME COMMAND...: in the background, its output in $PBX_DIR/NAME.log.
pbx_spawn() {
	local name=$1
	shift
	"$@" </dev/null >"$PBX_DIR/$name.log" 2>&1 &
	PBX_PIDS[$name]=$!
}

# The same, born in the guarded cgroup: a socket belongs to the cgroup it was created in.
pbx_spawn_guarded() {
	local name=$1
	shift
	(
		echo "$BASHPID" >"$CGROUP_DIR/cgroup.procs"
		exec "$@"
	) </dev/null >"$PBX_DIR/$name.log" 2>&1 &
	PBX_PIDS[$name]=$!
}

pbx_alive() {
	[[ $'\n'$(jobs -rp)$'\n' == *$'\n'${PBX_PIDS[$1]}$'\n'* ]]
}

# pbx_end NAME...: ends them and waits until they are gone.
pbx_end() {
	local name
	for name in "$@"; do
		if pbx_alive "$name"; then
			kill "${PBX_PIDS[$name]}" 2>/dev/null || true
		fi
	done
	for name in "$@"; do
		pbx_wait_ended "$name"
		unset "PBX_PIDS[$name]"
	done
}

# A Kamailio told to end while it starts loses that signal in the processes it has just made, and then waits a minute
# for them: after 5 s whatever is left in the cgroup, and the process itself, is killed.
pbx_wait_ended() {
	local deadline=$((SECONDS + 5))
	while pbx_alive "$1"; do
		if ((SECONDS >= deadline)); then
			echo 1 >"$CGROUP_DIR/cgroup.kill"
			kill -KILL "${PBX_PIDS[$1]}" 2>/dev/null || true
		fi
		sleep 0.02
	done
	wait "${PBX_PIDS[$1]}" 2>/dev/null || true
}

pbx_end_all() {
	pbx_end "${!PBX_PIDS[@]}"
}

# A brackets-or-not address for URIs and for HOST:PORT.
pbx_host() {
	case $1 in
	*:*) echo "[$1]" ;;
	*) echo "$1" ;;
	esac
}

pbx_listens() {
	[[ -n $(ss -Htln "src $(pbx_host "$1") and sport = :$2") ]]
}

# pbx_wait_listening NAME ADDRESS PORT: until the process NAME listens there; told at once when it ended instead.
pbx_wait_listening() {
	wait_for 20 pbx_listens_or_ended "$@"
	pbx_alive "$1" || die "$1 ended at its start: $(tail -n 5 "$PBX_DIR/$1.log")"
}

pbx_listens_or_ended() {
	pbx_listens "$2" "$3" || ! pbx_alive "$1"
}

# kamailio_start [NAME=VALUE...]: in the cgroup, with settings of kamailio.cfg; returns when it answers, and the
# connection it was asked over is gone.
# shellcheck disable=SC2120 # the settings are optional
kamailio_start() {
	local defines=() define
	for define in \
		"LISTEN_TCP=tcp:$PBX_ADDRESS:$PBX_PORT" \
		"LISTEN_TCP6=tcp:[$PBX_ADDRESS6]:$PBX_PORT" \
		"LISTEN_TLS=tls:$PBX_ADDRESS:$PBX_TLS_PORT" \
		"TLS_KEY=\"$PBX_DIR/key.pem\"" \
		"TLS_CERTIFICATE=\"$PBX_DIR/certificate.pem\"" \
		"CARRIER=\"sip:$CARRIER_ADDRESS:$CARRIER_PORT;transport=tcp\"" \
		"$@"; do
		defines+=(-A "$define")
	done
	mkdir -p "$PBX_DIR/kamailio"
	pbx_spawn_guarded kamailio kamailio -DD -E -m 256 -M 8 -f "$PBX_FILES/kamailio.cfg" \
		-Y "$PBX_DIR/kamailio" -w "$PBX_DIR/kamailio" "${defines[@]}"
	pbx_wait_listening kamailio "$PBX_ADDRESS" "$PBX_PORT"
	pbx_wait_listening kamailio "$PBX_ADDRESS6" "$PBX_PORT"
	pbx_wait_listening kamailio "$PBX_ADDRESS" "$PBX_TLS_PORT"
	kamailio_answers || die "Kamailio listens but doesn't answer: $(tail -n 5 "$PBX_DIR/kamailio.log")"
	wait_for 10 kamailio_unconnected
}

# It listens before it has all its processes; the one that takes connections comes last.
kamailio_answers() (
	exec 3<>"/dev/tcp/$PBX_ADDRESS/$PBX_PORT"
	printf '%s\r\n' >&3 \
		"OPTIONS sip:$PBX_ADDRESS SIP/2.0" \
		"Via: SIP/2.0/TCP $PBX_ADDRESS:5099;branch=z9hG4bKstart" \
		"From: <sip:start@$PBX_ADDRESS>;tag=start" \
		"To: <sip:$PBX_ADDRESS>" \
		"Call-ID: start@$PBX_ADDRESS" \
		"CSeq: 1 OPTIONS" \
		"Max-Forwards: 70" \
		"Content-Length: 0" \
		""
	read -r -t 20 answer <&3 && [[ $answer == "SIP/2.0 200"* ]]
)

kamailio_unconnected() {
	[[ -z $(ss -Htn "src $PBX_ADDRESS and sport = :$PBX_PORT") ]]
}

# What every SIPp gets. It has no screen, no keyboard and no more sockets than pbx_prepare made room for; its counters
# come as a table every second, its complaints as a file that exists only when there are some.
sipp_options() {
	printf '%s\n' -nostdin -max_socket 4000 \
		-trace_stat -stf "$PBX_DIR/$1.csv" -fd 1 \
		-trace_err -error_file "$PBX_DIR/$1.errors" \
		-trace_logs -log_file "$PBX_DIR/$1.said"
}

# carrier_start: a SIPp that answers the calls Kamailio sends on.
carrier_start() {
	local options
	mapfile -t options < <(sipp_options carrier)
	pbx_spawn carrier sipp -sf "$PBX_FILES/carrier.xml" -i "$CARRIER_ADDRESS" -p "$CARRIER_PORT" -t t1 "${options[@]}"
	pbx_wait_listening carrier "$CARRIER_ADDRESS" "$CARRIER_PORT"
}

# sipp_count NAME COLUMN: a counter of the SIPp called NAME, as its last line has it.
sipp_count() {
	awk -F ';' -v column="$2" '
		NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i }
		NR > 1 { value = $at }
		END { if (!at || NR < 2) exit 1; print value }' "$PBX_DIR/$1.csv"
}

# sipp_run NAME SCENARIO SOURCE [SIPP_OPTION...]: SCENARIO.xml against Kamailio from SOURCE, until it is done. SIPp's
# exit code: 0 every call went well, 1 at least one didn't, else SIPp itself gave up.
sipp_run() {
	local name=$1 scenario=$2 source=$3 options
	shift 3
	mapfile -t options < <(sipp_options "$name")
	sipp "$(pbx_address_for "$source"):$PBX_PORT" -sf "$PBX_FILES/$scenario.xml" -i "$source" "${options[@]}" "$@" \
		</dev/null >"$PBX_DIR/$name.log" 2>&1
}

pbx_address_for() {
	case $1 in
	*:*) pbx_host "$PBX_ADDRESS6" ;;
	*) echo "$PBX_ADDRESS" ;;
	esac
}

# phones_start NAME COUNT SOURCE: COUNT phones behind SOURCE register, each on a connection of its own, and stay until
# pbx_end NAME. Returns when all are registered.
phones_start() {
	local name=$1 count=$2 source=$3 options
	mapfile -t options < <(sipp_options "$name")
	pbx_spawn "$name" sipp "$(pbx_address_for "$source"):$PBX_PORT" -sf "$PBX_FILES/register.xml" -i "$source" -t tn \
		-r 100 -m "$count" -l "$count" -d 3600000 "${options[@]}"
	wait_for 20 phones_registered_or_ended "$name" "$count"
	pbx_alive "$name" || die "not all of the $count phones from $source could register: $(pbx_complaint "$name")"
}

phones_registered() {
	[[ -e $PBX_DIR/$1.said && $(grep -c registered "$PBX_DIR/$1.said") -eq $2 ]]
}

phones_registered_or_ended() {
	phones_registered "$@" || ! pbx_alive "$1"
}

# phone_try NAME SOURCE: one phone connects, registers and leaves. True when it could.
phone_try() {
	sipp_run "$1" register "$2" -t tn -m 1 -d 0 -timeout 20 -timeout_error
}

# What SIPp said was wrong, without its dates.
pbx_complaint() {
	if [[ -s $PBX_DIR/$1.errors ]]; then
		sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}\t[0-9:.]+\t[0-9.]+: /\n/g' "$PBX_DIR/$1.errors" |
			awk 'NF && !/^The following events/ && !/Failed to shutdown/ && ++lines <= 5'
	else
		tail -n 5 "$PBX_DIR/$1.log"
	fi
}

# phone_refused NAME SOURCE: one phone tries and is turned away by a reset: connect() fails with ECONNREFUSED.
phone_refused() {
	! phone_try "$1" "$2" && grep -q 'Connection refused' "$PBX_DIR/$1.errors"
}

# tls_phone_start NAME SOURCE: a phone that registers over TLS and stays until pbx_end NAME. (Debian's SIPp has no TLS.)
tls_phone_start() {
	local name=$1 source=$2
	mkfifo "$PBX_DIR/$name.fifo"
	# Opened for reading and writing, so that it never sees the end of its input.
	openssl s_client -quiet -connect "$PBX_ADDRESS:$PBX_TLS_PORT" -bind "$source:0" \
		<>"$PBX_DIR/$name.fifo" >"$PBX_DIR/$name.log" 2>&1 &
	PBX_PIDS[$name]=$!
	printf '%s\r\n' >"$PBX_DIR/$name.fifo" \
		"REGISTER sip:$PBX_ADDRESS SIP/2.0" \
		"Via: SIP/2.0/TLS $source:5061;branch=z9hG4bK$name" \
		"From: <sip:$name@$PBX_ADDRESS>;tag=$name" \
		"To: <sip:$name@$PBX_ADDRESS>" \
		"Call-ID: $name@$source" \
		"CSeq: 1 REGISTER" \
		"Contact: <sip:$name@$source:5061;transport=tls>" \
		"Max-Forwards: 70" \
		"Content-Length: 0" \
		""
	wait_for 20 tls_phone_registered_or_ended "$name"
	pbx_alive "$name" || die "$name could not register over TLS: $(tail -n 3 "$PBX_DIR/$name.log")"
}

tls_phone_registered_or_ended() {
	grep -q '^SIP/2.0 200' "$PBX_DIR/$1.log" || ! pbx_alive "$1"
}

# tls_phone_refused NAME SOURCE: as phone_refused, over TLS.
tls_phone_refused() {
	! openssl s_client -quiet -connect "$PBX_ADDRESS:$PBX_TLS_PORT" -bind "$2:0" </dev/null >"$PBX_DIR/$1.log" 2>&1 &&
		grep -q 'connect:errno=111' "$PBX_DIR/$1.log"
}

# Waits until nothing Kamailio sent is without its ACK: until then the one timer that ss shows is the one for sending
# again, not the keepalive's.
pbx_wait_quiet() {
	wait_for 10 pbx_quiet
}

pbx_quiet() {
	! ss -Htno state established "src $PBX_ADDRESS or src $(pbx_host "$PBX_ADDRESS6") or dst $CARRIER_ADDRESS" |
		grep -qE 'timer:\((on|persist|unknown)'
}

# keepalive_timers LOCAL_ADDRESS LOCAL_PORT: the seconds until the next keepalive probe of each connection there, one a
# line, "off" where there is none.
keepalive_timers() {
	ss -Htno state established "src $(pbx_host "$1") and sport = :$2" | keepalive_seconds
}

# "timer:(keepalive,5min31sec,0)" -> 331
keepalive_seconds() {
	awk '{
		seconds = "off"
		if (match($0, /timer:\(keepalive,[^,]*,/)) {
			text = substr($0, RSTART + 17, RLENGTH - 18)
			seconds = 0
			if (match(text, /^[0-9]+min/)) {
				seconds = 60 * substr(text, 1, RLENGTH - 3)
				text = substr(text, RLENGTH + 1)
			}
			seconds += int(text)
		}
		print seconds
	}'
}

# ---- for tests, which have tests/lib/lib.sh

# pbx_begin: first in a test. Nothing needs to be ended: all processes of a test end with it.
pbx_begin() {
	PBX_DIR=$TMP
	pbx_prepare
}

# guard: loads the configuration on stdin.
guard() {
	conf
	sk load -c "$TMP/sipkeep.conf"
}

# kernel_keepalive LOCAL_ADDRESS:PORT POLICY: "on idle interval count" of each open transport there ("" for the address:
# of each of the policy), as the kernel has it; one line for all that are equal.
kernel_keepalive() {
	sk transports -j | jq -r --arg local "$1" --arg policy "$2" '
		.transports[]
		| select(($local == "" or .local == $local) and .policy == $policy)
		| .keepalive | "\(.on) \(.idle) \(.interval) \(.count)"' | sort -u
}

# source_field POLICY SOURCE FIELD: of `sources`, 0 where the source isn't known; SOURCE without its prefix length.
source_field() {
	sk sources -j | jq -r --arg policy "$1" --arg source "$2" --arg field "$3" '
		[.sources[] | select(.policy == $policy and (.source | sub("/[0-9]+$"; "")) == $source) | .[$field]] | add // 0'
}

# policy_field POLICY FIELD: of `stats`.
policy_field() {
	sk stats -j | jq -r --arg policy "$1" --arg field "$2" '.policies[] | select(.name == $policy) | .[$field]'
}

# expect VALUE COMMAND...: COMMAND prints VALUE; says what it printed instead. Good for wait_for, too.
expect() {
	local value=$1 found
	shift
	found=$("$@") || return 1
	[[ $found != "$value" ]] || return 0
	[[ -n ${LIB_QUIET:-} ]] || echo "$*: $found, not $value" >&2
	return 1
}
