"""A capture file to flows: the joints between formats, packets, rows, payloads and the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from netwatch.capture.files import odd, pcap, pcapng
from netwatch.capture.files.flows import flows
from netwatch.capture.files.frames import Damaged, Frames
from netwatch.capture.files.packets import packets
from netwatch.capture.files.paths import Paths
from netwatch.capture.files.payloads import Candidates, Conversations, candidates, joined
from netwatch.capture.files.rows import CHUNK, ROW, Rows, group, merge
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow

# Rows that wait until they are merged into the table: merging costs the size of both.
_PENDING = 1 << 16
# glibc gives arrays back to the kernel as soon as they are freed, and each block pays for its
# pages again, until one as large as this (its limit is 32 MiB) was freed once.
_KEPT = 31 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What a capture held. `frames` counts all frames, `packets` those that were IP; `damage`
    says in words where reading stopped early, or is None.
    """

    rows: Rows
    conversations: Conversations
    paths: Paths
    frames: int
    packets: int
    damage: str | None

    def losses(self) -> dict[str, int]:
        """What there was no room for, by reason: conversations not judged to the end, packets
        whose tunnel is not told.
        """
        found = {
            "conversations": self.conversations.refused,
            "tunnels": self.paths.refused,
        }
        return {reason: count for reason, count in found.items() if count}

    def flows(self) -> Iterator[Flow]:
        """The flows, in the order of their first packets."""
        rows = self.rows[np.argsort(self.rows["index"], kind="stable")]
        return flows(rows, self.conversations.by_row(rows), self.paths)


def read(stream: BinaryIO, name: str, *, dissect: bool = True) -> Reading:
    """Read a pcap or pcapng; raises NetwatchError if it is neither, or nothing in it can be read.

    `name` is what messages call it. Without `dissect` no payload is looked at: who, when and how
    much, at twice the speed. Memory grows with the number of flows, not of packets.
    """
    np.empty(_KEPT, dtype=np.uint8)
    table = np.zeros(0, dtype=ROW)
    pending: list[Rows] = []
    conversations, memory = Conversations(), odd.Memory()
    seen, counted, damage = 0, 0, None
    blocks = _blocks(stream, name)
    while True:
        try:
            frames = next(blocks, None)
        except Damaged as error:
            damage = str(error)
            break
        if frames is None:
            break
        found = _block(frames, seen, conversations if dissect else None, memory)
        seen += len(frames.offset)
        if len(found):
            counted += int(found["packets"].sum())
            pending.append(found)
            if sum(map(len, pending)) > max(_PENDING, len(table)):
                table, pending = merge(np.concatenate([table, *pending]))[0], []
    if damage and not seen:
        raise NetwatchError(
            f"{name} holds no readable packet: {damage}", "is it a complete pcap or pcapng file?"
        )
    table = merge(np.concatenate([table, *pending]))[0]
    return Reading(table, conversations, memory.paths, seen, counted, damage)


def _blocks(stream: BinaryIO, name: str) -> Iterator[Frames]:
    head = stream.read(pcap.HEADER)
    if head[:4] in pcap.MAGIC and len(head) == pcap.HEADER:
        return pcap.frames(head, stream)
    if head[:4] == pcapng.MAGIC:
        return pcapng.frames(head, stream)
    raise NetwatchError(
        f"{name} is no capture: it starts with {head[:4].hex() or 'nothing'}",
        "netwatch reads pcap and pcapng; unpack compressed files first",
    )


def _block(
    frames: Frames, seen: int, conversations: Conversations | None, memory: odd.Memory
) -> Rows:
    chunks: list[Rows] = []
    found: list[Candidates] = []
    total = 0
    for first in range(0, len(frames.offset), CHUNK):
        last = min(first + CHUNK, len(frames.offset))
        for part in packets(frames, first, last, memory):
            grouped = group(part, frames.when[first:last], seen + first)
            if conversations is not None:
                chosen = candidates(part, grouped, conversations)
                np.add(chosen.row, total, out=chosen.row)
                found.append(chosen)
            chunks.append(grouped.rows)
            total += len(grouped.rows)
    if not chunks:
        return np.zeros(0, dtype=ROW)
    if conversations is None:
        return np.concatenate(chunks)
    merged, number = merge(np.concatenate(chunks))
    conversations.feed(frames, joined(found, number), merged)
    return merged
