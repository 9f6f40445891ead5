"""What the edges stand on: commands with a deadline, and network namespaces."""
