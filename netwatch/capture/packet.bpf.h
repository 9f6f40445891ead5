// SPDX-License-Identifier: Apache-2.0
/* Reads the headers of a packet, from the link to the ports, without changing it. */
#ifndef PACKET_BPF_H
#define PACKET_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADER_8021Q 4
#define EXTENSIONS 8 /* IPv6 extension headers followed; a longer chain is refused */

enum { WHOLE, FIRST, LATER };

union address {
	__u8 byte[16];
	__u32 word[4];
	__u64 half[2];
};

struct packet {
	union address source, destination;
	__u16 source_port, destination_port;
	__u8 protocol, flags, part, direction;
	__u32 sequence, identification;
	__u32 start; /* of the IP header, from the first byte */
	__u32 headers; /* length of IP and transport headers together */
	__u32 total; /* IP total length */
};

/* Each step of the parser returns 0 to go on, IGNORED for what is not counted by intention, or
 * MALFORMED for what can not be understood, or REFUSAL for an ICMP error that answers a packet. */
enum { IGNORED = 1, MALFORMED = 2, REFUSAL = 3 };

/* Copies `to` from byte `at` of the packet; 0 if it was there. At its `usual` place in the linear
 * part it is read there: the call costs as much as all that is done with it. Other places need the
 * call, since without CAP_PERFMON the verifier allows constant offsets only. */
#define LOAD(skb, at, usual, to)                                                      \
	({                                                                            \
		void *from = (void *)(long)(skb)->data + (usual);                     \
		void *limit = (void *)(long)(skb)->data_end;                          \
		int failed = 0;                                                       \
		if ((at) == (usual) && from + sizeof(to) <= limit)                    \
			__builtin_memcpy(&(to), (typeof(to) *)from, sizeof(to));      \
		else                                                                  \
			failed = bpf_skb_load_bytes(skb, at, &(to), sizeof(to));      \
		failed;                                                               \
	})
#define NETWORK ETH_HLEN
#define TRANSPORT (ETH_HLEN + 20) /* behind IPv4 without options */

#define QUOTE 8 /* bytes of an ICMP error before the packet that it quotes */

static __always_inline int parse_link(struct __sk_buff *skb, struct packet *p, __be16 *type)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	/* Interfaces without a link header (tun, WireGuard) begin with IP. */
	*type = skb->protocol;
	p->start = data + ETH_HLEN <= end && ethernet->h_proto == *type ? ETH_HLEN : 0;
	for (int i = 0; i < 2; i++) { /* the outermost tag is already in skb->vlan_tci */
		__be16 tag[2];

		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, p->start, tag, sizeof(tag)))
			return MALFORMED;
		*type = tag[1];
		p->start += HEADER_8021Q;
	}
	return 0;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 version_and_length, service;
		__be16 total, identification, fragment;
		__u8 lifetime, protocol;
		__be16 checksum;
		__be32 source, destination;
	} ip;
	__u16 fragment;

	if (LOAD(skb, p->start, NETWORK, ip))
		return MALFORMED;
	p->headers = (ip.version_and_length & 15) * 4;
	if (ip.version_and_length >> 4 != 4 || p->headers < sizeof(ip))
		return MALFORMED;
	p->total = bpf_ntohs(ip.total);
	p->source.word[2] = p->destination.word[2] = bpf_htonl(0xffff);
	p->source.word[3] = ip.source;
	p->destination.word[3] = ip.destination;
	p->protocol = ip.protocol;
	p->identification = ip.identification;
	fragment = bpf_ntohs(ip.fragment);
	p->part = fragment & 0x1fff ? LATER : fragment & 0x2000 ? FIRST : WHOLE;
	return 0;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__be32 version;
		__be16 length;
		__u8 next, hops;
		union address source, destination;
	} ip;
	struct {
		__u8 next, length;
		__be16 fragment;
		__be32 identification;
	} extension;

	if (LOAD(skb, p->start, NETWORK, ip))
		return MALFORMED;
	if (bpf_ntohl(ip.version) >> 28 != 6)
		return MALFORMED;
	p->source = ip.source;
	p->destination = ip.destination;
	p->protocol = ip.next;
	p->headers = sizeof(ip);
	p->total = ip.length ? bpf_ntohs(ip.length) + sizeof(ip) : 0;
	for (int i = 0; i < EXTENSIONS; i++) {
		__u8 kind = p->protocol;

		if (kind != IPPROTO_HOPOPTS && kind != IPPROTO_ROUTING &&
		    kind != IPPROTO_DSTOPTS && kind != IPPROTO_FRAGMENT && kind != IPPROTO_AH)
			return 0;
		if (bpf_skb_load_bytes(skb, p->start + p->headers, &extension, sizeof(extension)))
			return MALFORMED;
		p->protocol = extension.next;
		if (kind == IPPROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(extension.fragment);

			p->headers += 8;
			p->identification = extension.identification;
			p->part = fragment >> 3 ? LATER : fragment & 1 ? FIRST : WHOLE;
			if (p->part == LATER)
				return 0;
		} else if (kind == IPPROTO_AH) {
			p->headers += (extension.length + 2) * 4;
		} else {
			p->headers += (extension.length + 1) * 8;
		}
	}
	return MALFORMED;
}

static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__be16 source, destination;
		__be32 sequence, acknowledgement;
		__u8 length, flags;
		__be16 window, checksum, urgent;
	} tcp;
	__be16 ports[2] = {};
	__u32 at = p->start + p->headers;
	__u8 icmp[2]; /* type and code */
	__u8 kind;

	if (p->part == LATER)
		return 0;
	switch (p->protocol) {
	case IPPROTO_TCP:
		if (LOAD(skb, at, TRANSPORT, tcp) || tcp.length < 5 << 4)
			return MALFORMED;
		ports[0] = tcp.source;
		ports[1] = tcp.destination;
		p->sequence = bpf_ntohl(tcp.sequence);
		p->flags = tcp.flags;
		p->headers += (tcp.length >> 4) * 4;
		break;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (LOAD(skb, at, TRANSPORT, ports))
			return MALFORMED;
		p->headers += p->protocol == IPPROTO_UDP ? 8 : 12;
		break;
	case IPPROTO_ICMP: /* errors: RFC 792 */
		if (bpf_skb_load_bytes(skb, at, icmp, sizeof(icmp)))
			return MALFORMED;
		kind = icmp[0];
		if (kind == 3) /* code 4 asks for smaller packets (RFC 1191) and refuses nothing */
			return icmp[1] == 4 ? IGNORED : REFUSAL;
		if (kind == 4 || kind == 5 || kind == 11 || kind == 12)
			return IGNORED;
		break;
	case IPPROTO_ICMPV6: /* errors: RFC 4443 */
		if (bpf_skb_load_bytes(skb, at, icmp, sizeof(icmp)))
			return MALFORMED;
		kind = icmp[0];
		if (kind == 1)
			return REFUSAL;
		if (kind < 128) /* errors; above: MLD and neighbour discovery */
			return IGNORED;
		if ((kind >= 130 && kind <= 137) || kind == 143)
			return IGNORED;
		break;
	}
	p->source_port = bpf_ntohs(ports[0]);
	p->destination_port = bpf_ntohs(ports[1]);
	return 0;
}

/* Goes on to the packet that an ICMP error quotes: it is an answer in that conversation, and no
 * conversation of its own. The quoted packet is cut off behind its ports. */
static __always_inline int parse_quoted(struct __sk_buff *skb, struct packet *p)
{
	__be16 ports[2] = {};
	int result;

	p->start += p->headers + QUOTE;
	result = p->protocol == IPPROTO_ICMP ? parse_ipv4(skb, p) : parse_ipv6(skb, p);
	if (result)
		return result;
	if (p->part == LATER)
		return IGNORED;
	if ((p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP ||
	     p->protocol == IPPROTO_SCTP) &&
	    bpf_skb_load_bytes(skb, p->start + p->headers, ports, sizeof(ports)))
		return MALFORMED;
	p->source_port = bpf_ntohs(ports[0]);
	p->destination_port = bpf_ntohs(ports[1]);
	return 0;
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	__be16 type;
	int result = parse_link(skb, p, &type);

	if (result)
		return result;
	if (type == bpf_htons(ETH_P_IP))
		result = parse_ipv4(skb, p);
	else if (type == bpf_htons(ETH_P_IPV6))
		result = parse_ipv6(skb, p);
	else
		return IGNORED;
	if (result)
		return result;
	if (!p->total) /* too big for its own field (BIG TCP, a jumbogram) */
		p->total = skb->len - p->start;
	if (p->start + p->total > skb->len)
		return MALFORMED;
	result = parse_transport(skb, p);
	if (!result && p->headers > p->total)
		return MALFORMED;
	return result;
}

#endif
