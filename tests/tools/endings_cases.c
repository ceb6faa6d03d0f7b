/* The ways to end: `here` is the side that is looked at. */
#include "endings.h"

#include <errno.h>
#include <linux/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what is done to connections */

void shut(int *fd)
{
	if (*fd >= 0 && close(*fd))
		fail_errno("close");
	*fd = -1;
}

void put(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_errno("sending");
}

void readable(int fd)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	if (poll(&wait, 1, 20000) != 1)
		fail("nothing to read after 20 s");
}

void take(int fd)
{
	char buffer[256];

	readable(fd);
	if (read(fd, buffer, sizeof(buffer)) <= 0)
		fail_errno("reading");
}

static void info_get(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len))
		fail_errno("getsockopt TCP_INFO");
}

static void linger_close(int *fd)
{
	struct linger linger = { .l_onoff = 1 };

	if (setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		fail_errno("SO_LINGER");
	shut(fd);
}

static void unconnect(int fd)
{
	struct sockaddr to = { .sa_family = AF_UNSPEC };

	if (connect(fd, &to, sizeof(to)))
		fail_errno("connect to AF_UNSPEC");
}

/* The one end of each connection belongs to a process that is killed. */
static void crash(struct batch *b, bool here)
{
	pid_t child = fork();

	if (child < 0)
		fail_errno("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	each(b, p)
		shut(here ? &p->here : &p->there);
	if (kill(child, SIGKILL) || waitpid(child, NULL, 0) != child)
		fail_errno("killing a process of its own");
}

static void keepalive(int fd, int idle, int user_timeout)
{
	net_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle, "TCP_KEEPIDLE");
	net_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1, "TCP_KEEPINTVL");
	net_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 2, "TCP_KEEPCNT");
	net_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout, "TCP_USER_TIMEOUT");
	net_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
}

/* Sends what can be sent. The peer reads nothing: has it closed its window, while more waits to be sent? */
static bool fill(int here)
{
	static const char data[65536];
	struct tcp_info info;
	ssize_t n;

	do
		n = send(here, data, sizeof(data), MSG_DONTWAIT);
	while (n > 0);
	if (errno != EAGAIN)
		fail_errno("filling the window");
	info_get(here, &info);
	return !info.tcpi_unacked && info.tcpi_notsent_bytes && !info.tcpi_snd_wnd;
}

/* ---- the cases */

static void there_closes(struct batch *b)
{
	each(b, p)
		shut(&p->there);
}

static void there_half_closes(struct batch *b)
{
	each(b, p)
		if (shutdown(p->there, SHUT_WR))
			fail_errno("shutdown");
	each(b, p) {
		readable(p->here);
		put(p->here, "more");
		take(p->there);
		shut(&p->here);
		shut(&p->there);
	}
}

static void there_lingers(struct batch *b)
{
	each(b, p)
		linger_close(&p->there);
}

static void there_unread(struct batch *b)
{
	each(b, p) {
		put(p->here, "never read");
		readable(p->there);
		shut(&p->there);
	}
}

static void there_unconnects(struct batch *b)
{
	each(b, p)
		unconnect(p->there);
}

static void there_crashes(struct batch *b)
{
	crash(b, false);
}

static void there_crashes_unread(struct batch *b)
{
	each(b, p) {
		put(p->here, "never read");
		readable(p->there);
	}
	crash(b, false);
}

static void here_closes(struct batch *b)
{
	each(b, p)
		shut(&p->here);
}

static void here_shuts_and_closes(struct batch *b)
{
	each(b, p) {
		if (shutdown(p->here, SHUT_WR))
			fail_errno("shutdown");
		shut(&p->here);
	}
}

static void here_half_closes(struct batch *b)
{
	each(b, p) {
		if (shutdown(p->here, SHUT_WR))
			fail_errno("shutdown");
		put(p->there, "more");
		take(p->here);
		shut(&p->there);
		shut(&p->here);
	}
}

static void here_unread(struct batch *b)
{
	each(b, p) {
		put(p->there, "never read");
		readable(p->here);
		shut(&p->here);
	}
}

static void here_lingers(struct batch *b)
{
	each(b, p)
		linger_close(&p->here);
}

static void here_unconnects(struct batch *b)
{
	each(b, p)
		unconnect(p->here);
}

static void here_crashes(struct batch *b)
{
	crash(b, true);
}

static void here_crashes_unread(struct batch *b)
{
	each(b, p) {
		put(p->there, "never read");
		readable(p->here);
	}
	crash(b, true);
}

static void listener_closes(struct batch *b)
{
	shut(&b->listener);
}

static void with_keepalive(struct batch *b)
{
	each(b, p)
		keepalive(p->here, 1, 0);
}

static void with_keepalive_and_user_timeout(struct batch *b)
{
	each(b, p)
		keepalive(p->here, 1, 1500);
}

/* Its first probe isn't sent before the data. */
static void with_slow_keepalive(struct batch *b)
{
	each(b, p)
		keepalive(p->here, 120, 0);
}

static void with_user_timeout(struct batch *b)
{
	each(b, p)
		net_set(p->here, IPPROTO_TCP, TCP_USER_TIMEOUT, 800, "TCP_USER_TIMEOUT");
}

static void here_sends(struct batch *b)
{
	each(b, p)
		put(p->here, "never acknowledged");
}

static void window_closed(struct batch *b)
{
	uint64_t deadline = now_ms() + 60000;
	unsigned closed;

	each(b, p)
		net_set(p->here, SOL_SOCKET, SO_SNDBUF, 8192, "SO_SNDBUF");
	do {
		closed = 0;
		each(b, p)
			closed += fill(p->here);
		if (now_ms() > deadline)
			fail("%u of %u windows are closed after 60 s", closed, b->count);
		usleep(1000);
	} while (closed < b->count);
}

static void window_closed_with_user_timeout(struct batch *b)
{
	window_closed(b);
	with_user_timeout(b);
}

static void window_closed_with_long_user_timeout(struct batch *b)
{
	window_closed(b);
	each(b, p)
		net_set(p->here, IPPROTO_TCP, TCP_USER_TIMEOUT, 600000, "TCP_USER_TIMEOUT");
}

static void here_unread_for_kill(struct batch *b)
{
	each(b, p) {
		put(p->there, "never read");
		readable(p->here);
	}
}

const struct ending endings[] = {
	{ "peer_closes", AS_IT_IS, "peer_fin", .finish = there_closes },
	{ "peer_half_closes", AS_IT_IS, "peer_fin", .finish = there_half_closes },
	{ "peer_crashes", AS_IT_IS, "peer_fin", .finish = there_crashes },
	{ "peer_closes_with_data_unread", AS_IT_IS, "peer_reset", .finish = there_unread },
	{ "peer_closes_with_linger_0", AS_IT_IS, "peer_reset", .finish = there_lingers },
	{ "peer_connects_to_af_unspec", AS_IT_IS, "peer_reset", .finish = there_unconnects },
	{ "peer_crashes_with_data_unread", AS_IT_IS, "peer_reset", .finish = there_crashes_unread },
	{ "peer_is_killed_by_ss", KILLED_THERE, .reason = "peer_reset" },
	{ "close", AS_IT_IS, "local_close", .finish = here_closes },
	{ "shutdown_then_close", AS_IT_IS, "local_close", .finish = here_shuts_and_closes },
	{ "half_close", AS_IT_IS, "local_close", .finish = here_half_closes },
	{ "crash", AS_IT_IS, "local_close", .finish = here_crashes },
	{ "close_with_data_unread", AS_IT_IS, "local_reset", .finish = here_unread },
	{ "close_with_linger_0", AS_IT_IS, "local_reset", .finish = here_lingers },
	{ "connect_to_af_unspec", AS_IT_IS, "local_reset", .finish = here_unconnects },
	{ "crash_with_data_unread", AS_IT_IS, "local_reset", .finish = here_crashes_unread },
	{ "listener_closed_before_accept", AS_IT_IS, "local_reset", "peer_reset", .finish = listener_closes,
	  .unaccepted = true },
	{ "cut_with_keepalive", CUT, "keepalive_timeout", .prepare = with_keepalive },
	{ "cut_with_keepalive_and_user_timeout", CUT, "keepalive_timeout", .prepare = with_keepalive_and_user_timeout },
	{ "cut_with_data_in_flight", CUT, "retransmit_timeout", .finish = here_sends },
	{ "cut_with_data_in_flight_and_keepalive", CUT, "retransmit_timeout", .prepare = with_slow_keepalive,
	  .finish = here_sends },
	{ "cut_with_window_closed", CUT, "retransmit_timeout", .prepare = window_closed },
	{ "cut_with_window_closed_and_long_user_timeout", CUT, "retransmit_timeout",
	  .prepare = window_closed_with_long_user_timeout },
	{ "cut_with_user_timeout", CUT, "user_timeout", .prepare = with_user_timeout, .finish = here_sends },
	{ "window_closed_with_user_timeout", AS_IT_IS, "user_timeout", .prepare = window_closed_with_user_timeout },
	{ "icmp_unreachable_with_data_in_flight", CUT_WITH_ICMP, "unreachable", .finish = here_sends },
	/* The kernel takes no ICMP error for a keepalive probe: its sequence number lies before the window. */
	{ "icmp_unreachable_with_keepalive", CUT_WITH_ICMP, "keepalive_timeout", .prepare = with_keepalive },
	{ "killed_by_ss", KILLED_HERE, .reason = "killed" },
	{ "killed_by_ss_with_data_unread", KILLED_HERE, "killed", .prepare = here_unread_for_kill },
};
const unsigned endings_count = sizeof(endings) / sizeof(*endings);
