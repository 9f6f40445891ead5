"""Regions of ports and ranges of addresses: the finite pieces on which a verdict is constant.

A policy names finitely many ports and networks. Between two neighbouring borders nothing can
change the verdict, so asking once per piece is exact; so the compiler can use the policies'
own Judge instead of a second reading of what policies mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import NamedTuple

PORTED = ("tcp", "udp", "sctp")
OTHER = "other"  # stands for every protocol that no document names
LAST_PORT = 65535


class Span(NamedTuple):
    """Ports `first` to `last` of a protocol; a protocol without ports has 0 to 65535."""

    protocol: str
    first: int
    last: int


Region = tuple[Span, ...]  # sorted, disjoint, never touching: equal regions are equal values


def full(protocols: Iterable[str]) -> Region:
    """Every port of every protocol."""
    return tuple(Span(protocol, 0, LAST_PORT) for protocol in sorted(protocols))


def pieces(protocols: Iterable[str], borders: Iterable[int]) -> Iterable[Span]:
    """All ports of all protocols, cut at `borders` (first ports of pieces)."""
    starts = sorted({0, *(border for border in borders if 0 < border <= LAST_PORT)})
    for protocol in sorted(protocols):
        firsts = starts if protocol in PORTED else [0]
        for first, following in zip(firsts, [*firsts[1:], LAST_PORT + 1], strict=True):
            yield Span(protocol, first, following - 1)


def both(one: Region, other: Region) -> Region:
    """What lies in both regions."""
    if one == other:
        return one
    return joined(
        Span(a.protocol, max(a.first, b.first), min(a.last, b.last))
        for a in one
        for b in other
        if a.protocol == b.protocol and a.first <= b.last and b.first <= a.last
    )


def united(one: Region, other: Region) -> Region:
    """What lies in either region."""
    return joined((*one, *other))


def less(one: Region, other: Region) -> Region:
    """What lies in the first region and not in the second."""
    left = list(one)
    for hole in other:
        left = [piece for span in left for piece in _cut(span, hole)]
    return joined(left)


def _cut(span: Span, hole: Span) -> list[Span]:
    if span.protocol != hole.protocol or hole.last < span.first or span.last < hole.first:
        return [span]
    below = Span(span.protocol, span.first, hole.first - 1)
    above = Span(span.protocol, hole.last + 1, span.last)
    return [piece for piece in (below, above) if piece.first <= piece.last]


def joined(spans: Iterable[Span]) -> Region:
    """The fewest spans with the same ports."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and found[-1].protocol == span.protocol and found[-1].last + 1 >= span.first:
            found[-1] = Span(span.protocol, found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return tuple(found)


def family_of(address: str) -> int:
    """4 or 6, of an address or a network."""
    return 6 if ":" in address else 4


def ranges(networks: Iterable[str], family: int) -> list[tuple[int, int]]:
    """The whole address space of a family, cut at the borders of these networks, in order."""
    starts = {0}
    size = 1 << (32 if family == 4 else 128)
    for text in networks:
        network = ip_network(text, strict=False)
        if network.version == family:
            starts |= {int(network.network_address), int(network.broadcast_address) + 1}
    ordered = sorted(start for start in starts if start < size)
    return list(zip(ordered, [start - 1 for start in ordered[1:]] + [size - 1], strict=True))


def address(number: int, family: int) -> str:
    """The address with this number."""
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))


def networks_of(pieces: Iterable[tuple[int, int]], family: int) -> tuple[str, ...]:
    """The fewest networks that cover these ranges; ipset refuses a /0, so that is halved."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if joined and joined[-1][1] + 1 >= first:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    found: list[str] = []
    for first, last in joined:
        low, high = address(first, family), address(last, family)
        for network in summarize_address_range(ip_address(low), ip_address(high)):
            found += [_member(part) for part in _halved(network)]
    return tuple(found)


def _halved(network: IPv4Network | IPv6Network) -> list[IPv4Network | IPv6Network]:
    return [network] if network.prefixlen else list(network.subnets())


def _member(network: IPv4Network | IPv6Network) -> str:
    """As `ipset save` prints it: a network of one address without its prefix length."""
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def member(text: str) -> tuple[str, ...]:
    """A network as members of an ipset, in the spelling of `ipset save`."""
    return tuple(_member(part) for part in _halved(ip_network(text, strict=False)))
