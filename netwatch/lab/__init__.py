"""Hosts and workloads out of network namespaces, with real servers and clients in them."""
