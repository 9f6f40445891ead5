"""The first payload of both directions of each connection, put in order and judged.

Only early segments of connections that are not judged yet are copied; all else is left where it
is. What is kept is bounded: per direction by what `classify` looks at, in all by BUDGET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Frames, Ints
from netwatch.capture.files.packets import Packets
from netwatch.capture.files.rows import KEY, SHARES, Grouped, share
from netwatch.dissect.answer import LIMIT, Classified
from netwatch.dissect.starts import WIDTH, promising

# Segments of one direction of one connection that are looked at in one block of the file; the
# live capture keeps as many.
_SEGMENTS = 12
# Most handshakes are judged by so many; the others are only copied if they are not.
_FIRST = 4
# A connection that trickles through many blocks is not waited for without end.
_PATIENCE = 8 * _SEGMENTS
# Payload kept for connections of a share that are not judged yet, 64 MiB in all; above it,
# judgements stand as they are.
BUDGET = (64 << 20) // SHARES

_HALF = 1 << 31
_SYNS = odd.SYN | odd.SYNACK
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


def candidates(packets: Packets, grouped: Grouped, conversations: Conversations) -> Candidates:
    """The first segments with payload (or a SYN, for its sequence) of each row and direction, but
    for what is judged already.
    """
    useful = packets.kept > 0
    useful |= (packets.flags & (odd.SYN | odd.SYNACK)) != 0
    # What is neither TCP nor UDP is not dissected.
    number = (grouped.rows["meta"] >> 48).astype(np.uint8)
    wanted = (number == odd.TCP) | (number == odd.UDP)
    wanted &= ~conversations.judged(grouped.rows)
    row = np.repeat(np.arange(len(grouped.rows)), grouped.count)
    place = np.flatnonzero(useful[grouped.order] & wanted[row])
    taken = grouped.order[place]
    found = Candidates(
        row[place],
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
    begins, length = _runs(found.row)
    # Most rows have few segments; of those all are early, whichever direction they are of.
    long = (length > _SEGMENTS) | (np.add.reduceat(found.kept, begins) >= LIMIT)
    place = np.flatnonzero(np.repeat(long, length))
    if not len(place):
        return found
    some = found.take(place)
    rank, before = _within(some, np.ones_like(some.row)), _within(some, some.kept)
    keep = np.ones(len(found.row), dtype=bool)
    keep[place] = (rank <= _SEGMENTS) & (before - some.kept < LIMIT)
    return found.take(keep)


def _runs(row: Ints) -> tuple[Ints, Ints]:
    """Where each row of equal numbers begins, and how long it is."""
    new = np.ones(len(row), dtype=bool)
    np.not_equal(row[1:], row[:-1], out=new[1:])
    begins = np.flatnonzero(new)
    return begins, np.append(begins[1:], len(row)) - begins


def _within(found: Candidates, amount: Ints) -> Ints:
    """Running sum of `amount` in each row and direction, the element itself included."""
    begins, length = _runs(found.row)
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
        return self.joined()

    def joined(self) -> bytes:
        """The payload in the order of the capture."""
        return b"".join([data for _, data in self.segments])

    def sizes(self) -> list[int]:
        """How long each datagram is."""
        return [len(data) for _, data in self.segments]

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


# Of both directions of all conversations that are done: nothing is added to those.
_FORGOTTEN = _Half()


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
    share: int
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
        # All of dissection takes 40 ms to import, which who only counts need not pay.
        from netwatch.dissect.conversation import classify

        ends = (self.high, self.low) if self.turned else (self.low, self.high)
        if self.tcp:
            self.answer = classify(ends[0].stream(), ends[1].stream(), protocol="tcp")
        else:
            self.answer = classify(
                ends[0].joined(),
                ends[1].joined(),
                protocol="udp",
                client_sizes=ends[0].sizes(),
                server_sizes=ends[1].sizes(),
            )
        if self.answer.finished or self.segments >= _PATIENCE:
            self.forget()

    def forget(self) -> None:
        """Keep the answer, let the bytes go."""
        self.low = self.high = _FORGOTTEN
        self.kept, self.done = 0, True


Key = bytes
_Segment = tuple[bool, int, int, int, int]


class Conversations:
    """The conversations of a capture that may prove something, by key, in file order."""

    def __init__(self) -> None:
        self.of: dict[Key, list[Conversation]] = {}
        # None: judged, or nothing that could be recognised.
        self._open: dict[Key, Conversation | None] = {}
        self._kept = [0] * SHARES
        # Conversations whose bytes had to go before they were judged.
        self.refused = 0

    def judged(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which rows only go on with a conversation of which no more must be seen."""
        if not self._open:
            return np.zeros(len(rows), dtype=bool)
        known = self._open.get
        found = np.array([known(key, _NEVER) is None for key in keys_of(rows)], dtype=bool)
        found &= rows["opener"] < 0
        return found

    def feed(self, frames: Frames, found: Candidates, merged: npt.NDArray[np.void]) -> None:
        """Take the candidates of a block, sorted by `row`, which numbers the rows of `merged`."""
        lanes = _lanes(frames, found, merged)
        # As lists at once: most lanes are taken, and slices of arrays cost ten times as much.
        columns = [getattr(found, each.name).tolist() for each in fields(found)[1:]]
        for lane in lanes:
            known = self._open.get(lane.key, _NEVER)
            if known is None and (lane.opener < 0 or self._repeats(lane)):
                continue
            if isinstance(known, Conversation) and (
                lane.opener < 0 or (known.opener, known.isn) == (lane.opener, lane.isn)
            ):
                self._take(lane, known, frames, columns)
            elif lane.worth:
                opened = Conversation(*lane[-6:])
                self.of.setdefault(lane.key, []).append(opened)
                self._take(lane, opened, frames, columns)
            else:
                self._open[lane.key] = None
        for number, kept in enumerate(self._kept):
            if kept > BUDGET:
                self.forget(number)

    def _repeats(self, lane: _Lane) -> bool:
        """Whether the SYN is that of the conversation that was judged last."""
        known = self.of.get(lane.key)
        return known is not None and (known[-1].opener, known[-1].isn) == (lane.opener, lane.isn)

    def _take(
        self,
        lane: _Lane,
        conversation: Conversation,
        frames: Frames,
        columns: Sequence[list[Any]],
    ) -> None:
        self._kept[lane.share] -= conversation.kept
        middle = min(lane.begin + _FIRST, lane.end)
        for begin, end in ((lane.begin, middle), (middle, lane.end)):
            if begin < end and not conversation.done:
                segments = [column[begin:end] for column in columns]
                _add(conversation, frames, list(zip(*segments, strict=True)))
                conversation.judge()
        self._kept[lane.share] += conversation.kept
        self._open[lane.key] = None if conversation.done else conversation

    def by_row(self, rows: npt.NDArray[np.void]) -> list[Conversation | None]:
        """The conversation of each row, rows in file order: the first that began within it."""
        found: list[Conversation | None] = [None] * len(rows)
        if not self.of:
            return found
        left: dict[Key, int] = {}
        keys, indexes = keys_of(rows), rows["index"].tolist()
        for place in range(len(rows) - 1, -1, -1):
            known = self.of.get(keys[place])
            if known is None:
                continue
            end = left.get(keys[place], len(known))
            while end and known[end - 1].index >= indexes[place]:
                end -= 1
                found[place] = known[end]
            left[keys[place]] = end
        return found

    def forget(self, number: int) -> None:
        """Let the oldest half of the bytes of a share go; what they proved so far stands."""
        for key, conversation in self._open.items():
            if self._kept[number] <= BUDGET // 2:
                break
            if conversation is not None and conversation.kept and conversation.share == number:
                self._kept[number] -= conversation.kept
                self.refused += 1
                conversation.forget()
                self._open[key] = None


class _Lane(NamedTuple):
    """A connection of a block that carried payload: its candidates are from `begin` to `end`,
    `worth` says whether they deserve a look, the rest is what a `Conversation` starts with.
    """

    key: Key
    begin: int
    end: int
    worth: bool
    number: int
    tcp: bool
    opener: int
    isn: int
    turned: bool
    share: int


def _lanes(frames: Frames, found: Candidates, merged: npt.NDArray[np.void]) -> Iterator[_Lane]:
    if not len(found.row):
        return iter(())
    begin, length = _runs(found.row)
    end = begin + length
    payload = found.kept > 0
    datagrams = (merged["meta"] >> 48).astype(np.uint8)[found.row] == odd.UDP
    # Not only the very first: segments are captured out of order, too.
    first = np.flatnonzero(payload & (_within(found, payload.astype(np.int64)) <= _FIRST))
    heads = _heads(frames, found.start[first], found.kept[first])
    worth = np.zeros(len(found.row), dtype=bool)
    worth[first] = promising(heads, datagrams=datagrams[first])
    carrying = np.logical_or.reduceat(payload, begin)
    worth = np.logical_or.reduceat(worth, begin)
    # One end has said little and the other nothing yet: that may still become something.
    high = np.logical_or.reduceat(payload & found.from_high, begin)
    low = np.logical_or.reduceat(payload & ~found.from_high, begin)
    worth |= (high != low) & (end - begin < _FIRST) & ~datagrams[begin]
    rows = merged[found.row[begin[carrying]]]
    opener, from_high = rows["opener"], rows["first_from"] == 1
    columns = (
        begin[carrying],
        end[carrying],
        worth[carrying],
        rows["index"],
        ~datagrams[begin[carrying]],
        opener,
        rows["isn"],
        (opener == 1) | ((opener < 0) & from_high),
        share(rows["hash"]),
    )
    return map(_Lane, keys_of(rows), *(column.tolist() for column in columns))


def _heads(frames: Frames, start: Ints, kept: Ints) -> npt.NDArray[np.uint8]:
    shape = (len(frames.buffer) - WIDTH,)
    view = np.ndarray(shape, dtype=f"V{WIDTH}", buffer=frames.buffer.data, strides=(1,))
    heads: npt.NDArray[np.uint8] = view[start].view(np.uint8).reshape(len(start), WIDTH)
    heads[np.arange(WIDTH) >= kept[:, None]] = 0
    return heads


def _add(conversation: Conversation, frames: Frames, segments: list[_Segment]) -> None:
    data = frames.buffer.data
    for from_high, seq, flags, start, kept in segments:
        half = conversation.high if from_high else conversation.low
        if flags & _SYNS:
            seq = (seq + 1) & 0xFFFFFFFF
            half.start = seq
        if kept:
            taken = bytes(data[start : start + min(kept, LIMIT)])
            half.segments.append((seq, taken))
            conversation.kept += len(taken)
    conversation.segments += len(segments)


def keys_of(rows: npt.NDArray[np.void]) -> list[Key]:
    """The key of each row as bytes."""
    words = np.empty((len(rows), len(KEY)), dtype=np.uint64)
    for place, name in enumerate(KEY):
        words[:, place] = rows[name]
    whole, width = words.tobytes(), 8 * len(KEY)
    return [whole[at : at + width] for at in range(0, len(whole), width)]
