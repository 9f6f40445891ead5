"""Questions to an engine over one connection: which are asked again, and what the answers mean."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from netwatch.discover.container import EngineNetwork, Image
from netwatch.discover.engine import FAILURES, Asking, image_by_id, network_by_id, reason_of

NETWORK = b'{"Id":"n1","Name":"back","Driver":"macvlan"}'
Serve = Callable[..., Asking]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """An engine that gives these answers, by connection: each list ends with its end."""
    path = str(tmp_path / "engine.sock")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()
        asked: list[Asking] = []

        def begin(*connections: list[bytes]) -> Asking:
            def work() -> None:
                with suppress(OSError):
                    for answers in connections:
                        client, _ = listener.accept()
                        with closing(client):
                            for each in answers:
                                if client.recv(65536):
                                    client.sendall(each)

            threading.Thread(target=work, daemon=True).start()
            asked.append(Asking(path, "1.41"))
            return asked[-1]

        yield begin
        for each in asked:
            each.close()


def test_one_connection_serves_many_questions(serve: Serve) -> None:
    """A network with its members is one answer."""
    ask = serve([answer(NETWORK), answer(NETWORK)])
    assert [ask("/networks/n1", EngineNetwork).name for _ in "12"] == ["back", "back"]


def test_what_the_engine_closed_while_it_lay_idle_is_opened_again(serve: Serve) -> None:
    """That is no trouble of the engine."""
    ask = serve([answer(NETWORK)], [answer(NETWORK)])
    assert [network_by_id(ask, "n1").name for _ in "12"] == ["back", "back"]  # type: ignore[union-attr]


def test_an_engine_that_closes_at_once_is_not_asked_for_ever(serve: Serve) -> None:
    """The second refusal is told."""
    ask = serve([b""], [b""])
    with pytest.raises(FAILURES):
        ask("/networks/n1", EngineNetwork)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        pytest.param("404 Not Found", None, id="gone"),
        pytest.param("500 Internal Server Error", "it answers with HTTP 500", id="broken"),
    ],
)
def test_what_is_gone_is_no_failure(serve: Serve, status: str, found: str | None) -> None:
    """A network may be removed between the event and the question."""
    ask = serve([answer(b'{"message":"no"}', status), answer(NETWORK)])
    if found is None:
        assert network_by_id(ask, "n1") is None
    else:
        with pytest.raises(FAILURES) as caught:
            network_by_id(ask, "n1")
        assert reason_of(caught.value) == found
    again = network_by_id(ask, "n1")
    assert again is not None, "the connection serves on"


def test_an_image_of_a_strange_shape_says_nothing(serve: Serve) -> None:
    """Whoever built it may have written anything."""
    ask = serve([answer(b'{"Config":{"Labels":[]}}')])
    assert image_by_id(ask, "sha256:1") == Image()
