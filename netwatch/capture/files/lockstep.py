"""Finds the record boundaries of a pcap with numpy, though each record only names the next.

A pcap is a linked list, and walking it in Python costs more than parsing it. So many starting
points are guessed by pattern (time stamp and lengths that make sense four records in a row), all
chains are walked in step, and the guess is then proven: each chain must land exactly on the start
of the next. If one does not, nothing is returned and the caller walks record by record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netwatch.capture.files.frames import LONGEST, PADDING, Ints

# One guess in so many bytes.
_SPACING = 1 << 16
# Below this a plain walk is as fast.
_SMALLEST = 1 << 20
# How far from a guessed place a record is looked for: beyond the usual packet, and, for fewer
# places, beyond two of the largest that segmentation offload makes.
_NEAR, _FAR = 2048, 140_000
# Records in a row that must make sense.
_CHAIN = 4
_STEPS = 32
_HEADER = 16


def offsets(buffer: npt.NDArray[np.uint8], end: int, *, order: str, fraction: int) -> Ints | None:
    """Where the record headers start in `buffer[:end]`, the first at 0; the last may be cut off.

    `order` is "<" or ">", `fraction` how many parts a second has in this file. None if the guess
    could not be proven. `buffer` must be readable PADDING bytes beyond `end`.
    """
    if end < _SMALLEST:
        return None
    words = np.ndarray((end + PADDING - 4,), f"{order}u4", buffer=buffer.data, strides=(1,))
    high = int(words[0]) >> 16
    places = np.arange(_SPACING, end - _SPACING, _SPACING)
    starts = _synchronise(buffer, words, places, end, high=high, order=order, fraction=fraction)
    if len(starts) * 4 < len(places):
        return None
    return _walk(words, np.append([0], starts), end)


def _synchronise(
    buffer: npt.NDArray[np.uint8],
    words: npt.NDArray[np.uint32],
    places: Ints,
    end: int,
    *,
    high: int,
    order: str,
    fraction: int,
) -> Ints:
    """For each place the first offset from there on where plausible records follow each other."""
    low, up = (2, 3) if order == "<" else (1, 0)
    found = []
    for width, each in ((_NEAR, 1), (_FAR, 16)):
        mine = places[::each]
        if not len(mine) or mine[-1] + width > end:
            mine = mine[mine + width <= end]
        if not len(mine):
            break
        spans = np.ndarray((end - width,), f"V{width}", buffer=buffer.data, strides=(1,))[mine]
        near = spans.view(np.uint8).reshape(len(mine), width)
        hits = (near[:, low : width - 4 + low] == high & 0xFF) & (
            near[:, up : width - 4 + up] == high >> 8
        )
        row, column = np.nonzero(hits)
        at = mine[row] + column
        at = at[_plausible(words, at, end, high=high, fraction=fraction)]
        # The first one behind each place.
        index = np.searchsorted(at, mine)
        found.append(np.unique(at[index[index < len(at)]]))
        if len(found[-1]) * 4 >= len(mine):
            break
    return found[-1] if found else np.zeros(0, dtype=np.int64)


def _plausible(
    words: npt.NDArray[np.uint32], at: Ints, end: int, *, high: int, fraction: int
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


def _walk(words: npt.NDArray[np.uint32], starts: Ints, end: int) -> Ints | None:
    """All chains in step, each to the start of the next; None if one misses it."""
    # The last record may be cut off, but its header must be there.
    goals = np.append(starts[1:], end - _HEADER + 1)
    at = starts.astype(np.int64)
    steps = []
    while (at < goals).any():
        for _ in range(_STEPS):
            steps.append(at)
            following = at + words[at + 8] + _HEADER
            # Who arrived stays; who overshot stays, too, and is found out below.
            at = np.where(at < goals, np.minimum(following, end), at)
    if (at[:-1] != goals[:-1]).any():
        return None
    walked = np.array(steps)
    found: Ints = walked.T[(walked < goals).T]
    if len(found) and int(words[found + 8].max()) > LONGEST:
        return None
    return found
