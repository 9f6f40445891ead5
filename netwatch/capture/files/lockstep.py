"""Finds the record boundaries of a pcap with numpy, though each record only names the next.

A pcap is a linked list, and walking it in Python costs more than parsing it. So many starting
points are guessed by pattern (time stamp and lengths that make sense four records in a row), all
chains are walked in step, and the guess is then proven: each chain must land exactly on the start
of the next. If one does not, nothing is returned and the caller walks record by record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwatch.capture.files.frames import LONGEST, Ints

# One guess in so many bytes.
_SPACING = 1 << 16
# Below this a plain walk is as fast.
_SMALLEST = 1 << 20
# How far from a guessed place a record must start: beyond the largest packet with GSO.
_WINDOW = 1 << 17
_HEADER = 16


def offsets(buffer: npt.NDArray[np.uint8], end: int, *, order: str, fraction: int) -> Ints | None:
    """Where the record headers start in `buffer[:end]`, the first at 0; the last may be cut off.

    `order` is "<" or ">", `fraction` how many parts a second has in this file. None if the guess
    could not be proven. `buffer` must be readable 32 bytes beyond `end`.
    """
    if end < _SMALLEST:
        return None
    words = np.ndarray((end,), dtype=f"{order}u4", buffer=buffer.data, strides=(1,))
    first = int(words[0]) >> 16
    starts = [0]
    for place in range(_SPACING, end - _SPACING, _SPACING):
        if place > starts[-1]:
            found = _synchronise(buffer, words, place, high=first, order=order, fraction=fraction)
            if found is not None:
                starts.append(found)
    if len(starts) * _SPACING * 8 < end:
        return None
    return _walk(words, np.unique(np.array(starts, dtype=np.int64)), end)


def _synchronise(
    buffer: npt.NDArray[np.uint8],
    words: npt.NDArray[np.uint32],
    place: int,
    *,
    high: int,
    order: str,
    fraction: int,
) -> int | None:
    """The first offset from `place` on where four plausible records follow each other."""
    low, up = (2, 3) if order == "<" else (1, 0)
    width = 4096
    while width <= _WINDOW:
        span = buffer[place : min(place + width, len(words) - _HEADER)]
        if len(span) < 8:
            return None
        hits = (span[low : len(span) - 4 + low] == high & 0xFF) & (
            span[up : len(span) - 4 + up] == high >> 8
        )
        for hit in np.flatnonzero(hits).tolist():
            if _plausible(words, place + hit, high=high, fraction=fraction):
                return place + int(hit)
        width *= 8
    return None


def _plausible(
    words: npt.NDArray[np.uint32], at: int, *, high: int, fraction: int, chain: int = 4
) -> bool:
    for _ in range(chain):
        if at + _HEADER > len(words):
            return False
        captured, wire = int(words[at + 8]), int(words[at + 12])
        if int(words[at]) >> 16 not in (high, high + 1) or int(words[at + 4]) >= fraction:
            return False
        if not 0 < captured <= LONGEST or wire < captured:
            return False
        at += _HEADER + captured
    return True


def _walk(words: npt.NDArray[np.uint32], starts: Ints, end: int) -> Ints | None:
    goals = np.append(starts[1:], end)
    chains = np.arange(len(starts))
    at = starts.copy()
    steps, owners = [], []
    last = end - _HEADER
    while len(chains):
        steps.append(at)
        owners.append(chains)
        captured = words[at + 8].astype(np.int64)
        if captured.max(initial=0) > LONGEST:
            return None
        at = at + captured + _HEADER
        goal = goals[chains]
        alive = (at < goal) & (at <= last)
        ended = ~alive
        if not ((at[ended] == goal[ended]) | (goal[ended] == end)).all():
            return None
        chains, at = chains[alive], at[alive]
    found = np.concatenate(steps)
    return found[np.argsort(np.concatenate(owners), kind="stable")]
