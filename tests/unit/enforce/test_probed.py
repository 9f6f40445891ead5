"""The record of our own probes: exact, bounded, and read as it was written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netwatch.enforce import probed
from netwatch.enforce.probed import MAX_BYTES, Probed, Record
from netwatch.model.probe import PORTS
from netwatch.model.times import SECOND

NOW = 1_000_000 * SECOND


@pytest.mark.parametrize(
    ("kind", "protocol"), [(socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")]
)
def test_what_is_marked_is_what_will_be_sent(tmp_path: Path, kind: int, protocol: str) -> None:
    """Bound to a port of our range before it is written down, and so before any packet."""
    file, aim = tmp_path / "record", ("127.0.0.1", 9)
    with socket.socket(socket.AF_INET, kind) as opened:
        found = probed.mark(opened, "127.0.0.1", aim, file, now=NOW)
        assert opened.getsockname() == ("127.0.0.1", found.source_port)
    assert found == Probed(protocol, "127.0.0.1", found.source_port, *aim)
    assert found.source_port in PORTS
    assert Record(file).recent(NOW + SECOND) == {found}


def test_the_routes_choose_where_no_source_is_given(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        found = probed.mark(opened, None, ("127.0.0.1", 9), tmp_path / "record", now=NOW)
    assert found.source == "127.0.0.1"


def test_a_probe_is_forgotten_after_fifteen_minutes(tmp_path: Path) -> None:
    """A port that is used again later by somebody else is somebody else's."""
    file = tmp_path / "record"
    file.write_text(f"{NOW} tcp 192.0.2.1 61000 192.0.2.2 80\n")
    record = Record(file)
    assert len(record.recent(NOW + 899 * SECOND)) == 1
    assert record.recent(NOW + 901 * SECOND) == frozenset()
    file.unlink()
    assert record.recent(NOW) == frozenset()


def test_the_record_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    """Over its size, what is old goes; a half line of a killed writer is no probe."""
    file = tmp_path / "record"
    line = "tcp 192.0.2.1 61000 192.0.2.2 80\n"
    old = f"{NOW - 1000 * SECOND} {line}"
    file.write_text(
        old * (MAX_BYTES // len(old) + 2) + f"{NOW} udp 192.0.2.1 61001 192.0.2.2 53\n"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        found = probed.mark(opened, "127.0.0.1", ("127.0.0.1", 9), file, now=NOW)
    assert file.stat().st_size < 1000
    with file.open("a") as stream:
        stream.write(f"{NOW} tcp 192.0.2.1 61")
    assert Record(file).recent(NOW) == {
        found,
        Probed("udp", "192.0.2.1", 61001, "192.0.2.2", 53),
    }
