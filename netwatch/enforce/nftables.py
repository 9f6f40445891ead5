"""The table of the bridge family in the kernel, by netlink: one transaction, and read back.

linux/netfilter/nf_tables.h. Spoken directly, because a host with iptables and ipset need not have
`nft`, and because one new container costs one message and no process.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from netwatch.enforce import netlink
from netwatch.enforce.netlink import attribute, attributes, message, nested
from netwatch.enforce.portguard import (
    CHAINS,
    SETS,
    TABLE,
    Among,
    BridgeChain,
    BridgeMatch,
    BridgeRule,
    Carried,
    Field,
    GuardChange,
    GuardState,
    Member,
    Protocol,
    Transport,
)
from netwatch.enforce.render import NFLOG_GROUP
from netwatch.enforce.sets import NotApplied

FAMILY = 7  # NFPROTO_BRIDGE
_NEW_TABLE, _GET_TABLE, _DEL_TABLE, _NEW_CHAIN, _GET_CHAIN = range(5)
_NEW_RULE, _GET_RULE = 6, 7
_NEW_SET, _GET_SET = 9, 10
_NEW_MEMBER, _GET_MEMBER, _DEL_MEMBER = 12, 13, 14
APPEND = 0x800
HOOKS = {"prerouting": 0, "forward": 2}  # linux/netfilter_bridge.h
WIDTH = {"port": 16, "address4": 4, "address6": 16, "mac": 8}  # in whole words of 4 bytes
TYPES = {"port": 41, "address4": 7, "address6": 8, "mac": 9}  # nft's names for what a set holds
_FIRST, _SECOND = 1, 2  # registers of 16 bytes, one behind the other
_ACCEPT, _DROP, _GOTO = 1, 0, -4
_INVERTED = 1
ROOM = 48_000  # bytes of members in one attribute, whose length has 16 bits
PREFIX = b"nw:S:spoofed\0"
LOGGED_A_SECOND = 100
_SAFE = re.compile(rb"nw:[0-9a-f]{10}")


def read_guard() -> GuardState:
    """What this network namespace holds of the table."""
    if not _there():
        return GuardState(able=able())
    return GuardState(dict(_chains()), dict(_sets()), there=True)


def _there() -> bool:
    with netlink.connect() as link:
        try:
            netlink.ask(link, _one(_GET_TABLE, _named(1, TABLE), flags=netlink.ACK))
        except netlink.Refused:  # no such table, or no nftables
            return False
    return True


@cache
def able() -> bool:
    """Whether this kernel has nftables for bridges: a transaction that is made to fail says so.

    It fails at a table that exists if everything before it, a chain of that family, was possible.
    """
    name = _named(1, f"{TABLE}-probe")
    hook = BridgeChain("enter", (), hook="prerouting", priority=-200)
    last = netlink.CREATE | netlink.EXCL | netlink.ACK
    first = _one(_NEW_TABLE, name, flags=netlink.CREATE)
    code = _send([first, _chain(hook, name), _one(_NEW_TABLE, name, flags=last)])
    return code == errno.EEXIST


def _send(batch: Sequence[bytes]) -> int:
    begin = message(netlink.BATCH_BEGIN, 0, 0, resource=netlink.NFTABLES)
    end = message(netlink.BATCH_END, 0, 0, resource=netlink.NFTABLES)
    return netlink.send(begin, *batch, end)


def _one(kind: int, *parts: bytes, flags: int = 0) -> bytes:
    return message(netlink.NFTABLES << 8 | kind, flags, FAMILY, b"".join(parts))


def _named(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0")


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _asked(kind: int, *parts: bytes) -> Iterator[dict[int, bytes]]:
    """The objects of our table that a dump shows."""
    for body in netlink.dump(netlink.NFTABLES << 8 | kind, FAMILY, b"".join(parts)):
        found = attributes(body)
        if _text(found.get(1, b"")) == TABLE:
            yield found


def _chains() -> Iterator[tuple[str, tuple[str, ...]]]:
    names = [_text(found.get(3, b"")) for found in _asked(_GET_CHAIN)]
    marks: dict[str, list[str]] = {name: [] for name in names}
    for found in _asked(_GET_RULE, _named(1, TABLE)):
        said = _SAFE.search(found.get(7, b""))
        marks.setdefault(_text(found.get(2, b"")), []).append(said[0].decode() if said else "")
    for name, listed in marks.items():
        yield name, tuple(listed)


def _sets() -> Iterator[tuple[str, frozenset[Member]]]:
    for found in list(_asked(_GET_SET, _named(1, TABLE))):
        name = _text(found.get(2, b""))
        if name in SETS:
            yield name, frozenset(_members(name))
        elif not name.startswith("__"):  # of a rule that is not ours
            yield name, frozenset()


def _members(name: str) -> Iterator[Member]:
    for found in _asked(_GET_MEMBER, _named(1, TABLE), _named(2, name)):
        for raw in _each(found.get(3, b"")):
            key = attributes(attributes(raw).get(1, b"")).get(1, b"")
            yield _decoded(name, key)


def _each(data: bytes) -> Iterator[bytes]:
    """The elements of a list, whose attributes all have the same type."""
    at = 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("=H", data, at)
        if size < 4:
            return
        yield data[at + 4 : at + size]
        at += (size + 3) & ~3


def _decoded(name: str, key: bytes) -> Member:
    parts, at = [], 0
    for kind in SETS[name]:
        raw = key[at : at + WIDTH[kind]]
        at += WIDTH[kind]
        parts.append(_told(kind, raw))
    return tuple(parts)


def _told(kind: str, raw: bytes) -> str:
    if kind == "port":
        return _text(raw)
    if kind == "mac":
        return raw[:6].hex(":")
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def write_guard(change: GuardChange) -> None:
    """Do it as one transaction; raises NotApplied, with everything as it was."""
    batch = list(_transaction(change))
    code = _send([*batch[:-1], _acknowledged(batch[-1])])
    if code:
        raise NotApplied(
            f"the kernel did not take the rules of bridge ports: {os.strerror(code)}",
            "nothing of them has changed; see netwatch doctor",
        )


def _acknowledged(request: bytes) -> bytes:
    """The same request, with an answer once the transaction is done."""
    size, kind, flags = struct.unpack_from("=IHH", request)
    return struct.pack("=IHH", size, kind, flags | netlink.ACK) + request[8:]


def _transaction(change: GuardChange) -> Iterator[bytes]:
    if change.gone:
        yield _one(_DEL_TABLE, _named(1, TABLE))
    if change.whole is not None:
        yield _one(_NEW_TABLE, _named(1, TABLE), flags=netlink.CREATE)
        for number, name in enumerate(SETS, 1):
            yield _set(name, number)
        for chain in CHAINS:
            yield _chain(chain, _named(1, TABLE))
        for chain in CHAINS:
            yield from (_rule(chain, rule) for rule in chain.rules)
        yield from _changed(_NEW_MEMBER, ((n, sorted(m)) for n, m in change.whole.sets.items()))
    yield from _changed(_DEL_MEMBER, change.delete)
    yield from _changed(_NEW_MEMBER, change.add)


def _set(name: str, number: int) -> bytes:
    """A set; that a name of a port has the host's order of bytes (1) is for `nft` to print it."""
    kinds = SETS[name]
    told = 0
    for kind in kinds:
        told = told << 6 | TYPES[kind]
    width = sum(WIDTH[kind] for kind in kinds)
    return _one(
        _NEW_SET,
        _named(1, TABLE),
        _named(2, name),
        *(attribute(kind, struct.pack("!I", value)) for kind, value in ((4, told), (5, width))),
        attribute(10, struct.pack("!I", number)),
        attribute(13, struct.pack("=BBI", 0, 4, 1 if kinds == ("port",) else 2)),
        flags=netlink.CREATE,
    )


def _chain(chain: BridgeChain, table: bytes) -> bytes:
    parts = [table, _named(3, chain.name)]
    if chain.hook is not None:
        numbers = (1, struct.pack("!I", HOOKS[chain.hook])), (2, struct.pack("!i", chain.priority))
        parts += [nested(4, *(attribute(*each) for each in numbers)), _named(7, "filter")]
    return _one(_NEW_CHAIN, *parts, flags=netlink.CREATE)


def _rule(chain: BridgeChain, rule: BridgeRule) -> bytes:
    steps = [step for match in rule.matches for step in _match(match)] + list(_verdict(rule))
    mark = rule.mark.encode() + b"\0"
    return _one(
        _NEW_RULE,
        _named(1, TABLE),
        _named(2, chain.name),
        nested(4, *(nested(1, step) for step in steps)),
        attribute(7, bytes([0, len(mark)]) + mark),  # what `nft` shows as the comment
        flags=netlink.CREATE | APPEND,
    )


def _step(name: str, *parts: bytes) -> bytes:
    return _named(1, name) + nested(2, *parts)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value))


def _match(match: BridgeMatch) -> Iterator[bytes]:
    match match:
        case Protocol(number):
            yield _load(("link", 12, 2), _FIRST)
            yield _equal(number.to_bytes(2, "big"))
        case Carried(number):
            yield _meta(1, _FIRST)
            yield _equal(number.to_bytes(2, "big"))
        case Transport(number):
            yield _meta(16, _FIRST)
            yield _equal(bytes([number]))
        case Field(header, offset, value, mask):
            yield _load((header, offset, len(value)), _FIRST)
            if mask:
                yield _masked(mask)
            yield _equal(value)
        case Among(name, way, field, negated):
            if way:
                yield _meta(6 if way == "in" else 7, _FIRST)
            if field is not None:
                yield _load(field, _SECOND if way else _FIRST)
            flags = [_number(5, _INVERTED)] if negated else []
            yield _step("lookup", _named(1, name), _number(2, _FIRST), *flags)


def _meta(key: int, register: int) -> bytes:
    return _step("meta", _number(1, register), _number(2, key))


def _load(field: tuple[str, int, int], register: int) -> bytes:
    header, offset, size = field
    values = (register, {"link": 0, "network": 1, "transport": 2}[header], offset, size)
    return _step("payload", *(_number(kind, value) for kind, value in enumerate(values, 1)))


def _equal(value: bytes) -> bytes:
    return _step("cmp", _number(1, _FIRST), _number(2, 0), nested(3, attribute(1, value)))


def _masked(mask: bytes) -> bytes:
    registers = (
        _number(kind, value) for kind, value in ((1, _FIRST), (2, _FIRST), (3, len(mask)))
    )
    data = ((4, mask), (5, bytes(len(mask))))
    return _step("bitwise", *registers, *(nested(kind, attribute(1, raw)) for kind, raw in data))


def _verdict(rule: BridgeRule) -> Iterator[bytes]:
    word, _, chain = rule.verdict.partition(" ")
    if word == "log":
        rate = struct.pack("!Q", LOGGED_A_SECOND), struct.pack("!Q", 1)
        yield _step("limit", attribute(1, rate[0]), attribute(2, rate[1]), _number(3, 100))
        group = attribute(1, struct.pack("!H", NFLOG_GROUP))
        yield _step("log", group, attribute(2, PREFIX))
        return
    if word == "drop":
        yield _step("counter")
    code = {"accept": _ACCEPT, "drop": _DROP, "goto": _GOTO}[word]
    told = [_number(1, code), *([_named(2, chain)] if chain else [])]
    yield _step("immediate", _number(1, 0), nested(2, nested(2, *told)))


def _changed(kind: int, sets: Iterable[tuple[str, Sequence[Member]]]) -> Iterator[bytes]:
    for name, members in sets:
        parts: list[bytes] = []
        room = ROOM
        for member in members:
            part = nested(1, nested(1, attribute(1, _encoded(name, member))))
            if len(part) > room:
                yield _many(kind, name, parts)
                parts, room = [], ROOM
            parts.append(part)
            room -= len(part)
        if parts:
            yield _many(kind, name, parts)


def _many(kind: int, name: str, parts: Sequence[bytes]) -> bytes:
    flags = netlink.CREATE if kind == _NEW_MEMBER else 0
    return _one(kind, _named(1, TABLE), _named(2, name), nested(3, *parts), flags=flags)


def _encoded(name: str, member: Member) -> bytes:
    found = b""
    for kind, text in zip(SETS[name], member, strict=True):
        if kind == "port":
            found += text.encode()[:15].ljust(16, b"\0")
        elif kind == "mac":
            found += bytes.fromhex(text.replace(":", "")).ljust(8, b"\0")
        else:
            family = socket.AF_INET if kind == "address4" else socket.AF_INET6
            found += socket.inet_pton(family, text)
    return found
