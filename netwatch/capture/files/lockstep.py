"""Finds the record boundaries of a pcap with numpy, though each record only names the next.

A pcap is a linked list, and walking it in Python costs more than parsing it. So many starting
points are guessed by pattern (time stamp and lengths that make sense four records in a row), all
chains are walked in step, and the guess is then proven: each chain must land exactly on the start
of the next. If one does not, nothing is returned and the caller walks record by record.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from netwatch.capture.files.frames import LONGEST, PADDING, Ints

# One guess in so many bytes: enough chains that numpy's calls are cheap, few enough that looking
# for their starts is.
_SPACING = 1 << 15
# Below this a plain walk is as fast.
_SMALLEST = 1 << 20
# How far from a guessed place a record is looked for: beyond two of the largest frames that
# segmentation offload makes.
_FAR = 140_000
# A file where so many places show no record is not guessed at further.
_MISSES = 8
# Records in a row that must make sense.
_CHAIN = 2
_STEPS = 16
# The longest chains are walked to their ends one by one: a step of all costs as much as ten.
_FEW = 8
_HEADER = 16

_Words = npt.NDArray[np.uint32]


def offsets(buffer: npt.NDArray[np.uint8], end: int, *, order: str, fraction: int) -> Ints | None:
    """Where the record headers start in `buffer[:end]`, the first at 0; the last may be cut off.

    `order` is "<" or ">", `fraction` how many parts a second has in this file. None if the guess
    could not be proven. `buffer` must be readable PADDING bytes beyond `end`.
    """
    if end < _SMALLEST:
        return None
    words = np.ndarray((end + PADDING - 4,), f"{order}u4", buffer=buffer.data, strides=(1,))
    high = int(words[0]) >> 16
    places = range(_SPACING, end - _SPACING, _SPACING)
    guessed = _guess(buffer, places, end, high=high, order=order)
    starts = guessed[_plausible(words, guessed, end, high=high, fraction=fraction)]
    if len(starts) * 4 < len(places):
        return None
    return _walk(words, np.append([0], starts), end)


def _guess(
    buffer: npt.NDArray[np.uint8], places: range, end: int, *, high: int, order: str
) -> Ints:
    """Behind each place the first offset where the bytes may be those of a record's header."""
    if order == "<":
        time, length, skipped = high.to_bytes(2, "little"), rb"..[\0-\4]\0", 2
    else:
        time, length, skipped = high.to_bytes(2, "big"), rb"\0[\0-\4]..", 0
    between = b"." * (6 - skipped)
    record = re.compile(re.escape(time) + between + length + length, re.DOTALL)
    found, last, misses = [], 0, 0
    data = buffer.data
    for place in places:
        if place < last:
            continue
        match = record.search(data, place, min(place + _FAR, end))
        if match is None:
            misses += 1
            if misses > _MISSES:
                break
            continue
        last = match.start()
        found.append(last - skipped)
    return np.array(found, dtype=np.int64)


def _plausible(
    words: _Words, at: Ints, end: int, *, high: int, fraction: int
) -> npt.NDArray[np.bool_]:
    """Whether at each offset a chain of records starts that make sense."""
    good = np.ones(len(at), dtype=bool)
    at = at.copy()
    for _ in range(_CHAIN):
        good &= at + _HEADER <= end
        at[~good] = 0
        second, captured, wire = words[at] >> 16, words[at + 8], words[at + 12]
        good &= (second == high) | (second == high + 1)
        good &= (words[at + 4] < fraction) & (captured > 0) & (captured <= LONGEST)
        good &= captured <= wire
        at += captured.astype(np.int64) + _HEADER
    return good


def _walk(words: _Words, starts: Ints, end: int) -> Ints | None:
    """All chains in step, each to the start of the next; None if one misses it."""
    # The last record may be cut off, but its header must be there.
    goals = np.append(starts[1:], end - _HEADER + 1)
    # What is walked is counted without headers: adding them to all steps at once is cheaper. They
    # are PADDING bytes in all, so what is read of a step at the end is still the buffer's.
    headers = _HEADER * np.arange(_STEPS + 1)[:, None]
    lengths = [words[8 + passed :] for passed in headers[:-1, 0].tolist()]
    at, chains, goal = starts, np.arange(len(starts)), goals
    arrived = np.empty_like(goals)
    parts: list[Ints] = []
    while len(at) > _FEW:
        walked = np.empty((_STEPS + 1, len(at)), dtype=np.int64)
        walked[0] = at
        stop = np.full(len(at), end)
        for (here, after), length in zip(pairwise(walked), lengths, strict=True):
            # Who arrived walks on into the next chain, and is cut off below.
            after[:] = length[here]
            after += here
            np.minimum(after, stop, out=after)
        walked += headers
        inside = walked < goal
        parts.append(walked[:-1][inside[:-1]])
        there = np.flatnonzero(~inside[-1])
        arrived[chains[there]] = walked[inside[:, there].sum(axis=0), there]
        left = np.flatnonzero(inside[-1])
        at, chains, goal = walked[-1, left], chains[left], goal[left]
    for chain, place, last in zip(chains.tolist(), at.tolist(), goal.tolist(), strict=True):
        rest = []
        while place < last:
            rest.append(place)
            place += _HEADER + int(lengths[0][place])
        arrived[chain] = place
        parts.append(np.array(rest, dtype=np.int64))
    if (arrived[:-1] != goals[:-1]).any():
        return None
    found = np.sort(np.concatenate(parts).astype(np.uint32)).astype(np.int64)
    # Each starts where the one before ends; the last may be cut off.
    longest = max(int(np.diff(found).max(initial=0)) - _HEADER, int(lengths[0][found[-1]]))
    return found if longest <= LONGEST else None
