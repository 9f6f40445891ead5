"""What `lab up` tells the process of each workload, as JSON: its ports, its calls, its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Serving:
    """One port; `serve` and `tls` as in the lab file."""

    port: int
    protocol: str
    serve: str
    tls: str


@dataclass(frozen=True, slots=True)
class Calling:
    """One conversation to repeat. `server_name` is what a TLS client asks for, if anything."""

    address: str
    port: int
    speak: str
    every: float
    once: bool
    tls: str
    server_name: str | None


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything one process needs. `addresses` are its own; `pem` is empty without https."""

    name: str
    netns: str
    addresses: tuple[str, ...]
    serving: tuple[Serving, ...]
    calling: tuple[Calling, ...]
    pem: str


def decode(row: dict[str, Any]) -> Orders:
    """Orders as they were before they became JSON."""
    return Orders(
        name=row["name"],
        netns=row["netns"],
        addresses=tuple(row["addresses"]),
        serving=tuple(Serving(**one) for one in row["serving"]),
        calling=tuple(Calling(**one) for one in row["calling"]),
        pem=row["pem"],
    )
