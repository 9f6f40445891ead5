"""On networks that fail closed a workload sends under its own addresses; elsewhere as ever."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from netwatch.kernel.namespaces import inside, path_of_name
from tests.netns.conftest import Said, run_netwatch
from tests.netns.small_shop import FROM_WEB, HOST, LAB, network_policy
from tests.netns.test_enforce import call, host, left
from tests.netns.test_enforce import inside as on_host

pytestmark = pytest.mark.netns

WEB, API, ROGUE = "198.18.1.10", "198.18.1.11", "198.18.1.12"
WEB6, API6, ROGUE6 = "2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::12"
PROBE = ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="0.0.0.0", pdst="192.0.2.1")
DATAGRAM = UDP(sport=4000, dport=4001)  # nobody answers it
ANY_PORT = network_policy("api", "Ingress", f"ingress: [{{from: [{FROM_WEB}]}}]")


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The lab; the MAC address of each workload."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    yield {name: _mac(name) for name in ("web", "api", "rogue")}
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture
def put(estate: dict[str, str], tmp_path: Path) -> Iterator[object]:
    """Apply documents on a host that had nothing; what there was is there again after."""
    before = left("nft")

    def put(*documents: str) -> Said:
        file = tmp_path / "policies.yaml"
        file.write_text("---\n".join(documents))
        said = host("apply", "--policies", str(file), "--backend", "nft", "--json")
        assert said.code == 0, said.err
        return said

    yield put
    assert host("remove").code == 0
    assert left("nft") == before
    assert on_host("nft", "list", "tables", "bridge") == ""


def _mac(name: str) -> str:
    with _link(name) as link:
        return str(link.getsockname()[4].hex(":"))


def _link(name: str) -> socket.socket:
    """A socket on the wire of a workload, or on this interface of the host, for all frames."""
    place = path_of_name(f"nw-{name}")
    interface, place = ("eth0", place) if place.exists() else (name, path_of_name(HOST))
    opened = inside(place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    opened.bind((interface, 3))
    return opened


def arrives(frame: Packet, sender: str, receiver: str) -> bool:
    """Whether the frame gets through the bridge, known by the bytes that end it.

    A frame that always may follows it: where that has come, the other is not under way any more.
    """
    tag, last = os.urandom(8), os.urandom(8)
    follower = Ether(src=_mac(sender), dst=frame.dst) / PROBE
    with _link(sender) as out, _link(receiver) as into:
        into.settimeout(3)
        out.send(bytes(frame / Raw(tag)))
        out.send(bytes(follower / Raw(last)))
        there, deadline = False, time.monotonic() + 5
        while last not in (data := into.recv(4096)):
            there = there or tag in data
            assert time.monotonic() < deadline, "what always may pass does not arrive"
        return there


def _frames(mac: dict[str, str]) -> dict[str, Packet]:
    """What rogue sends to api that is not its own."""
    ether = Ether(src=mac["rogue"], dst=mac["api"])
    return {
        "IPv4 of a neighbour": ether / IP(src=WEB, dst=API) / ICMP(),
        "IPv4 of nobody": ether / IP(src="192.0.2.9", dst=API) / ICMP(),
        "IPv4 under its neighbour's MAC": Ether(src=mac["web"], dst=mac["api"])
        / IP(src=WEB, dst=API)
        / DATAGRAM,
        "no address, and no DHCP": ether / IP(src="0.0.0.0", dst=API) / UDP(sport=68, dport=68),
        "IPv6 of a neighbour": ether / IPv6(src=WEB6, dst=API6) / DATAGRAM,
        "link-local of nobody": ether / IPv6(src="fe80::bad", dst=API6) / DATAGRAM,
        "advertises a neighbour": ether
        / IPv6(src=ROGUE6, dst=API6)
        / ICMPv6ND_NA(tgt=WEB6, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac["rogue"]),
        "answers ARP for a neighbour": ether
        / ARP(op=2, hwsrc=mac["rogue"], psrc=WEB, hwdst=mac["api"], pdst=API),
        "answers ARP for the gateway": ether
        / ARP(op=2, hwsrc=mac["rogue"], psrc="198.18.1.1", hwdst=mac["api"], pdst=API),
        "an ethertype of its own": Ether(src=mac["rogue"], dst=mac["api"], type=0x88B5),
        "a VLAN tag in front": ether / Dot1Q(vlan=7) / IP(src=WEB, dst=API) / ICMP(),
    }


def _own(mac: dict[str, str]) -> dict[str, Packet]:
    """What rogue sends to web, whom nothing isolates, and is its own."""
    ether = Ether(src=mac["rogue"], dst=mac["web"])
    first, *rest = bytes.fromhex(mac["rogue"].replace(":", ""))
    made = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]]).hex()
    own = "fe80::" + ":".join(made[at : at + 4] for at in range(0, 16, 4))
    return {
        "IPv4": ether / IP(src=ROGUE, dst=WEB) / DATAGRAM,
        "IPv6": ether / IPv6(src=ROGUE6, dst=WEB6) / DATAGRAM,
        "its link-local address": ether / IPv6(src=own, dst=WEB6) / DATAGRAM,
        "ARP": ether / ARP(op=2, hwsrc=mac["rogue"], psrc=ROGUE, pdst=WEB),
        "advertises itself": ether / IPv6(src=ROGUE6, dst=WEB6) / ICMPv6ND_NA(tgt=ROGUE6),
        "asks who has an address": ether / IPv6(src="::", dst=WEB6) / ICMPv6ND_NS(tgt=ROGUE6),
    }


def test_what_is_not_its_own_is_dropped_and_what_is_arrives(
    estate: dict[str, str], put: Callable[..., Said]
) -> None:
    """A document that enforces closes the network; rogue, whom none selects, is on it."""
    seen = put(ANY_PORT)
    assert seen.json["fail_closed"] == ["lab"]
    forged = {what: arrives(f, "rogue", "api") for what, f in _frames(estate).items()}
    assert forged == dict.fromkeys(forged, False)
    own = {what: arrives(f, "rogue", "web") for what, f in _own(estate).items()}
    assert own == dict.fromkeys(own, True)
    assert call("web", "api", 80)
    assert call("web", "api", 80, family=6)
    assert not call("rogue", "api", 80)


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param((), id="nothing is applied"),
        pytest.param((ANY_PORT.replace("enforce", "stage"),), id="it only stages"),
    ],
)
def test_nobody_is_hindered_where_no_document_enforces(
    estate: dict[str, str], put: Callable[..., Said], documents: tuple[str, ...]
) -> None:
    """Forged or not: observing touches no frame, and makes no table for bridges."""
    if documents:
        put(*documents)
    assert on_host("nft", "list", "tables", "bridge") == ""
    frames = _frames(estate)
    del frames["IPv4 under its neighbour's MAC"]  # the bridge itself would learn it
    seen = {what: arrives(f, "rogue", "api") for what, f in frames.items()}
    assert seen == dict.fromkeys(seen, True)


def test_whoever_is_not_known_can_not_begin_as_somebody(
    estate: dict[str, str], put: Callable[..., Said]
) -> None:
    """A port that appeared after the last look at the runtime gets no frame in a known name."""
    put(ANY_PORT)
    on_host("ip", "link", "add", "late", "type", "veth", "peer", "name", "late0")
    try:
        on_host("ip", "link", "set", "late", "master", "br0", "up")
        on_host("ip", "link", "set", "late0", "up")
        mac = "02:00:00:00:00:77"
        for frame in (
            Ether(src=mac, dst=estate["api"]) / IP(src=WEB, dst=API) / DATAGRAM,
            Ether(src=mac, dst=estate["api"]) / IPv6(src=WEB6, dst=API6) / DATAGRAM,
            Ether(src=mac, dst=estate["api"]) / ARP(op=2, hwsrc=mac, psrc=WEB, pdst=API),
        ):
            assert not arrives(frame, "late0", "api")
    finally:
        on_host("ip", "link", "del", "late")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(("delete", "table", "bridge", "netwatch"), id="table gone"),
        pytest.param(("flush", "chain", "bridge", "netwatch", "enter"), id="chain emptied"),
        pytest.param(("flush", "set", "bridge", "netwatch", "own4"), id="set emptied"),
    ],
)
def test_what_others_change_is_found_and_mended(
    estate: dict[str, str], put: Callable[..., Said], spoil: tuple[str, ...]
) -> None:
    put(ANY_PORT)
    on_host("nft", *spoil)
    said = host("verify", "--json")
    assert said.code == 3
    assert said.json["drift"][0].startswith("bridges: ")
    put(ANY_PORT)
    assert host("verify", "--json").code == 0
    forged = _frames(estate)["IPv4 of a neighbour"]
    assert not arrives(forged, "rogue", "api")
