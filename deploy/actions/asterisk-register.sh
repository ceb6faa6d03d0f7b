#!/bin/sh
# asterisk-register.sh [NAME...]: an action of sipkeep's: has Asterisk register again, at once, where it lost a connection.
#
# NAME is a registration as `pjsip show registrations` lists it, or *all. Without one, those whose outbound_proxy or, where
# there is none, server_uri leads to SIPKEEP_REMOTE. A name that only SRV records lead there can't be told that way: give
# the registration's. Asterisk's console exits with 0 whatever it says, so what it says is looked at.
set -u

fail() {
	echo "asterisk-register: $*" >&2
	exit 1
}

console() {
	asterisk -rx "$1" 2>&1 || fail "asterisk -rx '$1' failed: does Asterisk run, and may this user write its asterisk.ctl?"
}

# The value of a setting of a registration.
setting() {
	printf '%s\n' "$registration" | sed -n "s/^ $1 *: //p"
}

# leads_there URI: to the address and, where it names one, the port of SIPKEEP_REMOTE.
leads_there() {
	host=${1#sip:}
	host=${host#sips:}
	host=${host%%;*}
	host=${host##*@}
	case $host in
	\[*\]:*) port=${host##*:} host=${host%]:*} ;;
	\[*\]) port='' host=${host%]} ;;
	*:*) port=${host##*:} host=${host%%:*} ;;
	*) port='' ;;
	esac
	host=${host#[}
	[ -z "$port" ] || [ "$port" = "$remote_port" ] || return 1
	getent ahosts "$host" | cut -d ' ' -f 1 | grep -qxF "$remote_address"
}

if [ $# -eq 0 ]; then
	[ -n "${SIPKEEP_REMOTE:-}" ] || fail "no SIPKEEP_REMOTE to look for: name a registration"
	remote_port=${SIPKEEP_REMOTE##*:}
	remote_address=${SIPKEEP_REMOTE%:*}
	remote_address=${remote_address#[}
	remote_address=${remote_address%]}
	listed=$(console 'pjsip show registrations') || exit 1
	for name in $(printf '%s\n' "$listed" | sed -n 's|^ \([^ ]*\)/sips\{0,1\}:.*|\1|p'); do
		registration=$(console "pjsip show registration $name") || exit 1
		uri=$(setting outbound_proxy)
		[ -n "$uri" ] || uri=$(setting server_uri)
		if leads_there "$uri"; then
			set -- "$@" "$name"
		fi
	done
	[ $# -gt 0 ] || fail "no registration leads to $SIPKEEP_REMOTE: name one in 'run' of this action"
fi

for name; do
	said=$(console "pjsip send register $name") || exit 1
	case $said in
	*Unable* | *failed* | *"No such command"*) fail "$name: $said" ;;
	esac
done
