"""WireGuard's interfaces and peers: asked of the kernel, or of the socket of a user-space one.

The kernel's messages follow linux/wireguard.h (generic netlink, family `wireguard`); the socket
speaks the cross-platform protocol of wireguard.com/xplatform, `get=1`. Both tell the private key
to root: it is not looked at, and of a public key only the beginning is kept.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from netwatch.discover.links import (
    IFLA_IFNAME,
    RTM_GETLINK,
    RTM_NEWLINK,
    ask,
    attributes_of,
    names_of_links,
)
from netwatch.model.link import WireGuard, WireGuardPeer
from netwatch.model.times import SECOND

SOCKETS = Path("/var/run/wireguard")
MAX_ANSWER = 4 * 1024 * 1024  # about 10,000 peers
MAX_SOCKETS = 64
ANSWER_S = 1.0
KEY_SHOWN = 8  # characters of base64: 48 bits, enough to find the line in `wg show`

NETLINK_GENERIC = 16
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
WG_CMD_GET_DEVICE = 0
WGDEVICE_A_IFNAME, WGDEVICE_A_PEERS = 2, 8
WGPEER_A_PUBLIC_KEY, WGPEER_A_ENDPOINT, WGPEER_A_LAST_HANDSHAKE_TIME = 1, 4, 6
WGPEER_A_ALLOWEDIPS = 9
WGALLOWEDIP_A_FAMILY, WGALLOWEDIP_A_IPADDR, WGALLOWEDIP_A_CIDR_MASK = 1, 2, 3
IFLA_LINKINFO, IFLA_INFO_KIND = 18, 1
_LINK = struct.Struct("=BxHiII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_SIZES = ((int(socket.AF_INET), 4), (int(socket.AF_INET6), 16))


def wireguard(sockets: Path = SOCKETS) -> tuple[WireGuard, ...]:
    """Every WireGuard interface of this network namespace. Raises OSError."""
    return (*_of_kernel(), *_of_sockets(sockets))


def peers_of_answer(text: str) -> tuple[WireGuardPeer, ...]:
    """The peers in an answer to `get=1`; raises ValueError where it says that it failed."""
    peers: list[WireGuardPeer] = []
    seconds = 0
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "errno" and value != "0":
            raise ValueError(f"the WireGuard socket answers with errno {value[:16]}")
        if key == "public_key":
            peers.append(WireGuardPeer(_shown(bytes.fromhex(value))))
        elif key == "last_handshake_time_sec":
            seconds = int(value)
        elif peers:
            peers[-1] = _told(peers[-1], key, value, seconds)
    return tuple(peers)


def _told(peer: WireGuardPeer, key: str, value: str, seconds: int) -> WireGuardPeer:
    match key:
        case "last_handshake_time_nsec":
            return replace(peer, handshake=seconds * SECOND + int(value) or None)
        case "endpoint":
            return replace(peer, endpoint=value[:64])
        case "allowed_ip":
            return replace(peer, allowed=(*peer.allowed, value))
    return peer


def devices_of_messages(bodies: Iterable[bytes]) -> tuple[WireGuard, ...]:
    """The interfaces in answers to WG_CMD_GET_DEVICE; one that is long comes in several pieces."""
    found: dict[str, dict[bytes, WireGuardPeer]] = {}
    for body in bodies:
        device = attributes_of(body, _GENERIC.size)
        name = device.get(WGDEVICE_A_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        peers = found.setdefault(name, {})
        for nested in _each(device.get(WGDEVICE_A_PEERS, b"")):
            peer = attributes_of(nested, 0)
            key = peer.get(WGPEER_A_PUBLIC_KEY, b"")
            known = peers.get(key, WireGuardPeer(_shown(key)))
            allowed = tuple(_allowed(peer.get(WGPEER_A_ALLOWEDIPS, b"")))
            peers[key] = WireGuardPeer(
                known.key,
                (*known.allowed, *allowed),
                _endpoint(peer.get(WGPEER_A_ENDPOINT, b"")) or known.endpoint,
                _handshake(peer.get(WGPEER_A_LAST_HANDSHAKE_TIME, b"")) or known.handshake,
            )
    return tuple(WireGuard(name, tuple(peers.values())) for name, peers in found.items())


def _of_kernel() -> Iterator[WireGuard]:
    names = [name for name, kind in _kinds() if kind == "wireguard"]
    if not names:
        return
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC
    ) as generic:
        generic.settimeout(ANSWER_S)
        family = _family(generic)
        for name in names:
            request = _GENERIC.pack(WG_CMD_GET_DEVICE, 1, 0) + _text(WGDEVICE_A_IFNAME, name)
            yield from devices_of_messages(list(ask(generic, family, request, family)))


def _family(generic: socket.socket) -> int:
    request = _GENERIC.pack(CTRL_CMD_GETFAMILY, 1, 0) + _text(CTRL_ATTR_FAMILY_NAME, "wireguard")
    for body in ask(generic, GENL_ID_CTRL, request, None):
        raw = attributes_of(body, _GENERIC.size).get(CTRL_ATTR_FAMILY_ID)
        if raw:
            return int.from_bytes(raw[:2], "little")
    raise OSError(errno.ENOENT, "the kernel has no family wireguard")


def _kinds() -> Iterator[tuple[str, str]]:
    """Name and kind of each link."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as route:
        route.settimeout(ANSWER_S)
        request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for body in ask(route, RTM_GETLINK, request, RTM_NEWLINK):
            link = attributes_of(body, _LINK.size)
            info = attributes_of(link.get(IFLA_LINKINFO, b""), 0)
            yield _name(link.get(IFLA_IFNAME, b"")), _name(info.get(IFLA_INFO_KIND, b""))


def _of_sockets(folder: Path) -> Iterator[WireGuard]:
    """User-space ones, as far as their interface is in this namespace: the folder is all's."""
    here = names_of_links()
    try:
        files = sorted(folder.glob("*.sock"))[:MAX_SOCKETS]
    except OSError:
        return
    for file in files:
        if file.stem in here:
            try:
                yield WireGuard(file.stem, peers_of_answer(_asked(file)), "socket")
            except (OSError, ValueError):  # ended, and left its socket behind
                yield WireGuard(file.stem, (), "socket")


def _asked(file: Path) -> str:
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as spoken:
        spoken.settimeout(ANSWER_S)
        spoken.connect(os.fspath(file))
        spoken.sendall(b"get=1\n\n")
        while not answer.endswith(b"\n\n"):
            piece = spoken.recv(65_536)
            if not piece or len(answer) > MAX_ANSWER:
                raise OSError(errno.EPROTO, "the WireGuard socket does not answer as documented")
            answer += piece
    return answer.decode("ascii")


def _each(nest: bytes) -> Iterator[bytes]:
    """The values of a list: attributes whose types are only numbers, or all 0."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(nest):
        size, _ = _ATTRIBUTE.unpack_from(nest, offset)
        if size < _ATTRIBUTE.size:
            return
        yield nest[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3


def _allowed(nest: bytes) -> Iterator[str]:
    for each in _each(nest):
        entry = attributes_of(each, 0)
        family = int.from_bytes(entry.get(WGALLOWEDIP_A_FAMILY, b"")[:2], "little")
        raw, mask = entry.get(WGALLOWEDIP_A_IPADDR, b""), entry.get(WGALLOWEDIP_A_CIDR_MASK, b"")
        if (family, len(raw)) in _SIZES and mask:
            yield f"{socket.inet_ntop(family, raw)}/{mask[0]}"


def _endpoint(raw: bytes) -> str | None:
    """struct sockaddr_in or sockaddr_in6."""
    if len(raw) < 8:
        return None
    family, port = struct.unpack_from("=H", raw)[0], struct.unpack_from("!H", raw, 2)[0]
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(family, raw[4:8])}:{port}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{socket.inet_ntop(family, raw[8:24])}]:{port}"
    return None


def _handshake(raw: bytes) -> int | None:
    """struct __kernel_timespec; zero before the first one."""
    if len(raw) < 16:
        return None
    seconds, rest = struct.unpack_from("=qq", raw)
    return int(seconds * SECOND + rest) or None


def _shown(key: bytes) -> str:
    return base64.b64encode(key).decode()[:KEY_SHOWN]


def _text(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _name(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
