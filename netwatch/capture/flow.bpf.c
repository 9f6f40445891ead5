// SPDX-License-Identifier: Apache-2.0
/* Counts every packet of the interfaces it is attached to, once, and copies the first payload of
 * each connection to user space. It never changes or drops a packet.
 *
 * `netwatch_in` sits on the ingress of each interface; `netwatch_out` on the egress counts only
 * what this host itself sent: a forwarded or bridged packet carries the interface it came in by
 * (skb_iif, net/core/dev.c) and was counted there. One object serves tcx and clsact, and needs
 * neither vmlinux.h nor relocations: kernel 5.8 (ring buffer, ktime for any licence) is enough.
 */
#include "state.bpf.h"

#define NEXT -1 /* TC_ACT_UNSPEC and TCX_NEXT: as if this program were not there */
#define SEGMENTS 12 /* and in no more pieces than this */
#define WINDOW 30 /* budgets grow every 2^30 ns, about a second */

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { PENDING = 1, ENDED = 2 /* shifted by direction */, RESET = 8 };

/* The monotonic clock, read once in a jiffy: reading it costs as much as a third of all the rest.
 * It is late by up to a jiffy (at most 10 ms); what must be in order asks the clock itself. */
static __always_inline __u64 coarse_time(struct scratch *memory)
{
	__u64 jiffy = bpf_jiffies64();

	if (memory->jiffy != jiffy) {
		memory->jiffy = jiffy;
		memory->now = bpf_ktime_get_ns();
	}
	return memory->now;
}

/* Later fragments carry no ports: they are counted under those of their first one. */
static __always_inline void join_fragments(struct packet *p, struct statistics *s)
{
	struct key key = {
		.low = p->source,
		.high = p->destination,
		.low_port = p->identification,
		.high_port = p->identification >> 16,
		.protocol = p->protocol,
	};
	__u32 ports = p->source_port | (__u32)p->destination_port << 16;
	__u32 *known;

	if (p->part == FIRST) {
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
		return;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (known) {
		p->source_port = *known;
		p->destination_port = *known >> 16;
	} else {
		s->fragment++;
	}
}

/* Keeps a value in a register. Where two branches differ by a pointer only, the compiler would
 * join them behind a computed pointer, which the verifier refuses without CAP_PERFMON. */
#define HOLD(value) asm volatile("" : "+r"(value))

/* Fills the key in canonical order; returns the direction: 0 if the low end sent the packet. */
static __always_inline int make_key(struct packet *p, struct key *key)
{
	__u64 source[2] = { p->source.half[0], p->source.half[1] };
	__u64 target[2] = { p->destination.half[0], p->destination.half[1] };
	__u64 source_port = p->source_port, target_port = p->destination_port;
	__u64 a, b;

	HOLD(source[0]);
	HOLD(source[1]);
	HOLD(target[0]);
	HOLD(target[1]);
	HOLD(source_port);
	HOLD(target_port);
	a = bpf_be64_to_cpu(source[0]);
	b = bpf_be64_to_cpu(target[0]);
	if (a == b) {
		a = bpf_be64_to_cpu(source[1]);
		b = bpf_be64_to_cpu(target[1]);
	}
	if (a == b) {
		a = source_port;
		b = target_port;
	}
	p->direction = a > b;
	key->low.half[0] = a > b ? target[0] : source[0];
	key->low.half[1] = a > b ? target[1] : source[1];
	key->high.half[0] = a > b ? source[0] : target[0];
	key->high.half[1] = a > b ? source[1] : target[1];
	key->low_port = a > b ? target_port : source_port;
	key->high_port = a > b ? source_port : target_port;
	key->protocol = p->protocol;
	asm volatile("" ::: "memory"); /* read back as a number from 0 to 1, not as one of two */
	return p->direction & 1;
}

static __always_inline int spend(struct budget *b, __u64 now)
{
	__u64 passed = (now >> WINDOW) - b->window, left = b->left;

	if (passed) {
		left = (b->left > 0 ? left : 0) + passed * b->rate;
		b->window = now >> WINDOW;
		b->left = left < b->most ? left : b->most;
	}
	if (b->left <= 0)
		return 0;
	__sync_fetch_and_add(&b->left, -1);
	return 1;
}

/* Whether a new connection is one of too many. The direction is read from map memory, where the
 * verifier does not learn it from a branch: without CAP_PERFMON it may not know it as an index. */
static __always_inline int is_crowded(const struct key *key, const struct entry *e,
				      const struct packet *p)
{
	struct key edge = *key;
	struct budget fresh = {}, *mine;
	__u32 zero = 0;
	struct budget *all = bpf_map_lookup_elem(&budget, &zero);

	if (!all || spend(all, e->connection))
		return 0;
	if (e->low_is_client < 0 ? !p->direction : e->low_is_client)
		edge.low_port = 0;
	else
		edge.high_port = 0;
	mine = bpf_map_lookup_elem(&edges, &edge);
	if (mine)
		return !spend(mine, e->connection);
	fresh.rate = fresh.most = all->each;
	if (spend(&fresh, e->connection))
		return bpf_map_update_elem(&edges, &edge, &fresh, BPF_ANY) < 0;
	return 1;
}

static __always_inline struct entry *find(struct key *key, struct statistics *s)
{
	struct entry *e = bpf_map_lookup_elem(&flows, key);
	struct entry fresh;

	if (e)
		return e;
	asm volatile("" ::: "memory"); /* or what follows is done for every packet */
	__builtin_memset(&fresh, 0, sizeof(fresh));
	fresh.low_is_client = -1;
	fresh.born = (__u64)bpf_get_smp_processor_id() << 48 | (s->inserted + 1);
	if (!bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST))
		s->inserted++;
	e = bpf_map_lookup_elem(&flows, key); /* ours, or that of a CPU that came first */
	if (!e)
		s->map_full++;
	return e;
}

static __always_inline void count(struct entry *e, int d, __u32 packets, __u32 bytes,
				  __u32 payload)
{
	if (e->born >> 48 == bpf_get_smp_processor_id()) {
		e->counts.packets[d] += packets;
		e->counts.bytes[d] += bytes;
		e->counts.payload_bytes[d] += payload;
	} else {
		__sync_fetch_and_add(&e->elsewhere.packets[d], packets);
		__sync_fetch_and_add(&e->elsewhere.bytes[d], bytes);
		__sync_fetch_and_add(&e->elsewhere.payload_bytes[d], payload);
	}
}

/* Returns whether a connection began. */
static __always_inline int follow_tcp(struct entry *e, const struct packet *p, int d, __u64 now,
				      struct statistics *s)
{
	int began = 0;

	if (p->flags & ~e->flags[d])
		e->flags[d] |= p->flags;
	if (p->flags & SYN) {
		if (!(p->flags & ACK)) {
			if (e->opened && e->opening == p->sequence)
				return 0; /* retransmitted */
			__sync_fetch_and_add(&e->opened, 1);
			s->opened++;
			e->opening = p->sequence;
			e->state = PENDING;
			e->connection = now;
			began = 1;
			e->segments[0] = e->segments[1] = 0;
			e->started[0] = e->started[1] = 0;
			e->low_is_client = !d;
		} else {
			e->state &= ~PENDING;
			e->low_is_client = d;
		}
		e->start[d] = p->sequence + 1;
		e->started[d] = 1;
	} else if (p->flags & RST) {
		if (e->state & PENDING && e->low_is_client == d)
			__sync_fetch_and_add(&e->refused, 1);
		e->state = RESET;
	} else if (p->flags & FIN) {
		e->state |= ENDED << d;
	}
	return began;
}

static __always_inline void copy_payload(struct __sk_buff *skb, struct key *key, struct entry *e,
					 const struct packet *p, struct piece *piece, int d,
					 struct statistics *s)
{
	__u32 length = p->total - p->headers, offset;
	__u64 *done;

	if (e->segments[d] >= SEGMENTS || !length || p->part == LATER)
		return;
	if (e->crowded) {
		e->segments[0] = e->segments[1] = SEGMENTS;
		s->first_bytes_not_judged++;
		return;
	}
	if (p->protocol == IPPROTO_TCP) {
		offset = p->sequence + !!(p->flags & SYN);
		if (!e->started[d]) {
			e->started[d] = 1;
			e->start[d] = offset;
		}
		offset -= e->start[d];
	} else if (p->protocol == IPPROTO_UDP) {
		offset = e->start[d];
		e->start[d] += length;
	} else {
		return;
	}
	if (offset >= CAPTURED)
		return;
	done = bpf_map_lookup_elem(&classified, key);
	if (done && *done == e->connection) {
		e->segments[0] = e->segments[1] = SEGMENTS;
		return;
	}
	if (length > CAPTURED - offset)
		length = CAPTURED - offset;
	asm volatile("" : "+r"(length)); /* or the compiler drops the check the verifier needs */
	if (length < 1 || length > CAPTURED)
		return;
	if (bpf_skb_load_bytes(skb, p->start + p->headers, piece->data, length))
		return;
	e->segments[d]++;
	piece->key = *key;
	piece->connection = e->connection;
	piece->offset = offset;
	piece->length = length;
	piece->direction = d;
	if (bpf_ringbuf_output(&pieces, piece, __builtin_offsetof(struct piece, data) + length,
			       BPF_RB_NO_WAKEUP))
		s->ring_full++;
}

/* An ICMP error says that a packet did not arrive: its sender was refused. */
static __always_inline void refuse(struct __sk_buff *skb, struct packet *p)
{
	struct key key = {};
	struct entry *e;

	if (parse_quoted(skb, p))
		return;
	make_key(p, &key);
	e = bpf_map_lookup_elem(&flows, &key);
	if (!e || (p->protocol == IPPROTO_TCP && !(e->state & PENDING)))
		return;
	e->state &= ~PENDING;
	__sync_fetch_and_add(&e->refused, 1);
}

static __always_inline int observe(struct __sk_buff *skb, __u32 ifindex)
{
	struct key key = {};
	struct entry *e;
	__u32 zero = 0, payload, packets = skb->gso_segs;
	struct statistics *s = bpf_map_lookup_elem(&statistics, &zero);
	struct scratch *memory = bpf_map_lookup_elem(&scratch, &zero);
	struct packet *p;
	int result, d, opens, began = 0;
	__u64 now;

	if (!s || !memory)
		return NEXT;
	p = &memory->packet;
	__builtin_memset(p, 0, sizeof(*p));
	result = parse(skb, p);
	if (result == MALFORMED)
		s->malformed++;
	if (result == REFUSAL)
		refuse(skb, p);
	if (result)
		return NEXT;
	if (p->part != WHOLE)
		join_fragments(p, s);
	d = make_key(p, &key);
	payload = p->total - p->headers;
	if (skb->gso_size && packets < 2) /* the kernel is to count: tun, virtio */
		packets = (payload + skb->gso_size - 1) / skb->gso_size;
	if (packets < 1)
		packets = 1;
	opens = p->protocol == IPPROTO_TCP && (p->flags & (SYN | ACK)) == SYN;
	e = find(&key, s);
	if (!e) {
		s->packets += packets;
		s->opened += opens;
		return NEXT;
	}
	count(e, d, packets, p->total + (packets - 1) * p->headers, payload);
	now = opens || !e->first[d] ? bpf_ktime_get_ns() : coarse_time(memory);
	if (!e->first[d]) {
		e->first[d] = now;
		began = !e->first[!d];
	}
	if (began)
		e->connection = now;
	if (e->last[d] < now)
		e->last[d] = now;
	if (e->ifindex[d] != ifindex)
		e->ifindex[d] = ifindex;
	if (p->protocol == IPPROTO_TCP && p->part != LATER)
		began |= follow_tcp(e, p, d, now, s);
	s->packets += packets;
	if (began)
		e->crowded = is_crowded(&key, e, p);
	copy_payload(skb, &key, e, p, &memory->piece, d, s);
	return NEXT;
}

SEC("tc")
int netwatch_in(struct __sk_buff *skb)
{
	return observe(skb, skb->ifindex);
}

SEC("tc")
int netwatch_out(struct __sk_buff *skb)
{
	return skb->ingress_ifindex ? NEXT : observe(skb, 0);
}

char _license[] SEC("license") = "Apache-2.0";
