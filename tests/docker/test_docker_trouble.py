"""Sockets behind which no working engine is: each ends in a sentence, none blocks or raises."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netwatch.discover.docker import DockerSource, find_docker
from netwatch.settings import Settings

pytestmark = pytest.mark.docker
START_MOST_S = 3 * 5.0  # three times the promise
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 10\r\n\r\n<b>boo</b>"
VERSION = JSON + b'Content-Length: 21\r\n\r\n{"ApiVersion":"1.41"}'
WRONG_SHAPE = JSON + b"Content-Length: 6\r\n\r\n[1, 2]"


class Pretender:
    """Listens on a Unix socket and answers every request with the next of `answers`."""

    def __init__(self, path: Path, answers: tuple[bytes, ...]) -> None:
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            for answer in self._answers:
                if not client.recv(65536):
                    return
                client.sendall(answer)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for client in self._open:
            client.close()


@pytest.fixture
def pretend(tmp_path: Path) -> Iterator[Callable[..., str]]:
    made: list[Pretender] = []

    def make(*answers: bytes) -> str:
        made.append(Pretender(tmp_path / "docker.sock", answers))
        return str(tmp_path / "docker.sock")

    yield make
    for pretender in made:
        pretender.close()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        pytest.param((), "no answer within 3.5 s", id="accepts and never answers"),
        pytest.param((ERROR,) * 9, "it answers with HTTP 500", id="only errors"),
        pytest.param((WRONG_SHAPE,) * 9, "no container engine", id="another service"),
        pytest.param((VERSION,) * 9, "no container engine", id="the same answer to everything"),
        pytest.param((b"220 mail.example ESMTP\r\n",), "", id="no HTTP at all"),
        pytest.param((VERSION[:60],), "no answer within 3.5 s", id="stops in the middle"),
    ],
)
def test_what_is_no_engine_is_named_in_time(
    pretend: Callable[..., str], answers: tuple[bytes, ...], reason: str
) -> None:
    """`start` returns, the snapshot says where and why, and close ends it."""
    path = pretend(*answers)
    source = DockerSource(path, "alpha")
    began = time.monotonic()
    source.start(lambda: None)
    took = time.monotonic() - began
    problem = source.snapshot().problem
    source.close()
    assert took < START_MOST_S
    assert problem is not None
    assert problem.startswith(f"Docker does not answer at {path}: ")
    assert reason in problem
    assert "<b>" not in problem


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    """What a dockerd that was killed leaves behind."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    source = DockerSource(str(path), "alpha")
    source.start(lambda: None)
    assert "nobody listens; is dockerd running?" in (source.snapshot().problem or "")
    source.close()


def test_no_socket_is_no_docker(tmp_path: Path) -> None:
    """Then there is nothing to watch; a folder in its place (a mount of nothing) is a problem."""
    assert find_docker(Settings(docker_socket=str(tmp_path / "none"))) is None
    source = find_docker(Settings(docker_socket=str(tmp_path), host="alpha"))
    assert source is not None
    source.start(lambda: None)
    assert source.snapshot().problem
    source.close()
