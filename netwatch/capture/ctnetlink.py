"""Conntrack's netlink messages, to and from the kernel, decoded many at a time.

The kernel writes equal connections in equal layouts, and there are few layouts. So the first
message of each length is walked, attribute by attribute, into a template; all messages whose
attribute headers are byte for byte those of the template are then read by offset with numpy, and
the rest gets a template of its own. (net/netfilter/nf_conntrack_netlink.c, nfnetlink_conntrack.h)
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.kernel.namespaces import socket_inside

NEW, DESTROY = 0x100, 0x102  # nfnetlink subsystem 1, IPCTNL_MSG_CT_NEW and _DELETE
GROUP_NEW, GROUP_DESTROY = 1, 3  # NFNLGRP_CONNTRACK_*
SEEN_REPLY = 1 << 1  # enum ip_conntrack_status
SRC_NAT = 1 << 4
DST_NAT = 1 << 5

TRACKED = np.dtype(
    [
        ("type", "<u2"),
        ("protocol", "u1"),
        ("state", "u1"),  # TCP only; enum tcp_conntrack
        ("status", "<u4"),
        ("source", "u1", (2, 16)),  # of the original direction, then of the reply
        ("destination", "u1", (2, 16)),
        ("source_port", "<u2", 2),
        ("destination_port", "<u2", 2),
        ("packets", "<u8", 2),
        ("bytes", "<u8", 2),
    ]
)

NOTHING = np.zeros(0, TRACKED)

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 * 1024 * 1024  # a second of 10,000 connections is some 20 MB of kernel memory
_DATAGRAM = 65_536
_DUMP_S = 10.0
_GET = 0x101  # IPCTNL_MSG_CT_GET
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_HEADERS = 20  # nlmsghdr and nfgenmsg
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_MAPPED = bytes(10) + b"\xff\xff"

_NESTED = {(1,), (2,), (1, 1), (2, 1), (1, 2), (2, 2), (4,), (4, 1), (9,), (10,)}
_FIELDS: dict[tuple[int, ...], tuple[str, int | None, str]] = {
    (3,): ("status", None, ">u4"),
    (4, 1, 1): ("state", None, "u1"),
    (1, 2, 1): ("protocol", None, "u1"),
}
for _side, _tuple, _counters in ((0, 1, 9), (1, 2, 10)):
    _FIELDS |= {
        (_tuple, 1, 1): ("source", _side, "v4"),
        (_tuple, 1, 2): ("destination", _side, "v4"),
        (_tuple, 1, 3): ("source", _side, "v6"),
        (_tuple, 1, 4): ("destination", _side, "v6"),
        (_tuple, 2, 2): ("source_port", _side, ">u2"),
        (_tuple, 2, 3): ("destination_port", _side, ">u2"),
        (_counters, 1): ("packets", _side, ">u8"),
        (_counters, 2): ("bytes", _side, ">u8"),
    }
_SIZES = {"v4": 4, "v6": 16}
Rows = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Layout:
    skeleton: npt.NDArray[np.intp]  # the bytes that make the layout: every attribute header
    fields: tuple[tuple[str, int | None, str, int], ...]  # name, side, kind, offset


def _attributes(
    message: bytes, at: int, end: int, path: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Every attribute as (path of types, offset of its header, its length)."""
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4 or at + length > end:
            return
        here = (*path, kind & _TYPE_MASK)
        yield here, at, length
        if here in _NESTED:
            yield from _attributes(message, at + 4, at + length, here)
        at += (length + 3) & ~3


def _layout_of(message: bytes) -> _Layout:
    skeleton = [4, 5]  # the message type
    fields = []
    for path, at, length in _attributes(message, _HEADERS, len(message), ()):
        skeleton += range(at, at + 4)
        name, side, kind = _FIELDS.get(path, ("", None, ""))
        size = _SIZES.get(kind) or (np.dtype(kind).itemsize if kind else 0)
        if name and length == 4 + size:
            fields.append((name, side, kind, at + 4))
    return _Layout(np.array(skeleton), tuple(fields))


def _gather(messages: npt.NDArray[np.uint8], layout: _Layout) -> Rows:
    rows = np.zeros(len(messages), TRACKED)
    rows["type"] = messages[:, 4:6].copy().view("=u2")[:, 0]
    for name, side, kind, at in layout.fields:
        column = rows[name] if side is None else rows[name][:, side]
        if kind == "v4":
            column[:, :12] = np.frombuffer(_MAPPED, np.uint8)
            column[:, 12:] = messages[:, at : at + 4]
        elif kind == "v6":
            column[:] = messages[:, at : at + 16]
        else:
            size = np.dtype(kind).itemsize
            column[:] = np.ascontiguousarray(messages[:, at : at + size]).view(kind)[:, 0]
    return rows


def decode(messages: Sequence[bytes]) -> Rows:
    """TRACKED rows of whole conntrack messages (NEW or DESTROY), in no particular order."""
    by_length: dict[int, list[bytes]] = defaultdict(list)
    for message in messages:
        by_length[len(message)].append(message)
    parts = [NOTHING]
    for length, equal in by_length.items():
        if length < _HEADERS:
            continue
        rest = np.frombuffer(b"".join(equal), np.uint8).reshape(-1, length)
        while len(rest):
            layout = _layout_of(rest[0].tobytes())
            same = (rest[:, layout.skeleton] == rest[0, layout.skeleton]).all(axis=1)
            parts.append(_gather(rest[same], layout))
            rest = rest[~same]
    return np.concatenate(parts)


def split(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages of a datagram as (type, message)."""
    at = 0
    while at + 16 <= len(datagram):
        length, kind = struct.unpack_from("=IH", datagram, at)
        if length < 16 or at + length > len(datagram):
            return
        yield kind, datagram[at : at + length]
        at += (length + 3) & ~3


class Overrun(Exception):
    """The kernel dropped events because they were not taken out in time."""


class Events:
    """The conntrack events of a namespace, from now on."""

    def __init__(self, namespace: Path | None, groups: Sequence[int]) -> None:
        """Raises OSError where the kernel has no conntrack netlink or the user lacks the right."""
        self._socket = socket_inside(
            namespace, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER
        )
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def take(self, most: int = 100_000) -> Rows:
        """TRACKED rows of what happened since, `most` at a time. Raises Overrun."""
        messages: list[bytes] = []
        try:
            while len(messages) < most:
                messages += [message for _, message in split(self._socket.recv(_DATAGRAM))]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun from None
            raise
        return decode(messages) if messages else NOTHING

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def dump(namespace: Path | None) -> Rows:
    """TRACKED rows of all connections that are tracked now, IPv4 and IPv6.

    Raises OSError where the kernel has no conntrack or does not answer.
    """
    messages: list[bytes] = []
    channel = socket_inside(namespace, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    with channel:
        channel.settimeout(_DUMP_S)
        channel.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER_BYTES)
        channel.bind((0, 0))
        channel.send(struct.pack("=IHHIIBBH", _HEADERS, _GET, _REQUEST_DUMP, 1, 0, 0, 0, 0))
        while True:
            for kind, message in split(channel.recv(_DATAGRAM)):
                if kind == _DONE:
                    return decode(messages)
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", message, 16)[0]
                    raise OSError(code, "conntrack can not be listed")
                messages.append(message)
