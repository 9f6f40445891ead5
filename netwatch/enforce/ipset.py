"""Messages of nfnetlink's subsystem 6: sets and their members, many members to a message.

linux/netfilter/ipset/ip_set.h. A member is an attribute of attributes whose values have the same
places in all members of one shape, so a whole message of them is read by one struct.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from netwatch.enforce import netlink
from netwatch.enforce.netlink import attribute, attributes, nested
from netwatch.model.errors import NetwatchError

SUBSYSTEM = 6
CREATE, DESTROY, LIST, ADD, DEL = 2, 3, 7, 9, 10
PROTOCOL, SETNAME, TYPENAME, REVISION, FAMILY, FLAGS, DATA, ADT, LINE = range(1, 10)
_IP, _CIDR, _PORT, _PROTO, _CADT_FLAGS, _MAXELEM, _IP2, _CIDR2, _IFACE = (
    *(1, 3, 4, 7, 8),
    *(19, 20, 21, 23),
)
_NOMATCH = 4  # IPSET_FLAG_NOMATCH
_ORDERED = 0x4000  # NLA_F_NET_BYTEORDER
NAMES_ONLY = 2  # IPSET_FLAG_LIST_SETNAME
VERSION = 6  # what every kernel since 2.6.39 answers; 7 added nothing that is used here
# The revision that each type had in Linux 3.18: a newer one an older `ipset` could not list.
REVISIONS = {
    "hash:ip": 4,
    "hash:net": 6,
    "hash:ip,port": 5,
    "hash:ip,port,ip": 5,
    "hash:ip,port,net": 7,
    "hash:net,iface": 6,
}
ROOM = 60_000  # bytes of members in one message: an attribute's length has 16 bits
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
_PROTOCOLS = {number: name for name, number in _NUMBERS.items()}
_SPOT = re.compile(r"([a-z0-9]+):([0-9]{1,5})")
FIRST_OWN = 4096  # IPSET_ERR_PRIVATE: from here on the numbers are ip_set's own
LACKING = "the kernel has no sets of this type (modules ip_set and ip_set_hash_*)"
NO_TYPE, BUSY, NOT_THERE = 4098, 4100, 4103
_REFUSALS = {
    4097: "the kernel speaks no protocol of ip_set that is known here",
    NO_TYPE: LACKING,
    4099: "there are as many sets as the kernel allows",
    BUSY: "the set is in use",
    4102: "the set is there with another type",
    NOT_THERE: "the member is there already, or is not there to be deleted",
    4104: "the length of the network's prefix makes no sense",
    4109: "an IPv4 address is needed",
    4110: "an IPv6 address is needed",
    4352: "the set is full",
    4354: "the protocol is not one with ports",
}


def request(kind: int, title: str, *parts: bytes, flags: int = netlink.ACK) -> bytes:
    """A request about one set; an existing set or member is no error (`ipset -exist`)."""
    named = attribute(PROTOCOL, bytes([VERSION])) + attribute(SETNAME, title.encode() + b"\0")
    family = socket.AF_INET
    return netlink.message(SUBSYSTEM << 8 | kind, flags, family, named + b"".join(parts))


def create(title: str, kind: str, family: int, *, room: int) -> bytes:
    """Make an empty set for at most `room` members."""
    inet = socket.AF_INET if family == 4 else socket.AF_INET6
    return request(
        CREATE,
        title,
        attribute(TYPENAME, kind.encode() + b"\0"),
        attribute(REVISION, bytes([REVISIONS[kind]])),
        attribute(FAMILY, bytes([inet])),
        nested(DATA, attribute(_MAXELEM | _ORDERED, struct.pack("!I", room))),
    )


def members(kind: int, title: str, listed: Sequence[str]) -> Iterator[bytes]:
    """Requests to ADD or DEL these members, as few as hold them.

    Of a refusal `refused_line` tells which member was at fault.
    """
    parts: list[bytes] = []
    room = ROOM
    for number, text in enumerate(listed, 1):
        body = _encoded(text)
        size = len(body) + 12
        if size > room:
            yield _many(kind, title, parts)
            parts, room = [], ROOM
        room -= size
        parts.append(_HEAD.pack(size, DATA | netlink.NESTED) + body + _LINE.pack(8, LINE, number))
    if parts:
        yield _many(kind, title, parts)


_HEAD, _LINE = struct.Struct("=HH"), struct.Struct("=HHI")


def _many(kind: int, title: str, parts: Sequence[bytes]) -> bytes:
    line = attribute(LINE, struct.pack("=I", 0))  # the kernel writes the culprit's here
    return request(kind, title, line, nested(ADT, *parts))


def _encoded(text: str) -> bytes:
    """A member as `ipset` spells it: addresses or networks, protocol:port, an interface."""
    first, _, rest = text.partition(",")
    second, _, third = rest.partition(",")
    body = _end(first, _IP, _CIDR)
    if second:
        body += _spot(second)
    return body + _end(third, _IP2, _CIDR2) if third else body


@lru_cache(maxsize=65_536)
def _end(text: str, kind: int, length: int) -> bytes:
    address, slash, prefix = text.partition("/")
    inet, which = (socket.AF_INET6, 2) if ":" in address else (socket.AF_INET, 1)
    try:
        raw = socket.inet_pton(inet, address)
    except OSError:
        raise NetwatchError(f"{text[:40]!r} is no address", code="unsafe-name") from None
    body = nested(kind, attribute(which | _ORDERED, raw))
    return body + attribute(length, bytes([int(prefix)])) if slash else body


@lru_cache(maxsize=65_536)
def _spot(text: str) -> bytes:
    """The second part: protocol and port, or else the name of an interface."""
    found = _SPOT.fullmatch(text)
    if found is None:
        return attribute(_IFACE, text.encode() + b"\0")
    name, port = found.groups()
    number = _NUMBERS[name] if name in _NUMBERS else int(name)
    return attribute(_PORT | _ORDERED, struct.pack("!H", int(port))) + attribute(
        _PROTO, bytes([number])
    )


def refused_line(answer: bytes) -> int | None:
    """The position (from 0) of the member that an error message from the kernel complains of."""
    found = attributes(answer[24:]).get(LINE)  # behind errno, nlmsghdr and nfgenmsg
    line = struct.unpack("=I", found)[0] if found else 0
    return line - 1 if line else None


def refusal(number: int) -> str:
    """What an error number of ip_set means, in words."""
    if number < FIRST_OWN:
        return os.strerror(number)
    return _REFUSALS.get(number, f"error {number} of ip_set")


def listing(title: str | None) -> bytes:
    """The body of a request for all titles, or for one set with its members."""
    named = attribute(PROTOCOL, bytes([VERSION]))
    if title is None:
        return named + attribute(FLAGS | _ORDERED, struct.pack("!I", NAMES_ONLY))
    return named + attribute(SETNAME, title.encode() + b"\0")


def listed(body: bytes) -> tuple[str, str, list[str]]:
    """(title, kind, members as `ipset save` spells them) of one message of a listing.

    Only a set's first message has its kind. A member that is turned into its opposite (nomatch)
    is none.
    """
    found = attributes(body)
    title, kind = (_text(found.get(key, b"")) for key in (SETNAME, TYPENAME))
    data = found.get(ADT, b"")
    if not data:
        return title, kind, []
    size = struct.unpack_from("=H", data)[0]
    shape = _shape_of(data[:size])
    if shape is None or len(data) % size or not shape.fits(data):
        each = (_walked(data[start:end]) for start, end in _borders(data))
        return title, kind, [text for text in each if text]
    return title, kind, shape.read(data)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def _borders(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the values of consecutive attributes begin and end."""
    at = 0
    while at + 4 <= len(data):
        size = struct.unpack_from("=H", data, at)[0]
        if size < 4:
            break
        yield at + 4, at + size
        at += (size + 3) & ~3


def _walked(body: bytes) -> str | None:
    """One member, attribute by attribute."""
    found = attributes(body)
    if struct.unpack("!I", found.get(_CADT_FLAGS, bytes(4)))[0] & _NOMATCH:
        return None
    ends = []
    for which, length in ((_IP, _CIDR), (_IP2, _CIDR2)):
        inner = attributes(found.get(which, b""))
        raw = next(iter(inner.values()), b"")
        ends.append(_spell_end(raw, found[length][0] if length in found else None) if raw else "")
    middle = _text(found.get(_IFACE, b""))
    if _PORT in found:
        middle = _spell_spot(struct.unpack("!H", found[_PORT])[0], found[_PROTO][0])
    return ",".join(part for part in (ends[0], middle, ends[1]) if part)


class _Shape(NamedTuple):
    """Where the values lie in members that have the same attributes in the same order."""

    size: int
    header: bytes
    places: tuple[int, ...]
    reader: struct.Struct
    at: Mapping[int, int]

    def fits(self, data: bytes) -> bool:
        """Whether every member has this shape: everything but the values is equal."""
        count = len(data) // self.size
        return all(
            data[place :: self.size] == self.header[place : place + 1] * count
            for place in self.places
        )

    def read(self, data: bytes) -> list[str]:
        """The members."""
        rows = self.reader.iter_unpack(data)
        at = self.at
        first, port, proto, second = (at.get(key) for key in (_IP, _PORT, _PROTO, _IP2))
        length, length2 = at.get(_CIDR), at.get(_CIDR2)
        found = []
        for row in rows:
            text = _spell_end(row[first or 0], None if length is None else row[length])
            if port is not None and proto is not None:
                text += "," + _spell_spot(row[port], row[proto])
            if second is not None:
                text += "," + _spell_end(row[second], None if length2 is None else row[length2])
            found.append(text)
        return found


_FORMATS = {_CIDR: "B", _CIDR2: "B", _PROTO: "B", _PORT: "H"}


def _shape_of(first: bytes) -> _Shape | None:
    """The shape of a member, None for one with attributes that vary in length."""
    values: list[tuple[int, int, str]] = []  # (kind, where, format), in order
    for start, end in _borders(first[4:]):
        start, end = start + 4, end + 4
        kind = struct.unpack_from("=H", first, start - 2)[0] & 0x3FFF
        if kind in (_IP, _IP2):
            values.append((kind, start + 4, f"{end - start - 4}s"))
        elif kind in _FORMATS:
            values.append((kind, start, _FORMATS[kind]))
        else:
            return None
    layout, at = "!", 0
    places: list[int] = []
    for _, where, form in values:
        layout += f"{where - at}x{form}"
        places += range(at, where)
        at = where + struct.calcsize(f"!{form}")
    layout += f"{len(first) - at}x"
    places += range(at, len(first))
    order = {kind: number for number, (kind, _, _) in enumerate(values)}
    return _Shape(len(first), first, tuple(places), struct.Struct(layout), order)


@lru_cache(maxsize=65_536)
def _spell_end(raw: bytes, length: int | None) -> str:
    inet = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    text = socket.inet_ntop(inet, raw)
    return text if length in (None, len(raw) * 8) else f"{text}/{length}"


@lru_cache(maxsize=65_536)
def _spell_spot(port: int, protocol: int) -> str:
    return f"{_PROTOCOLS.get(protocol, protocol)}:{port}"
