"""Detectors: one pure function each, from the state and a time to findings."""
