"""Where the network header of each frame starts, for every link type a Linux host writes."""

from __future__ import annotations

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

# Two tags are QinQ; those behind them are read one by one.
VLANS = 2

# The numbers of AF_INET6 on Linux, the BSDs and Darwin, as null and loopback captures have them.
_FAMILY_6 = (10, 24, 28, 30)


@dataclass(frozen=True, slots=True)
class Network:
    """Per frame: offset of the network header, its ethertype, and the VLAN tags as
    `count << 24 | outer << 12 | inner`. `worth`: the ethertype may lead to IP.
    """

    start: f.Ints
    kind: f.Ints
    vlan: f.Ints
    worth: npt.NDArray[np.bool_]


def network(
    buffer: npt.NDArray[np.uint8], offset: f.Ints, captured: f.Ints, link: f.Ints
) -> Network:
    """Read the link layer of all frames; a frame too short for it gets kind 0."""
    vlan = np.zeros_like(offset)
    first = int(link[0]) if len(link) else f.ETHERNET
    length = _HEADERS.get(first, -1)
    if length >= 0 and (link == first).all() and int(captured.min(initial=64)) >= max(length, 1):
        # Nearly all captures: frames of one kind, none of them cut off within this header.
        start, kind = offset + length, _KINDS[first](buffer, offset)
    else:
        start, kind = _mixed(buffer, offset, captured, link)
    _tags(buffer, start, kind, vlan, offset + captured)
    return Network(start, kind, vlan, _WORTH[kind])


def _mixed(
    buffer: npt.NDArray[np.uint8], offset: f.Ints, captured: f.Ints, link: f.Ints
) -> tuple[f.Ints, f.Ints]:
    start, kind = offset.copy(), np.zeros_like(offset)
    for each in np.unique(link).tolist():
        mine = np.flatnonzero(link == each)
        length = _HEADERS.get(each, -1)
        mine = mine[captured[mine] >= max(length, 1)]
        if length < 0 or not len(mine):
            continue
        at = offset[mine]
        start[mine] = at + length
        kind[mine] = _KINDS[each](buffer, at)
    return start, kind


def _tags(
    buffer: npt.NDArray[np.uint8], start: f.Ints, kind: f.Ints, vlan: f.Ints, end: f.Ints
) -> None:
    for _ in range(VLANS):
        tagged = np.flatnonzero(_TAGGED[kind] & (start + 4 <= end))
        if not len(tagged):
            return
        at = start[tagged]
        before = vlan[tagged]
        vlan[tagged] = (
            ((before >> 24) + 1) << 24 | (before & 0xFFF) << 12 | _u16(buffer, at) & 0xFFF
        )
        kind[tagged] = _u16(buffer, at + 2)
        start[tagged] += 4


def _u16(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    pairs = np.ndarray((len(buffer) - 1,), ">u2", buffer=buffer.data, strides=(1,))
    return pairs[at].astype(np.int64)


def _ethernet(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _u16(buffer, at + 12)


def _cooked(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _u16(buffer, at + 14)


def _cooked_2(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _u16(buffer, at)


def _raw(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    version = buffer[at] >> 4
    return np.where(version == 4, IP4, np.where(version == 6, IP6, 0)).astype(np.int64)


def _null(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    # The family is in the byte order of the host that captured: the end that is not zero counts.
    family = buffer[at] | buffer[at + 3]
    six = np.isin(family, _FAMILY_6)
    return np.where(family == 2, IP4, np.where(six, IP6, 0)).astype(np.int64)


def _hdlc(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _u16(buffer, at + 2)


def _ppp(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _protocol(_u16(buffer, at))


def _ppp_hdlc(buffer: npt.NDArray[np.uint8], at: f.Ints) -> f.Ints:
    return _protocol(_u16(buffer, at + 2))


def _protocol(number: f.Ints) -> f.Ints:
    return np.where(number == 0x21, IP4, np.where(number == 0x57, IP6, 0)).astype(np.int64)


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
    f.PPP: _ppp,
    f.PPP_HDLC: _ppp_hdlc,
    f.HDLC: _hdlc,
    f.ETHERNET: _ethernet,
    f.COOKED: _cooked,
    f.COOKED_2: _cooked_2,
    f.RAW: _raw,
    f.RAW_BSD: _raw,
    f.RAW_OPENBSD: _raw,
    f.IPV4: _raw,
    f.IPV6: _raw,
    f.NULL: _null,
    f.LOOP: _null,
}
