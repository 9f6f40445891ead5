"""The sockets of a network namespace, as the kernel tells and ends them: sock_diag.

linux/sock_diag.h and linux/inet_diag.h. It answers for the namespace of the calling thread.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple

from netwatch.enforce import netlink

# include/net/tcp_states.h; of UDP: connected to one end, and waiting for all.
ESTABLISHED, SYN_RECV, TIME_WAIT, UNCONNECTED, LISTEN, NEW_SYN_RECV = 1, 3, 6, 7, 10, 12
NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
WAITING = {"tcp": LISTEN, "udp": UNCONNECTED}
EVERY = 0xFFFFFFFF

_SOCK_DIAG, _BY_FAMILY, _DESTROY = 4, 20, 21
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 16}  # bytes of an address
_TOLD = struct.Struct("!xBxxHH16s16s")  # struct inet_diag_msg, until the interface
_ID, _INODE_AT = slice(4, 52), 68  # its struct inet_diag_sockid, and the last number
_MAPPED = bytes(10) + b"\xff\xff"


class Socket(NamedTuple):
    """One socket. Addresses are packed, those of IPv4 in four bytes also on a socket of IPv6."""

    protocol: str
    state: int
    local: bytes
    port: int
    remote: bytes
    far: int
    inode: int

    @property
    def waits(self) -> bool:
        """For connections, or for datagrams of whoever sends some."""
        return self.state == WAITING[self.protocol]

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """Address and port here, and at the far end."""
        return str(ip_address(self.local)), self.port, str(ip_address(self.remote)), self.far


def sockets(
    protocol: str, states: int, *, strict: bool = False, most: int | None = None
) -> Iterator[tuple[Socket, bytes]]:
    """Those of tcp or udp in these states (a bit each), with what means one of them and no other;
    of each family at `most` so many.

    None where the kernel has no sock_diag; if `strict`, that raises netlink.Refused.
    """
    for family, width in _FAMILIES.items():
        wanted = _request(family, protocol, states) + bytes(48)
        dumped = netlink.dump_raw(_SOCK_DIAG, _BY_FAMILY, wanted, strict=strict)
        for body in islice(dumped, most):
            state, port, far, local, remote = _TOLD.unpack_from(body)
            (inode,) = struct.unpack_from("=I", body, _INODE_AT)
            ends = plain(local[:width]), port, plain(remote[:width]), far
            only = _request(family, protocol, EVERY) + body[_ID]
            yield Socket(protocol, state, *ends, inode), only


def destroy(only: bytes) -> bool:
    """End a socket; both sides learn of it at once (tcp_abort). False where the kernel can not."""
    return netlink.tell(_SOCK_DIAG, _DESTROY, only) == 0


def plain(address: bytes) -> bytes:
    """An address of IPv4 also where it is written as one of IPv6."""
    return address[12:] if address.startswith(_MAPPED) else address


def _request(family: int, protocol: str, states: int) -> bytes:
    """struct inet_diag_req_v2, before its inet_diag_sockid."""
    return struct.pack("=BBBxI", family, NUMBERS[protocol], 0, states)
