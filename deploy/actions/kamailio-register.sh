#!/bin/sh
# kamailio-register.sh [-s SOCKET] [UUID...]: an action of sipkeep's: has Kamailio's uac module register again
# where it lost a connection: when the module next looks, which it does every reg_timer_interval (modparam; 90 s by default,
# set it to 1 or 2).
#
# UUID is a registration's l_uuid, as `kamcmd uac.reg_dump` lists it. Without one, those whose auth_proxy or, where there is
# none, r_domain leads to SIPKEEP_REMOTE. SOCKET is that of the ctl module, where it isn't kamcmd's default. kamcmd exits
# with 0 whatever Kamailio answers, so what it prints is looked at.
set -u

socket=''

fail() {
	echo "kamailio-register: $*" >&2
	exit 1
}

rpc() {
	kamcmd ${socket:+-s "$socket"} "$@" 2>&1 || fail "kamcmd $* failed: does Kamailio run, with its modules ctl and uac, and \
may this user write its socket?"
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

# Each registration's uuid and where its requests go, in one line.
destinations() {
	awk '$1 == "l_uuid:" { uuid = $2 } $1 == "r_domain:" { domain = $2 } $1 == "auth_proxy:" { proxy = $2 }
		$1 == "}" { print uuid, proxy != "" ? proxy : domain; uuid = domain = proxy = "" }'
}

if [ "${1:-}" = -s ]; then
	socket=${2:?-s needs a socket}
	shift 2
fi
if [ $# -eq 0 ]; then
	[ -n "${SIPKEEP_REMOTE:-}" ] || fail "no SIPKEEP_REMOTE to look for: name a registration"
	remote_port=${SIPKEEP_REMOTE##*:}
	remote_address=${SIPKEEP_REMOTE%:*}
	remote_address=${remote_address#[}
	remote_address=${remote_address%]}
	listed=$(rpc uac.reg_dump) || exit 1
	listed=$(printf '%s\n' "$listed" | destinations)
	while read -r uuid uri; do
		if [ -n "$uuid" ] && leads_there "$uri"; then
			set -- "$@" "$uuid"
		fi
	done <<LISTED
$listed
LISTED
	[ $# -gt 0 ] || fail "no registration leads to $SIPKEEP_REMOTE: name one in 'run' of this action"
fi

for uuid; do
	said=$(rpc uac.reg_refresh "$uuid") || exit 1
	case $said in
	*error:*) fail "$uuid: $said" ;;
	esac
done
