// SPDX-License-Identifier: Apache-2.0
/* What attaching alone costs: the program that tests/bench/capture.py compares ours with. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return -1;
}

char _license[] SEC("license") = "Apache-2.0";
