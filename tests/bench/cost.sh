#!/bin/bash
# cost.sh: what all BPF programs together cost a connection, over its whole life with its events, as the kernel measures
# it (kernel.bpf_stats_enabled, which includes about 20-40 ns of measuring per run).
# shellcheck source=tests/lib/lib.sh
source "$(dirname "$0")/../lib/lib.sh"

CONNECTIONS=${CONNECTIONS:-20000}

stats_on() {
	STATS_BEFORE=$(cat /proc/sys/kernel/bpf_stats_enabled)
	trap 'echo "$STATS_BEFORE" >/proc/sys/kernel/bpf_stats_enabled; bg_end_all' EXIT
	echo 1 >/proc/sys/kernel/bpf_stats_enabled
}

# Runs and nanoseconds of each attached program: "name runs ns".
program_times() {
	local id
	for id in $(sk status -j | jq -r '.attached[].program'); do
		bpftool prog show id "$id" -j | jq -r '"\(.name) \(.run_cnt // 0) \(.run_time_ns // 0)"'
	done
}

# measure TITLE CONNECTIONS COMMAND...
measure() {
	local title=$1 connections=$2
	shift 2
	program_times >"$TMP/before"
	"$@" >"$TMP/result"
	program_times >"$TMP/after"
	echo "$title"
	paste -d' ' "$TMP/before" "$TMP/after" | awk -v n="$connections" '
		$5 - $2 > 0 {
			printf "  %-16s %6.2f runs  %7.1f ns a run  %8.1f ns a connection\n", $1, ($5 - $2) / n,
				($6 - $3) / ($5 - $2), ($6 - $3) / n
			total += $6 - $3
		}
		END { printf "  %-16s %44s %8.1f ns a connection\n", "together", "", total / n }'
}

# The server end alone is guarded: one inbound policy, its keepalive, its limit, three events.
# timeout: 300
test_life_inbound() {
	conf <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
			tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6;
			max_connections_per_source = 100000; } );
	X
	sk load -c "$TMP/sipkeep.conf"
	stats_on
	rm -f "$TMP/counts"
	bg in_cgroup "$TOOLS/server" 127.0.0.1 5060 --count-file "$TMP/counts" >"$TMP/server"
	wait_for 10 grep -q listening "$TMP/server"
	measure "one connection's life, inbound: connect, one byte each way, close ($CONNECTIONS connections)" \
		"$CONNECTIONS" connect_all
	measure "one refused connection, at its SYN ($CONNECTIONS connections)" "$CONNECTIONS" refuse_all
}

connect_all() {
	local left=$CONNECTIONS
	while ((left > 0)); do
		"$TOOLS/burst" --to 127.0.0.1:5060 --from "127.1.0.$((left / 1000 + 1))" --procs 2 --connects 500
		left=$((left - 1000))
	done
}

refuse_all() {
	conf <<-X
		policies = ( { name = "phones"; direction = "inbound"; local_ports = [ 5060 ];
			tcp_keepalive = true; tcp_keepidle = 60; tcp_keepintvl = 10; tcp_keepcnt = 6;
			max_connections_per_source = 1; } );
	X
	sk apply -c "$TMP/sipkeep.conf" >&2
	mkfifo "$TMP/hold"
	exec 9<>"$TMP/hold" # both ways: opening it for one waits for the other
	bg "$TOOLS/burst" --to 127.0.0.1:5060 --procs 1 --connects 1 --hold-until-stdin-eof <"$TMP/hold" >"$TMP/held" 9>&-
	wait_for 10 grep -q '"served":1' "$TMP/held"
	"$TOOLS/burst" --to 127.0.0.1:5060 --procs 2 --connects $((CONNECTIONS / 2))
	exec 9>&-
}
