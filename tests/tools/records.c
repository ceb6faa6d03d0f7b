/* records: what the kernel side says in numbers that sipkeep's own output doesn't show. */
#include "net.h"
#include "sipkeep.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>

static const char help[] =
	"usage: records PIN\n"
	"\n"
	"Takes what is in the ring pinned at PIN, instead of sipkeep's own reader, and prints a line of JSON for each end\n"
	"of a transport: {\"direction\":0..,\"reason\":0..,\"remote_port\":..,\"age_ms\":..,\"idle_ms\":..,\n"
	"\"sip_idle_ms\":..,\"quiet_ms\":..}, the numbers as include/sipkeep.h has them.\n";

static int print(void *arg, void *data, size_t size)
{
	const struct sipkeep_record *record = data;

	(void)arg;
	if (size != sizeof(*record))
		fail("a record of %zu bytes, not %zu", size, sizeof(*record));
	if (record->event == SIPKEEP_EVENT_DISCONNECTED)
		printf("{\"direction\":%u,\"reason\":%u,\"remote_port\":%u,\"age_ms\":%llu,\"idle_ms\":%llu,"
		       "\"sip_idle_ms\":%u,\"quiet_ms\":%u}\n",
		       record->direction, record->reason, record->remote_port, record->age_ns / 1000000,
		       record->idle_ns / 1000000, record->sip_idle_ms, record->quiet_ms);
	return 0;
}

int main(int argc, char **argv)
{
	struct ring_buffer *ring;
	int fd;

	if (argc != 2 || argv[1][0] == '-')
		print_help(help);
	fd = bpf_obj_get(argv[1]);
	if (fd < 0)
		fail_errno("%s", argv[1]);
	ring = ring_buffer__new(fd, print, NULL, NULL);
	if (!ring)
		fail_errno("reading the ring %s", argv[1]);
	if (ring_buffer__consume(ring) < 0)
		fail_errno("reading the ring %s", argv[1]);
	ring_buffer__free(ring);
	return fflush(stdout) ? 1 : 0;
}
