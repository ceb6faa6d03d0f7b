# shellcheck shell=bash
# asterisk.bash: a real Asterisk from a root of its own (see tests/pbx/root), and the SIP endpoints around it (sipend).
# Sourced by the tests after lib.sh and e2e.bash; they name the root in a line "# prepare: tests/pbx/root SUITE ...".
#
# The root is shared by all tests and stays as it is: what Asterisk writes goes to file systems in memory, which are gone
# with the test's mount namespace.

AST_ADDRESS=192.0.2.10
PEER_ADDRESS=203.0.113.5
PHONE_ADDRESS=198.51.100.21

# asterisk_root: the prepared root at $AST, with /etc/asterisk and the rest of what Asterisk writes empty.
asterisk_root() {
	local place
	AST=$TMP/asterisk
	mkdir "$AST"
	mount --bind "$PREPARED" "$AST"
	mount -o remount,bind,ro "$AST"
	mount --rbind /dev "$AST/dev"
	mount -t proc proc "$AST/proc"
	for place in etc/asterisk run tmp var/lib/asterisk var/log/asterisk var/spool/asterisk; do
		mount -t tmpfs -o mode=755 none "$AST/$place"
	done
	mkdir "$AST/run/asterisk" "$AST/var/log/asterisk/cdr-csv" "$AST"/var/spool/asterisk/{outgoing,tmp}
	for place in "$AST_ADDRESS" "$PEER_ADDRESS" "$PHONE_ADDRESS"; do
		ip address replace "$place/32" dev lo
	done
}

# asterisk_file NAME: the config file of that name is stdin.
asterisk_file() {
	cat >"$AST/etc/asterisk/$1"
}

# What any of these tests needs, and no more: it starts in a second.
ASTERISK_MODULES="res_sorcery_config res_sorcery_memory res_sorcery_astdb res_pjproject res_pjsip res_pjsip_session
	res_pjsip_outbound_registration res_pjsip_outbound_publish res_pjsip_registrar res_pjsip_pubsub res_pjsip_exten_state
	res_pjsip_pidf_body_generator res_pjsip_endpoint_identifier_user res_pjsip_endpoint_identifier_ip
	res_pjsip_notify pbx_config func_devstate"

asterisk_configure() {
	local module
	asterisk_file asterisk.conf <<<$'[options]\nhideconnect = yes'
	{
		printf '[modules]\nautoload = no\n'
		for module in $ASTERISK_MODULES; do
			echo "load = $module.so"
		done
	} | asterisk_file modules.conf
	printf '[general]\n[logfiles]\nfull => notice,warning,error,verbose\n' | asterisk_file logger.conf
	printf '[from-sip]\n' | asterisk_file extensions.conf
}

# asterisk_start: in the test's cgroup, and returns when it has all its modules.
asterisk_start() {
	bg in_cgroup chroot "$AST" /usr/sbin/asterisk -f >"$TMP/asterisk.log" 2>&1
	ASTERISK=$BG
	wait_for 60 asterisk_started
	bg_running "$ASTERISK" || die "Asterisk ended at its start: $(tail -n 5 "$TMP/asterisk.log")"
}

asterisk_started() {
	! bg_running "$ASTERISK" || says 'core waitfullybooted' 'fully booted'
}

# asterisk COMMAND: what its console prints.
asterisk() {
	chroot "$AST" /usr/sbin/asterisk -rx "$1" 2>&1
}

# says COMMAND TEXT: its console prints something with TEXT in it.
says() {
	local text
	text=$(asterisk "$1") && [[ $text == *"$2"* ]]
}

# sipend_start NAME OPTION...: an endpoint, outside of the cgroup but for SIPEND_IN=in_cgroup; told what to do by `sipend NAME COMMAND...`; what it
# tells is in $TMP/NAME.out.
sipend_start() {
	local name=$1
	mkfifo "$TMP/$name.in"
	# Opened for reading and writing: it never sees the end of its commands.
	# shellcheck disable=SC2086 # a word, or none
	bg ${SIPEND_IN:-} "$TOOLS/sipend" "${@:2}" <>"$TMP/$name.in" >"$TMP/$name.out"
	wait_for 20 grep -q listening "$TMP/$name.out"
}

sipend() {
	echo "${*:2}" >"$TMP/$1.in"
}

# sipend_close NAME HOW: by HOW (fin, reset) all connections of it; returns when they are.
sipend_close() {
	local before
	before=$(told "$1" ".event == \"$2\"" | jq length)
	sipend "$1" "$2" all
	wait_for 10 eval "((\$(told '$1' '.event == \"$2\"' | jq length) > $before))"
}

# told NAME FILTER: what the endpoint told that matches, as one JSON array.
told() {
	jq -cs "[.[] | select($2)]" "$TMP/$1.out"
}

# carrier_registration NAME TRANSPORT EXPIRATION: the part of pjsip.conf that registers with the endpoint at PEER_ADDRESS.
carrier_registration() {
	cat <<-CONFIG
		[$1]
		type = registration
		transport = transport-$2
		server_uri = sip:$PEER_ADDRESS:$([[ $2 == tls ]] && echo 5061 || echo 5060)\;transport=$2
		client_uri = sip:pbx@$PEER_ADDRESS
		expiration = $3
		retry_interval = 5
		max_random_initial_delay = 0
	CONFIG
}

# registered NAME FILTER: the endpoint has had a REGISTER over a connection that is still open, and Asterisk says so.
registered() {
	local conn
	conn=$(told "$1" '.what == "REGISTER"' | jq 'last.conn')
	[[ $conn != null && $(told "$1" ".conn == $conn" | jq -r 'last.event') =~ ^(received|sent)$ ]] &&
		says 'pjsip show registrations' 'Registered '
}

# within SECONDS COMMAND...: COMMAND succeeds before they are over.
within() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * SIPKEEP_SCALE * 1000000))
	shift
	until "$@"; do
		((${EPOCHREALTIME/./} < deadline)) || return 1
		sleep 0.05
	done
}

# holds SECONDS COMMAND...: COMMAND succeeds, however often it is asked, for so long.
holds() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	while ((${EPOCHREALTIME/./} < deadline)); do
		"$@" || die "doesn't hold: $*"
		sleep 0.05
	done
}

# connects_made: connect() calls in this network namespace so far, which is the test's own.
connects_made() {
	awk '$1 == "Tcp:" { if (names) { split(names, name); for (i in name) if (name[i] == "ActiveOpens") print $i } names = $0 }' \
		/proc/net/snmp
}

# disorderly_lives: of each transport that has ended connected, disconnected, destroyed, in this order, once each; of one
# that is open just connected. Those with anything else, as a JSON array.
disorderly_lives() {
	jq -cs 'map(select(.event | IN("connected", "disconnected", "destroyed"))) | group_by(.id) | map(sort_by(.seq))
		| map({id: .[0].id, life: map(.event)})
		| map(select(.life | IN(["connected"], ["connected", "disconnected", "destroyed"]) | not))' "$TMP/events"
}

# certificate_make: certificate.pem and key.pem in TMP.
certificate_make() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pbx.example \
		-keyout "$TMP/key.pem" -out "$TMP/certificate.pem" 2>"$TMP/openssl.log" ||
		die "no certificate could be made: $(<"$TMP/openssl.log")"
}
