/* Has an instance's on_sweep program remove the sources that have held nothing for so long, without waiting for it. */
#include "net.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char help[] =
"usage: sweep PIN IDLE_MS\n"
"Runs the program pinned at PIN (prog_on_sweep) and prints how many sources it removed. Exit: 0; 1 failed; 2 usage.\n";

/* As in include/sipkeep.h. */
struct sweep {
	uint64_t idle_ns, removed;
};

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

int main(int argc, char **argv)
{
	struct sweep sweep = { 0 };
	union bpf_attr attr;
	int fd;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		print_help(help);
	if (argc != 3)
		usage_error("PIN and IDLE_MS are needed");
	sweep.idle_ns = number("IDLE_MS", argv[2], 0, 1000000000) * 1000000ULL;
	memset(&attr, 0, sizeof(attr));
	attr.pathname = (uintptr_t)argv[1];
	fd = bpf(BPF_OBJ_GET, &attr);
	if (fd < 0)
		fail_errno("%s", argv[1]);
	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = fd;
	attr.test.ctx_in = (uintptr_t)&sweep;
	attr.test.ctx_size_in = sizeof(sweep);
	if (bpf(BPF_PROG_TEST_RUN, &attr))
		fail_errno("running %s", argv[1]);
	printf("%llu\n", (unsigned long long)sweep.removed);
	return 0;
}
