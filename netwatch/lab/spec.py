"""What a lab file says, as values. `document` reads them, `plan` gives them addresses.

`place` is the (line, column) of a value in its file, for errors that only the plan can find.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UNDERLAYS = ("routed", "nat")
SERVERS = ("http", "https", "echo", "redis")
SPOKEN = ("http", "https", "tcp", "udp", "redis")
TLS_VERSIONS = ("1.2", "1.3")
INTERNET = "internet"  # the name of what lies outside every host


@dataclass(frozen=True, slots=True)
class Listen:
    """A port that a workload serves.

    `documented` false leaves it out of what discovery may know. `publish` is the port of the host
    that leads to it under NAT; None takes the same number, or a free one from 20000 on.
    """

    port: int
    protocol: str = "tcp"
    name: str | None = None
    serve: str = "echo"
    documented: bool = True
    tls: str = "1.3"
    publish: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a workload does again and again, `every` so many seconds, or `once`.

    `to` is a workload, a host, `internet` or an address. `speak` (`with` in the file) None speaks
    what the listener serves. `family` None prefers IPv4.
    """

    to: str
    port: int
    every: float = 1.0
    once: bool = False
    speak: str | None = None
    family: int | None = None
    server_name: str | None = None
    place: tuple[int, int] = field(default=(1, 1), compare=False)


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """One workload of the file. No `addresses` means one of each family, chosen by the plan."""

    name: str
    host: str
    namespace: str = "default"
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()
    listen: tuple[Listen, ...] = ()
    calls: tuple[Call, ...] = ()
    project: str | None = None
    service: str | None = None
    image: str | None = None
    place: tuple[int, int] = field(default=(1, 1), compare=False)


@dataclass(frozen=True, slots=True)
class Lab:
    """A whole lab file. `internet` None: there is nothing outside the hosts."""

    hosts: tuple[str, ...]
    underlay: str = "routed"
    namespaces: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    workloads: tuple[WorkloadSpec, ...] = ()
    internet: tuple[Listen, ...] | None = None
