#include "net.h"
#include "sip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The end of the headers, the empty line included; 0: not there yet. */
static size_t headers_length(const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	return end ? end - data + 4 : 0;
}

const char *sip_header(const char *message, size_t len, const char *name, char compact, unsigned nth, char *value,
		       size_t size)
{
	const char *line = message, *end = message + headers_length(message, len), *stop, *colon;
	size_t name_len, value_len;

	for (; line < end; line = stop + 2) {
		stop = memmem(line, end - line, "\r\n", 2);
		colon = memchr(line, ':', stop - line);
		if (line == message || !colon)
			continue;
		name_len = colon - line;
		if (!(name_len == strlen(name) && !strncasecmp(line, name, name_len)) &&
		    !(compact && name_len == 1 && (line[0] | 32) == compact))
			continue;
		if (nth--)
			continue;
		for (colon++; *colon == ' '; colon++)
			;
		value_len = stop - colon;
		if (value_len >= size)
			fail("a %s header of %zu bytes", name, value_len);
		memcpy(value, colon, value_len);
		value[value_len] = '\0';
		return value;
	}
	return NULL;
}

size_t sip_length(const char *data, size_t len)
{
	size_t headers = headers_length(data, len), body = 0;
	char value[32];

	if (headers && sip_header(data, len, "Content-Length", 'l', 0, value, sizeof(value)))
		body = strtoul(value, NULL, 10);
	return headers && headers + body <= len ? headers + body : 0;
}

const char *sip_what(const char *message, size_t len, char *word)
{
	size_t skip = len > 8 && !memcmp(message, "SIP/2.0 ", 8) ? 8 : 0, i;

	for (i = 0; i < 31 && skip + i < len && message[skip + i] > ' '; i++)
		word[i] = message[skip + i];
	word[i] = '\0';
	return word;
}

bool sip_unregisters(const char *message, size_t len)
{
	char value[2048];

	return !strncmp(message, "REGISTER ", 9) && sip_header(message, len, "Expires", 0, 0, value, sizeof(value)) &&
	       !strtoul(value, NULL, 10);
}

size_t sip_ok(const char *request, size_t len, unsigned expires, char *answer)
{
	char value[2048];
	size_t at = 0;
	unsigned i;

	at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "SIP/2.0 200 OK\r\n");
	for (i = 0; sip_header(request, len, "Via", 'v', i, value, sizeof(value)); i++)
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "Via: %s\r\n", value);
	if (sip_header(request, len, "From", 'f', 0, value, sizeof(value)))
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "From: %s\r\n", value);
	if (sip_header(request, len, "To", 't', 0, value, sizeof(value)))
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "To: %s%s\r\n", value,
			       strstr(value, ";tag=") ? "" : ";tag=sipend");
	if (sip_header(request, len, "Call-ID", 'i', 0, value, sizeof(value)))
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "Call-ID: %s\r\n", value);
	if (sip_header(request, len, "CSeq", 0, 0, value, sizeof(value)))
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "CSeq: %s\r\n", value);
	if (!strncmp(request, "REGISTER ", 9) && !sip_unregisters(request, len) &&
	    sip_header(request, len, "Contact", 'm', 0, value, sizeof(value)))
		at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "Contact: %s;expires=%u\r\nExpires: %u\r\n", value,
			       expires, expires);
	at += snprintf(answer + at, SIP_MESSAGE_MAX - at, "Content-Length: 0\r\n\r\n");
	if (at >= SIP_MESSAGE_MAX)
		fail("an answer of %zu bytes", at);
	return at;
}

size_t sip_request(const struct sip_party *party, const char *method, const char *target, const char *event,
		   unsigned expires, char *request)
{
	char headers[512] = "";

	if (event)
		snprintf(headers, sizeof(headers), "Event: %s\r\nExpires: %u\r\n", event, expires);
	else if (!strcmp(method, "REGISTER"))
		snprintf(headers, sizeof(headers), "Expires: %u\r\n", expires);
	return snprintf(request, SIP_MESSAGE_MAX,
			"%s sip:%s%s%s;transport=%s SIP/2.0\r\n"
			"Via: SIP/2.0/%s %s;rport;branch=z9hG4bK%08x\r\n"
			"From: <sip:%s@%s>;tag=%u\r\n"
			"To: <sip:%s@%s>\r\n"
			"Call-ID: sipend-%u-%u\r\n"
			"CSeq: 1 %s\r\n"
			"Contact: <sip:%s@%s;transport=%s>\r\n"
			"Max-Forwards: 70\r\n"
			"%sContent-Length: 0\r\n\r\n",
			method, target ? target : "", target ? "@" : "", party->remote, party->transport, party->transport,
			party->local, random_u32(), party->user, party->remote, party->serial,
			target ? target : party->user, party->remote, party->serial, random_u32(), method, party->user,
			party->local, party->transport, headers);
}
