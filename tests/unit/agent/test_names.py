"""Who is behind an address, as one host knows it."""

from __future__ import annotations

from netwatch.agent.names import names_of
from netwatch.model.snapshot import Neighbour, Network, Snapshot
from netwatch.model.workload import DocumentedPort, Interface, Workload


def workload(host: str, name: str, address: str, **more: object) -> Workload:
    return Workload(host, "shop", name, "lab", addresses=(address,), **more)  # type: ignore[arg-type]


WEB = workload("a", "web", "198.18.0.2", interfaces=(Interface("v7", 7),))
DB = workload("b", "db", "198.18.1.3", ports=(DocumentedPort(5432, "tcp", "lab"),))
LAN = Network("lab", "bridge", "br0", ("198.18.0.0/24",), ("198.18.0.1",))


def test_a_routed_neighbours_workloads_are_known_by_address() -> None:
    """Their addresses reach us as they are."""
    names = names_of(Snapshot("a", (WEB,), neighbours=(Neighbour("b", (), True, (DB,)),)))

    assert names.workload("198.18.1.3") is DB


def test_a_masquerading_neighbours_are_not() -> None:
    """The same address may be ours; what comes from there bears the host's address."""
    names = names_of(Snapshot("a", (WEB,), neighbours=(Neighbour("b", (), False, (DB,)),)))

    assert names.workload("198.18.1.3") is None


def test_gateways_and_addresses_are_the_hosts_own() -> None:
    """Unless a workload has them."""
    names = names_of(Snapshot("a", (WEB,), (LAN,), addresses=("192.0.2.1", "198.18.0.2")))

    assert names.own == {"192.0.2.1", "198.18.0.1"}


def test_who_listens_or_is_documented_to_serves() -> None:
    """A socket that was seen counts as much as a port that was written down."""
    seen = {WEB.identity: frozenset({("udp", 53)})}
    names = names_of(Snapshot("a", (WEB, DB)), seen)

    assert names.serves("198.18.0.2", "udp", 53)
    assert names.serves("198.18.1.3", "tcp", 5432)
    assert not names.serves("198.18.0.2", "tcp", 53)
