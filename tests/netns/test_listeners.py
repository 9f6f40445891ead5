"""The listeners, on loopback: plain for people, pinned TLS for agents."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from netwatch import wire
from netwatch.api.agents import PATH, create_agents_app
from netwatch.api.app import create_app
from netwatch.api.certificate import identity
from netwatch.api.server import Listener, listen_on, names_for
from netwatch.model.errors import NetwatchError
from netwatch.model.report import Report
from tests.fakes import NOW, FakeController, shop

pytestmark = pytest.mark.netns


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[tuple[Listener, int, str]]:
    """The agents' listener on a socket opened elsewhere, its port and its pin."""
    bound = listen_on("127.0.0.1:0")
    known = identity(tmp_path, now=NOW)
    app = create_agents_app(FakeController())  # type: ignore[arg-type]
    listener = Listener(app, bound, identity=known, threads=2).start()
    yield listener, bound.getsockname()[1], known.pin
    listener.stop()


def _connect(port: int) -> http.client.HTTPSConnection:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)


def _post(port: int) -> tuple[int, str]:
    connection = _connect(port)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
    body = wire.pack(Report(host="a", boot="b", sequence=1, started=1, ended=2))
    connection.request("POST", PATH, body, {"Authorization": "Bearer token-of-a"})
    with connection.getresponse() as answer:
        answer.read()
    connection.close()
    return answer.status, shown


def test_an_agent_sees_the_pinned_certificate_and_is_heard(
    agents: tuple[Listener, int, str],
) -> None:
    listener, port, pin = agents
    assert _post(port) == (200, pin)
    assert listener.url == f"https://127.0.0.1:{port}"


def test_clients_that_connect_and_say_nothing_do_not_keep_agents_out(
    agents: tuple[Listener, int, str],
) -> None:
    """The handshake is made where the connection is served, never where it is accepted."""
    _, port, pin = agents
    mute = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(8)]
    try:
        assert _post(port) == (200, pin)
    finally:
        for each in mute:
            each.close()


def test_people_are_served_on_any_free_port_and_the_socket_is_closed_after_stop() -> None:
    bound = listen_on("127.0.0.1:0")
    port = bound.getsockname()[1]
    app = create_app(shop(), clock=lambda: NOW, names=names_for(bound))  # type: ignore[arg-type]
    listener = Listener(app, bound, threads=2).start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/healthz")
    with connection.getresponse() as answer:
        assert json.loads(answer.read()) == {"ok": True}
    connection.close()
    listener.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with listen_on("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NetwatchError) as error:
            listen_on(f"127.0.0.1:{port}")
    assert error.value.exit_code == 1
    assert f"port {port}" in error.value.message
    assert "--listen" in (error.value.hint or "")


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(NetwatchError, match="no address 192.0.2.1"):
        listen_on("192.0.2.1:0")
