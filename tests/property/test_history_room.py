"""What a history of real size gives up when its file has no room left: groups of 122,880 rows."""

from __future__ import annotations

from pathlib import Path

from netwatch.controller.history import History
from netwatch.model.times import SECOND
from tests.many_flows import DAY, END, fill
from tests.stores.test_history import put
from tests.unit.controller.samples import flow


def test_the_oldest_goes_first_when_room_is_short_and_is_counted(tmp_path: Path) -> None:
    """Single flows go, their sums stay; of what is left none is older than what went."""
    rows, limit = 400_000, 13_000_000
    fill(tmp_path / "history.db", rows, every=DAY)
    size = (tmp_path / "history.db").stat().st_size
    history = History(tmp_path / "history.db")
    before = len(history.edges(None, None))
    dropped = history.shrink(limit)
    assert rows / 10 < dropped < rows
    lost = history.losses()
    assert {reason for by in lost.values() for reason in by} == {"flows dropped for room"}
    assert sum(by["flows dropped for room"] for by in lost.values()) == dropped
    assert len(history.edges(None, None)) == before
    oldest = min(f.first_seen for f in history.alike(None, None)[0])
    assert oldest > END - DAY + DAY * dropped / rows - 60 * SECOND
    put(history, 1, *(flow(sport=n) for n in range(20_000)))
    history.close()
    assert (tmp_path / "history.db").stat().st_size < size * 1.1, "what came free is filled"
