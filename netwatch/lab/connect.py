"""`lab connect`: one real connection from inside a host or workload, and what became of it.

Nothing is imported that this does not need: it is called hundreds of times by tests.
"""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass

from netwatch.kernel.namespaces import path_of_name, socket_inside
from netwatch.lab import state
from netwatch.lab.directory import NotInLab, family_of, reach
from netwatch.model.errors import NetwatchError

SAID = b"netwatch lab connect\n"
# Who waits this long for EHOSTUNREACH heard no ICMP error: neighbour discovery gave up (3 x 1 s).
PROMPT_S = 1.0
REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EACCES}
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPROTO, errno.ENOPROTOOPT}
SILENCES = {errno.ETIMEDOUT, errno.EPERM}  # EPERM: a DROP in our own namespace's OUTPUT


@dataclass(frozen=True, slots=True)
class Attempt:
    """`result`: open, refused (somebody answered no) or filtered (nobody answered)."""

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
    with opened:
        opened.settimeout(timeout_s)
        began = time.monotonic()
        try:
            opened.connect((address, aimed))
            if udp:
                opened.send(SAID)
                opened.recv(len(SAID))
            result = "open"
        except socket.gaierror:
            raise NotInLab(f"{target!r} is neither a name of the lab nor an address") from None
        except OSError as error:
            result = judge(error, waited_s=time.monotonic() - began)
        return Attempt(result, round((time.monotonic() - began) * 1000, 3), address, aimed)


def judge(error: OSError, *, waited_s: float) -> str:
    """refused or filtered; raises NetwatchError for what is neither."""
    if isinstance(error, TimeoutError) or error.errno in SILENCES:
        return "filtered"
    if error.errno in REFUSALS:
        return "refused"
    if error.errno in UNREACHABLE:
        return "refused" if waited_s < PROMPT_S else "filtered"
    raise NetwatchError(f"the connection could not be tried: {error.strerror}")
