"""`lab connect`: one real connection from inside a host or workload, and what became of it.

Nothing is imported that this does not need: it is called hundreds of times by tests.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from dataclasses import dataclass

from netwatch.kernel.namespaces import path_of_name, socket_inside
from netwatch.lab import state
from netwatch.lab.directory import NotInLab, family_of, reach
from netwatch.model.errors import NetwatchError

SAID = b"netwatch lab connect\n"
V4_RECVERR = socket.IPPROTO_IP, 11  # linux/in.h
V6_RECVERR = socket.IPPROTO_IPV6, 25  # linux/in6.h
REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET}
# ICMP that says prohibited or unreachable comes from something in between, not from the end; EPERM
# is a DROP in our own namespace's OUTPUT.
FILTERED = {
    errno.ETIMEDOUT,
    errno.EPERM,
    errno.EACCES,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EPROTO,
    errno.ENOPROTOOPT,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """`result`: open; refused: the end itself said no, so it was reached; or filtered: it was not.

    As nmap has it: a reset or a port unreachable refuses, silence and a prohibition filter.
    """

    result: str
    ms: float
    address: str
    port: int


def connect(
    source: str,
    target: str,
    port: int,
    *,
    udp: bool = False,
    family: int | None = None,
    timeout_s: float = 2.0,
) -> Attempt:
    """Connect from `source` to `port` of `target`; UDP is open when the echo comes back.

    Raises NoLab, NotInLab, or NetwatchError where the source itself can not try.
    """
    entries = state.read_directory()
    kind, protocol = (socket.SOCK_DGRAM, "udp") if udp else (socket.SOCK_STREAM, "tcp")
    address, aimed = reach(
        entries, source, target=target, protocol=protocol, port=port, family=family
    )
    if family is not None and family_of(address) != family:
        raise NotInLab(f"{address} is not an IPv{family} address")
    kin = socket.AF_INET6 if family_of(address) == 6 else socket.AF_INET
    try:
        opened = socket_inside(path_of_name(entries[source].netns), kin, kind)
    except OSError as error:
        raise NetwatchError(f"{source} can not open a socket: {error.strerror}") from None
    try_it = _datagram if udp else _stream
    with opened:
        began = time.monotonic()
        try:
            code = try_it(opened, (address, aimed), timeout_s)
        except socket.gaierror:
            raise NotInLab(f"{target!r} is neither a name of the lab nor an address") from None
        waited_s = time.monotonic() - began
    return Attempt(judge(code), round(waited_s * 1000, 3), address, aimed)


def _stream(opened: socket.socket, aim: tuple[str, int], timeout_s: float) -> int:
    """The error number of a TCP connect, 0 when it is open.

    An ICMP error that comes back while connect(2) still holds the socket, as it does over veth, is
    only noted until the SYN is sent again a second later; the error queue (IP_RECVERR, ip(7)) has
    it at once.
    """
    opened.setblocking(False)
    opened.setsockopt(*(V6_RECVERR if opened.family == socket.AF_INET6 else V4_RECVERR), 1)
    code = opened.connect_ex(aim)
    if code != errno.EINPROGRESS:
        return code
    poller = select.poll()
    poller.register(opened, select.POLLOUT)
    events = poller.poll(timeout_s * 1000)
    if not events:
        return errno.ETIMEDOUT
    code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code or not events[0][1] & select.POLLERR:
        return code
    _, told, _, _ = opened.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    return int.from_bytes(told[0][2][:4], sys.byteorder)  # sock_extended_err.ee_errno


def _datagram(opened: socket.socket, aim: tuple[str, int], timeout_s: float) -> int:
    """The error number of waiting for the echo of one datagram, 0 when it came."""
    opened.settimeout(timeout_s)
    try:
        opened.connect(aim)
        opened.send(SAID)
        opened.recv(len(SAID))
    except TimeoutError:
        return errno.ETIMEDOUT
    except socket.gaierror:
        raise
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def judge(code: int) -> str:
    """open, refused or filtered; raises NetwatchError for an error number that is none of them."""
    if code == 0:
        return "open"
    if code in FILTERED:
        return "filtered"
    if code in REFUSALS:
        return "refused"
    raise NetwatchError(f"the connection could not be tried: {os.strerror(code)}")
