"""A capture file to flows: the joints between formats, packets, rows, payloads and the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np

from netwatch.capture.files import odd, packed, pcap, pcapng
from netwatch.capture.files.flows import flows
from netwatch.capture.files.frames import Damaged, Frames, taken
from netwatch.capture.files.packets import packets
from netwatch.capture.files.payloads import Candidates, Conversations, candidates, joined
from netwatch.capture.files.rows import (
    CHUNK,
    ROW,
    SHARES,
    Rows,
    group,
    hashes,
    merge,
    share,
    together,
)
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow

EVERY = range(SHARES)
# Rows of a share that wait until they are merged into the table: merging costs the size of both.
_PENDING = (1 << 16) // SHARES
# glibc gives arrays back to the kernel as soon as they are freed, and each block pays for its
# pages again, until one as large as this (its limit is 32 MiB) was freed once. The next one lies
# where all others will, and numpy asks for large pages there.
_KEPT = 31 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What a capture held. `frames` counts all frames, `packets` those that were IP; `damage`
    says in words where reading stopped early, or is None.

    `rows` are in the order of their first packets, of which no two are the same.
    """

    rows: Rows
    conversations: Conversations
    memory: odd.Memory
    frames: int
    packets: int
    damage: str | None

    def losses(self) -> dict[str, int]:
        """What is missing, by reason: conversations not judged to the end, packets whose tunnel is
        not told, packets that are in no flow because their headers are damaged.
        """
        found = {
            "conversations": self.conversations.refused,
            "tunnels": self.memory.paths.refused,
            "damaged": self.memory.damaged,
        }
        return {reason: count for reason, count in found.items() if count}

    def ordinals(self) -> list[int]:
        """The number of each flow's first packet in the file, as `flows` comes."""
        ordinals: list[int] = self.rows["index"].tolist()
        return ordinals

    def flows(self) -> Iterator[Flow]:
        """The flows, in the order of their first packets."""
        return flows(self.rows, self.conversations.by_row(self.rows), self.memory.paths)


class Gathering:
    """Frames, block after block, and what they add up to so far."""

    def __init__(self, *, dissect: bool = True, mine: Sequence[int] = EVERY) -> None:
        self.frames = 0
        self._packets = 0
        self._dissect, self._mine = dissect, mine
        self._tables = {number: np.zeros(0, dtype=ROW) for number in mine}
        self._pending: dict[int, list[Rows]] = {number: [] for number in mine}
        self._conversations, self._memory = Conversations(), odd.Memory()

    def add(self, frames: Frames) -> None:
        """Take a block; its buffer may be used again afterwards."""
        conversations = self._conversations if self._dissect else None
        found = _block(frames, self.frames, conversations, self._memory, self._mine)
        self.frames += len(frames.offset)
        if not len(found):
            return
        self._packets += int(found["packets"].sum())
        shares = share(found["hash"])
        for number, pending in self._pending.items():
            pending.append(taken(found, np.flatnonzero(shares == number)))
            if sum(map(len, pending)) > max(_PENDING, len(self._tables[number])):
                self._merge(number)

    def reading(self, damage: str | None = None) -> Reading:
        """What was gathered; more may be added afterwards."""
        pending = (part for parts in self._pending.values() for part in parts)
        return Reading(
            merge(together([*self._tables.values(), *pending]))[0],
            self._conversations,
            self._memory,
            self.frames,
            self._packets,
            damage,
        )

    def _merge(self, number: int) -> None:
        parts = [self._tables[number], *self._pending[number]]
        self._tables[number] = merge(together(parts))[0]
        self._pending[number] = []


def read(
    stream: BinaryIO, name: str, *, dissect: bool = True, mine: Sequence[int] = EVERY
) -> Reading:
    """Read a pcap or pcapng; raises NetwatchError if it is neither, or nothing in it can be read.

    `name` is what messages call it. Without `dissect` no payload is looked at: who, when and how
    much, at four times the speed. Of connections only those of the shares `mine` are read. Memory
    grows with the number of flows, not of packets.
    """
    for _ in range(2):
        np.empty(_KEPT, dtype=np.uint8)
    gathered, damage = Gathering(dissect=dissect, mine=mine), None
    blocks: Iterator[Frames] | None = None
    while True:
        try:
            blocks = blocks or _blocks(stream, name)
            frames = next(blocks, None)
        except Damaged as error:
            damage = str(error)
            break
        if frames is None:
            break
        gathered.add(frames)
    if damage and not gathered.frames:
        raise NetwatchError(
            f"{name} holds no readable packet: {damage}", "is it a complete pcap or pcapng file?"
        )
    return gathered.reading(damage)


def _blocks(stream: BinaryIO, name: str) -> Iterator[Frames]:
    head = stream.read(pcap.HEADER)
    if head[:2] == packed.MAGIC:
        stream = cast(BinaryIO, packed.Unpacked(head, stream))
        head = stream.read(pcap.HEADER)
    if head[:4] in pcap.MAGIC and len(head) == pcap.HEADER:
        return pcap.frames(head, stream)
    if head[:4] == pcapng.MAGIC:
        return pcapng.frames(head, stream)
    raise NetwatchError(
        f"{name} is no capture: it starts with {head[:4].hex() or 'nothing'}",
        "netwatch reads pcap and pcapng, also compressed by gzip; unpack others first",
    )


def _block(
    frames: Frames,
    seen: int,
    conversations: Conversations | None,
    memory: odd.Memory,
    mine: Sequence[int],
) -> Rows:
    chunks: list[Rows] = []
    found: list[Candidates] = []
    total = 0
    wanted = np.zeros(SHARES, dtype=bool)
    wanted[list(mine)] = True
    for first in range(0, len(frames.offset), CHUNK):
        last = min(first + CHUNK, len(frames.offset))
        for part in packets(frames, first, last, memory):
            mixed = hashes(part.key)
            if len(mine) < SHARES:
                here = np.flatnonzero(wanted[share(mixed)])
                part, mixed = part.take(here), mixed[here]
                if not len(mixed):
                    continue
            grouped = group(part, mixed, frames.when[first:last], seen + first)
            if conversations is not None:
                chosen = candidates(part, grouped, conversations)
                np.add(chosen.row, total, out=chosen.row)
                found.append(chosen)
            chunks.append(grouped.rows)
            total += len(grouped.rows)
    if not chunks:
        return np.zeros(0, dtype=ROW)
    if conversations is None:
        return together(chunks)
    merged, number = merge(together(chunks))
    conversations.feed(frames, joined(found, number), merged)
    return merged
