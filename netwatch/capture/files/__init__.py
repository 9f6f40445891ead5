"""Captures on disk, turned into flows: vectorised where packets are regular, exact where not."""
