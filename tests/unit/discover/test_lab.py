"""Discovery of a lab host: from its own file, found by its own namespace."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec
import pytest

from netwatch.discover.lab import FOLDER, LabSource, find_lab
from netwatch.lab import state
from netwatch.lab.document import load
from netwatch.lab.facts import snapshot
from netwatch.lab.plan import place
from netwatch.model.snapshot import Snapshot

SHOP = Path(__file__).parents[3] / "netwatch" / "lab" / "shop.yaml"


@cache
def facts(host: str) -> Snapshot:
    plan = place(load(SHOP))
    placed = next(one for one in plan.hosts if one.name == host)
    indexes = {w.interface: 10 + n for n, w in enumerate(plan.on(host))}
    return snapshot(plan, placed, pids={"db": 77, "web": 78}, indexes=indexes)


def replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


@contextmanager
def watching(file: Path, host: str, changed: Callable[[], None]) -> Iterator[LabSource]:
    source = LabSource(file, host, poll_s=0.005)
    source.start(changed)
    try:
        yield source
    finally:
        source.close()


def test_the_lab_writes_where_discovery_looks() -> None:
    """The two may not import each other, so this test holds them together."""
    assert state.HOSTS == FOLDER


def test_what_the_lab_writes_is_what_discovery_reads(tmp_path: Path) -> None:
    """Every field survives the file."""
    wanted = facts("b")
    file = tmp_path / "b.json"
    file.write_bytes(msgspec.json.encode(wanted))
    with watching(file, "b", lambda: None) as source:
        assert source.snapshot() == wanted


def test_a_host_knows_its_workloads_and_its_neighbours_but_no_call() -> None:
    """What a runtime and an operator could know; traffic has to be seen."""
    known = facts("b")
    assert {w.name for w in known.workloads} == {
        "api",
        "db",
        "cache",
        "queue",
        "worker",
        "report",
    }
    db = next(w for w in known.workloads if w.name == "db")
    assert (db.key, db.identity, db.runtime, db.pid) == ("shop/db", "b/shop/db", "lab", 77)
    assert db.label_values() == {"app": "db", "tier": "data", "data": "orders"}
    assert {label.source for label in db.labels} == {"lab"}
    assert [(p.number, p.protocol, p.source, p.name) for p in db.ports] == [
        (5432, "tcp", "lab", "postgres")
    ]
    (neighbour,) = known.neighbours
    assert (neighbour.name, neighbour.routed) == ("a", True)
    assert neighbour.addresses == ("192.0.2.1", "2001:db8:0:ffff::1")
    web = next(w for w in neighbour.workloads if w.name == "web")
    assert (web.pid, web.interfaces) == (None, ())
    assert dict(known.namespaces)["pay"] == (("team", "payments"), ("data", "pci"))
    assert known.uplinks == ("eth0",)


def test_an_undocumented_port_is_in_no_file() -> None:
    """Else it would not be undocumented."""
    text = msgspec.json.encode(facts("a")) + msgspec.json.encode(facts("b"))
    assert b"8089" not in text


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """`changed` is called once the new snapshot can be had."""
    file = tmp_path / "b.json"
    file.write_bytes(msgspec.json.encode(facts("b")))
    seen = threading.Event()
    with watching(file, "b", seen.set) as source:
        assert len(source.snapshot().workloads) == 6
        replace(file, msgspec.json.encode(Snapshot(host="b")))
        assert seen.wait(10)
        assert source.snapshot() == Snapshot(host="b")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda file: file.unlink(), "can not be read", id="gone"),
        pytest.param(lambda file: replace(file, b"{"), "damaged", id="half written"),
        pytest.param(lambda file: replace(file, b"\xff\xfe"), "damaged", id="no text"),
        pytest.param(lambda file: replace(file, b'{"host": 1}'), "damaged", id="another shape"),
    ],
)
def test_a_lost_file_is_a_problem_and_no_loss(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    """The last known workloads stay; the problem says why they may be old; recovery is seen."""
    file = tmp_path / "b.json"
    good = facts("b")
    file.write_bytes(msgspec.json.encode(good))
    seen = threading.Event()
    with watching(file, "b", seen.set) as source:
        damage(file)
        assert seen.wait(10)
        assert words in (source.snapshot().problem or "")
        assert source.snapshot().workloads == good.workloads
        seen.clear()
        replace(file, msgspec.json.encode(good))
        assert seen.wait(10)
        assert source.snapshot() == good


def test_a_host_is_found_by_the_identity_of_its_namespace(tmp_path: Path) -> None:
    """Not by its name: two names of one file are one namespace, equal names elsewhere are not."""
    named, folder = tmp_path / "netns", tmp_path / "lab"
    named.mkdir()
    folder.mkdir()
    for name in ("nwh-a", "nwh-b", "nw-web", "nwh-unknown"):
        (named / name).touch()
    for host in ("a", "b"):
        (folder / f"{host}.json").write_bytes(msgspec.json.encode(facts(host)))
    same = tmp_path / "proc-self-ns-net"
    os.link(named / "nwh-b", same)

    def found(namespace: Path) -> str | None:
        source = find_lab(namespace, named=named, folder=folder)
        if source is None:
            return None
        source.start(lambda: None)
        source.close()
        return source.snapshot().host

    assert found(same) == "b"
    assert found(named / "nwh-a") == "a"
    assert found(named / "nw-web") is None
    assert found(named / "nwh-unknown") is None
    assert found(tmp_path / "nowhere") is None
    assert find_lab(same, named=tmp_path / "missing", folder=folder) is None
