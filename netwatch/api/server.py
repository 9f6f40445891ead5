"""Opens the sockets and serves: one listener for people and programs, one for agents.

Threads, no event loop: cheroot is a small WSGI server with TLS. Agents have threads of their own,
so that open pages never keep a report waiting.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
from typing import Any

from cheroot.server import HTTPConnection
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from flask import Flask

from netwatch.api.certificate import Identity
from netwatch.model.errors import NetwatchError, UsageError

THREADS = 32
AGENT_THREADS = 8
HEADER_BYTES = 64 * 1024
TIMEOUT_S = 10  # of a socket that says nothing: an idle client does not hold a thread for longer
BACKLOG = 128
LOOK_S = 0.1  # how often cheroot looks whether to end; its own half second delays each stop
WILDCARDS = frozenset({"0.0.0.0", "::"})

log = logging.getLogger(__name__)


def listen_on(listen: str) -> socket.socket:
    """A listening socket on `ADDRESS:PORT` (port 0: any free one; IPv6 in brackets).

    Raises UsageError for a text that is no such pair, NetwatchError for a port that is taken.
    """
    address, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise _cannot_listen(error, address, port) from None
    return bound


def split_listen(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8741` as its two parts; raises UsageError."""
    address, _, port = listen.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not address or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"{listen!r} is no address and port", "write it like 127.0.0.1:8741")
    return address, int(port)


def _cannot_listen(error: OSError, address: str, port: int) -> NetwatchError:
    if error.errno == errno.EADDRINUSE:
        return NetwatchError(
            f"port {port} on {address} is already taken",
            "is netwatch running already? Else choose another: --listen "
            f"{address}:0 takes any free port",
            code="port-taken",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return NetwatchError(f"this host has no address {address}", "see `ip address`")
    if error.errno == errno.EACCES:
        return NetwatchError(f"port {port} needs root", "choose a port above 1023")
    return NetwatchError(f"can not listen on {address}:{port}: {error.strerror or error}")


def names_for(bound: socket.socket) -> frozenset[str]:
    """The host names that `create_app` shall answer to on this socket."""
    address = str(bound.getsockname()[0])
    return frozenset({"*", socket.gethostname().lower()} if address in WILDCARDS else {address})


class Listener:
    """Serves one application on one bound socket, in a thread of its own, until `stop`."""

    def __init__(
        self,
        app: Flask,
        bound: socket.socket,
        *,
        identity: Identity | None = None,
        threads: int = THREADS,
        max_body: int = 0,
        stopping: threading.Event | None = None,
    ) -> None:
        """Serves HTTPS with `identity`, else HTTP. `stopping` is set first by `stop`."""
        self._address, self._port = bound.getsockname()[:2]
        self._scheme = "https" if identity else "http"
        self._stopping = stopping or threading.Event()
        self._server = _OnSocket(bound, app, threads)
        self._server.max_request_body_size = max_body
        if identity:
            self._server.ssl_adapter = _LazyTls(str(identity.certificate), str(identity.key))
        self._thread = threading.Thread(target=self._serve, name=f"listen-{self._port}")

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8741`; a wildcard address is written as loopback."""
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._address, self._address)
        return f"{self._scheme}://{f'[{address}]' if ':' in address else address}:{self._port}"

    def start(self) -> Listener:
        """Accepts connections from now on."""
        self._server.prepare()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends streams, finishes what is being answered, closes the socket."""
        self._stopping.set()
        self._server.stop()
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve()


class _OnSocket(Server):
    """cheroot binds by itself; `bind` is where it lets a socket from elsewhere in."""

    expiration_interval = LOOK_S

    def __init__(self, bound: socket.socket, app: Flask, threads: int) -> None:
        address = bound.getsockname()[:2]
        super().__init__(
            address,
            app,
            numthreads=threads,
            timeout=TIMEOUT_S,
            request_queue_size=BACKLOG,
            shutdown_timeout=3,
            server_name="netwatch",
        )
        self.max_request_header_size = HEADER_BYTES
        self._bound = bound

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """The socket we were given, whatever namespace it was opened in."""
        self.socket = self._bound
        return self._bound

    def process_conn(self, conn: HTTPConnection) -> None:
        """A thread gets a connection once it speaks; a silent one waits in the selector."""
        if conn.last_used is None:
            self._connections.put(conn)  # type: ignore[attr-defined]  # cheroot: made by prepare
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """To our log, not to stderr."""
        log.log(level, "%s", msg, exc_info=traceback)


class _LazyTls(BuiltinSSLAdapter):
    """Shakes hands in the thread that serves the connection, not in the one that accepts.

    cheroot would do it while accepting: one client that connects and says nothing would keep all
    others out until its timeout.
    """

    def __init__(self, certificate: str, key: str) -> None:
        super().__init__(certificate, key)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """The socket as TLS, its handshake still to come."""
        tls = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return tls, {"wsgi.url_scheme": "https", "HTTPS": "on"}
