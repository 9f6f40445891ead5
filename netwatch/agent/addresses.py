"""Addresses on the capture path: 16 bytes in, text out, each turned into text once."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

MAPPED = bytes(10) + b"\xff\xff"  # IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)


@lru_cache(maxsize=65_536)
def text_of(packed: bytes) -> str:
    """The usual text of a 16-byte address; IPv4 in dotted form."""
    if packed.startswith(MAPPED):
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))


def packed(text: str) -> bytes:
    """The 16 bytes of an address."""
    address = ipaddress.ip_address(text)
    return MAPPED + address.packed if address.version == 4 else address.packed
