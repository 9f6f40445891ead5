"""Sees packets: eBPF first, conntrack where there is none, capture files offline."""
