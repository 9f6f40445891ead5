"""Connections told as sums are told as truly as one by one: nothing counted differs, and nothing
is called encrypted that its own first bytes do not prove."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netwatch.agent.flowtable import HOLD, FlowTable
from netwatch.agent.names import names_of
from netwatch.capture.sensor import Batch, Payload, Translation
from netwatch.model.flow import Flow
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, Interface, Workload
from tests.unit.agent.rows import START, entries, packed, row
from tests.unit.dissect.handshakes import certificate, handshake

CLIENTS, SERVERS = ("198.18.0.2", "203.0.113.9"), ("198.18.0.3", "198.18.0.1")
ENDS = {("198.18.0.2", "web", 7), ("198.18.0.3", "db", 8)}
NAMES = names_of(
    Snapshot(
        "a",
        tuple(
            Workload(
                "a",
                "shop",
                name,
                "lab",
                addresses=(address,),
                interfaces=(Interface(f"v{index}", index),),
                ports=(DocumentedPort(443, "tcp", "lab"), DocumentedPort(443, "udp", "lab")),
            )
            for address, name, index in sorted(ENDS)
        ),
    )
)
PORTS = (40_000, 40_001, 61_500)  # one of them of the range that probes come from
SIZES = (60, 44)  # bytes of each packet of client and server
RESET = 0x04
LAW = settings(max_examples=200, deadline=None)


@cache
def spoken(kind: str) -> tuple[bytes, bytes]:
    """What client and server say first."""
    if kind == "tls":
        with TemporaryDirectory() as folder:
            pem = certificate(Path(folder) / "pem")
            return handshake(pem, ssl.TLSVersion.TLSv1_3)
    if kind == "http":
        return b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    return b"", b""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens on one pair of ends between two reads: perhaps more is said, perhaps a new
    connection begins (`kind`), as one of too many or not."""

    more: int
    kind: str | None
    crowded: bool
    answered: bool
    reset: bool


@dataclass(slots=True)
class Pair:
    """The two ends, and what a sensor would know of them."""

    client: tuple[str, int]
    server: tuple[str, int]
    protocol: int
    packets: list[int] = field(default_factory=lambda: [0, 0])
    first: list[int] = field(default_factory=lambda: [0, 0])
    opened: int = 0
    connection: int = 0
    crowded: bool = False
    reset: bool = False
    refused: int = 0
    kind: str = ""
    last: int = 0

    def take(self, step: Step, now: int, proven: Counter[str]) -> list[Payload]:
        """Packets are counted; the payload that a sensor would hand over is returned."""
        found: list[Payload] = []
        sent = [0, 0]
        if step.more and self.connection:
            self._count([step.more, step.more], proven)
            sent = [step.more, step.more]
        if step.kind is not None and (self.protocol == 6 or not self.connection):
            self.opened += self.protocol == 6
            self.connection = now + 1
            self.crowded, self.kind = step.crowded, step.kind
            self.reset |= step.reset
            self.refused += step.reset and not step.answered
            both = [2, 2 * step.answered]
            self._count(both, proven)
            sent = [sent[0] + both[0], sent[1] + both[1]]
            if not self.crowded:
                found = self._payloads()
        for side in (0, 1):
            if sent[side]:
                self.first[side] = self.first[side] or now
                self.last = now
        return found

    def row(self, *, crowded: bool) -> Any:
        return row(
            self.client,
            self.server,
            protocol=self.protocol,
            packets=(self.packets[0], self.packets[1]),
            size=(SIZES[0] * self.packets[0], SIZES[1] * self.packets[1]),
            payload=(self.packets[0], self.packets[1]),
            flags=(
                0x1A,
                (0x1A if self.packets[1] else 0)
                | (RESET if self.reset and self.packets[1] else 0),
            ),
            opened=self.opened,
            refused=self.refused,
            seen=self.protocol == 6,
            first=(self.first[0], self.first[1]),
            last=self.last,
            connection=self.connection,
            crowded=crowded and self.crowded,
        )

    def _count(self, both: list[int], proven: Counter[str]) -> None:
        self.packets = [a + b for a, b in zip(self.packets, both, strict=True)]
        if self.kind == "tls" and not self.crowded:
            proven[str(self.edge)] += sum(both)

    def _payloads(self) -> list[Payload]:
        ends = sorted(((packed(e[0]), e[1]), e is self.client) for e in (self.client, self.server))
        (low, low_calls), (high, _) = ends
        key = (low[0], high[0], low[1], high[1], self.protocol)
        said = spoken(self.kind)
        return [
            Payload(*key, low_calls == by_client, 0, self.connection, data[:8192])
            for by_client, data in ((True, said[0]), (False, said[1]))
            if data
        ]

    @property
    def edge(self) -> tuple[str, str, int, int]:
        return self.client[0], self.server[0], self.server[1], self.protocol


STEPS = st.builds(
    Step,
    more=st.integers(0, 2),
    kind=st.sampled_from([None, None, "tls", "tls", "http", ""]),
    crowded=st.booleans(),
    answered=st.booleans(),
    reset=st.booleans(),
)
PAIRS = st.lists(
    st.tuples(
        st.sampled_from(CLIENTS),
        st.sampled_from(PORTS),
        st.sampled_from(SERVERS),
        st.sampled_from([443, 9999]),
        st.sampled_from([6, 17]),
    ),
    min_size=1,
    max_size=8,
    unique=True,
)


def told(flows: Sequence[Flow], *, state: bool) -> Counter[Any]:
    """Everything that is counted, by edge."""
    sums: Counter[Any] = Counter()
    for flow in flows:
        edge = (flow.client.address, flow.client.workload, flow.server.address)
        edge += (flow.server.workload, flow.server.port, flow.protocol, flow.direction)
        edge += (flow.state if state else "",)
        for name in ("packets", "bytes", "payload_bytes"):
            for side in ("client", "server"):
                sums[(*edge, side, name)] += getattr(flow, f"{side}_{name}")
        sums[(*edge, "connections")] += flow.connections
    return +sums


def folded(
    pairs: Sequence[Pair], reads: Sequence[Sequence[Step]], *, crowded: bool, nat: bool = False
) -> tuple[list[Flow], Counter[str]]:
    """All flows of all reads, and the packets of each edge that bytes prove to be encrypted."""
    table, flows, proven, now = FlowTable("a"), [], Counter[str](), START
    translations = [
        Translation(
            p.protocol,
            (packed(p.client[0]), p.client[1], packed(p.server[0]), p.server[1]),
            (packed(p.server[0]), p.server[1], packed(p.client[0]), p.client[1]),
        )
        for p in pairs[:1]
    ]
    for steps in (*reads, [], []):
        payloads = [
            piece
            for pair, step in zip(pairs, steps, strict=False)
            for piece in pair.take(step, now, proven)
        ]
        rows = entries(*(p.row(crowded=crowded) for p in pairs if any(p.packets)))
        now += SECOND if steps else HOLD
        batch = Batch(rows, payloads, translations if nat else (), moment=now, clock=0)
        flows += table.fold(batch, NAMES, now)
    return flows, proven


@given(
    PAIRS, st.lists(st.lists(STEPS, min_size=8, max_size=8), min_size=1, max_size=4), st.booleans()
)
@LAW
def test_sums_are_what_one_by_one_would_be(
    ends: list[tuple[str, int, str, int, int]], reads: list[list[Step]], nat: bool
) -> None:
    """Packets, bytes and connections by edge and direction; with one read, by state as well."""

    def pairs() -> list[Pair]:
        return [Pair((a, b), (c, d), e) for a, b, c, d, e in ends]

    summed, _ = folded(pairs(), reads, crowded=True, nat=nat)
    singly, _ = folded(pairs(), reads, crowded=False, nat=nat)
    once = len(reads) == 1
    assert told(summed, state=once) == told(singly, state=once)


@given(PAIRS, st.lists(st.lists(STEPS, min_size=8, max_size=8), min_size=1, max_size=4))
@LAW
def test_nothing_is_encrypted_but_what_its_own_bytes_prove(
    ends: list[tuple[str, int, str, int, int]], reads: list[list[Step]]
) -> None:
    """Of no edge more packets are told as encrypted than the proven connections had; what is
    summed up because nobody has its bytes is unknown, and has no client's port."""
    flows, proven = folded(
        [Pair((a, b), (c, d), e) for a, b, c, d, e in ends], reads, crowded=True
    )
    encrypted: Counter[str] = Counter()
    for flow in flows:
        if flow.encryption.status == "encrypted":
            number = {"tcp": 6, "udp": 17}[flow.protocol]
            edge = (flow.client.address, flow.server.address, flow.server.port, number)
            encrypted[str(edge)] += flow.client_packets + flow.server_packets
        assert flow.client.port is not None or flow.encryption.status == "unknown"
    assert encrypted <= proven
