"""The real clients of a workload: each call a new connection, and nothing beside it.

No name is resolved and nothing is probed. A call that policy blocks is a timeout or a refusal and
is survived in silence; the next one comes at its time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable

from netwatch.lab.orders import Calling
from netwatch.lab.servers import TLS

TIMEOUT_S = 1.5  # shorter than most `every`, so that a blocked call does not delay the next
STAGGER_S = 0.05  # between the first calls of one workload
SAID = (
    b"\x7fnetwatch lab\x00\x01\x02\xff"  # no known protocol, so nothing that can be proven of it
)
LONGEST = 65536


def start_all(calls: Iterable[Calling]) -> None:
    """Begin every call in a thread of its own."""
    for index, call in enumerate(calls):
        threading.Thread(target=_repeat, args=(call, index * STAGGER_S), daemon=True).start()


def client_context(version: str) -> ssl.SSLContext:
    """A context that speaks one version of TLS and trusts every certificate: all are our own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = TLS[version]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _repeat(call: Calling, delay: float) -> None:
    context = client_context(call.tls) if call.speak == "https" else None
    due = time.monotonic() + delay
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        with contextlib.suppress(OSError):
            converse(call, context)
        if call.once:
            return
        due = max(due + call.every, time.monotonic())


def converse(call: Calling, context: ssl.SSLContext | None) -> bytes:
    """One whole conversation; returns the answer. Raises OSError when it fails."""
    family = socket.AF_INET6 if ":" in call.address else socket.AF_INET
    kind = socket.SOCK_DGRAM if call.speak == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as opened:
        opened.settimeout(TIMEOUT_S)
        opened.connect((call.address, call.port))
        if context is None:
            return _exchange(opened, call)
        with context.wrap_socket(opened, server_hostname=call.server_name) as secret:
            return _exchange(secret, call)


def _exchange(opened: socket.socket, call: Calling) -> bytes:
    if call.speak in ("http", "https"):
        host = call.server_name or (f"[{call.address}]" if ":" in call.address else call.address)
        opened.sendall(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: netwatch-lab\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while (data := opened.recv(LONGEST)) and len(answer) < LONGEST:
            answer += data
        return answer
    opened.sendall(b"*1\r\n$4\r\nPING\r\n" if call.speak == "redis" else SAID)
    return opened.recv(LONGEST)
