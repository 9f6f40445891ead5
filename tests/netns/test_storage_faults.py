"""What a controller keeps when its disk is full, when it is killed, and when it hears a secret."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from netwatch.api.app import create_app
from netwatch.controller.records import FlowQuery
from netwatch.model.errors import NetwatchError
from netwatch.model.times import SECOND
from tests.netns.conftest import Said, run_in
from tests.netns.killed_often import FLOWS
from tests.netns.running import Up
from tests.netns.small_shop import LAB
from tests.unit.controller.samples import START, Clock, controller, flow, report

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
KILLS = 50


def test_killed_in_mid_write_it_opens_again_and_knows_all_it_acknowledged(tmp_path: Path) -> None:
    """Fifty times, at moments that chance picks (F7): nothing is lost, nothing counted twice."""
    seed = int(os.environ.get("SEED") or random.randrange(2**31))
    command = [sys.executable, "-m", "tests.netns.killed_often", str(tmp_path / "state")]
    ended = subprocess.run(
        [*command, str(KILLS), str(seed)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, f"seed {seed}: {ended.stderr}"
    last = json.loads(ended.stdout)["acknowledged"]
    assert last > KILLS, f"seed {seed}"
    fleet = controller(tmp_path / "state", Clock(START + (last + 9) * 60 * SECOND))
    counted = sum(edge.connections for edge in fleet.edges())
    # What was written when it died may be one report more than what was acknowledged.
    assert counted in ((last + 1) * FLOWS, (last + 2) * FLOWS), f"seed {seed}"
    again = [fleet.ingest(report("a", flow(), sequence=n)) for n in range(last + 1)]
    assert not any(again), f"seed {seed}"
    assert sum(edge.connections for edge in fleet.edges()) == counted
    assert fleet.losses() == {"x": counted // FLOWS, **_late(fleet.losses())}
    fleet.close()


def _late(losses: dict[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in losses.items() if reason == "reports late"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_nothing_and_is_over_when_there_is_room(small_disk: Path) -> None:
    """Reports are refused so that agents keep them; what was there is read on (F5)."""
    clock = Clock()
    fleet = controller(small_disk / "state", clock)
    assert fleet.ingest(report("a", flow()))
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError):
        while True:
            ballast.write(bytes(4096))
    many = report("a", *(flow(sport=n) for n in range(2_000)), sequence=2)
    with pytest.raises(NetwatchError) as refused:
        fleet.ingest(many)
    assert refused.value.code == "history-failed" and "room" in str(refused.value.hint)
    answers = create_app(fleet, clock=clock).test_client()
    assert answers.get("/readyz").status_code == 503
    assert answers.get("/readyz").json["read_only"] is True
    answers.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {fleet.person_token()}"
    shown = answers.get("/api/v1/map")
    assert len(shown.json["edges"]) == 1 and "room" in shown.headers["Netwatch-Read-Only"]
    assert [edge.connections for edge in fleet.edges()] == [1]
    assert len(fleet.flows(FlowQuery())[0]) == 1
    with pytest.raises(NetwatchError):
        fleet.tick(clock.now + 700 * SECOND)
    (small_disk / "ballast").unlink()
    assert fleet.ingest(many) is True
    assert fleet.ingest(many) is False
    fleet.tick(clock.now + 700 * SECOND)
    assert answers.get("/readyz").json == {"ok": True, "read_only": False}
    assert "Netwatch-Read-Only" not in answers.get("/api/v1/map").headers
    assert [edge.connections for edge in fleet.edges()] == [2_001]
    fleet.close()
    fleet = controller(small_disk / "state", clock)
    assert [edge.connections for edge in fleet.edges()] == [2_001]
    fleet.close()


CANARY = "canary7f3a91d2e8secret"
CALL = f"""
import http.client
c = http.client.HTTPConnection("198.18.1.11", 80, timeout=3)
c.request("POST", "/{CANARY}/path?q={CANARY}", body="{CANARY}" * 20, headers={{
    "Cookie": "{CANARY}", "Authorization": "Bearer {CANARY}", "Host": "api"}})
try:
    c.getresponse().read()
except Exception:
    pass
"""


def test_what_was_said_in_the_clear_is_in_no_table_and_no_file(
    lab: Callable[[str | Path], Said], up: Callable[..., Up]
) -> None:
    """The call is on the map, as plaintext; of its words nothing is anywhere (S11)."""
    lab(LAB)
    running = up()
    running.ready()
    for _ in range(3):
        run_in("web", sys.executable, "-c", CALL)

    def heard() -> bool:
        found = running.get("flows?port=80&encryption=plaintext")["flows"]
        return any(f["client"]["address"] == "198.18.1.10" for f in found)

    running.wait(heard, "the call is not on the map")
    running.close()
    files = [file for file in running.state.rglob("*") if file.is_file()]
    assert {"history.db", "state.db"} <= {file.name for file in files}
    holding = [file.name for file in files if CANARY.encode() in file.read_bytes()]
    assert holding == []
    assert [text for text in _texts_of(running.state) if CANARY in text] == []


def _texts_of(state: Path) -> Iterator[str]:
    """Every row of every table, unpacked: a file may hold them compressed."""
    history = duckdb.connect(str(state / "history.db"), read_only=True)
    for (table,) in history.execute("select table_name from duckdb_tables()").fetchall():
        yield from map(str, history.execute(f'select * from "{table}"').fetchall())
    history.close()
    kept = sqlite3.connect(state / "state.db")
    tables = kept.execute("select name from sqlite_master where type = 'table'").fetchall()
    for (table,) in tables:
        for row in kept.execute(f'select * from "{table}"'):
            yield str(row)
            for cell in row:
                if isinstance(cell, bytes):
                    yield _unpacked(cell)
    kept.close()


def _unpacked(cell: bytes) -> str:
    try:
        return zlib.decompress(cell).decode(errors="replace")
    except zlib.error:
        return cell.decode(errors="replace")
