"""What every way of seeing packets offers the agent: eBPF and conntrack are the two that exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from netwatch.model.report import Capture

# One connection: the 5-tuple in canonical order (low end first), and both directions counted.
# Direction 0 is what the low end sent. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d.
# `when` fields are nanoseconds since the epoch. `ifindex` is the interface whose ingress saw that
# direction (0: the host itself sent it). `segments` is on-the-wire packets (GSO unfolded).
ENTRY = np.dtype(
    [
        ("low", "V16"),
        ("high", "V16"),
        ("low_port", "<u2"),
        ("high_port", "<u2"),
        ("protocol", "u1"),
        ("low_is_client", "i1"),  # 1 the low end opened it, 0 the high end did, -1 not seen
        ("packets", "<u8", 2),
        ("bytes", "<u8", 2),
        ("payload_bytes", "<u8", 2),
        ("first", "<u8", 2),
        ("last", "<u8", 2),
        ("ifindex", "<u4", 2),
        ("flags", "u1", 2),  # union of the TCP flags that this direction sent
        ("crowded", "u1"),  # 1: began as one of too many; its first bytes are not among payloads
        ("opened", "<u4"),  # SYNs that opened a connection (retransmissions are not counted)
        ("refused", "<u4"),  # a SYN answered by RST, any packet by an ICMP error
        ("life", "<u4"),  # differs from the read before if the totals began anew meanwhile
        (
            "connection",
            "<u8",
        ),  # number of the present connection, as in Payload; 0 if none is given
    ],
    align=True,
)


class Payload(NamedTuple):
    """A piece of what one direction of a connection said first."""

    low: bytes
    high: bytes
    low_port: int
    high_port: int
    protocol: int
    from_low: bool
    offset: int
    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Translation:
    """A connection that NAT rewrote: what its client aimed at and what really answers.

    `original` is the tuple as the client sent it (source, sport, destination, dport), `reply` the
    tuple of the answers as the server sends them; addresses are 16 bytes as in ENTRY.
    """

    protocol: int
    original: tuple[bytes, int, bytes, int]
    reply: tuple[bytes, int, bytes, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What was seen: totals per connection since it was first seen, and first payloads since the
    batch before. `losses` are cumulative counts by reason. `moment` is the monotonic clock when
    the reading of totals began, and `clock` what was added to it in their times; a sensor that
    leaves them 0 does not say what is new in a batch.
    """

    entries: npt.NDArray[Any]
    payloads: Sequence[Payload] = ()
    translations: Sequence[Translation] = ()
    losses: tuple[tuple[str, int], ...] = ()
    moment: int = 0
    clock: int = 0


class Sensor(Protocol):
    """Sees the packets of some interfaces of one network namespace."""

    def watch(self, workloads: Sequence[int], uplinks: Sequence[int]) -> None:
        """Attach to exactly these interface indexes; what vanished meanwhile is not an error."""

    def read(self) -> Batch:
        """What was seen until now."""

    def classified(self, payload: Payload) -> None:
        """No more payload of this connection is needed."""

    def state(self) -> Capture:
        """How it sees, and what it is attached to."""

    def close(self) -> None:
        """Detach from everything and free the maps."""
