"""The first payload of both directions of each connection, put in order and judged.

Only early segments of connections that are not judged yet are copied; all else is left where it
is. What is kept is bounded: per direction by what `classify` looks at, in all by BUDGET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Frames, Ints
from netwatch.capture.files.packets import Packets
from netwatch.capture.files.rows import KEY, Grouped
from netwatch.dissect.conversation import LIMIT, Classified, classify
from netwatch.dissect.starts import WIDTH, promising

# Segments of one direction of one connection that are looked at in one block of the file; the
# live capture keeps as many.
_SEGMENTS = 12
# Most handshakes are judged by so many; the others are only copied if they are not.
_FIRST = 4
# A connection that trickles through many blocks is not waited for without end.
_PATIENCE = 8 * _SEGMENTS
# Payload kept for connections that are not judged yet; above it, judgements stand as they are.
BUDGET = 64 << 20

_HALF = 1 << 31
_NEVER = object()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Segments that may matter, by row: their direction, sequence and place in the buffer."""

    row: Ints
    from_high: npt.NDArray[np.bool_]
    seq: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    start: Ints
    kept: Ints

    def take(self, which: Ints | npt.NDArray[np.bool_]) -> Candidates:
        """Some of them."""
        return Candidates(*(getattr(self, each.name)[which] for each in fields(self)))


def candidates(packets: Packets, grouped: Grouped) -> Candidates:
    """The first segments with payload (or a SYN, for its sequence) of each row and direction."""
    protocol = (packets.meta >> np.uint64(48)) & np.uint64(0xFF)
    useful = (packets.kept > 0) & ((protocol == odd.TCP) | (protocol == odd.UDP))
    useful |= (packets.flags & (odd.SYN | odd.SYNACK)) != 0
    place = np.flatnonzero(useful[grouped.order])
    taken = grouped.order[place]
    found = Candidates(
        grouped.row[place],
        ~packets.from_low[taken],
        packets.seq[taken],
        packets.flags[taken],
        packets.start[taken],
        packets.kept[taken],
    )
    return early(found)


def joined(parts: Sequence[Candidates], number: Ints) -> Candidates:
    """The candidates of several chunks, sorted by connection; `number` is each row's."""
    whole = Candidates(
        *(
            np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Candidates)
        )
    )
    row = number[whole.row]
    order = np.argsort(row, kind="stable")
    return early(replace(whole, row=row).take(order))


def early(found: Candidates) -> Candidates:
    """Those of each row and direction that are few and near its start; sorted by row before."""
    rank, before = _within(found, np.ones_like(found.row)), _within(found, found.kept)
    keep = (rank <= _SEGMENTS) & (before - found.kept < LIMIT)
    return found.take(keep)


def _within(found: Candidates, amount: Ints) -> Ints:
    """Running sum of `amount` in each row and direction, the element itself included."""
    begins = np.flatnonzero(np.diff(found.row, prepend=-1))
    length = np.diff(begins, append=len(found.row))
    sums = np.empty_like(amount)
    for side in (False, True):
        mine = found.from_high == side
        running = np.cumsum(np.where(mine, amount, 0))
        base = np.repeat(running[begins] - np.where(mine[begins], amount[begins], 0), length)
        np.copyto(sums, running - base, where=mine)
    return sums


@dataclass(slots=True)
class _Half:
    """One direction: its segments as (sequence, data), and where its stream starts if known."""

    start: int | None = None
    segments: list[tuple[int, bytes]] = field(default_factory=list)

    def stream(self) -> bytes:
        """The payload in order, up to the first gap; what was sent twice counts once."""
        if not self.segments:
            return b""
        following = self.segments[0][0] if self.start is None else self.start
        for seq, data in self.segments:
            if seq != following:
                return self._sorted()
            following = (seq + len(data)) & 0xFFFFFFFF
        return b"".join([data for _, data in self.segments])

    def _sorted(self) -> bytes:
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
        return bytes(stream)


@dataclass(slots=True)
class Conversation:
    """A connection whose first bytes are collected; the client is `low` unless turned.

    `index` is the number of the packet that began it, `answer` what its bytes prove so far.
    """

    index: int
    tcp: bool
    opener: int
    isn: int
    turned: bool
    low: _Half = field(default_factory=_Half)
    high: _Half = field(default_factory=_Half)
    kept: int = 0
    segments: int = 0
    done: bool = False
    answer: Classified = Classified()

    def judge(self) -> None:
        """Ask what the bytes prove, and forget them if more would not help."""
        if not self.kept:
            return
        if self.tcp:
            low, high = self.low.stream(), self.high.stream()
        else:
            low, high = (b"".join([d for _, d in half.segments]) for half in (self.low, self.high))
        client, server = (high, low) if self.turned else (low, high)
        self.answer = classify(client, server, protocol="tcp" if self.tcp else "udp")
        if self.answer.finished or self.segments >= _PATIENCE:
            self.forget()

    def forget(self) -> None:
        """Keep the answer, let the bytes go."""
        self.low, self.high, self.kept, self.done = _Half(), _Half(), 0, True


Key = bytes
_Segment = tuple[bool, int, int, int, int]


class Conversations:
    """The conversations of a capture that may prove something, by key, in file order."""

    def __init__(self) -> None:
        self.of: dict[Key, list[Conversation]] = {}
        # None: judged, or nothing that could be recognised.
        self._open: dict[Key, Conversation | None] = {}
        self._kept = 0

    def feed(self, frames: Frames, found: Candidates, merged: npt.NDArray[np.void]) -> None:
        """Take the candidates of a block, sorted by `row`, which numbers the rows of `merged`."""
        lanes = _lanes(frames, found, merged)
        segments = list(
            zip(*(getattr(found, f.name).tolist() for f in fields(found)[1:]), strict=True)
        )
        keys = keys_of(merged[lanes.row])
        for place, (begin, end, worth, opener) in enumerate(lanes.each()):
            key = keys[place]
            known = self._open.get(key, _NEVER)
            if known is None and opener < 0:
                continue
            if isinstance(known, Conversation) and (
                opener < 0
                or (known.opener, known.isn) == (opener, int(merged["isn"][lanes.row[place]]))
            ):
                self._take(key, known, frames, segments[begin:end])
            elif worth:
                opened = _conversation(merged[lanes.row[place]])
                self.of.setdefault(key, []).append(opened)
                self._take(key, opened, frames, segments[begin:end])
            else:
                self._open[key] = None
        if self._kept > BUDGET:
            self.forget()

    def _take(
        self, key: Key, conversation: Conversation, frames: Frames, segments: list[_Segment]
    ) -> None:
        self._kept -= conversation.kept
        for part in (segments[:_FIRST], segments[_FIRST:]):
            if part:
                _add(conversation, frames, part)
                conversation.judge()
                if conversation.done:
                    break
        self._kept += conversation.kept
        self._open[key] = None if conversation.done else conversation

    def forget(self) -> None:
        """Let all bytes go; what they proved so far stands."""
        for key, conversation in self._open.items():
            if conversation is not None:
                conversation.forget()
                self._open[key] = None
        self._kept = 0


@dataclass(frozen=True, slots=True)
class _Lanes:
    """Per connection of a block that carried payload: its row, its candidates from `begin` to
    `end`, whether they are worth a look, and which end opened it.
    """

    row: Ints
    begin: Ints
    end: Ints
    worth: npt.NDArray[np.bool_]
    opener: npt.NDArray[np.int8]

    def each(self) -> Iterator[tuple[int, int, bool, int]]:
        """As plain numbers."""
        columns = (self.begin, self.end, self.worth, self.opener)
        return zip(*(column.tolist() for column in columns), strict=True)


def _lanes(frames: Frames, found: Candidates, merged: npt.NDArray[np.void]) -> _Lanes:
    begin = np.flatnonzero(np.diff(found.row, prepend=-1))
    end = np.append(begin[1:], len(found.row)).astype(np.int64)
    row = found.row[begin]
    payload = found.kept > 0
    datagrams = (merged["meta"][found.row] >> np.uint64(48)) & np.uint64(0xFF) == odd.UDP
    # Not only the very first: segments are captured out of order, too.
    first = np.flatnonzero(payload & (_within(found, payload.astype(np.int64)) <= _FIRST))
    heads = _heads(frames, found.start[first], found.kept[first])
    worth = np.zeros(len(found.row), dtype=bool)
    worth[first] = promising(heads, datagrams=datagrams[first])
    carrying = np.zeros(len(begin), dtype=bool)
    if len(begin):
        carrying = np.logical_or.reduceat(payload, begin)
        worth = np.logical_or.reduceat(worth, begin)
        # One end has said little and the other nothing yet: that may still become something.
        high = np.logical_or.reduceat(payload & found.from_high, begin)
        low = np.logical_or.reduceat(payload & ~found.from_high, begin)
        worth |= (high != low) & (end - begin < _FIRST) & ~datagrams[begin]
    opener = merged["opener"][row]
    return _Lanes(row[carrying], begin[carrying], end[carrying], worth[carrying], opener[carrying])


def _heads(frames: Frames, start: Ints, kept: Ints) -> npt.NDArray[np.uint8]:
    shape = (len(frames.buffer) - WIDTH,)
    view = np.ndarray(shape, dtype=f"V{WIDTH}", buffer=frames.buffer.data, strides=(1,))
    heads: npt.NDArray[np.uint8] = view[start].view(np.uint8).reshape(len(start), WIDTH)
    heads[np.arange(WIDTH) >= kept[:, None]] = 0
    return heads


def _conversation(row: np.void) -> Conversation:
    opener = int(row["opener"])
    tcp = int(row["meta"]) >> 48 & 0xFF == odd.TCP
    turned = bool(opener == 1 or (opener < 0 and row["first_from"] == 1))
    return Conversation(int(row["index"]), tcp, opener, int(row["isn"]), turned)


def _add(conversation: Conversation, frames: Frames, segments: list[_Segment]) -> None:
    for from_high, seq, flags, start, kept in segments:
        half = conversation.high if from_high else conversation.low
        if flags & (odd.SYN | odd.SYNACK):
            seq = (seq + 1) & 0xFFFFFFFF
            half.start = seq
        if kept:
            half.segments.append((seq, frames.buffer[start : start + min(kept, LIMIT)].tobytes()))
            conversation.kept += min(kept, LIMIT)
    conversation.segments += len(segments)


def keys_of(rows: npt.NDArray[np.void]) -> list[Key]:
    """The key of each row as bytes."""
    words = np.empty((len(rows), len(KEY)), dtype=np.uint64)
    for place, name in enumerate(KEY):
        words[:, place] = rows[name]
    whole, width = words.tobytes(), 8 * len(KEY)
    return [whole[at : at + width] for at in range(0, len(whole), width)]
