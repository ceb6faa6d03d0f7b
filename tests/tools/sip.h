/* SIP messages as a test's endpoint needs them: where one ends, what it says, an answer to it, a request. */
#ifndef TOOLS_SIP_H
#define TOOLS_SIP_H

#include <stdbool.h>
#include <stddef.h>

#define SIP_MESSAGE_MAX 16384

/* Bytes of the message at the start of data, its body included; 0: it isn't all there. */
size_t sip_length(const char *data, size_t len);

/*
 * Copies the value of the nth (0: first) header of that name ("Call-ID") or compact form ('i', 0: none) to value, a
 * string of at most size bytes with its NUL. Returns value, or NULL when there is none.
 */
const char *sip_header(const char *message, size_t len, const char *name, char compact, unsigned nth, char *value,
		       size_t size);

/* "REGISTER", or "202" for a response, to word (32 bytes). Returns it. */
const char *sip_what(const char *message, size_t len, char *word);

/* A REGISTER with an Expires of 0. */
bool sip_unregisters(const char *message, size_t len);

/* The 200 to a request (SIP_MESSAGE_MAX bytes), its contact registered for so many seconds. Returns its length. */
size_t sip_ok(const char *request, size_t len, unsigned expires, char *answer);

/* Who sends a request, whereto, over what. */
struct sip_party {
	const char *user;      /* of From and Contact */
	const char *local;     /* "192.0.2.1:40112" */
	const char *remote;
	const char *transport; /* "TCP", "TLS" */
	unsigned serial;       /* makes its Call-ID and tags its own */
};

/* A REGISTER, OPTIONS or SUBSCRIBE (to target, of event) for so many seconds. Returns its length. */
size_t sip_request(const struct sip_party *party, const char *method, const char *target, const char *event,
		   unsigned expires, char *request);

#endif
