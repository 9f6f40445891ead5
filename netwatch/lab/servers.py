"""The real servers of a workload: HTTP, HTTPS, TCP and UDP echo, Redis.

They are small on purpose: one answer per question, bounded in size, time and number, so that what
is seen on the wire is the protocol and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable

from netwatch.kernel import commands
from netwatch.lab.orders import Orders, Serving

BODY = b"netwatch lab\n"
LONGEST = 65536  # of a request; more is not read
PATIENCE_S = 10.0  # a client that says nothing is hung up on
MOST = 256  # connections served at once by one port; more wait in the backlog
TLS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
Talk = Callable[[socket.socket], None]


class Unserved(Exception):
    """A port that can not be served here; the text says why."""


def open_all(orders: Orders) -> list[str]:
    """Serve every port; each accepts when this returns. Returns why ports were skipped."""
    skipped = []
    for serving in orders.serving:
        try:
            _open(orders, serving)
        except Unserved as reason:
            skipped.append(f"{orders.name} does not serve {serving.port}: {reason}")
    return skipped


def _open(orders: Orders, serving: Serving) -> None:
    if serving.serve == "redis":
        _redis(serving.port)
    elif serving.protocol == "udp":
        for address in (*orders.addresses, "127.0.0.1", "::1"):
            _start(_echo_datagrams, _bound(address, serving.port, socket.SOCK_DGRAM))
    else:
        context = server_context(serving.tls, orders.pem) if serving.serve == "https" else None
        talk = _echo if serving.serve == "echo" else _answer_http
        for address in ("0.0.0.0", "::"):
            listener = _bound(address, serving.port, socket.SOCK_STREAM)
            listener.listen(128)
            _start(_accept, listener, talk, context)


def server_context(version: str, pem: str) -> ssl.SSLContext:
    """A context that speaks exactly one version of TLS. The key never becomes a file on disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = TLS[version]
    descriptor = os.memfd_create("lab-key")
    try:
        os.write(descriptor, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        opened.bind((address, port))
    except OSError as error:
        opened.close()
        raise Unserved(f"it can not be bound: {error.strerror}") from None
    return opened


def _start(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _accept(listener: socket.socket, talk: Talk, context: ssl.SSLContext | None) -> None:
    room = threading.BoundedSemaphore(MOST)
    while True:
        room.acquire()
        try:
            connection, _ = listener.accept()
        except OSError:  # the client was gone before it was accepted, or no descriptor is free
            room.release()
            continue
        _start(_serve, connection, talk, context, room)


def _serve(
    connection: socket.socket,
    talk: Talk,
    context: ssl.SSLContext | None,
    room: threading.BoundedSemaphore,
) -> None:
    try:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(PATIENCE_S)
            if context is None:
                talk(connection)
            elif connection.recv(1, socket.MSG_PEEK):  # to silence OpenSSL would answer an alert
                with context.wrap_socket(connection, server_side=True) as secret:
                    talk(secret)
    finally:
        room.release()


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(LONGEST):
        connection.sendall(data)


def _answer_http(connection: socket.socket) -> None:
    """RFC 9112, the least of it: any complete request gets 200 and the connection is closed."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = connection.recv(LONGEST)
        request += data
        if not data or len(request) > LONGEST:
            return
    good = request.split(b"\r\n", 1)[0].endswith((b" HTTP/1.1", b" HTTP/1.0"))
    status = b"200 OK" if good else b"400 Bad Request"
    head = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % (
        status,
        len(BODY),
    )
    connection.sendall(head + b"Connection: close\r\n\r\n" + BODY)


def _echo_datagrams(bound: socket.socket) -> None:
    while True:
        with contextlib.suppress(OSError):  # an ICMP error of an earlier answer
            data, sender = bound.recvfrom(LONGEST)
            bound.sendto(data, sender)


def _redis(port: int) -> None:
    """The real one, in memory only; asked on loopback, so that no packet leaves the workload."""
    if not commands.available("redis-server"):
        raise Unserved("redis-server is not installed; apt-get install redis-server")
    arguments = ["redis-server", "--port", str(port), "--bind", "0.0.0.0", "::"]
    arguments += ["--protected-mode", "no", "--save", "", "--appendonly", "no"]
    server = commands.start([*arguments, "--dir", "/"])
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            threading.Event().wait(0.01)
    raise Unserved(f"redis-server ended with {server.returncode}")
