"""Answers of the Domain Name System: which names were said to have which addresses (RFC 1035).

Total and bounded: any bytes give an answer or none. Only names of letters, digits, hyphens and
underscores are taken; what else may stand in a label is no name of a server, and would have to be
escaped wherever it is shown.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

HEADER = 12
RESPONSE, RCODE = 0x8000, 0x000F
A, CNAME, AAAA = 1, 5, 28
INTERNET = 1
MAX_RECORDS = 128  # of one message; a message of 4 kB holds about as many
MAX_JUMPS = 32  # compression pointers followed in one name
MAX_CHAIN = 16  # aliases between the name that was asked for and an address
_LABEL = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Answer:
    """`name`, lower case and without the last dot, had this address for `ttl` seconds."""

    name: str
    address: str
    ttl: int


def answers(message: bytes) -> tuple[Answer, ...]:
    """What a response says of the name that was asked for, its aliases followed to addresses.

    Empty for a query, an error, and whatever is no message.
    """
    if len(message) < HEADER:
        return ()
    flags, questions, records = (int.from_bytes(message[i : i + 2], "big") for i in (2, 4, 6))
    if not flags & RESPONSE or flags & RCODE or questions != 1:
        return ()
    try:
        asked, at = _name(message, HEADER)
        return _followed(asked, _records(message, at + 4, min(records, MAX_RECORDS)))
    except (IndexError, ValueError):
        return ()


def query_id(message: bytes) -> tuple[int, bool] | None:
    """Number of the message, and whether it is a response; None if it is too short for one."""
    if len(message) < HEADER:
        return None
    return int.from_bytes(message[:2], "big"), bool(message[2] & 0x80)


def host_name(text: str | None) -> str | None:
    """A name as a server may have it, lower case without the last dot; None for all else.

    An address is no name, though it may stand where one should.
    """
    if not text:
        return None
    name = text.lower().rstrip(".")
    if not _NAME.fullmatch(name) or ".." in name:
        return None
    return None if name.rpartition(".")[2].isdecimal() else name


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    kind: int
    ttl: int
    value: str


def _followed(asked: str, records: list[_Record]) -> tuple[Answer, ...]:
    """From the name that was asked for over aliases to addresses; strangers in it are left out."""
    name, ttl = asked, 1 << 31
    for _ in range(MAX_CHAIN):
        found = [r for r in records if r.name == name and r.kind in (A, AAAA)]
        if found:
            return tuple(Answer(asked, r.value, min(ttl, r.ttl)) for r in found)
        alias = next((r for r in records if r.name == name and r.kind == CNAME), None)
        if alias is None:
            return ()
        name, ttl = alias.value, min(ttl, alias.ttl)
    return ()


def _records(message: bytes, at: int, count: int) -> list[_Record]:
    found: list[_Record] = []
    for _ in range(count):
        try:
            name, at = _name(message, at)
        except (IndexError, ValueError):
            if found:
                break
            raise
        kind, family = (int.from_bytes(message[at + i : at + i + 2], "big") for i in (0, 2))
        ttl = int.from_bytes(message[at + 4 : at + 8], "big")
        size = int.from_bytes(message[at + 8 : at + 10], "big")
        at += 10
        data = message[at : at + size]
        if len(data) != size or at > len(message):
            break  # cut off; what came before stands
        if family == INTERNET and (kind, size) in ((A, 4), (AAAA, 16)):
            found.append(_Record(name, kind, _lasting(ttl), str(ipaddress.ip_address(data))))
        elif family == INTERNET and kind == CNAME:
            found.append(_Record(name, kind, _lasting(ttl), _name(message, at)[0]))
        at += size
    return found


def _lasting(ttl: int) -> int:
    """A time to live with the highest bit set is 0 (RFC 2181, section 8)."""
    return ttl if ttl < 1 << 31 else 0


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at this place and the place after it; raises ValueError or IndexError.

    A pointer must lead backwards, so that following it ends.
    """
    labels: list[bytes] = []
    after: int | None = None
    limit, jumps = at, 0
    while size := message[at]:
        if size & 0xC0 == 0xC0:
            target = (size & 0x3F) << 8 | message[at + 1]
            after = at + 2 if after is None else after
            jumps += 1
            if target >= limit or jumps > MAX_JUMPS:
                raise ValueError("a compression pointer does not lead backwards")
            at = limit = target
            continue
        label = message[at + 1 : at + 1 + size]
        if size > 63 or not _LABEL.fullmatch(label):
            raise ValueError("a label is no part of a host's name")
        labels.append(label)
        if len(labels) > 127:
            raise ValueError("a name has too many labels")
        at += 1 + size
    name = b".".join(labels).decode("ascii").lower()
    if not 1 <= len(name) <= 253:
        raise ValueError("a name is empty or too long")
    return name, at + 1 if after is None else after
