"""The answer does not depend on how many processes read a capture, and none of them stays."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import time
from heapq import merge
from multiprocessing import active_children
from pathlib import Path

import msgspec
import pytest

from netwatch.capture.files.jobs import MOST, lines
from netwatch.capture.files.reading import read
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow, flow_as_json
from tests.unit.capture.files.captures import ethernet, ip, pcap, pcapng, tcp, udp

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "pcaps"
FRAMES = [
    ethernet(ip(f"198.18.{n % 7}.{n % 31}", "198.18.9.9", kind, make(n % 97 + 1, 80, n)), *tags)
    for n in range(4000)
    for kind, make, tags in [
        (6, lambda a, b, n: tcp(a, b, 24, b"GET / HTTP/1.1\r\n\r\n", seq=n), ()),
        (17, lambda a, b, n: udp(a, b, b"x" * (n % 50)), (n % 3 + 1,)),
    ]
]


def encode(flow: Flow) -> bytes:
    return msgspec.json.encode(flow_as_json(flow))


def large(flow: Flow) -> bytes:
    """A few fill a pipe: whoever says them waits until they are read."""
    return bytes(1 << 12)


def told(data: bytes, mine: range) -> list[tuple[int, bytes]] | None:
    try:
        reading = read(io.BytesIO(data), "capture", mine=mine)
    except NetwatchError:
        return None
    return list(zip(reading.ordinals(), map(encode, reading.flows()), strict=True))


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/pcaps is not on this machine")
@pytest.mark.parametrize("jobs", [2, 3])
def test_the_shares_of_any_capture_are_the_whole(jobs: int) -> None:
    """Every flow is in one share, and says there what it says when all are read at once."""
    for file in sorted(DATA.glob("*.*cap*")):
        data = file.read_bytes()
        whole = told(data, range(MOST))
        shares = [told(data, range(number, MOST, jobs)) for number in range(jobs)]
        assert all((share is None) == (whole is None) for share in shares), file.name
        if whole is not None:
            assert list(merge(*(share for share in shares if share))) == whole, file.name


@pytest.mark.parametrize("form", [pcap, pcapng])
@pytest.mark.parametrize("cut", [0, 7])
def test_any_number_of_processes_says_the_same(tmp_path: Path, form, cut: int) -> None:
    """Line for line, also of a damaged capture; more than there are shares help nobody."""
    path = tmp_path / "capture"
    path.write_bytes(form(FRAMES)[: -cut or None])
    found = []
    for jobs in (1, 2, 4, 9):
        with path.open("rb") as stream, lines(stream, "x", encode, jobs=jobs, worth=0) as said:
            assert len(active_children()) == min(jobs, MOST) - 1
            found.append((list(said), said.damage, said.losses))
    assert len(found[0][0]) > 1000
    assert (found[0][1] is not None) == bool(cut)
    assert all(each == found[0] for each in found)
    assert not active_children()


def test_a_pipe_is_read_by_one_process(tmp_path: Path) -> None:
    """What can be read only once can not be shared."""
    near, far = os.pipe()
    with os.fdopen(near, "rb") as stream:
        os.write(far, pcap(FRAMES[:50]))
        os.close(far)
        with lines(stream, "pipe", encode, jobs=4, worth=0) as said:
            assert not active_children()
            assert len(list(said)) == len(told(pcap(FRAMES[:50]), range(MOST)) or ())


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_what_gzip_packed_says_the_same_and_is_read_by_one_process(tmp_path: Path, form) -> None:
    """Up to where it breaks: what can be unpacked before is not lost."""
    data = form(FRAMES)
    path = tmp_path / "capture"
    for cut in (0, 900):
        path.write_bytes(gzip.compress(data, mtime=0)[: -cut or None])
        with path.open("rb") as stream, lines(stream, "x", encode, jobs=4, worth=0) as said:
            assert not active_children()
            found = list(said)
            assert (said.damage is not None) == bool(cut)
        if not cut:
            assert found == [line for _, line in told(data, range(MOST)) or ()]
        assert len(found) > 1000


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(40), gzip.compress(b"no capture", mtime=0)]
)
def test_what_gzip_packed_may_be_no_capture(data: bytes) -> None:
    with pytest.raises(NetwatchError):
        read(io.BytesIO(data), "capture")


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_no_process_stays_when_reading_ends_early(tmp_path: Path, error: type) -> None:
    """^C, and a reader of ours that is gone."""
    path = tmp_path / "capture"
    path.write_bytes(pcap(FRAMES))
    with (
        pytest.raises(error),
        path.open("rb") as stream,
        lines(stream, "x", large, jobs=3, worth=0) as said,
    ):
        assert len(active_children()) == 2
        next(iter(said))
        raise error
    assert not active_children()


def test_what_is_no_capture_is_told_once_and_leaves_no_process(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"no capture at all")
    with (
        pytest.raises(NetwatchError, match="is no capture"),
        path.open("rb") as stream,
        lines(stream, "x", encode, jobs=2, worth=0),
    ):
        pass
    assert not active_children()


def test_the_end_of_a_process_is_never_taken_for_the_end_of_the_flows(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(FRAMES))
    with path.open("rb") as stream, lines(stream, "x", large, jobs=2, worth=0) as said:
        (other,) = active_children()
        other.kill()
        with pytest.raises(NetwatchError, match="ended with -9"):
            list(said)
    assert not active_children()


ALONE = """
import os, signal, sys
from multiprocessing import active_children
from netwatch.capture.files.jobs import lines
with open(sys.argv[1], "rb") as stream:
    with lines(stream, "x", lambda flow: bytes(1 << 12), jobs=3, worth=0) as said:
        print(*(child.pid for child in active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_whose_parent_was_killed_ends_by_itself(tmp_path: Path) -> None:
    """It can neither read on for hours nor wait for somebody who never reads."""
    path = tmp_path / "capture"
    path.write_bytes(pcap(FRAMES))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)], stdout=subprocess.PIPE, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    left = [int(pid) for pid in done.stdout.split()]
    assert len(left) == 2
    until = time.monotonic() + 10
    while any(map(running, left)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(running, left))


def running(pid: int) -> bool:
    """Whether it is there, and no zombie that only waits to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
