/* A SIP endpoint for tests: a registrar for a PBX, or a phone of it; over TCP or TLS; told line by line what to do. */
#include "net.h"
#include "sip.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const char help[] =
"usage: sipend [options]\n"
"A SIP endpoint over TCP or TLS: answers every request with 200, and does what its stdin says.\n"
"\n"
"  --listen ADDR:PORT    takes connections there\n"
"  --listen-tls A:P      the same, over TLS, with\n"
"  --certificate FILE    its certificate and\n"
"  --key FILE            key (PEM)\n"
"  --expires S           what a REGISTER is granted, and what its own ask for (default 120)\n"
"  --user NAME           who it is (default phone)\n"
"  --from ADDR           where it connects from\n"
"\n"
"stdin, a line each; CONN is the number of a connection, from 1, or `all`:\n"
"  connect ADDR:PORT [tls]    makes the next connection\n"
"  register CONN              sends a REGISTER of its user\n"
"  options CONN               sends an OPTIONS\n"
"  subscribe CONN EVENT NAME  sends a SUBSCRIBE\n"
"  ping CONN                  sends CRLF CRLF\n"
"  fin CONN                   closes it (TLS: its close_notify goes first)\n"
"  reset CONN                 aborts it\n"
"  quit                       ends, as SIGTERM does\n"
"\n"
"stdout, a JSON object a line; ns is CLOCK_MONOTONIC:\n"
"  {\"ns\":N,\"event\":\"listening\"} first, then for a connection {\"ns\":N,\"event\":E,\"conn\":C,...}, E being\n"
"  accepted, connected: with local and remote    received, sent: with what, a method or a status (a\n"
"  REGISTER with an Expires of 0 is an unREGISTER)\n"
"  eof, error: the peer's end    fin, reset: ours    alone: 1 when it is the only one that is open\n";

#define CONNS_MAX 4096
#define LISTENERS_MAX 2

struct conn {
	int fd; /* 0: none */
	SSL *ssl;
	union addr local, remote;
	size_t len;
	char data[SIP_MESSAGE_MAX];
};

static struct {
	struct conn *conns[CONNS_MAX]; /* [0] is nobody's */
	unsigned conn_count, serial, expires;
	struct {
		int fd;
		SSL_CTX *tls;
	} listeners[LISTENERS_MAX];
	unsigned listener_count;
	SSL_CTX *client;
	const char *user, *certificate, *key;
	union addr from; /* sa_family 0: any */
} me = { .conn_count = 1, .expires = 120, .user = "phone" };

static void tell(const char *event, unsigned number, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void tell(const char *event, unsigned number, const char *fmt, ...)
{
	va_list ap;

	printf("{\"ns\":%llu,\"event\":\"%s\"", (unsigned long long)now_ns(), event);
	if (number)
		printf(",\"conn\":%u", number);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	puts("}");
	if (fflush(stdout))
		fail_errno("writing to stdout");
}

static unsigned conns_open(void)
{
	unsigned i, open = 0;

	for (i = 1; i < me.conn_count; i++)
		open += me.conns[i]->fd != 0;
	return open;
}

/* ---- connections */

static struct conn *conn_add(int fd, SSL_CTX *tls)
{
	const struct timeval patience = { .tv_sec = 20 };
	struct conn *c = calloc(1, sizeof(*c));
	socklen_t local = sizeof(c->local), remote = sizeof(c->remote);

	if (!c || me.conn_count == CONNS_MAX)
		fail("no room for connection %u", me.conn_count);
	/* Nobody may keep the others waiting for ever by half a TLS record. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		fail_errno("setsockopt SO_RCVTIMEO");
	if (getsockname(fd, &c->local.sa, &local) || getpeername(fd, &c->remote.sa, &remote))
		fail_errno("the addresses of connection %u", me.conn_count);
	c->fd = fd;
	if (tls) {
		c->ssl = SSL_new(tls);
		if (!c->ssl || !SSL_set_fd(c->ssl, fd))
			fail("no TLS for connection %u", me.conn_count);
		SSL_clear_mode(c->ssl, SSL_MODE_AUTO_RETRY);
	}
	me.conns[me.conn_count++] = c;
	return c;
}

/* No FIN and no close_notify of its own but the kernel's, or a reset. */
static void conn_drop(struct conn *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	c->ssl = NULL;
	c->fd = 0;
}

static void conn_failed(unsigned number, const char *doing)
{
	tell("error", number, ",\"doing\":\"%s\"", doing);
	ERR_clear_error();
	conn_drop(me.conns[number]);
}

static void conn_send(unsigned number, const char *data, size_t len)
{
	struct conn *c = me.conns[number];
	char what[32];

	if (c->ssl ? SSL_write(c->ssl, data, len) != (int)len : send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		conn_failed(number, "send");
	else if (len > 4)
		tell("sent", number, ",\"what\":\"%s\"", sip_what(data, len, what));
}

static void conn_message(unsigned number, const char *message, size_t len)
{
	char what[32], answer[SIP_MESSAGE_MAX];

	sip_what(message, len, what);
	if (sip_unregisters(message, len))
		snprintf(what, sizeof(what), "unREGISTER");
	tell("received", number, ",\"what\":\"%s\",\"alone\":%u", what, conns_open() == 1);
	if ((what[0] < '0' || what[0] > '9') && strcmp(what, "ACK"))
		conn_send(number, answer, sip_ok(message, len, me.expires, answer));
}

/* Every message that is whole; between them there may be keepalives, CRLF CRLF. */
static void conn_messages(unsigned number)
{
	struct conn *c = me.conns[number];
	size_t at = 0, len;

	for (;;) {
		while (at < c->len && (c->data[at] == '\r' || c->data[at] == '\n'))
			at++;
		len = sip_length(c->data + at, c->len - at);
		if (!len)
			break;
		conn_message(number, c->data + at, len);
		if (!c->fd)
			return;
		at += len;
	}
	c->len -= at;
	memmove(c->data, c->data + at, c->len);
	if (c->len == sizeof(c->data))
		fail("a message of more than %zu bytes", sizeof(c->data));
}

static void conn_readable(unsigned number)
{
	struct conn *c = me.conns[number];
	ssize_t n;

	do {
		if (c->ssl)
			n = SSL_read(c->ssl, c->data + c->len, sizeof(c->data) - c->len);
		else
			n = recv(c->fd, c->data + c->len, sizeof(c->data) - c->len, 0);
		if (n <= 0 && (c->ssl ? SSL_get_error(c->ssl, n) == SSL_ERROR_ZERO_RETURN : !n)) {
			tell("eof", number, " ");
			conn_drop(c);
			return;
		}
		if (n <= 0 && c->ssl && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ)
			return; /* nothing in it for us: a session ticket */
		if (n <= 0) {
			conn_failed(number, "recv");
			return;
		}
		c->len += n;
		conn_messages(number);
	} while (c->fd && c->ssl && SSL_pending(c->ssl));
}

static void conn_take(int listener, SSL_CTX *tls)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c;

	if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
		return;
	if (fd < 0)
		fail_errno("accepting connection %u", me.conn_count);
	c = conn_add(fd, tls);
	tell("accepted", me.conn_count - 1, ",\"local\":\"%s\",\"remote\":\"%s\"", addr_text(&c->local),
	     addr_text(&c->remote));
	if (tls && SSL_accept(c->ssl) != 1)
		conn_failed(me.conn_count - 1, "handshake");
}

/* ---- commands */

static void conn_connect(const char *address, bool tls)
{
	union addr to;
	struct conn *c;
	int fd;

	addr_port_parse(address, &to);
	fd = net_client(to.sa.sa_family, me.from.sa.sa_family ? &me.from : NULL, false);
	if (connect(fd, &to.sa, addr_len(&to)))
		fail_errno("connecting to %s", address);
	c = conn_add(fd, tls ? me.client : NULL);
	tell("connected", me.conn_count - 1, ",\"local\":\"%s\",\"remote\":\"%s\"", addr_text(&c->local),
	     addr_text(&c->remote));
	if (tls && SSL_connect(c->ssl) != 1)
		conn_failed(me.conn_count - 1, "handshake");
}

static void conn_request(unsigned number, const char *method, const char *event, const char *target)
{
	struct conn *c = me.conns[number];
	struct sip_party party = {
		.user = me.user,
		.local = addr_text(&c->local),
		.remote = addr_text(&c->remote),
		.transport = c->ssl ? "TLS" : "TCP",
		.serial = ++me.serial,
	};
	char request[SIP_MESSAGE_MAX];

	conn_send(number, request, sip_request(&party, method, target, event, me.expires, request));
}

static void conn_end(unsigned number, bool reset)
{
	const struct linger abort = { .l_onoff = 1, .l_linger = 0 };
	struct conn *c = me.conns[number];

	if (reset && setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)))
		fail_errno("setsockopt SO_LINGER");
	if (!reset && c->ssl)
		SSL_shutdown(c->ssl);
	conn_drop(c);
	tell(reset ? "reset" : "fin", number, " ");
}

static bool conn_command(unsigned number, char **words, unsigned count)
{
	if (!strcmp(words[0], "register"))
		conn_request(number, "REGISTER", NULL, NULL);
	else if (!strcmp(words[0], "options"))
		conn_request(number, "OPTIONS", NULL, NULL);
	else if (!strcmp(words[0], "subscribe") && count == 4)
		conn_request(number, "SUBSCRIBE", words[2], words[3]);
	else if (!strcmp(words[0], "ping"))
		conn_send(number, "\r\n\r\n", 4);
	else if (!strcmp(words[0], "fin") || !strcmp(words[0], "reset"))
		conn_end(number, words[0][0] == 'r');
	else
		return false;
	return true;
}

static void command(char *line)
{
	char *words[4] = { NULL }, *save, *word, *end;
	unsigned count = 0, from, to;

	for (word = strtok_r(line, " \n", &save); word && count < 4; word = strtok_r(NULL, " \n", &save))
		words[count++] = word;
	if (count == 1 && !strcmp(words[0], "quit"))
		exit(0);
	if (count >= 2 && !strcmp(words[0], "connect")) {
		conn_connect(words[1], words[2] && !strcmp(words[2], "tls"));
		return;
	}
	if (count < 2)
		usage_error("\"%s\" is no command", words[0] ? words[0] : "");
	from = strtoul(words[1], &end, 10);
	to = from;
	if (!strcmp(words[1], "all")) {
		from = 1;
		to = me.conn_count - 1;
	} else if (*end || !from || from >= me.conn_count) {
		usage_error("there was no connection %s", words[1]);
	}
	/* One that has ended meanwhile has told so. */
	for (; from <= to; from++)
		if (me.conns[from]->fd && !conn_command(from, words, count))
			usage_error("\"%s\" is no command, or lacks a word", words[0]);
}

/* False: stdin has ended. */
static bool commands(void)
{
	static char data[4096];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, data + len, sizeof(data) - 1 - len);
	char *end;

	if (n < 0)
		fail_errno("reading stdin");
	if (!n)
		return false;
	len += n;
	while ((end = memchr(data, '\n', len))) {
		*end++ = '\0';
		command(data);
		len -= end - data;
		memmove(data, end, len);
	}
	if (len == sizeof(data) - 1)
		fail("a command of more than %zu bytes", len);
	return true;
}

/* ---- all of it */

static void serve(void)
{
	static struct pollfd fds[1 + LISTENERS_MAX + CONNS_MAX];
	static unsigned numbers[1 + LISTENERS_MAX + CONNS_MAX];
	unsigned i, n, first;

	fds[0] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	for (;;) {
		n = 1;
		for (i = 0; i < me.listener_count; i++)
			fds[n++] = (struct pollfd){ .fd = me.listeners[i].fd, .events = POLLIN };
		first = n;
		for (i = 1; i < me.conn_count; i++) {
			if (!me.conns[i]->fd)
				continue;
			numbers[n] = i;
			fds[n++] = (struct pollfd){ .fd = me.conns[i]->fd, .events = POLLIN };
		}
		if (poll(fds, n, -1) < 0)
			fail_errno("poll");
		for (i = first; i < n; i++)
			if (fds[i].revents && me.conns[numbers[i]]->fd)
				conn_readable(numbers[i]);
		for (i = 1; i < first; i++)
			if (fds[i].revents)
				conn_take(me.listeners[i - 1].fd, me.listeners[i - 1].tls);
		if (fds[0].revents && !commands())
			fds[0].fd = -1;
	}
}

static void listen_at(const char *address, bool tls)
{
	union addr a;

	if (me.listener_count == LISTENERS_MAX)
		usage_error("more than %d listeners", LISTENERS_MAX);
	addr_port_parse(address, &a);
	me.listeners[me.listener_count].fd = net_listen(&a, 1024, false);
	if (tls) {
		SSL_CTX *context = SSL_CTX_new(TLS_server_method());

		if (!me.certificate || !me.key)
			usage_error("--listen-tls needs --certificate and --key before it");
		if (!context || SSL_CTX_use_certificate_chain_file(context, me.certificate) != 1 ||
		    SSL_CTX_use_PrivateKey_file(context, me.key, SSL_FILETYPE_PEM) != 1)
			fail("%s and %s are no certificate and its key", me.certificate, me.key);
		me.listeners[me.listener_count].tls = context;
	}
	me.listener_count++;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "listen-tls", required_argument, NULL, 't' },
		{ "certificate", required_argument, NULL, 'c' },
		{ "key", required_argument, NULL, 'k' },
		{ "expires", required_argument, NULL, 'e' },
		{ "user", required_argument, NULL, 'u' },
		{ "from", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	signal(SIGPIPE, SIG_IGN);
	me.client = SSL_CTX_new(TLS_client_method());
	if (!me.client)
		fail("OpenSSL gives no TLS client");
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'l': listen_at(optarg, false); break;
		case 't': listen_at(optarg, true); break;
		case 'c': me.certificate = optarg; break;
		case 'k': me.key = optarg; break;
		case 'e': me.expires = number("--expires", optarg, 1, 86400); break;
		case 'u': me.user = optarg; break;
		case 'f': addr_parse(optarg, 0, &me.from); break;
		case 'h': print_help(help);
		default: usage_error("wrong option");
		}
	}
	if (argc != optind)
		usage_error("\"%s\" is too much", argv[optind]);
	tell("listening", 0, " ");
	serve();
}
