/*
 * A bare client of PJSIP, with the library that Debian's Asterisk brings (it has no package of its own, nor headers): what
 * a softphone's transport does that nothing holds, Asterisk's own being held by its transport monitor for ever.
 */
#include "net.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
"usage: pjclient LIBRARY METHOD URI\n"
"Sends one request of METHOD to URI (sip:NAME@ADDR:PORT;transport=tcp or tls) by PJSIP, then leaves it to PJSIP what\n"
"becomes of the connection, until it is ended. LIBRARY is libasteriskpj.so.2.\n"
"\n"
"stdout: {\"ns\":N,\"event\":\"sent\"}, then {\"ns\":N,\"event\":\"answered\"}; ns is CLOCK_MONOTONIC.\n";

/* What the library wants of Asterisk. */
int ast_option_pjproject_log_level, ast_pjproject_max_log_level;

void *__ast_repl_malloc(size_t size, const char *file, int line, const char *function);
void *__ast_repl_malloc(size_t size, const char *file, int line, const char *function)
{
	(void)file, (void)line, (void)function;
	return malloc(size);
}

void __ast_free(void *memory, const char *file, int line, const char *function);
void __ast_free(void *memory, const char *file, int line, const char *function)
{
	(void)file, (void)line, (void)function;
	free(memory);
}

/* As PJSIP's documentation has them. What is behind a pointer is its own. */
struct pj_str {
	char *ptr;
	long slen;
};

struct pj_time_val {
	long sec, msec;
};

struct pjsip_method {
	int id;
	struct pj_str name;
};

typedef int (*pj_init_fn)(void);
typedef int (*log_level_fn)(int level);
typedef void (*pool_fn)(void *pool, const void *policy, size_t capacity);
typedef int (*endpoint_fn)(void *factory, const char *name, void **endpoint);
typedef int (*layer_fn)(void *endpoint);
typedef int (*tcp_fn)(void *endpoint, const void *local, unsigned async, void **factory);
typedef int (*tls_fn)(void *endpoint, const void *options, const void *local, const void *name, unsigned async,
		      void **factory);
typedef void (*method_fn)(struct pjsip_method *method, struct pj_str *name);
typedef int (*request_fn)(void *endpoint, const struct pjsip_method *method, const struct pj_str *target,
			  const struct pj_str *from, const struct pj_str *to, const struct pj_str *contact,
			  const struct pj_str *call_id, int cseq, const struct pj_str *text, void **data);
typedef int (*send_fn)(void *endpoint, void *data, int timeout, void *token, void (*answered)(void *, void *));
typedef int (*events_fn)(void *endpoint, const struct pj_time_val *timeout);

static void *library;

static void *find(const char *name)
{
	void *symbol = dlsym(library, name);

	if (!symbol)
		fail("the library has no %s", name);
	return symbol;
}
#define CALL(type, name) ((type)find(name))

static void check(int status, const char *doing)
{
	if (status)
		fail("%s: PJSIP says %d", doing, status);
}

static void tell(const char *event)
{
	printf("{\"ns\":%llu,\"event\":\"%s\"}\n", (unsigned long long)now_ns(), event);
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static void on_answer(void *token, void *event)
{
	(void)token, (void)event;
	tell("answered");
}

static void *endpoint_new(bool tls)
{
	static char pool[1 << 16]; /* more than its struct pj_caching_pool */
	void *endpoint, *factory;

	CALL(log_level_fn, "pj_log_set_level")(0);
	check(CALL(pj_init_fn, "pj_init")(), "pj_init");
	check(CALL(pj_init_fn, "pjlib_util_init")(), "pjlib_util_init");
	CALL(pool_fn, "pj_caching_pool_init")(pool, NULL, 0);
	check(CALL(endpoint_fn, "pjsip_endpt_create")(pool, "pjclient", &endpoint), "the endpoint");
	check(CALL(layer_fn, "pjsip_tsx_layer_init_module")(endpoint), "the transaction layer");
	if (tls)
		check(CALL(tls_fn, "pjsip_tls_transport_start")(endpoint, NULL, NULL, NULL, 1, &factory), "TLS");
	else
		check(CALL(tcp_fn, "pjsip_tcp_transport_start")(endpoint, NULL, 1, &factory), "TCP");
	return endpoint;
}

static void request_send(void *endpoint, char *name, char *target)
{
	struct pj_str method_name = { name, strlen(name) }, to = { target, strlen(target) };
	struct pj_str from = { "<sip:pjclient@192.0.2.10>", 25 };
	struct pjsip_method method;
	void *data;

	CALL(method_fn, "pjsip_method_init_np")(&method, &method_name);
	check(CALL(request_fn, "pjsip_endpt_create_request")(endpoint, &method, &to, &from, &to, &from, NULL, -1, NULL,
							     &data),
	      "the request");
	check(CALL(send_fn, "pjsip_endpt_send_request")(endpoint, data, -1, NULL, on_answer), "sending it");
	tell("sent");
}

int main(int argc, char **argv)
{
	const struct pj_time_val timeout = { .msec = 100 };
	events_fn handle_events;
	void *endpoint;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		print_help(help);
	if (argc != 4)
		usage_error("LIBRARY, METHOD and URI are needed");
	/* What Asterisk itself would have loaded before. */
	library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL);
	if (library)
		library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
	if (!library)
		fail("%s", dlerror());
	endpoint = endpoint_new(strstr(argv[3], "transport=tls") != NULL);
	request_send(endpoint, argv[2], argv[3]);
	handle_events = CALL(events_fn, "pjsip_endpt_handle_events");
	for (;;)
		handle_events(endpoint, &timeout);
}
