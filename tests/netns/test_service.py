"""What the init system is told: ready, alive while every loop turns, stopping."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.netns


class Init:
    """Stands where systemd would: hears what the service says."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def silent(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Init]:
    made = Init(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def service(init: Init, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`netwatch up` with a watchdog of 2 s."""
    command = [sys.executable, "-m", "netwatch", "up", "--json", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "NOTIFY_SOCKET": str(init.path), "WATCHDOG_USEC": "2000000"}
    process = subprocess.Popen(
        [*command, "--state", str(tmp_path / "state")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_ready_comes_when_the_page_is_served_then_signs_of_life(
    init: Init, service: subprocess.Popen[str]
) -> None:
    """READY=1 once, WATCHDOG=1 again and again, STOPPING=1 at the end, exit code 0."""
    assert init.next() == "READY=1"
    assert service.stdout is not None
    assert json.loads(service.stdout.readline())["ok"] is True
    assert [init.next(), init.next()] == ["WATCHDOG=1", "WATCHDOG=1"]

    service.send_signal(signal.SIGTERM)
    said = init.next()
    while said == "WATCHDOG=1":
        said = init.next()

    assert (said, service.wait(20)) == ("STOPPING=1", 0)


def test_a_stopped_service_shows_no_sign_of_life(
    init: Init, service: subprocess.Popen[str]
) -> None:
    """A process that hangs is silent, so that systemd restarts it."""
    assert init.next() == "READY=1"
    service.send_signal(signal.SIGSTOP)
    while not init.silent(1.5):
        pass
    assert init.silent(2.5)
    service.send_signal(signal.SIGCONT)
    assert init.next() == "WATCHDOG=1"
