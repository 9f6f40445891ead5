"""Truth tables: who reaches whom, for every pair of workloads and a list of probes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.model.errors import UsageError
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.fields import PROTOCOLS, meant
from netwatch.policy.ir import Party, Policy, World


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to every pair: `tcp/80`."""

    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Table:
    """`rows[source][column destination]`: 1 allowed, 0 denied, `-` no such port there."""

    probe: Probe
    rows: tuple[str, ...]


def parse_probe(text: str) -> Probe:
    """`tcp/80`, `udp/53`, `sctp/9003`; raises UsageError."""
    protocol, _, number = text.partition("/")
    known = [name.lower() for name in PROTOCOLS]
    if protocol.lower() not in known:
        raise UsageError(f"the probe {text[:60]!r} names no protocol", meant(protocol, known))
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:6]) <= 65535):
        raise UsageError(f"the probe {text[:60]!r} names no port", "write it like tcp/80")
    return Probe(protocol.lower(), int(number))


def matrix(
    policies: Iterable[Policy], world: World, probes: Sequence[Probe], *, now: int = 0
) -> tuple[Table, ...]:
    """One table for each probe; rows and columns are in the order of `world.workloads`."""
    judge = Judge(policies, world)
    return tuple(
        Table(probe, tuple(_row(judge, source, probe, now) for source in world.workloads))
        for probe in probes
    )


def _row(judge: Judge, source: Workload, probe: Probe, now: int) -> str:
    cells = []
    for destination in judge.world.workloads:
        if destination.documents(probe.protocol, probe.port) is None:
            cells.append("-")
            continue
        decision = judge.decide(*pair(source, destination), probe.protocol, probe.port, now=now)
        cells.append("1" if decision.verdict == "allow" else "0")
    return "".join(cells)


def pair(source: Workload, destination: Workload) -> tuple[Party, Party]:
    """Both ends with the first addresses of a family that both have."""
    for address in source.addresses:
        for other in destination.addresses:
            if _family(address) == _family(other):
                return Party(source, address), Party(destination, other)
    return Party(source), Party(destination)


def _family(address: str) -> int:
    return 6 if ":" in address else 4
