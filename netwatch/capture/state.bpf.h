// SPDX-License-Identifier: Apache-2.0
/* What the program remembers, and where user space reads it: connections, their first payload,
 * budgets, counters.
 *
 * The first 40 bytes of sensor.ENTRY are `struct key`, the other 112 the head of `struct entry`.
 */
#ifndef STATE_BPF_H
#define STATE_BPF_H

#include "packet.bpf.h"

#define CAPTURED 8192 /* bytes of payload kept per direction: the longest handshake flight */

struct key {
	union address low, high;
	__u16 low_port, high_port;
	__u8 protocol, zero[3];
};

struct counts {
	__u64 packets[2], bytes[2], payload_bytes[2];
};

struct entry {
	struct counts counts; /* by the CPU that made the entry, and by it alone: no atomics */
	__u64 first[2], last[2];
	__u32 ifindex[2];
	__u8 flags[2], crowded, zero;
	__u32 opened, refused, life; /* life is filled in by user space, from born */
	__u64 connection; /* when the present connection began: its number */
	/* what follows is not part of ENTRY; user space adds the counts to the first ones */
	struct counts elsewhere; /* by all other CPUs */
	__u64 born; /* which insert of which CPU: CPU << 48 | count */
	__s8 low_is_client;
	__u8 state;
	__u16 unused;
	__u32 start[2]; /* sequence number of payload byte 0; for UDP the bytes so far */
	__u8 segments[2], started[2];
	__u32 opening; /* sequence number of the last opening SYN */
};

struct piece {
	struct key key;
	__u64 connection;
	__u32 offset;
	__u16 length;
	__u8 direction, zero;
	__u8 data[CAPTURED];
};

/* `packets` and `opened` are of all entries together, whether there was room for them or not. */
struct statistics {
	__u64 inserted, map_full, ring_full, malformed, fragment, packets, opened,
		first_bytes_not_judged;
};

/* How many new connections may be looked at one by one: of all together, which grows by `rate` in a
 * window up to `most`, and beyond that `each` of every edge, so that no crowd hides another edge.
 * The limits are set by user space, which sums up the rest by edge. */
struct budget {
	__u64 window;
	__s32 left; /* below 0 where several CPUs took the last one */
	__u32 rate, most, each;
};

struct scratch {
	__u64 jiffy, now; /* the clock when that jiffy began */
	struct packet packet;
	struct piece piece;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct key);
	__type(value, struct entry);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct key);
	__type(value, __u64);
} classified SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budget SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct key); /* with the client's port 0 */
	__type(value, struct budget);
} edges SEC(".maps");

/* Source, destination, identification (in the ports) and protocol of a fragmented packet to the
 * ports that its first fragment had. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u32);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct statistics);
} statistics SEC(".maps");

/* Working memory of a CPU. The packet is kept here rather than on the stack also because the
 * verifier forgets what it knew of map memory: the many ways through the parser meet again. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} pieces SEC(".maps");

#endif
