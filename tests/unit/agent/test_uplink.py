"""Reports are kept until the controller has them, in order, and what is dropped is counted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from netwatch import wire
from netwatch.agent.uplink import HELD, Direct, Refused, Spool, Uplink
from netwatch.model.errors import NetwatchError
from netwatch.model.report import Report


def report(sequence: int) -> Report:
    return Report("a", "boot", sequence, 0, 1)


class Controller:
    """Takes reports, after failing or refusing as many as it is told to."""

    def __init__(self, *, down: int = 0, refuse: int = 0) -> None:
        self.down, self.refuse = down, refuse
        self.got: list[int] = []
        self.arrived = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self.arrived:
            if self.down > 0:
                self.down -= 1
                raise ConnectionRefusedError("nobody listens")
            if self.refuse > 0:
                self.refuse -= 1
                raise Refused("not yours")
            self.got.append(wire.unpack(data).sequence)
            self.arrived.notify_all()

    def wait_for(self, count: int) -> list[int]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, timeout=20)
        return self.got


def test_the_spool_survives_its_process(tmp_path: Path) -> None:
    """What was kept is there, in order, for the next process; half a file is not."""
    first = Spool(tmp_path, limit=1000)
    first.put(b"one")
    first.put(b"two")
    (tmp_path / "000000000009.report.part").write_bytes(b"half")
    second = Spool(tmp_path, limit=1000)

    name, data = second.oldest() or ("", b"")
    second.remove(name)

    assert (data, (second.oldest() or ("", b""))[1], len(second)) == (b"one", b"two", 1)


def test_a_full_spool_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    """Room for two of three: the first goes."""
    spool = Spool(tmp_path, limit=8)
    for data in (b"aaaa", b"bbbb", b"cccc"):
        spool.put(data)

    assert ((spool.oldest() or ("", b""))[1], len(spool), spool.dropped) == (b"bbbb", 2, 1)


def test_what_a_disk_does_not_take_waits_in_memory_in_its_order(tmp_path: Path) -> None:
    """The folder is gone, as on a full disk; what comes when it is back is on disk again."""
    spool = Spool(tmp_path / "spool", limit=1000)
    spool.put(b"one")
    (tmp_path / "spool").rename(tmp_path / "away")
    spool.put(b"two")
    (tmp_path / "away").rename(tmp_path / "spool")
    spool.put(b"three")

    found = []
    while waiting := spool.oldest():
        found.append(waiting[1])
        spool.remove(waiting[0])
    assert (found, spool.dropped) == ([b"one", b"two", b"three"], 0)


def test_a_controller_of_the_same_process_gets_what_it_had_no_room_for() -> None:
    """In order and once; what it does not want at all is not tried again."""
    taken: list[int] = []
    errors: list[NetwatchError] = []

    def take(report: Report) -> None:
        if errors:
            raise errors[0]
        taken.append(report.sequence)

    direct = Direct(take)
    direct(report(0))
    errors.append(NetwatchError("full", code="history-failed"))
    for sequence in range(1, HELD + 2):
        direct(report(sequence))
    errors.clear()
    direct(report(HELD + 2))
    assert taken == [0, *range(3, HELD + 3)]
    assert direct.losses() == (("no room, reports dropped", 2),)

    errors.append(NetwatchError("nonsense", code="bad-report"))
    with pytest.raises(NetwatchError):
        direct(report(HELD + 3))
    errors.clear()
    direct(report(HELD + 4))
    assert taken[-2:] == [HELD + 2, HELD + 4]


def test_an_outage_delays_and_loses_nothing(tmp_path: Path) -> None:
    """Reports of the time when the controller was down arrive once each, in order."""
    controller = Controller(down=2)
    uplink = Uplink(controller, Spool(tmp_path, limit=10_000), pause_s=0.01)
    for sequence in range(3):
        uplink(report(sequence))

    assert controller.wait_for(3) == [0, 1, 2]
    uplink.close()


def test_a_refused_report_does_not_block_the_next(tmp_path: Path) -> None:
    """What is refused is counted, told in a sentence, and not sent for ever."""
    controller = Controller(refuse=1)
    uplink = Uplink(controller, Spool(tmp_path, limit=10_000))
    uplink(report(0))
    uplink(report(1))

    assert controller.wait_for(1) == [1]
    assert ("reports refused", 1) in uplink.losses()
    uplink.close()
