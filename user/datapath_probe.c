// SPDX-License-Identifier: GPL-2.0-only
/* datapath_probe.c: what the kernel offers. Probes load tiny programs; no version is compared. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "datapath_internal.h"

struct feature {
	const char *name;
	enum bpf_prog_type type;
	enum bpf_func_id helper; /* 0: the program type alone */
	bool essential;
	const char *without;
};

static const struct feature features[] = {
	{ "sockops", BPF_PROG_TYPE_SOCK_OPS, 0, true, "no keepalive, no counting" },
	{ "sk_storage in sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_FUNC_sk_storage_get, true, "no counting" },
	{ "ring buffer", BPF_PROG_TYPE_SOCK_OPS, BPF_FUNC_ringbuf_reserve, true, "no events" },
	{ "cgroup_skb", BPF_PROG_TYPE_CGROUP_SKB, 0, true, "no exact limits" },
	{ "skc_lookup_tcp in cgroup_skb", BPF_PROG_TYPE_CGROUP_SKB, BPF_FUNC_skc_lookup_tcp, true, "no exact limits" },
	{ "bpf_loop", BPF_PROG_TYPE_CGROUP_SKB, BPF_FUNC_loop, true, "no exact limits" },
	{ "connect4/connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, 0, true, "no outbound limits" },
	{ "sk_storage in connect4/connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_sk_storage_get, true,
	  "no outbound limits" },
	{ "sock_release", BPF_PROG_TYPE_CGROUP_SOCK, 0, true, "no outbound limits" },
	{ "post_bind4/post_bind6", BPF_PROG_TYPE_CGROUP_SOCK, BPF_FUNC_sk_storage_get, true,
	  "no listener_up, no listener_down of UDP sockets" },
	{ "setsockopt", BPF_PROG_TYPE_CGROUP_SOCKOPT, 0, true, "no keepalive_mode = \"enforce\"" },
	{ "sk_lookup", BPF_PROG_TYPE_SK_LOOKUP, 0, true, "no RST at the SYN: refusals by drop" },
	{ "syscall programs", BPF_PROG_TYPE_SYSCALL, 0, true, "no removal of idle sources" },
};

static bool btf_has(const struct btf *btf, const char *name, __u32 kind)
{
	return btf && btf__find_by_name_kind(btf, name, kind) > 0;
}

/* A socket found open gets its state callback from the iterator: Linux 6.12. */
static bool iterator_sets_callbacks(const struct btf *btf)
{
	const struct btf_type *type;
	const struct btf_enum *value;
	int id;

	/* TCP_BPF_SOCK_OPS_CB_FLAGS is an enumerator of an anonymous enum: looked for by its name. */
	for (id = 1; btf && id < (int)btf__type_cnt(btf); id++) {
		type = btf__type_by_id(btf, id);
		if (!btf_is_enum(type) || type->name_off)
			continue;
		value = btf_enum(type);
		for (int i = 0; i < btf_vlen(type); i++)
			if (!strcmp(btf__name_by_offset(btf, value[i].name_off), "TCP_BPF_SOCK_OPS_CB_FLAGS"))
				return true;
	}
	return false;
}

static enum datapath_ends ends_find(const struct btf *btf)
{
	if (iterator_sets_callbacks(btf))
		return DATAPATH_ENDS_CALLBACK;
	return btf_has(btf, "btf_trace_inet_sock_set_state", BTF_KIND_TYPEDEF) ? DATAPATH_ENDS_WATCHED :
										 DATAPATH_ENDS_UNSEEN;
}

enum datapath_ends datapath_ends(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	enum datapath_ends ends;

	if (libbpf_get_error(btf))
		btf = NULL;
	ends = ends_find(btf);
	btf__free(btf);
	return ends;
}

int datapath_probe(void (*each)(void *arg, const char *name, bool present, bool essential, const char *without),
		   void *arg)
{
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	struct btf *btf = btf__load_vmlinux_btf();
	struct failure ignored;
	enum datapath_ends ends;
	bool numbered;
	__u64 cookie;
	int missing = 0;

	if (libbpf_get_error(btf))
		btf = NULL;
	each(arg, "BTF of the kernel", btf, true, "programs can't find the kernel's fields");
	missing += !btf;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		const struct feature *feature = &features[i];
		bool present = feature->helper ?
				       libbpf_probe_bpf_helper(feature->type, feature->helper, NULL) > 0 :
				       libbpf_probe_bpf_prog_type(feature->type, NULL) > 0;

		each(arg, feature->name, present, feature->essential, feature->without);
		missing += feature->essential && !present;
	}
	each(arg, "iterator over TCP sockets", btf_has(btf, "bpf_iter__tcp", BTF_KIND_STRUCT), true,
	     "no adoption, no transports, no verify");
	missing += !btf_has(btf, "bpf_iter__tcp", BTF_KIND_STRUCT);
	each(arg, "iterator over UDP sockets", btf_has(btf, "bpf_iter__udp", BTF_KIND_STRUCT), true,
	     "no listener_down of UDP sockets open at load");
	missing += !btf_has(btf, "bpf_iter__udp", BTF_KIND_STRUCT);
	numbered = !host_netns_cookie(&cookie, &ignored);
	each(arg, "numbered network namespaces", numbered, true, "one namespace's listeners taken for another's");
	missing += !numbered;
	ends = ends_find(btf);
	each(arg, "state callback set from the iterator", ends == DATAPATH_ENDS_CALLBACK, false,
	     ends == DATAPATH_ENDS_WATCHED ?
		     "set_state, which runs whenever any TCP socket of the host changes its state, stands in" :
		     "transports open before load aren't counted");
	btf__free(btf);
	libbpf_set_print(print);
	return missing;
}
