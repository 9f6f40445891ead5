"""Small true-to-life values: two hosts, web on a calls db on b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from netwatch.controller import webhook
from netwatch.controller.service import Controller
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, Workload
from netwatch.settings import Settings

START = 1_700_000_000 * SECOND
WEB = Workload("a", "shop", "web", "netns", addresses=("198.18.0.2",))
DB = Workload(
    "b",
    "shop",
    "db",
    "netns",
    addresses=("198.18.1.2",),
    ports=(DocumentedPort(5432, "tcp", "lab"),),
)
TLS = Encryption("encrypted", "handshake", "tls", "TLSv1.3")
PLAIN = Encryption("plaintext", "content", "http")


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Post:
    """A network in which receivers answer as the test says, and every message is kept."""

    def __init__(self, *answers: webhook.Answer) -> None:
        self.answers = list(answers)
        self.sent: list[webhook.Message] = []

    def __call__(self, message: webhook.Message) -> webhook.Answer:
        self.sent.append(message)
        return self.answers.pop(0) if self.answers else webhook.Answer(204)


def flow(side: str = "client", *, port: int = 5432, sport: int = 40_000, **changes: Any) -> Flow:
    """web calls db, as host a (client) or host b (server) reports it: each names its own."""
    values: dict[str, Any] = {
        "client": Endpoint("198.18.0.2", sport, WEB.identity if side == "client" else None),
        "server": Endpoint("198.18.1.2", port, DB.identity if side == "server" else None),
        "protocol": "tcp",
        "first_seen": START - SECOND,
        "last_seen": START,
        "client_packets": 5,
        "server_packets": 4,
        "client_bytes": 600,
        "server_bytes": 400,
        "client_payload_bytes": 100,
        "server_payload_bytes": 80,
        "state": "established",
        "direction": "seen",
        "encryption": TLS,
        "reporter": side,
    }
    return Flow(**{**values, **changes})


def report(host: str, *flows: Flow, sequence: int = 1, now: int = START, **changes: Any) -> Report:
    """A report of one of the two hosts, with its workload."""
    mine = {"a": (WEB,), "b": (DB,)}.get(host, ())
    made = Report(
        host=host,
        boot="boot",
        sequence=sequence,
        started=now - SECOND,
        ended=now,
        workloads=mine,
        flows=tuple(flows),
        addresses=(f"203.0.113.{ord(host[0])}",),
    )
    return replace(made, **changes)


def controller(
    folder: Path,
    clock: Clock,
    *,
    send: webhook.Send | None = None,
    settings: Settings | None = None,
) -> Controller:
    """A controller that never opens a socket."""
    return Controller(folder, settings=settings or Settings(), clock=clock, send=send or Post())


def keys(edges: Sequence[Any]) -> list[str]:
    return [edge.id for edge in edges]
