"""The first payload of both directions of each connection, put in order and judged.

Only early segments of connections that are not judged yet are copied; all else is left where it
is. What is kept is bounded: per direction by what `classify` looks at, in all by BUDGET.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Frames, Ints
from netwatch.capture.files.packets import Packets
from netwatch.capture.files.rows import Grouped
from netwatch.dissect.conversation import LIMIT, Classified, classify

# Segments of one direction of one connection that are looked at in one block of the file.
_SEGMENTS = 24
# Payload kept for connections that are not judged yet; above it they are judged as they are.
BUDGET = 64 << 20

_TCP_META, _UDP_META = odd.TCP, odd.UDP
_HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class Candidates:
    """Segments of one chunk that may matter: their row, direction, sequence and place."""

    row: Ints
    from_high: npt.NDArray[np.bool_]
    seq: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    start: Ints
    kept: Ints


def candidates(packets: Packets, grouped: Grouped) -> Candidates:
    """The first segments with payload (or a SYN, for its sequence) of each row and direction."""
    order, row = grouped.order, grouped.row
    protocol = (packets.meta >> np.uint64(48)) & np.uint64(0xFF)
    useful = (packets.kept > 0) & ((protocol == odd.TCP) | (protocol == odd.UDP))
    useful |= (packets.flags & (odd.SYN | odd.SYNACK)) != 0
    place = np.flatnonzero(useful[order])
    mine, high = row[place], ~packets.from_low[order[place]]
    keep = _rank(mine * 2 + high) < _SEGMENTS
    place, mine, high = place[keep], mine[keep], high[keep]
    taken = order[place]
    return Candidates(
        mine,
        high,
        packets.seq[taken],
        packets.flags[taken],
        packets.start[taken],
        packets.kept[taken],
    )


def _rank(lane: Ints) -> Ints:
    """How many elements with the same value came before each element."""
    order = np.argsort(lane, kind="stable")
    ranked = lane[order]
    starts = np.ones(len(ranked), dtype=bool)
    starts[1:] = ranked[1:] != ranked[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(ranked)), 0))
    rank = np.empty(len(lane), dtype=np.int64)
    rank[order] = np.arange(len(lane)) - first
    return rank


@dataclass(slots=True)
class _Half:
    """One direction: its segments by distance from the start of its stream."""

    start: int | None = None
    segments: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, seq: int, flags: int, data: bytes) -> int:
        """Take a segment; returns how many bytes are kept of it."""
        if flags & (odd.SYN | odd.SYNACK):
            seq = (seq + 1) & 0xFFFFFFFF
            self.start = seq
        if not data:
            return 0
        self.segments.append((seq, data))
        return len(data)

    def stream(self) -> bytes:
        """The payload in order, up to the first gap; what was sent twice counts once."""
        if not self.segments:
            return b""
        anchor = self.segments[0][0] if self.start is None else self.start
        placed = sorted(
            (((seq - anchor + _HALF) & 0xFFFFFFFF) - _HALF, data) for seq, data in self.segments
        )
        begin = placed[0][0] if self.start is None else 0
        stream = bytearray()
        for at, data in placed:
            skip = len(stream) - (at - begin)
            if skip < 0 or len(stream) >= LIMIT:
                break
            stream += data[skip:]
        return bytes(stream[:LIMIT])


@dataclass(slots=True)
class Conversation:
    """A connection whose first bytes are collected; the client is `low` unless turned.

    `index` is the number of the packet that began it. `answer` is final once `finished`.
    """

    index: int
    protocol: str
    opener: int
    isn: int
    turned: bool
    halves: tuple[_Half, _Half] = field(default_factory=lambda: (_Half(), _Half()))
    kept: int = 0
    segments: int = 0
    answer: Classified = Classified()

    def judge(self, *, complete: bool = False) -> None:
        """Ask what the bytes prove, and forget them if more would not help."""
        if self.protocol == "tcp":
            low, high = self.halves[0].stream(), self.halves[1].stream()
        else:
            low, high = (b"".join(data for _, data in half.segments) for half in self.halves)
        client, server = (high, low) if self.turned else (low, high)
        self.answer = classify(client, server, protocol=self.protocol, complete=complete)
        if self.answer.finished:
            self.halves = (_Half(), _Half())
            self.kept = 0


Key = bytes


class Conversations:
    """All connections of a capture, by key; several of one key are in the order of the file."""

    def __init__(self) -> None:
        self.of: dict[Key, list[Conversation]] = {}
        self._open: dict[Key, Conversation] = {}
        self._kept = 0

    def feed(self, frames: Frames, found: Candidates, merged: npt.NDArray[np.void]) -> None:
        """Take the candidates of a block; `found.row` numbers the rows of `merged`."""
        keep = _rank(found.row * 2 + found.from_high) < _SEGMENTS
        order = np.flatnonzero(keep)
        order = order[np.argsort(found.row[order], kind="stable")]
        rows = found.row[order]
        cuts = np.flatnonzero(np.diff(rows, prepend=-1, append=-1))
        columns = [
            column[order].tolist()
            for column in (found.from_high, found.seq, found.flags, found.start, found.kept)
        ]
        segments = list(zip(*columns, strict=True))
        keys = keys_of(merged)
        firsts = rows[cuts[:-1]].tolist()
        for number, begin, end in zip(firsts, cuts[:-1], cuts[1:], strict=True):
            conversation = self._conversation(keys[number], merged[number])
            if conversation is not None:
                self._take(conversation, frames, segments[begin:end])
        if self._kept > BUDGET:
            self.finish()

    def _conversation(self, key: Key, row: np.void) -> Conversation | None:
        """The one that a row continues or opens; None if it is judged already."""
        known = self._open.get(key)
        opener, isn = int(row["opener"]), int(row["isn"])
        if known is not None and (opener < 0 or (known.opener, known.isn) == (opener, isn)):
            return None if known.answer.finished else known
        protocol = "tcp" if int(row["meta"]) >> 48 & 0xFF == odd.TCP else "udp"
        turned = bool(opener == 1 or (opener < 0 and row["first_from"] == 1))
        opened = Conversation(int(row["index"]), protocol, opener, isn, turned)
        if known is not None and not known.answer.finished:
            self._judge(known, complete=True)
        self._open[key] = opened
        self.of.setdefault(key, []).append(opened)
        return opened

    def _take(
        self,
        conversation: Conversation,
        frames: Frames,
        segments: list[tuple[bool, int, int, int, int]],
    ) -> None:
        for high, seq, flags, start, kept in segments:
            data = frames.buffer[start : start + min(kept, LIMIT)].tobytes() if kept else b""
            added = conversation.halves[high].add(seq, flags, data)
            conversation.kept += added
            conversation.segments += 1
            self._kept += added
        # A connection that trickles through many blocks is not waited for without end.
        self._judge(conversation, complete=conversation.segments >= 4 * _SEGMENTS)

    def _judge(self, conversation: Conversation, *, complete: bool) -> None:
        before = conversation.kept
        if before or complete:
            conversation.judge(complete=complete)
        self._kept -= before - conversation.kept

    def finish(self) -> None:
        """Judge what is still open as it is."""
        for conversation in self._open.values():
            if not conversation.answer.finished:
                self._judge(conversation, complete=True)


def keys_of(rows: npt.NDArray[np.void]) -> list[Key]:
    """The key of each row as bytes."""
    words = np.empty((len(rows), 6), dtype=np.uint64)
    for place, name in enumerate(("low_0", "low_1", "high_0", "high_1", "ports", "meta")):
        words[:, place] = rows[name]
    whole = words.tobytes()
    return [whole[at : at + 48] for at in range(0, len(whole), 48)]
