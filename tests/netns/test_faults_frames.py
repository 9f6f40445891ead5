"""Frames that no socket makes: none is a way past the rules, and forged ones are told (F21, F19).

All are sent by AF_PACKET from inside a workload's namespace, which Docker permits by default. Each
arrives where nothing is applied, so that the table could be false.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.layers.inet import (
    GRE,
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption,
    IPOption_LSRR,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
    fragment,
)
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from netwatch.agent.denials import Naming
from netwatch.detect import FleetState
from netwatch.detect.forged import forged_sender
from netwatch.enforce import host, nflog
from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Snapshot
from tests.netns.frames import arrived, connected, mac, tags
from tests.netns.small_shop import API_FROM_WEB, HOST, opened

pytestmark = pytest.mark.netns

NAMESPACE = path_of_name(HOST)
WEB, API, ROGUE = "198.18.1.10", "198.18.1.11", "198.18.1.12"
WEB6, API6, ROGUE6 = "2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::12"
DENIED, SERVED = 81, 53  # of api: TCP and UDP; UDP that web may call
Frames = dict[str, Packet | list[Packet]]


@dataclass
class Estate:
    """The shop with one document in force: api takes web's TCP 80 and UDP 53, nothing else."""

    snapshot: Snapshot
    macs: dict[str, str]
    policy: Path

    def apply(self, backend: str) -> None:
        files, now = [self.policy], time.time_ns()
        inside(NAMESPACE, lambda: host.apply(files, self.snapshot, backend=backend, now=now))

    def link_local(self, name: str) -> str:
        first, *rest = bytes.fromhex(self.macs[name].replace(":", ""))
        made = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]]).hex()
        return "fe80::" + ":".join(made[at : at + 4] for at in range(0, 16, 4))


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("frames")
    (folder / "policy.yaml").write_text(API_FROM_WEB)
    with opened(folder) as snapshot:
        macs = {name: mac(name) for name in ("web", "api", "rogue")}
        yield Estate(snapshot, macs, folder / "policy.yaml")


@pytest.fixture(scope="module", params=["nft", "legacy"])
def shut(request: pytest.FixtureRequest, estate: Estate) -> Iterator[Estate]:
    estate.apply(request.param)
    yield estate
    inside(NAMESPACE, host.remove)


def pieces(source: str, port: int, known: dict[str, bytes]) -> Frames:
    """One datagram in pieces; their tags stand on a border of 8 bytes, so in one piece."""

    def cut(name: str, number: int, size: int = 24) -> list[Packet]:
        whole = IP(src=source, dst=API, id=number) / UDP(sport=4000 + number, dport=port)
        return list(fragment(whole / Raw(b"a" * 64 + known[name]), fragsize=size))

    def piece(offset: int, data: bytes, *, more: bool) -> Packet:
        flags = "MF" if more else 0
        return IP(src=source, dst=API, id=99, frag=offset, flags=flags, proto=17) / Raw(data)

    seen = bytes(UDP(sport=4099, dport=SERVED, len=72, chksum=0)) + b"b" * 16
    meant = bytes(UDP(sport=4099, dport=DENIED, len=72, chksum=0)) + b"b" * 8
    syn = IP(src=source, dst=API, id=98) / TCP(sport=4098, dport=DENIED, flags="S")
    return {
        "in pieces": cut("in pieces", 1),
        "in pieces, the last one first": cut("in pieces, the last one first", 2)[::-1],
        "in pieces of eight bytes": cut("in pieces of eight bytes", 3, 8),
        "a piece without its first": piece(
            40, b"c" * 16 + known["a piece without its first"], more=False
        ),
        "the ports in the second piece": list(
            fragment(syn / Raw(b"d" * 36 + known["the ports in the second piece"]), fragsize=8)
        ),
        "pieces that overlap": [
            piece(0, seen, more=True),
            piece(0, meant, more=True),
            piece(2, b"b" * 48 + known["pieces that overlap"], more=False),
        ],
    }  # fmt: skip


PIECES = (
    "in pieces",
    "in pieces, the last one first",
    "in pieces of eight bytes",
    "a piece without its first",
    "the ports in the second piece",
    "pieces that overlap",
)
OPTIONS = {
    "record route": IPOption_RR(routers=["0.0.0.0"] * 3),
    "router alert": IPOption_Router_Alert(),
    "loose source route": IPOption_LSRR(routers=[API]),
    "strict source route": IPOption_SSRR(routers=[API]),
    "timestamp": IPOption(b"\x44\x0c\x05\x00" + bytes(8)),
}


def odd(estate: Estate, sender: str, source: str) -> Frames:
    """To api over IPv4, nothing of it permitted to anybody."""
    frame = Ether(src=estate.macs[sender], dst=estate.macs["api"])
    ip = frame / IP(src=source, dst=API)
    datagram = IP(src=WEB, dst=API) / UDP(sport=9, dport=SERVED)
    found: Frames = {
        f"option {name}": frame / IP(src=source, dst=API, options=[o]) / UDP(dport=DENIED)
        for name, o in OPTIONS.items()
    }
    for flags in ("", "F", "R", "A", "RA", "SF", "SR", "FPU", "SA", "PA", "S"):
        segment = TCP(sport=4200, dport=DENIED, flags=flags, seq=5, ack=7)
        found[f"TCP {flags or 'without flags'}"] = ip / segment
    for number in (0, 2, 50, 51, 103, 112, 136, 253, 255):
        found[f"protocol {number}"] = (
            frame / IP(src=source, dst=API, proto=number) / Raw(b"q" * 24)
        )
    ours = IP(src=API, dst=source)
    return found | {
        "SCTP": ip / SCTP(sport=4, dport=80) / SCTPChunkInit(init_tag=1, init_tsn=1),
        "unreachable, of no session": ip / ICMP(type=3, code=3) / ours / UDP(sport=9, dport=9),
        "too big, of no session": ip / ICMP(type=3, code=4) / ours / TCP(sport=9, dport=9),
        "redirect": ip / ICMP(type=5, code=1, gw=ROGUE) / IP(src=API, dst=WEB) / UDP(),
        "echo": ip / ICMP(),
        "echo reply": ip / ICMP(type=0),
        "ICMP timestamp": ip / ICMP(type=13),
        "ICMP of no kind": ip / ICMP(type=200),
        "VXLAN": ip / UDP(sport=5000, dport=4789) / VXLAN(vni=7, flags=8) / frame / datagram,
        "IP in IP": ip / datagram,
        "GRE": ip / GRE() / datagram,
        "IPv6 in IPv4": ip / IPv6(src=WEB6, dst=API6) / UDP(sport=9, dport=SERVED),
        "a wrong checksum": ip / UDP(sport=4003, dport=DENIED, chksum=1),
        "no hops left": frame / IP(src=source, dst=API, ttl=0) / UDP(sport=4004, dport=DENIED),
    }


def odd6(estate: Estate, sender: str, source: str) -> Frames:
    """To api over IPv6, nothing of it permitted to anybody."""
    frame = Ether(src=estate.macs[sender], dst=estate.macs["api"])
    ip, here = frame / IPv6(src=source, dst=API6), estate.link_local(sender)
    datagram, syn = UDP(sport=4300, dport=DENIED), TCP(sport=4301, dport=DENIED, flags="S")
    many = IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()
    ours = IPv6(src=API6, dst=source)
    return {
        "hop by hop": ip / IPv6ExtHdrHopByHop(options=RouterAlert()) / datagram,
        "destination options": ip / IPv6ExtHdrDestOpt() / syn,
        "many options": ip / many / datagram,
        "routing": ip / IPv6ExtHdrRouting(type=4, segleft=0) / datagram,
        "one fragment": ip / IPv6ExtHdrFragment(id=5) / datagram,
        "fragment behind options": ip / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=6) / syn,
        "no next header": frame / IPv6(src=source, dst=API6, nh=59) / Raw(b"n" * 24),
        "AH": frame / IPv6(src=source, dst=API6, nh=51) / Raw(b"n" * 24),
        "ESP": frame / IPv6(src=source, dst=API6, nh=50) / Raw(b"n" * 24),
        "SCTP": ip / SCTP(sport=4, dport=80) / SCTPChunkInit(init_tag=1, init_tsn=1),
        "IPv4 in IPv6": frame / IPv6(src=source, dst=API6, nh=4) / IP(src=WEB, dst=API) / UDP(),
        "reset": ip / TCP(sport=4302, dport=DENIED, flags="R"),
        "echo": ip / ICMPv6EchoRequest(),
        "echo reply": ip / ICMPv6EchoReply(),
        "unreachable, of no session": ip / ICMPv6DestUnreach(code=4) / ours / UDP(sport=9),
        "too big, of no session": ip / ICMPv6PacketTooBig(mtu=1280) / ours / TCP(sport=9),
        "from its link-local address": frame / IPv6(src=here, dst=API6) / datagram,
        "between link-local addresses": frame
        / IPv6(src=here, dst=estate.link_local("api"))
        / datagram,
        "to api's link-local address": frame
        / IPv6(src=source, dst=estate.link_local("api"))
        / syn,
    }


def side_doors(estate: Estate, sender: str, v4: str, v6: str) -> Frames:
    """Frames for api that rules of IP do not see as api's, or not at all."""
    own, api, web = (estate.macs[name] for name in (sender, "api", "web"))
    frame, everyone = Ether(src=own, dst=api), Ether(src=own, dst="ff:ff:ff:ff:ff:ff")
    served = IP(src=v4, dst=API) / UDP(sport=4400, dport=SERVED)
    shout = UDP(sport=4401, dport=SERVED)
    found: Frames = {
        "VLAN 7": frame / Dot1Q(vlan=7) / served,
        "VLAN 0, which the receiver takes off": frame / Dot1Q(vlan=0) / served,
        "VLAN 0 of 802.1ad": Ether(src=own, dst=api, type=0x88A8) / Dot1Q(vlan=0) / served,
        "VLAN 0, IPv6": frame / Dot1Q(vlan=0) / IPv6(src=v6, dst=API6) / shout,
        "two tags": Ether(src=own, dst=api, type=0x88A8) / Dot1Q(vlan=7) / Dot1Q(vlan=0) / served,
        "PPPoE": frame / PPPoE(sessionid=1) / PPP(proto=0x21) / served,
        "an ethertype of its own": Ether(src=own, dst=api, type=0x88B5),
        "broadcast": everyone / IP(src=v4, dst="255.255.255.255") / shout,
        "broadcast of the subnet": everyone / IP(src=v4, dst="198.18.1.255") / shout,
        "broadcast, to api's MAC": frame / IP(src=v4, dst="255.255.255.255") / shout,
        "multicast": Ether(src=own, dst="01:00:5e:00:00:fb")
        / IP(src=v4, dst="224.0.0.251")
        / shout,
        "multicast, IPv6": Ether(src=own, dst="33:33:00:00:00:01")
        / IPv6(src=v6, dst="ff02::1")
        / shout,
        "echo to all, IPv6": Ether(src=own, dst="33:33:00:00:00:01")
        / IPv6(src=v6, dst="ff02::1")
        / ICMPv6EchoRequest(),
        "IPv4 sender in IPv6": frame / IPv6(src=f"::ffff:{v4}", dst=API6) / shout,
    }  # fmt: skip
    if own != web:
        found["web's hardware address"] = Ether(src=web, dst=api) / served
    return found


def all_of(estate: Estate, sender: str, v4: str, v6: str) -> tuple[Frames, dict[str, bytes]]:
    known = tags(PIECES)
    ether = Ether(src=estate.macs[sender], dst=estate.macs["api"])
    cut = {
        name: [ether / each for each in (given if isinstance(given, list) else [given])]
        for name, given in pieces(v4, DENIED, known).items()
    }
    six = {f"{name} (6)": frame for name, frame in odd6(estate, sender, v6).items()}
    made = {**cut, **odd(estate, sender, v4), **six, **side_doors(estate, sender, v4, v6)}
    return made, known


SENDERS = [
    pytest.param("rogue", ROGUE, ROGUE6, id="rogue, who may nothing"),
    pytest.param("web", WEB, WEB6, id="web, who may other ports"),
]


@pytest.mark.parametrize(("sender", "v4", "v6"), SENDERS)
def test_unhindered_every_frame_arrives(estate: Estate, sender: str, v4: str, v6: str) -> None:
    """What the tests below see stopped was not stopped by a mistake in it."""
    frames, known = all_of(estate, sender, v4, v6)
    assert set(frames) - arrived(frames, sender, "api", known=known) == set()


def test_to_no_address_of_its_own_is_to_nobody(estate: Estate) -> None:
    """Frames with api's MAC for other addresses reach its wire; its kernel takes none of them."""
    frame, port = Ether(src=estate.macs["rogue"], dst=estate.macs["api"]), 5999
    datagram = UDP(sport=4600, dport=port)
    others = (
        *(IP(src=ROGUE, dst=address) for address in ("127.0.0.1", "203.0.113.9", WEB)),
        *(IPv6(src=ROGUE6, dst=address) for address in (f"::ffff:{API}", "::1", f"::{API}", WEB6)),
    )
    ear = inside(path_of_name("nw-api"), lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with ear:
        ear.settimeout(2)
        ear.bind(("::", port))
        arrived({str(n): frame / ip / datagram for n, ip in enumerate(others)}, "rogue", "api")
        own = arrived({"own": frame / IP(src=ROGUE, dst=API) / datagram / b"own"}, "rogue", "api")
        assert own == {"own"}
        assert ear.recv(99).startswith(b"own")


@pytest.mark.parametrize(("sender", "v4", "v6"), SENDERS)
def test_no_odd_frame_is_a_way_past_the_rules(shut: Estate, sender: str, v4: str, v6: str) -> None:
    """F21: fragments, SCTP, errors, resets, options, tunnels, tags, broadcast: 0 pass.

    F19: the same over IPv6, with extension headers, link-local and v4-mapped addresses.
    """
    frames, known = all_of(shut, sender, v4, v6)
    assert arrived(frames, sender, "api", known=known) == set()


def test_what_is_permitted_passes_in_pieces_and_with_extension_headers(shut: Estate) -> None:
    """Else the test above would be passed by rules that drop whatever is odd."""
    known = tags(PIECES)
    ether = Ether(src=shut.macs["web"], dst=shut.macs["api"])
    frames: Frames = {
        name: [ether / each for each in given]
        for name, given in pieces(WEB, SERVED, known).items()
        if isinstance(given, list) and name.startswith("in pieces")
    }
    udp = UDP(sport=4500, dport=SERVED)
    frames |= {
        "router alert": ether
        / IP(src=WEB, dst=API, options=[IPOption_Router_Alert()])
        / udp,
        "hop by hop": ether
        / IPv6(src=WEB6, dst=API6)
        / IPv6ExtHdrHopByHop(options=RouterAlert())
        / udp,
        "one fragment": ether / IPv6(src=WEB6, dst=API6) / IPv6ExtHdrFragment(id=5) / udp,
    }  # fmt: skip
    known = {name: tag for name, tag in known.items() if name in frames}
    assert arrived(frames, "web", "api", known=known) == set(frames)


def test_a_session_of_others_survives_forged_resets_and_errors(shut: Estate) -> None:
    """F21: resets and errors that name web's session exactly, from rogue, end nothing.

    Errors under rogue's own address do pass, as a router's would; TCP checks what they quote.
    """
    with connected("web", API, 80) as (port, talks):
        frame = Ether(src=shut.macs["rogue"], dst=shut.macs["api"])
        quoted = IP(src=API, dst=WEB) / TCP(sport=80, dport=port)
        frames: Frames = {
            "reset as web": frame / IP(src=WEB, dst=API) / TCP(sport=port, dport=80, flags="R"),
            "reset as web, with its MAC": Ether(src=shut.macs["web"], dst=shut.macs["api"])
            / IP(src=WEB, dst=API)
            / TCP(sport=port, dport=80, flags="RA"),
            "unreachable as web": frame / IP(src=WEB, dst=API) / ICMP(type=3, code=3) / quoted,
        }
        assert arrived(frames, "rogue", "api") == set()
        own = {
            f"error {code}": frame / IP(src=ROGUE, dst=API) / ICMP(type=3, code=code) / quoted
            for code in (2, 3, 13)
        }
        assert arrived(own, "rogue", "api") == set(own)
        assert talks()


@pytest.mark.parametrize(
    ("frame", "claimed"),
    [
        pytest.param(lambda e: IP(src=WEB, dst=API) / UDP(dport=SERVED), WEB, id="IPv4 of web"),
        pytest.param(
            lambda e: IPv6(src=WEB6, dst=API6) / UDP(dport=SERVED), WEB6, id="IPv6 of web"
        ),
        pytest.param(
            lambda e: IP(src=ROGUE, dst=API) / UDP(dport=SERVED), ROGUE, id="with web's MAC"
        ),
    ],
)
def test_a_forged_sender_is_dropped_and_told(
    shut: Estate, frame: Callable[[Estate], Packet], claimed: str
) -> None:
    """F21: the denial names whose port sent it, whatever it claims; a finding is made of it."""
    ether = Ether(src=shut.macs["web" if claimed == ROGUE else "rogue"], dst=shut.macs["api"])
    ear = inside(NAMESPACE, nflog.listen)
    ear.settimeout(5)
    with ear:
        assert arrived({"forged": ether / frame(shut)}, "rogue", "api") == set()
        tally = nflog.Tally()
        while not tally.add(ear.recv(nflog.BUFFER_SIZE), time.time_ns()):
            continue
    (heard,) = tally.take()
    denial = Naming((), shut.snapshot).denial(heard, time.time_ns())
    assert (denial.kind, denial.source, denial.claimed) == ("spoofed", "a/lab/rogue", claimed)
    assert (denial.destination, denial.protocol, denial.port) == ("a/shop/api", "udp", SERVED)
    known = {workload.identity: workload for workload in shut.snapshot.workloads}
    (finding,) = forged_sender(FleetState(workloads=known, denials=(denial,)), denial.last)
    assert claimed in finding.title
    assert connect(path_of_name("nw-web"), API, 80, timeout_s=1).result == "open"
