"""What systemd hears from a service, on a socket of the test's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netwatch.kernel.notify import ALIVE, READY, STOPPING, Pulse, alive_every_s, notify


@pytest.fixture(params=["path", "abstract"])
def listener(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(2)
        if request.param == "path":
            name = str(tmp_path / "notify")
            heard.bind(name)
        else:
            name = f"@netwatch-test-{os.getpid()}"
            heard.bind("\0" + name[1:])
        yield name, heard


@pytest.mark.parametrize(
    ("lines", "datagram"),
    [
        pytest.param((READY,), b"READY=1", id="ready"),
        pytest.param((ALIVE,), b"WATCHDOG=1", id="alive"),
        pytest.param((STOPPING,), b"STOPPING=1", id="stopping"),
        pytest.param((READY, "STATUS=5 workloads"), b"READY=1\nSTATUS=5 workloads", id="status"),
    ],
)
def test_systemd_hears_each_call_as_one_datagram(
    listener: tuple[str, socket.socket], lines: tuple[str, ...], datagram: bytes
) -> None:
    """One call is one datagram, one line for each assignment, as sd_notify(3) says."""
    name, heard = listener
    notify(name, *lines)
    assert heard.recv(4096) == datagram


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(None, id="no systemd"),
        pytest.param("", id="empty"),
        pytest.param("/nonexistent/notify", id="nobody there"),
        pytest.param("/" + "x" * 200, id="longer than a socket's name may be"),
    ],
)
def test_a_service_without_listener_goes_on(path: str | None) -> None:
    """Nobody to tell is no reason to end."""
    notify(path, READY)


def test_a_full_listener_never_blocks_the_service(tmp_path: Path) -> None:
    """A supervisor that does not read can not hang the agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        for _ in range(1000):
            notify(str(tmp_path / "notify"), ALIVE)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param("30000000", 15.0, id="half of the limit"),
        pytest.param("0", None, id="off"),
        pytest.param(None, None, id="not set"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param("²", None, id="a digit of another kind"),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(said: str | None, seconds: float | None) -> None:
    """sd_watchdog_enabled(3) recommends half of the interval."""
    assert alive_every_s(said) == seconds


def test_a_pulse_tells_whether_its_loop_turns() -> None:
    """It beats when it is made and at every round; what is older than asked for is no life."""
    pulse = Pulse()
    pulse.beat()

    assert (pulse.beats(60.0), pulse.beats(0.0)) == (True, False)
