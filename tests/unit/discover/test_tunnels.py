"""Tunnels as the kernel and user-space tell of them. Messages of the kernel's WireGuard and of
IPsec states are composed after linux/wireguard.h and linux/xfrm.h: fixture-proven, because the
kernels that these tests run on have neither. Policies and wireguard-go are real in tests/netns.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from netwatch.discover.tunnels import bridge_of, with_protected
from netwatch.discover.wireguard import devices_of_messages, peers_of_answer
from netwatch.discover.xfrm import association_of, policy_of
from netwatch.model.link import Links, SecurityAssociation, Template, WireGuard, WireGuardPeer
from netwatch.model.snapshot import Neighbour, Network, Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Interface, Workload

NOW = 1_700_000_000 * SECOND
KEY = bytes(range(32))

ANSWER = f"""private_key={"ab" * 32}
listen_port=51820
public_key={KEY.hex()}
preshared_key={"00" * 32}
protocol_version=1
endpoint=[2001:db8::1]:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=1
rx_bytes=2
persistent_keepalive_interval=0
allowed_ip=198.18.2.0/24
allowed_ip=2001:db8:2::/64
public_key={"cd" * 32}
last_handshake_time_sec=0
last_handshake_time_nsec=0
errno=0

"""


def test_the_socket_of_a_user_space_wireguard_tells_peers_and_no_key_is_kept() -> None:
    first, second = peers_of_answer(ANSWER)
    assert first == WireGuardPeer(
        "AAECAwQF", ("198.18.2.0/24", "2001:db8:2::/64"), "[2001:db8::1]:51820", NOW + 5
    )
    assert (second.handshake, second.allowed) == (None, ())
    assert "abab" not in repr((first, second))


@pytest.mark.parametrize("text", ["errno=1\n\n", "public_key=xy\n\n", "last_handshake_time_sec=a"])
def test_an_answer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"errno|hex|int"):
        peers_of_answer(text)


def attribute(kind: int, *values: bytes) -> bytes:
    value = b"".join(values)
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def device(*peers: bytes) -> bytes:
    head = struct.pack("=BBH", 0, 1, 0)
    nested = [attribute(0 | 0x8000, peer) for peer in peers]
    return head + attribute(2, b"wg0\0") + attribute(3, b"p" * 32) + attribute(8 | 0x8000, *nested)


def allowed(network: bytes, bits: int) -> bytes:
    family = socket.AF_INET if len(network) == 4 else socket.AF_INET6
    return attribute(
        0,
        attribute(1, struct.pack("=H", family)),
        attribute(2, network),
        attribute(3, bytes([bits])),
    )


def test_the_kernels_wireguard_tells_an_interface_in_pieces() -> None:
    """A peer whose networks do not fit goes on in the next message, with its key only."""
    endpoint = struct.pack("=H", socket.AF_INET) + struct.pack(
        "!H4s8x", 51820, bytes([192, 0, 2, 2])
    )
    whole = (
        attribute(1, KEY)
        + attribute(4, endpoint)
        + attribute(6, struct.pack("=qq", 1_700_000_000, 5))
    )
    first = device(whole + attribute(9 | 0x8000, allowed(bytes([198, 18, 2, 0]), 24)))
    more = allowed(bytes.fromhex("20010db8") + bytes(12), 32)
    second = device(attribute(1, KEY) + attribute(9 | 0x8000, more), attribute(1, bytes(32)))

    (found,) = devices_of_messages([first, second])
    assert found.interface == "wg0"
    assert found.peers == (
        WireGuardPeer("AAECAwQF", ("198.18.2.0/24", "2001:db8::/32"), "192.0.2.2:51820", NOW + 5),
        WireGuardPeer("AAAAAAAA"),
    )


def address(text: str) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text).ljust(16, b"\0")


def state(
    algorithm: int, name: bytes, *, protocol: int = 50, spi: int = 0x100, more: bytes = b""
) -> bytes:
    """struct xfrm_usersa_info (224 bytes) and an algorithm with a key of 16 bytes."""
    identity = address("192.0.2.2") + struct.pack("!IB3x", spi, protocol)
    tail = struct.pack("=IIHBBB7x", 0, 5, socket.AF_INET, 1, 32, 0)
    info = bytes(56) + identity + address("192.0.2.1") + bytes(64 + 32 + 12) + tail
    assert len(info) == 224
    size = struct.pack("=I", 128) if algorithm == 2 else struct.pack("=II", 128, 128)
    return info + attribute(algorithm, name.ljust(64, b"\0"), size, b"k" * 16) + more


@pytest.mark.parametrize(
    ("body", "encrypts"),
    [
        pytest.param(state(18, b"rfc4106(gcm(aes))"), True, id="AES-GCM"),
        pytest.param(state(2, b"cbc(aes)"), True, id="AES-CBC"),
        pytest.param(state(2, b"ecb(cipher_null)"), False, id="ESP without a cipher"),
        pytest.param(state(18, b"rfc4543(gcm(aes))"), False, id="GMAC authenticates only"),
        pytest.param(state(1, b"hmac(sha1)", protocol=51), False, id="AH"),
        pytest.param(state(18, b"rfc4106(gcm(aes))", spi=0), False, id="not yet negotiated"),
    ],
)
def test_an_ipsec_state_encrypts_if_it_is_esp_with_a_cipher(body: bytes, encrypts: bool) -> None:
    found = association_of(body)
    assert (found.source, found.destination) == ("192.0.2.1", "192.0.2.2")
    assert (found.mode, found.request, found.encrypts) == ("tunnel", 5, encrypts)


def test_a_state_keeps_its_mark_and_not_its_key() -> None:
    found = association_of(
        state(2, b"cbc(aes)", more=attribute(21, struct.pack("=II", 0xD0C4E3, 0xFF)))
    )
    assert found.mark == (0xD0C4E3, 0xFF)
    assert "kkkk" not in repr(found)


def policy(direction: int = 1, *, port_mask: int = 0, more: bytes = b"") -> bytes:
    """struct xfrm_userpolicy_info (168 bytes) and a template."""
    ends = address("198.18.2.0") + address("198.18.1.0")
    selector = ends + struct.pack("!HHHH", 4789, port_mask, 0, 0)
    selector += struct.pack("=HBBB3xiI", socket.AF_INET, 24, 24, 17, 0, 0)
    info = selector + bytes(96) + struct.pack("=IIBBBB4x", 7, 0, direction, 0, 0, 0)
    assert len(info) == 168
    identity = address("192.0.2.2") + struct.pack("!IB3x", 0, 50)
    template = identity + struct.pack("=H2x", socket.AF_INET) + address("192.0.2.1")
    template += struct.pack("=IBBBxIII", 5, 0, 0, 1, 0, 0, 0)
    return info + attribute(5, template) + more


def test_a_policy_tells_whom_it_is_for_and_what_it_demands() -> None:
    found = policy_of(policy(port_mask=0xFFFF, more=attribute(31, struct.pack("=I", 9))))
    assert found is not None
    assert (found.direction, found.source, found.destination) == (
        "out", "198.18.1.0/24", "198.18.2.0/24",
    )  # fmt: skip
    assert (found.protocol, found.source_port, found.destination_port) == (17, None, 4789)
    assert (found.priority, found.interface_id, found.blocks) == (7, 9, False)
    assert found.templates == (
        Template("192.0.2.1", "192.0.2.2", "esp", "transport", 5, optional=True),
    )


def test_the_policy_of_a_single_socket_is_nobody_elses() -> None:
    assert policy_of(policy(direction=4)) is None


def test_what_is_cut_off_is_refused() -> None:
    with pytest.raises(struct.error):
        policy_of(policy()[:100])
    with pytest.raises(struct.error):
        association_of(bytes(100))


WEB = Workload(
    "a", "shop", "web", "lab", addresses=("198.18.1.10", "2001:db8:1::10"),
    interfaces=(Interface("v1", 7, "br1", "one"), Interface("v2", 8, "br2", "two")),
)  # fmt: skip
DB = Workload("b", "shop", "db", "lab", addresses=("198.18.2.10",))
PLANS = (
    Network("one", "bridge", "br1", ("192.168.0.0/24",)),
    Network("two", "bridge", "br2", ("198.18.1.0/24", "2001:db8:1::/64")),
)
HERE = Snapshot(
    "a", (WEB,), PLANS, neighbours=(Neighbour("b", ("192.0.2.2",), True, (DB,)),)
)  # fmt: skip
PEER = WireGuardPeer("AAAA", ("198.18.2.0/24",), None, 1)  # its last handshake was long ago
LINKS = Links((WireGuard("wg0", (PEER,)),), read=NOW)


def way(source: str, destination: str, bridge: str | None) -> str | None:
    return "wg0" if destination.startswith("198.18.2.") and bridge == "br2" else "eth0"


def test_a_workload_comes_in_by_the_bridge_of_the_network_it_speaks_on() -> None:
    plans = {plan.name: plan for plan in PLANS}
    assert bridge_of(WEB, "198.18.1.10", plans) == "br2"
    assert bridge_of(WEB, "203.0.113.1", plans) == "br1"
    assert bridge_of(DB, "198.18.2.10", plans) is None


def test_pairs_that_only_a_tunnel_joins_are_protected_also_while_it_rests() -> None:
    """A rule must let through the packet that makes WireGuard shake hands; it goes nowhere."""
    assert with_protected(HERE, LINKS, way).protected == (("198.18.1.10", "198.18.2.10"),)


def test_nothing_is_protected_by_a_peer_that_never_answered_or_without_tunnels() -> None:
    never = replace(LINKS, wireguard=(WireGuard("wg0", (replace(PEER, handshake=None),)),))
    assert with_protected(HERE, never, way).protected == ()
    assert with_protected(HERE, Links(read=NOW), way) is HERE
    lonely = Links(associations=(SecurityAssociation("::", "::", 1, "esp", "tunnel"),))
    assert with_protected(HERE, lonely, way) is HERE
