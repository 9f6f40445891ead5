"""A pcap file of whole records that never outgrows its limit."""

from __future__ import annotations

import hashlib
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netwatch.capture.files.reading import read
from netwatch.capture.packets import RECORD
from netwatch.capture.record import Record, new_file
from netwatch.model.errors import NetwatchError

FRAME = bytes.fromhex("ffffffffffff020000000001 0800") + struct.pack(
    ">BBHHHBBH4s4sHHHH",
    *(0x45, 0, 29, 0, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])),
    *(4000, 53, 9, 0),
)
PACKET = RECORD.pack(1_700_000_000, 5, len(FRAME) + 1, len(FRAME) + 1) + FRAME + b"x"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a full disk does, the kernel takes no more than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def recorded(file: Path, count: int, *, most: int = 1 << 20, at_once: int = 10) -> Record:
    descriptor = new_file(file, force=False)
    record = Record(descriptor, most=most, snap=262_144)
    for _ in range(count // at_once):
        record.add([PACKET] * at_once)
    os.close(descriptor)
    return record


def assert_true_of(record: Record, file: Path) -> None:
    """What the record says is what the file holds."""
    assert file.stat().st_size == record.size
    assert hashlib.sha256(file.read_bytes()).hexdigest() == record.sha256()
    with file.open("rb") as stream:
        found = read(stream, "it")
    assert (found.frames, found.damage) == (record.packets, None)


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    """Times to the nanosecond, every byte of every frame."""
    record = recorded(tmp_path / "f", 20)
    assert_true_of(record, tmp_path / "f")
    with (tmp_path / "f").open("rb") as stream:
        (flow,) = read(stream, "it").flows()
    assert flow.first_seen == 1_700_000_000_000_000_005
    assert (flow.protocol, flow.client_packets + flow.server_packets) == ("udp", 20)
    assert record.full is None


@pytest.mark.parametrize("spare", [0, 1, len(PACKET) - 1])
def test_the_limit_is_the_file_s_size_and_cuts_no_packet(tmp_path: Path, spare: int) -> None:
    most = 24 + 13 * len(PACKET) + spare
    record = recorded(tmp_path / "f", 20, most=most)
    assert (record.packets, record.full) == (13, "bytes")
    assert_true_of(record, tmp_path / "f")


def test_a_limit_that_is_met_exactly_is_not_exceeded(tmp_path: Path) -> None:
    record = recorded(tmp_path / "f", 20, most=24 + 20 * len(PACKET))
    assert (record.packets, record.full) == (20, None)


def test_a_full_disk_leaves_whole_packets(tmp_path: Path) -> None:
    """What was written of the last ones is taken back."""
    with largest_file(24 + 10 * len(PACKET) + 33):
        record = recorded(tmp_path / "f", 40)
    assert (record.packets, record.full) == (10, "disk-full")
    assert_true_of(record, tmp_path / "f")


def test_a_reader_that_left_ends_the_record() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    record = Record(theirs, most=1 << 20, snap=64)
    record.add([PACKET])
    os.close(theirs)
    assert (record.full, record.packets) == ("reader-gone", 0)


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    recorded(tmp_path / "f", 0)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["file", "link", "folder", "pipe"])
def test_what_is_there_stays(tmp_path: Path, kind: str) -> None:
    """Only a regular file may be replaced, and only by force."""
    (tmp_path / "old").write_text("old")
    path = tmp_path / "f"
    {
        "file": lambda: path.write_text("old"),
        "link": lambda: path.symlink_to(tmp_path / "old"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    with pytest.raises(NetwatchError, match="is there already"):
        new_file(path, force=False)
    if kind == "file":
        os.close(new_file(path, force=True))
        assert path.read_bytes() == b""
    else:
        with pytest.raises(NetwatchError, match="is there already"):
            new_file(path, force=True)
    assert (tmp_path / "old").read_text() == "old"
