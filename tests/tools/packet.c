#include "packet.h"

#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>

static const uint8_t mss_option[4] = { 2, 4, 1400 >> 8, 1400 & 0xff };

static size_t put_ip4(uint8_t *buf, const struct segment *s, size_t tcp_len, uint32_t *ret_pseudo)
{
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .frag_off = htons(0x4000),
		.tot_len = htons(sizeof(ip) + tcp_len),
		.saddr = s->src.in.sin_addr.s_addr, .daddr = s->dst.in.sin_addr.s_addr,
	};

	ip.check = csum_fold(csum_add(0, &ip, sizeof(ip)));
	memcpy(buf, &ip, sizeof(ip));
	*ret_pseudo = csum_add(IPPROTO_TCP + tcp_len, &ip.saddr, 8);
	return sizeof(ip);
}

static size_t put_ip6(uint8_t *buf, const struct segment *s, size_t tcp_len, uint32_t *ret_pseudo)
{
	struct ip6_hdr ip = { 0 };

	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons(tcp_len);
	ip.ip6_nxt = IPPROTO_TCP;
	ip.ip6_hlim = 64;
	ip.ip6_src = s->src.in6.sin6_addr;
	ip.ip6_dst = s->dst.in6.sin6_addr;
	memcpy(buf, &ip, sizeof(ip));
	*ret_pseudo = csum_add(IPPROTO_TCP + tcp_len, &ip.ip6_src, 32);
	return sizeof(ip);
}

size_t packet_build(uint8_t *buf, const struct segment *s)
{
	size_t options = s->flags & TH_SYN ? sizeof(mss_option) : 0;
	size_t tcp_len = sizeof(struct tcphdr) + options + s->len, ip_len;
	struct tcphdr tcp = { 0 };
	uint32_t sum;
	uint8_t *p;

	ip_len = s->src.sa.sa_family == AF_INET ? put_ip4(buf, s, tcp_len, &sum) : put_ip6(buf, s, tcp_len, &sum);
	tcp.th_sport = htons(addr_port(&s->src));
	tcp.th_dport = htons(addr_port(&s->dst));
	tcp.th_seq = htonl(s->seq);
	tcp.th_ack = htonl(s->ack);
	tcp.th_off = (sizeof(tcp) + options) / 4;
	tcp.th_flags = s->flags;
	tcp.th_win = htons(65535);
	p = buf + ip_len;
	memcpy(p, &tcp, sizeof(tcp));
	memcpy(p + sizeof(tcp), mss_option, options);
	if (s->len)
		memcpy(p + sizeof(tcp) + options, s->data, s->len);
	tcp.th_sum = csum_fold(csum_add(sum, p, tcp_len));
	memcpy(p, &tcp, sizeof(tcp));
	return ip_len + tcp_len;
}

bool packet_parse(const uint8_t *buf, size_t len, struct segment *ret_segment)
{
	size_t ip_len, tcp_len;
	struct tcphdr tcp;

	memset(ret_segment, 0, sizeof(*ret_segment));
	if (len >= sizeof(struct iphdr) && buf[0] >> 4 == 4 && buf[9] == IPPROTO_TCP) {
		ip_len = (buf[0] & 15) * 4;
		ret_segment->src.sa.sa_family = ret_segment->dst.sa.sa_family = AF_INET;
		memcpy(&ret_segment->src.in.sin_addr, buf + 12, 4);
		memcpy(&ret_segment->dst.in.sin_addr, buf + 16, 4);
	} else if (len >= sizeof(struct ip6_hdr) && buf[0] >> 4 == 6 && buf[6] == IPPROTO_TCP) {
		ip_len = sizeof(struct ip6_hdr);
		ret_segment->src.sa.sa_family = ret_segment->dst.sa.sa_family = AF_INET6;
		memcpy(&ret_segment->src.in6.sin6_addr, buf + 8, 16);
		memcpy(&ret_segment->dst.in6.sin6_addr, buf + 24, 16);
	} else {
		return false;
	}
	if (len < ip_len + sizeof(tcp))
		return false;
	memcpy(&tcp, buf + ip_len, sizeof(tcp));
	tcp_len = tcp.th_off * 4;
	if (tcp_len < sizeof(tcp) || len < ip_len + tcp_len)
		return false;
	addr_set_port(&ret_segment->src, ntohs(tcp.th_sport));
	addr_set_port(&ret_segment->dst, ntohs(tcp.th_dport));
	ret_segment->seq = ntohl(tcp.th_seq);
	ret_segment->ack = ntohl(tcp.th_ack);
	ret_segment->flags = tcp.th_flags;
	ret_segment->data = buf + ip_len + tcp_len;
	ret_segment->len = len - ip_len - tcp_len;
	return true;
}
