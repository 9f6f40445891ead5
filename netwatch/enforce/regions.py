"""Regions of ports and ranges of addresses: the finite pieces on which a verdict is constant.

A policy names finitely many ports and networks. Between two neighbouring borders nothing can
change the verdict, so asking once per piece is exact; so the compiler can use the policies'
own Judge instead of a second reading of what policies mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netaddr import IPAddress, IPNetwork, IPRange, cidr_merge

PORTED = ("tcp", "udp", "sctp")
OTHER = "other"  # stands for every protocol that no document names
LAST_PORT = 65535
ALWAYS = (130, 131, 132, 133, 134, 135, 136, 137, 143)  # ICMPv6: MLD, neighbour discovery


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
        network = IPNetwork(text)
        if network.version == family:
            starts |= {network.first, network.last + 1}
    ordered = sorted(start for start in starts if start < size)
    return list(zip(ordered, [start - 1 for start in ordered[1:]] + [size - 1], strict=True))


def address(number: int, family: int) -> str:
    """The address with this number."""
    return str(IPAddress(number, family))


def networks_of(pieces: Iterable[tuple[int, int]], family: int) -> tuple[str, ...]:
    """The fewest networks that cover these ranges, as members of an ipset, in order."""
    spans = [IPRange(*(IPAddress(end, family) for end in piece)) for piece in pieces]
    return tuple(part for network in cidr_merge(spans) for part in _members(network))


def member(text: str) -> tuple[str, ...]:
    """A network as members of an ipset, in the spelling of `ipset save`."""
    return tuple(_members(IPNetwork(text).cidr))


def _members(network: IPNetwork) -> Iterable[str]:
    """ipset refuses a /0, so that is halved; one address is told without its prefix length."""
    for part in [network] if network.prefixlen else network.subnet(1):
        yield str(part.ip) if part.size == 1 else str(part)
