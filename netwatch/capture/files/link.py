"""Where the network header of each frame starts, for every link type a Linux host writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import frames as f
from netwatch.capture.files.tunnels import (
    IP4,
    IP6,
    MPLS,
    MPLS_MULTICAST,
    PPPOE,
    VLAN_TYPES,
)

Kinds = npt.NDArray[np.uint16]

# Two tags are QinQ; those behind them are read one by one.
VLANS = 2

# The numbers of AF_INET6 on Linux, the BSDs and Darwin, as null and loopback captures have them.
_FAMILY_6 = (10, 24, 28, 30)


@dataclass(frozen=True, slots=True)
class Network:
    """Per frame: where its network header starts, its ethertype, and the VLAN tags as
    `count << 24 | outer << 12 | inner`.
    """

    start: f.Ints
    kind: Kinds
    vlan: f.Ints

    def worth(self) -> npt.NDArray[np.bool_]:
        """Whether the ethertype may lead to IP."""
        return _WORTH[self.kind]


def network(near: npt.NDArray[np.uint8], captured: f.Ints, link: f.Ints) -> Network:
    """Read the link layer of all frames, of which `near` has the first bytes, a row each; a frame
    too short for it gets kind 0.
    """
    first = int(link[0]) if len(link) else f.ETHERNET
    length = _HEADERS.get(first, -1)
    if length >= 0 and (link == first).all() and int(captured.min(initial=64)) >= max(length, 1):
        # Nearly all captures: frames of one kind, none of them cut off within this header.
        start, kind = np.full(len(link), length, dtype=np.int64), _KINDS[first](near)
    else:
        start, kind = _mixed(near, captured, link)
    vlan = np.zeros_like(start)
    if ((kind != IP4) & (kind != IP6)).any():
        _tags(near, start, kind, vlan, captured)
    return Network(start, kind, vlan)


def _mixed(near: npt.NDArray[np.uint8], captured: f.Ints, link: f.Ints) -> tuple[f.Ints, Kinds]:
    start, kind = np.zeros(len(link), dtype=np.int64), np.zeros(len(link), dtype=np.uint16)
    for each in np.unique(link).tolist():
        mine = np.flatnonzero(link == each)
        length = _HEADERS.get(each, -1)
        mine = mine[captured[mine] >= max(length, 1)]
        if length < 0 or not len(mine):
            continue
        start[mine] = length
        kind[mine] = _KINDS[each](near[mine])
    return start, kind


def _tags(
    near: npt.NDArray[np.uint8], start: f.Ints, kind: Kinds, vlan: f.Ints, captured: f.Ints
) -> None:
    for _ in range(VLANS):
        tagged = np.flatnonzero(_TAGGED[kind] & (start + 4 <= captured))
        if not len(tagged):
            return
        at = start[tagged]
        tag, after = (
            near[tagged, at + place].astype(np.int64) << 8 | near[tagged, at + place + 1]
            for place in (0, 2)
        )
        before = vlan[tagged]
        vlan[tagged] = ((before >> 24) + 1) << 24 | (before & 0xFFF) << 12 | tag & 0xFFF
        kind[tagged] = after
        start[tagged] += 4


def _type(at: int) -> Callable[[npt.NDArray[np.uint8]], Kinds]:
    """An ethertype at a fixed place."""
    return lambda near: near[:, at : at + 2].view(">u2")[:, 0].astype(np.uint16)


def _raw(near: npt.NDArray[np.uint8]) -> Kinds:
    version = near[:, 0] >> 4
    return _ip(version == 4, version == 6)


def _null(near: npt.NDArray[np.uint8]) -> Kinds:
    # The family is in the byte order of the host that captured: the end that is not zero counts.
    family = near[:, 0] | near[:, 3]
    return _ip(family == 2, np.isin(family, _FAMILY_6))


def _ppp(at: int) -> Callable[[npt.NDArray[np.uint8]], Kinds]:
    """PPP's protocol number at a fixed place."""
    number_at = _type(at)

    def kinds(near: npt.NDArray[np.uint8]) -> Kinds:
        number = number_at(near)
        return _ip(number == 0x21, number == 0x57)

    return kinds


def _ip(four: npt.NDArray[np.bool_], six: npt.NDArray[np.bool_]) -> Kinds:
    return np.where(four, IP4, np.where(six, IP6, 0)).astype(np.uint16)


_TAGGED = np.zeros(65536, dtype=bool)
_TAGGED[list(VLAN_TYPES)] = True
_WORTH = _TAGGED.copy()
_WORTH[[IP4, IP6, MPLS, MPLS_MULTICAST, PPPOE]] = True

_HEADERS = {
    f.PPP: 2,
    f.PPP_HDLC: 4,
    f.HDLC: 4,
    f.ETHERNET: 14,
    f.COOKED: 16,
    f.COOKED_2: 20,
    f.RAW: 0,
    f.RAW_BSD: 0,
    f.RAW_OPENBSD: 0,
    f.IPV4: 0,
    f.IPV6: 0,
    f.NULL: 4,
    f.LOOP: 4,
}
_KINDS = {
    f.PPP: _ppp(0),
    f.PPP_HDLC: _ppp(2),
    f.HDLC: _type(2),
    f.ETHERNET: _type(12),
    f.COOKED: _type(14),
    f.COOKED_2: _type(0),
    f.RAW: _raw,
    f.RAW_BSD: _raw,
    f.RAW_OPENBSD: _raw,
    f.IPV4: _raw,
    f.IPV6: _raw,
    f.NULL: _null,
    f.LOOP: _null,
}
