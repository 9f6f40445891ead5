"""Webhooks over real sockets on loopback: receivers that are down, slow, endless or elsewhere."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from netwatch.controller import webhook
from netwatch.controller.service import Controller
from netwatch.model.times import SECOND
from netwatch.settings import Settings
from tests.unit.controller.samples import flow, report

pytestmark = pytest.mark.netns

BODY = b'{"type": "alert.opened"}'


@contextmanager
def listening(respond: Callable[[BaseHTTPRequestHandler], None], port: int = 0) -> Iterator[int]:
    class Respond(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            respond(self)

        def log_message(self, *values: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Respond)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("content-length", "0")
    request.end_headers()


def send(port: int, timeout_s: float = 1.0) -> webhook.Answer:
    message = webhook.Message(f"http://127.0.0.1:{port}/x?y=1", {}, BODY, allow_private=True)
    return webhook.post(message, timeout_s=timeout_s)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


def test_a_receiver_that_was_down_gets_every_alert_once_and_can_verify_it(tmp_path: Path) -> None:
    """Down first, then up: the same webhook-id on each try, the reference library verifies."""
    port, secret = free_port(), webhook.make_secret()
    received: list[tuple[dict[str, str], bytes]] = []

    def keep(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        received.append(({k.lower(): v for k, v in request.headers.items()}, body))
        answer(request, 204)

    late = [0]
    controller = Controller(
        tmp_path,
        settings=Settings(
            webhook_url=f"http://127.0.0.1:{port}/alerts",
            webhook_secret=secret,
            webhook_allow_private=True,
        ),
        clock=lambda: time.time_ns() + late[0],
    )
    now = time.time_ns()
    controller.ingest(report("b", now=now))
    controller.ingest(report("a", flow(port=9999, first_seen=now, last_seen=now), now=now))
    controller.tick(time.time_ns())
    assert controller.settle(20)
    (waiting,) = controller.deliveries()
    assert (waiting.state, waiting.attempts) == ("waiting", 1)
    with listening(keep, port):
        late[0] = 6 * SECOND
        for _ in range(2):
            controller.tick(time.time_ns() + late[0])
            assert controller.settle(20)
    ((headers, body),) = received
    assert headers["webhook-id"] == waiting.id
    assert headers["content-type"] == "application/json"
    sent = Webhook(secret).verify(body, headers)
    assert sent["type"] == "alert.opened"
    assert sent["data"]["subject"] == "b/shop/db:tcp/9999"
    assert [d.state for d in controller.deliveries()] == ["delivered"]
    controller.close()


@pytest.mark.parametrize("status", [200, 204, 400, 410, 500])
def test_the_status_is_what_came(status: int) -> None:
    with listening(lambda request: answer(request, status)) as port:
        assert send(port) == webhook.Answer(status)


def test_retry_after_is_read() -> None:
    with listening(lambda request: answer(request, 429, retry_after="120")) as port:
        assert send(port) == webhook.Answer(429, 120.0)


def test_a_redirect_is_not_followed() -> None:
    paths: list[str] = []

    def redirect(request: BaseHTTPRequestHandler) -> None:
        paths.append(request.path)
        answer(request, 307, location="/elsewhere")

    with listening(redirect) as port:
        assert send(port).status == 307
    assert paths == ["/x?y=1"]


def test_a_receiver_that_drips_is_given_up_in_time() -> None:
    """A byte now and then keeps a socket's own timeout from ever ending."""
    over = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 99:
            if over.wait(0.05):
                return
            try:
                request.wfile.write(bytes([letter]))
            except OSError:
                return

    with listening(drip) as port:
        started = time.monotonic()
        given = send(port, timeout_s=0.5)
        took = time.monotonic() - started
        over.set()
    assert given.status is None and given.problem
    assert took < 3


def test_an_endless_body_is_not_read() -> None:
    over = threading.Event()

    def pour(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not over.is_set():
            try:
                request.wfile.write(b"x" * 65_536)
            except OSError:
                return

    with listening(pour) as port:
        started = time.monotonic()
        assert send(port, timeout_s=5).status == 200
        assert time.monotonic() - started < 3
        over.set()


def test_headers_without_end_are_not_kept() -> None:
    def headers(request: BaseHTTPRequestHandler) -> None:
        try:
            request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n")
        except OSError:
            return

    with listening(headers) as port:
        assert send(port).status is None


def test_what_is_no_http_is_a_problem_and_no_crash() -> None:
    def noise(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"\x00\xff\x00 SSH-2.0-nothing\r\n")

    with listening(noise) as port:
        assert send(port).problem
    assert "no answer" in (send(free_port()).problem or "")


def test_https_never_falls_back_to_plaintext() -> None:
    """A server that speaks no TLS gets nothing of the message."""
    with listening(lambda request: answer(request, 200)) as port:
        message = webhook.Message(f"https://127.0.0.1:{port}/", {}, BODY, allow_private=True)
        assert webhook.post(message, timeout_s=2).status is None


def test_the_address_that_was_judged_is_the_one_connected_to() -> None:
    """A name that answers otherwise a moment later gains nothing: it is asked once."""
    answers = iter([["127.0.0.1"], ["203.0.113.1"]])
    hosts: list[str] = []

    def keep(request: BaseHTTPRequestHandler) -> None:
        hosts.append(request.headers["host"])
        answer(request, 200)

    with listening(keep) as port:
        url = f"http://alerts.example:{port}/"
        message = webhook.Message(url, {}, BODY, allow_private=True)
        given = webhook.post(message, resolve=lambda host, number: next(answers))
    assert given.status == 200
    assert hosts == [f"alerts.example:{port}"]
