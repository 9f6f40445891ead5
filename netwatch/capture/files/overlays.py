"""VXLAN and Geneve over IPv4, as overlay networks of containers use them, without a slow path.

Regular packets inside regular ones are found here for many frames at once and read like any other;
what is odd outside or inside stays with `odd`, which reads the same of it (a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd, tunnels
from netwatch.capture.files.frames import Ints
from netwatch.capture.files.paths import Layer, Paths

Words = npt.NDArray[np.uint64]

# IPv4 without options, UDP, and both headers of 8 bytes; then Ethernet and the least of IPv4.
_OUTER, _ETHERNET = 36, 14
_LEAST = _OUTER + _ETHERNET + 20
_SHAPE, _REGULAR = np.uint64(0xFF00000000003FFF), np.uint64(0x45 << 56)
_NAMES = ("vxlan", "geneve")


@dataclass(frozen=True, slots=True)
class Overlays:
    """Per packet that carries another: its number, and of the inner one `start`, `kind`,
    `remaining` (bytes that were captured) and `wire`. `ends` (both outer addresses) and `network`
    (which of _NAMES, and its id) tell the tunnels apart.
    """

    mine: Ints
    start: Ints
    kind: Ints
    remaining: Ints
    wire: Ints
    ends: Words
    network: Words

    def take(self, which: Ints) -> Overlays:
        """Some of them."""
        return Overlays(*(getattr(self, name)[which] for name in self.__slots__))


class _Group(NamedTuple):
    rows: Ints
    vlan: int
    from_low: bool
    layer: Layer


def overlays(words: Words, start: Ints, mine: Ints, remaining: Ints, wire: Ints) -> Overlays:
    """What may be read at once. `words` are the first seven of each packet; the last one begins
    with the type of the Ethernet header inside.
    """
    length = (words[0] >> 32 & 0xFFFF).astype(np.int64)
    good = ((words[0] & _SHAPE) == _REGULAR) & ((words[1] >> 48 & 0xFF) == odd.UDP)
    good &= (length <= wire) & (np.minimum(length, remaining) >= _LEAST)
    port, first = words[2] & 0xFFFF, words[3] >> 24 & 0xFF
    vxlan = ((port == tunnels.VXLAN) | (port == tunnels.VXLAN_LINUX)) & ((first & 0x0C) == 0x08)
    # Without options: those move what is inside.
    geneve = (port == tunnels.GENEVE) & (first == 0)
    geneve &= (words[3] & 0xFFFF) == tunnels.BRIDGED
    which = np.flatnonzero(good & (vxlan | geneve))
    begin = _OUTER + _ETHERNET
    return Overlays(
        mine[which],
        start[which] + begin,
        (words[6][which] >> 48).astype(np.int64),
        np.minimum(remaining, length)[which] - begin,
        length[which] - begin,
        words[1][which] << 32 | words[2][which] >> 32,
        geneve[which].astype(np.uint64) << 24 | words[4][which] >> 40,
    )


def paths(found: Overlays, vlan: Ints, from_low: npt.NDArray[np.bool_], known: Paths) -> Words:
    """The bits of each inner packet's key that stand for what it was wrapped in."""
    bits = np.zeros(len(found.mine), dtype=np.uint64)
    for group in _groups(found, vlan, from_low):
        tags, layers = known.vlan(group.vlan), (group.layer,)
        bits[group.rows] = known.number(tags, layers, from_low=group.from_low)
        if not bits[group.rows[0]]:
            known.refused += len(group.rows) - 1
    return bits


def _groups(found: Overlays, vlan: Ints, from_low: npt.NDArray[np.bool_]) -> Iterator[_Group]:
    """The packets of one tunnel, VLAN and direction each."""
    rest = found.network << 32 | vlan.astype(np.uint64) << 1 | from_low
    order = np.lexsort((rest, found.ends))
    ends, rest = found.ends[order], rest[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ends[1:] != ends[:-1]) | (rest[1:] != rest[:-1])
    for rows in np.split(order, np.flatnonzero(new)[1:]):
        one = int(rows[0])
        packed = int(found.ends[one]).to_bytes(8, "big")
        number = int(found.network[one])
        layer = Layer(_NAMES[number >> 24], number & 0xFFFFFF, packed[:4], packed[4:])
        yield _Group(rows, int(vlan[one]), bool(from_low[one]), layer)


PROTOCOL = odd.UDP
