"""`lab connect`: one real connection from inside a host or workload, and what became of it.

Nothing is imported that this does not need: it is called hundreds of times by tests.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from netwatch.kernel import connect as kernel
from netwatch.kernel.namespaces import path_of_name
from netwatch.lab import state
from netwatch.lab.directory import NotInLab, family_of, reach


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of it (`kernel.connect.Outcome`), and where it was aimed."""

    result: str
    ms: float
    address: str
    port: int


def connect(
    source: str,
    target: str,
    port: int,
    *,
    udp: bool = False,
    family: int | None = None,
    timeout_s: float = 2.0,
) -> Attempt:
    """Connect from `source` to `port` of `target`; UDP is open when the echo comes back.

    Raises NoLab, NotInLab, or NetwatchError where the source itself can not try.
    """
    entries = state.read_directory()
    protocol = "udp" if udp else "tcp"
    address, aimed = reach(
        entries, source, target=target, protocol=protocol, port=port, family=family
    )
    if family is not None and family_of(address) != family:
        raise NotInLab(f"{address} is not an IPv{family} address")
    namespace = path_of_name(entries[source].netns)
    try:
        tried = kernel.connect(namespace, address, aimed, protocol=protocol, timeout_s=timeout_s)
    except socket.gaierror:
        raise NotInLab(f"{target!r} is neither a name of the lab nor an address") from None
    return Attempt(tried.result, tried.ms, address, aimed)
