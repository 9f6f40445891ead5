"""Finds workloads: Docker's Engine API, and the network namespaces of a lab."""
