"""The few netfilter messages that no program of the base system sends for us.

linux/netfilter/nfnetlink.h: a nlmsghdr, a nfgenmsg (family, version, resource), then attributes of
a length and a type each, padded to four bytes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from netwatch.model.errors import NetwatchError

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CREATE, EXCL = 0x400, 0x200
ERROR, DONE = 2, 3
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NESTED = 0x8000
CONNTRACK, NFTABLES = 1, 10
DEADLINE_S = 5.0
SO_SNDBUFFORCE = 32  # asm-generic/socket.h
SEND_BUFFER = 100_000  # bytes that fit into a socket's own buffer (net.core.wmem_default / 2)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message, by type; of two with one type the last."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


def message(kind: int, flags: int, family: int, body: bytes = b"", *, resource: int = 0) -> bytes:
    """One request; `kind` is subsystem << 8 | type."""
    general = struct.pack("=BB", family, 0) + struct.pack("!H", resource)
    size = 16 + len(general) + len(body)
    return struct.pack("=IHHII", size, kind, flags | REQUEST, 1, 0) + general + body


def connect(protocol: int = NETLINK_NETFILTER) -> socket.socket:
    """A socket in the network namespace of the calling thread."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    link.settimeout(DEADLINE_S)
    link.bind((0, 0))
    return link


class Refused(NetwatchError):
    """The kernel answered a request with an error; `answer` is what it sent back with it."""

    code = "refused"

    def __init__(self, number: int, answer: bytes) -> None:
        said = os.strerror(number) if number < 4096 else f"error {number}"
        super().__init__(f"the kernel refused a request: {said}")
        self.number = number
        self.answer = answer


def dump(kind: int, family: int, body: bytes = b"") -> Iterator[bytes]:
    """The bodies (after nfgenmsg) of all netfilter objects of a kind; none where it is unknown."""
    for found in _dump(NETLINK_NETFILTER, message(kind, DUMP, family, body)):
        yield found[4:]


def dump_raw(protocol: int, kind: int, body: bytes, *, strict: bool = False) -> Iterator[bytes]:
    """The bodies that another netlink protocol answers to a dump.

    None where the kernel does not know what is asked; if `strict`, that raises Refused.
    """
    size = 16 + len(body)
    request = struct.pack("=IHHII", size, kind, DUMP | REQUEST, 1, 0) + body
    yield from _dump(protocol, request, strict=strict)


def _dump(protocol: int, request: bytes, *, strict: bool = False) -> Iterator[bytes]:
    with connect(protocol) as link:
        link.send(request)
        while True:
            for found, body in _messages(link.recv(1 << 18)):
                if found == ERROR and strict:
                    raise Refused(-int(struct.unpack_from("=i", body)[0]), body)
                if found in (DONE, ERROR):
                    return
                yield body


def send(*messages: bytes) -> int:
    """Send requests as one batch; the errno of the first that failed, or 0."""
    data = b"".join(messages)
    with connect() as link:
        if len(data) > SEND_BUFFER:  # a transaction is one datagram, however many members it has
            link.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(data))
        link.send(data)
        for found, body in _messages(link.recv(1 << 16)):
            if found == ERROR:
                return -int(struct.unpack_from("=i", body)[0])
    return 0


def tell(protocol: int, kind: int, body: bytes) -> int:
    """Send one request of another netlink protocol; the errno of its answer, or 0."""
    size = 16 + len(body)
    with connect(protocol) as link:
        link.send(struct.pack("=IHHII", size, kind, REQUEST | ACK, 1, 0) + body)
        for found, answer in _messages(link.recv(1 << 16)):
            if found == ERROR:
                return -int(struct.unpack_from("=i", answer)[0])
    return 0


def ask(link: socket.socket, request: bytes) -> None:
    """Send one request that asks for an ACK, and wait for it; raises Refused."""
    link.send(request)
    for found, body in _messages(link.recv(1 << 18)):
        number = -int(struct.unpack_from("=i", body)[0]) if found == ERROR else 0
        if number:
            raise Refused(number, body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 16:
            raise NetwatchError("the kernel's answer makes no sense")
        yield kind, data[at + 16 : at + size]
        at += (size + 3) & ~3


_NOT_ITS_RULES = 0x100  # NLM_F_NONREC: what is not empty stays
_NFT_FAMILIES = {"ip": 2, "ip6": 10}  # NFPROTO_IPV4, NFPROTO_IPV6


def nft_tables() -> frozenset[str]:
    """The nftables tables here, as `family name`: "ip filter"."""
    found = set()
    for text, number in _NFT_FAMILIES.items():
        for body in dump(NFTABLES << 8 | 1, number):
            name = attributes(body).get(1, b"").rstrip(b"\0").decode(errors="replace")
            found.add(f"{text} {name}")
    return frozenset(found)


def nft_hooks() -> frozenset[str]:
    """The base chains of these tables, as `family table chain`: "ip filter FORWARD"."""
    found = set()
    for text, number in _NFT_FAMILIES.items():
        for body in dump(NFTABLES << 8 | 4, number):
            parts = attributes(body)
            if 4 in parts:  # NFTA_CHAIN_HOOK
                words = (parts.get(n, b"").rstrip(b"\0").decode(errors="replace") for n in (1, 3))
                found.add(" ".join((text, *words)))
    return frozenset(found)


def delete_nft_table(title: str) -> None:
    """Delete a table that `nft_tables` named; a table that is gone is no error."""
    text, name = title.split(" ", 1)
    code = _delete_nft(2, text, attribute(1, name.encode() + b"\0"))
    if code not in (0, 2):
        raise NetwatchError(f"can not delete the table {title}: {os.strerror(code)}")


def delete_nft_hook(title: str) -> None:
    """Delete a chain that `nft_hooks` named, unless it is gone or has got a rule meanwhile."""
    text, table, name = title.split(" ", 2)
    parts = attribute(1, table.encode() + b"\0") + attribute(3, name.encode() + b"\0")
    code = _delete_nft(5, text, parts, flags=_NOT_ITS_RULES)
    if code not in (0, 2, errno.EBUSY):
        raise NetwatchError(f"can not delete the chain {title}: {os.strerror(code)}")


def _delete_nft(kind: int, family: str, body: bytes, *, flags: int = 0) -> int:
    return send(
        message(BATCH_BEGIN, 0, 0, resource=NFTABLES),
        message(NFTABLES << 8 | kind, ACK | flags, _NFT_FAMILIES[family], body),
        message(BATCH_END, 0, 0, resource=NFTABLES),
    )
