"""One real connection from inside a network namespace, and what became of it.

`lab connect`, `netwatch probe` and the agent's canary are its callers; it imports little, because
tests call the first one hundreds of times.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netwatch.kernel.namespaces import socket_inside
from netwatch.model.errors import NetwatchError

SAID = b"netwatch\n"
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
Prepare = Callable[[socket.socket], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result`: open; refused: the end itself said no, so it was reached; or filtered: it was not.

    As nmap has it: a reset or a port unreachable refuses, silence and a prohibition filter. `told`
    is False for silence, which of UDP may also mean that the service had nothing to say.
    """

    result: str
    ms: float
    told: bool


def connect(
    namespace: Path | None,
    address: str,
    port: int,
    *,
    protocol: str = "tcp",
    timeout_s: float = 2.0,
    prepare: Prepare = lambda opened: None,
) -> Outcome:
    """Connect to `port` of an address from inside `namespace` (None: the caller's).

    `protocol` is tcp, or udp: open when anything comes back. `prepare` may bind the socket first.
    Raises NetwatchError where the namespace itself can not try; socket.gaierror for no address.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        opened = socket_inside(namespace, family, kind)
    except OSError as error:
        raise NetwatchError(f"no socket can be opened there: {error.strerror}") from None
    try_it = _datagram if protocol == "udp" else _stream
    with opened:
        prepare(opened)
        began = time.monotonic()
        code = try_it(opened, (address, port), timeout_s)
        waited_s = time.monotonic() - began
    return Outcome(judge(code), round(waited_s * 1000, 3), code != errno.ETIMEDOUT)


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
