"""What carries a conversation out of the host, asked as seldom as can be."""

from __future__ import annotations

from dataclasses import replace

from netwatch.agent.ways import MAX_ASKED, READ_EVERY, Ways
from netwatch.model.link import Links, WireGuard, WireGuardPeer
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Interface, Workload

NOW = 1_700_000_000 * SECOND
WEB = Workload(
    "a", "shop", "web", "lab", addresses=("198.18.1.10",), interfaces=(Interface("v1", 7, "br0"),)
)
HERE = Snapshot("a", (WEB,), addresses=("192.0.2.1",))
PEER = WireGuardPeer("AAAA", ("198.18.0.0/15",), None, NOW)
TUNNEL = Links((WireGuard("wg0", (PEER,)),))
LOCAL, REMOTE = "198.18.1.10", "198.18.2.10"


class Host:
    """Tunnels and routes as a test wants them; counts what is asked."""

    def __init__(self, links: Links = TUNNEL) -> None:
        self.links = links
        self.reads = 0
        self.asked: list[tuple[str, str, str | None]] = []
        self.ways = Ways(self.read, self.way, {3: "wg0", 4: "eth0"}.get)

    def read(self, now: int) -> Links:
        self.reads += 1
        return replace(self.links, read=now)

    def way(self, source: str, destination: str, bridge: str | None) -> str | None:
        self.asked.append((source, destination, bridge))
        return "wg0"


def test_what_stays_on_the_host_has_no_link() -> None:
    host = Host()
    host.ways.look(HERE, NOW)
    assert host.ways.link(LOCAL, "192.0.2.1", 0) is None
    assert host.ways.link(LOCAL, LOCAL, 0) is None


def test_a_pair_is_asked_once_from_the_bridge_where_it_comes_in() -> None:
    host = Host()
    host.ways.look(HERE, NOW)
    for _ in range(3):
        link = host.ways.link(LOCAL, REMOTE, 3)
        assert link is not None and (link.status, link.through) == ("proven", "wg0")
    assert host.asked == [(LOCAL, REMOTE, "br0")]
    assert host.ways.tunnels() == ("wg0",)


def test_an_answer_on_another_interface_proves_nothing() -> None:
    host = Host()
    host.ways.look(HERE, NOW)
    link = host.ways.link(LOCAL, REMOTE, 4)
    assert link is not None and link.status == "claimed"


def test_without_tunnels_nothing_is_asked() -> None:
    host = Host(Links())
    host.ways.look(HERE, NOW)
    link = host.ways.link(LOCAL, REMOTE, 0)
    assert link is not None and link.status == "none"
    assert host.asked == []


def test_tunnels_are_read_every_few_seconds_and_when_workloads_change() -> None:
    host = Host()
    for moment in (0, SECOND, READ_EVERY, READ_EVERY + SECOND):
        host.ways.look(HERE, NOW + moment)
    assert host.reads == 2
    host.ways.look(replace(HERE), NOW + READ_EVERY + SECOND)
    assert host.reads == 3


def test_too_many_pairs_are_unknown_and_not_slow() -> None:
    host = Host()
    host.ways.look(HERE, NOW)
    links = [host.ways.link(LOCAL, f"203.0.{n // 250}.{n % 250}", 0) for n in range(MAX_ASKED + 9)]
    assert len(host.asked) == MAX_ASKED
    assert [link.status for link in links if link][-9:] == ["unknown"] * 9


def test_an_overlay_is_believed_only_as_a_claim() -> None:
    """Between which hosts it runs is not known here, so its IPsec states prove none."""
    plan = Network("mesh", "overlay", None, ("198.18.0.0/15",), encrypted=True)
    for links in (Links(), TUNNEL):
        host = Host(links)
        host.ways.look(replace(HERE, networks=(plan,)), NOW)
        link = host.ways.link(LOCAL, REMOTE, 0)
        assert link is not None
        assert (link.status, link.kind, link.through) == ("claimed", "overlay", "mesh")
    host = Host(Links())
    host.ways.look(replace(HERE, networks=(replace(plan, encrypted=False),)), NOW)
    link = host.ways.link(LOCAL, REMOTE, 0)
    assert link is not None and link.status == "none"
