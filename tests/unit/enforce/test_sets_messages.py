"""Members as messages: what is written can be read, and no message is longer than it may be."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from netwatch.enforce import ipset
from netwatch.enforce.netlink import attribute, attributes, nested
from netwatch.model.errors import NetwatchError

HEADERS = 20  # nlmsghdr and nfgenmsg
NOMATCH = attribute(8 | 0x4000, struct.pack("!I", 4))


def bodies(data: bytes) -> Iterator[bytes]:
    """The values of the attributes in a row, as they are."""
    while data:
        size = struct.unpack_from("=H", data)[0]
        yield data[4:size]
        data = data[(size + 3) & ~3 :]


def encoded(*texts: str) -> list[bytes]:
    """Each member's attributes, without the line that only requests have."""
    found = []
    for request in ipset.members(ipset.ADD, "nw-x4", texts):
        members = attributes(request[HEADERS:])[ipset.ADT]
        found += [body[:-8] for body in bodies(members)]
    return found


def listing(members: list[bytes]) -> bytes:
    """As the kernel lists them."""
    parts = (nested(ipset.DATA, body) for body in members)
    named = attribute(ipset.SETNAME, b"nw-x4\0") + attribute(ipset.TYPENAME, b"hash:x\0")
    return named + nested(ipset.ADT, *parts)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(("192.0.2.1", "192.0.2.255"), id="addresses"),
        pytest.param(("2001:db8::1", "::"), id="IPv6"),
        pytest.param(("192.0.2.0/24", "0.0.0.0/1"), id="networks"),
        pytest.param(("192.0.2.1", "192.0.2.0/24"), id="of different shapes"),
        pytest.param(("192.0.2.1,tcp:80", "192.0.2.1,udp:65535"), id="ports"),
        pytest.param(("192.0.2.1,sctp:1,192.0.2.7", "192.0.2.9,47:0,192.0.2.7"), id="pairs"),
        pytest.param(("2001:db8::1,tcp:80,2001:db8::/32",), id="an IPv6 network at the end"),
        pytest.param(("0.0.0.0/1,br0", "128.0.0.0/1,br-0123456789ab"), id="interfaces"),
    ],
)
def test_what_is_written_is_read(texts: tuple[str, ...]) -> None:
    """Alone and in company, whatever the others look like."""
    assert ipset.listed(listing(encoded(*texts))) == ("nw-x4", "hash:x", list(texts))


def test_a_network_of_one_address_is_spelled_as_an_address() -> None:
    """As `ipset save` does, so that what was read equals what was wanted."""
    assert ipset.listed(listing(encoded("192.0.2.7/32")))[2] == ["192.0.2.7"]


def test_a_member_turned_into_its_opposite_is_none() -> None:
    """Otherwise `ipset add … nomatch` by somebody else would go unnoticed."""
    (plain,) = encoded("192.0.2.1,tcp:80,192.0.2.0/24")
    found = ipset.listed(listing([plain, plain + NOMATCH]))[2]
    assert found == ["192.0.2.1,tcp:80,192.0.2.0/24"]


def test_members_are_shared_out_to_few_messages_and_all_arrive() -> None:
    """An attribute's length has 16 bits; each member keeps its line for the kernel's complaint."""
    texts = [f"2001:db8::{n:x},tcp:80,2001:db8::1" for n in range(10_000)]
    requests = list(ipset.members(ipset.ADD, "nw-x6", texts))
    assert len(requests) < 20
    assert all(len(request) < 65_535 for request in requests)
    lines = [
        struct.unpack("=I", attributes(body)[ipset.LINE])[0]
        for request in requests
        for body in bodies(attributes(request[HEADERS:])[ipset.ADT])
    ]
    assert lines == list(range(1, len(texts) + 1))


def test_the_member_at_fault_is_found_in_the_kernels_answer() -> None:
    """It sends the request back with the culprit's line in it (call_ad of ip_set_core.c)."""
    sent_back = bytes(HEADERS) + attribute(ipset.LINE, struct.pack("=I", 3))
    assert ipset.refused_line(struct.pack("=i", -4352) + sent_back) == 2
    assert ipset.refused_line(struct.pack("=i", -2) + bytes(HEADERS)) is None


@pytest.mark.parametrize("text", ["web", "192.0.2", "192.0.2.1,tcp:80,api", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(NetwatchError, match="is no address"):
        encoded(text)
