"""One contract for whoever writes rules: the same rules, whole or not at all, never lost."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from netwatch.enforce import kernel, writers
from netwatch.enforce.compile import compile
from netwatch.enforce.plan import NOTHING, plan
from netwatch.enforce.ruleset import Chain, Drop, Entered, Return, Rule, Ruleset
from netwatch.enforce.writers import PythonIptables, Restore, Writer
from netwatch.kernel.commands import CommandFailed, check, run
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Label, Workload
from netwatch.policy.files import read_policies
from tests.netns.small_shop import API_FROM_WEB, network_policy

pytestmark = pytest.mark.netns

PLACE = "nwt-writers"
LOCK = Path("/run/xtables.lock")
T = TypeVar("T")
needed = pytest.mark.skipif(
    not writers.installed(), reason=f"python-iptables is not installed: {writers.MISSING}"
)
WRITERS = [
    pytest.param("nft", Restore("nft", wait_s=1), id="restore, nft"),
    pytest.param("legacy", Restore("legacy", wait_s=1), id="restore, legacy"),
    pytest.param("legacy", PythonIptables(wait_s=1), id="python-iptables", marks=needed),
]
LEGACY = WRITERS[1:]
SNAPSHOT = Snapshot(
    "a",
    tuple(
        Workload(
            "a",
            "x",
            f"{app}{n}",
            app,
            labels=(Label("app", app, "own"),),
            addresses=(f"198.18.1.{n}", f"2001:db8:1::{n}"),
            networks=("lab",),
        )
        for n, app in enumerate(("web", "api", "rogue"), 10)
    ),
    (Network("lab", "bridge", "br0", ("198.18.1.0/24", "2001:db8:1::/64"), ("198.18.1.1",)),),
    addresses=("198.18.1.1",),
)


def here(work: Callable[[], T]) -> T:
    """In the namespace of these tests."""
    return inside(path_of_name(PLACE), work)


@pytest.fixture(autouse=True)
def place() -> Iterator[None]:
    """A namespace that nobody wrote rules in."""
    run(["ip", "netns", "del", PLACE])
    check(["ip", "netns", "add", PLACE])
    yield
    check(["ip", "netns", "del", PLACE])


def rules(backend: str) -> dict[int, list[str]]:
    """What `iptables-save` says of both families, without its own comments."""
    found = {}
    for family in (4, 6):
        text = here(lambda family=family: kernel.saved(backend, family))  # type: ignore[misc]
        found[family] = [line for line in text.splitlines() if not line.startswith("#")]
    return found


def rulesets(tmp_path: Path) -> tuple[Ruleset, Ruleset]:
    """Two that differ, with every kind of rule between them: staged, wide, quarantined."""
    file = tmp_path / "policies.yaml"
    file.write_text(API_FROM_WEB)
    first = compile(read_policies([file]), SNAPSHOT, now=0)
    wide = network_policy("web", "Ingress", "ingress: [{ports: [{port: 1, endPort: 9000}]}]")
    staged = network_policy("rogue", "Ingress, Egress", "", mode="stage")
    file.write_text("---\n".join((wide, staged)))
    second = compile(read_policies([file]), SNAPSHOT, now=0)
    port = Chain("NW-PORT", (Rule(Return(), (Entered("veth1"),)), Rule(Drop())))
    both = tuple((family, (*chains, port)) for family, chains in second.chains)
    return first, replace(second, chains=both)


@pytest.mark.parametrize(("backend", "writer"), WRITERS)
def test_what_is_written_is_read_back_by_its_marks(
    backend: str, writer: Writer, tmp_path: Path
) -> None:
    """From nothing to one policy, to another and to nothing: after each no difference is left."""
    there = check(["iptables-nft", "-V"]) and rules("nft")

    def go(wanted: Ruleset) -> bool:
        kernel.carry_out(plan(wanted, kernel.read(backend)), backend, writer=writer)
        left = plan(wanted, kernel.read(backend))
        return not left.steps

    for wanted in (*rulesets(tmp_path), NOTHING):
        assert here(lambda wanted=wanted: go(wanted)), wanted.digest  # type: ignore[misc]
    assert [line for line in sum(rules(backend).values(), []) if "NW-" in line] == []
    if backend == "legacy":
        assert rules("nft") == there
        made = here(lambda: Path("/proc/thread-self/net/ip_tables_names").read_text())
        assert made == "filter\n", "an empty table can not be taken away again"


@needed
def test_both_write_the_same_text(tmp_path: Path) -> None:
    """What python-iptables wrote, iptables-save prints as if iptables-restore had."""
    found = []
    for writer in (Restore("legacy"), PythonIptables()):
        for wanted in rulesets(tmp_path):
            here(
                lambda writer=writer, wanted=wanted: kernel.carry_out(  # type: ignore[misc]
                    plan(wanted, kernel.read("legacy")), "legacy", writer=writer
                )
            )
            found.append(rules("legacy"))
        here(
            lambda writer=writer: kernel.carry_out(  # type: ignore[misc]
                plan(NOTHING, kernel.read("legacy")), "legacy", writer=writer
            )
        )
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert found[0] != found[1]


FOREIGN = (
    "*filter",
    ":THEIRS - [0:0]",
    "-A THEIRS -p tcp -m tcp --dport 22 -j ACCEPT",
    "-A FORWARD -j THEIRS",
    "COMMIT",
)
OLD = ("*filter", ":NW-OLD - [0:0]", "-A NW-OLD -j RETURN", "COMMIT")
WRONG = {
    "a set that is not there": "-A NW-NEW -m set --match-set nw-nowhere src -j DROP",
    "a chain that is not there": "-A NW-NEW -j NW-NOWHERE",
    "an option that is none": "-A NW-NEW -m limit --limt 3/sec -j DROP",
    "a chain in use goes": "-X THEIRS",
}


@pytest.mark.parametrize("line", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("backend", "writer"), WRITERS)
def test_one_line_that_can_not_be_changes_nothing(backend: str, writer: Writer, line: str) -> None:
    """It comes last, behind lines that could be; what others wrote stays as well."""
    for lines in (FOREIGN, OLD):
        here(lambda lines=lines: Restore(backend).restore(4, lines, check_only=False))  # type: ignore[misc]
    before = rules(backend)
    good = (":NW-OLD - [0:0]", ":NW-NEW - [0:0]", "-I INPUT 1 -j NW-NEW", "-A NW-NEW -j DROP")
    with pytest.raises(CommandFailed):
        here(lambda: writer.restore(4, ("*filter", *good, line, "COMMIT"), check_only=False))
    assert rules(backend) == before
    here(lambda: writer.restore(4, ("*filter", *good, "COMMIT"), check_only=True))
    assert rules(backend) == before, "trying is not doing"
    here(lambda: writer.restore(4, ("*filter", *good, "COMMIT"), check_only=False))
    assert rules(backend)[6] == before[6]
    gone = {"-A NW-OLD -j RETURN"}
    assert set(before[4]) - set(rules(backend)[4]) <= gone
    assert "-A INPUT -j NW-NEW" in rules(backend)[4]


@pytest.mark.parametrize(("backend", "writer"), WRITERS)
def test_a_reader_sees_the_old_table_or_the_new_one(backend: str, writer: Writer) -> None:
    """Two chains change in one go; whoever looks meanwhile finds both old or both new."""

    def version(number: int) -> tuple[str, ...]:
        body = [
            f"-A {chain} -p tcp -m tcp --dport {number}{n:02} -j DROP"
            for chain in ("NW-A", "NW-B")
            for n in range(40)
        ]
        return ("*filter", ":NW-A - [0:0]", ":NW-B - [0:0]", *body, "COMMIT")

    versions = [version(1), version(2)]
    here(lambda: writer.restore(4, versions[0], check_only=False))
    seen: set[tuple[str, ...]] = set()
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            text = kernel.saved(backend, 4)
            seen.add(tuple(line for line in text.splitlines() if line.startswith("-A NW-")))

    reader = threading.Thread(target=lambda: here(look))
    reader.start()
    try:
        for number in range(200):  # until the reader has met both
            if number >= 4 and len(seen) > 1:
                break
            here(
                lambda number=number: writer.restore(  # type: ignore[misc]
                    4, versions[1 - number % 2], check_only=False
                )
            )
    finally:
        end.set()
        reader.join()
    assert seen == {tuple(each[3:-1]) for each in versions}


@contextmanager
def held() -> Iterator[None]:
    """The lock of iptables, in another hand."""
    LOCK.touch()
    descriptor = os.open(LOCK, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("backend", "writer"), LEGACY)
def test_a_lock_that_others_hold_is_respected(backend: str, writer: Writer) -> None:
    """It waits as long as it may, then says so and has changed nothing; then it is free again."""
    with held(), pytest.raises(CommandFailed, match="ended with 4"):
        here(lambda: writer.restore(4, OLD, check_only=False))
    assert ":NW-OLD - [0:0]" not in rules(backend)[4]
    here(lambda: writer.restore(4, OLD, check_only=False))
    assert ":NW-OLD - [0:0]" in rules(backend)[4]


@pytest.mark.parametrize(("backend", "writer"), LEGACY)
def test_two_writers_lose_nothing_of_each_other(backend: str, writer: Writer) -> None:
    """60 rules appended one by one by iptables while we write the whole table five times."""
    here(lambda: Restore(backend).restore(4, FOREIGN, check_only=False))
    failed: list[str] = []

    def append() -> None:
        for number in range(60):
            done = run(
                ["iptables-legacy", "-w", "20", "-A", "THEIRS", "-p", "udp", "-m", "udp"]
                + ["--dport", str(1000 + number), "-j", "ACCEPT"]
            )
            if done.code:
                failed.append(done.err)

    other = threading.Thread(target=lambda: here(append))
    patient = replace(writer, wait_s=20)  # type: ignore[type-var]
    other.start()
    for _ in range(5):
        here(lambda: patient.restore(4, OLD, check_only=False))
    other.join()
    assert failed == []
    theirs = [line for line in rules(backend)[4] if line.startswith("-A THEIRS -p udp")]
    assert len(theirs) == 60


@pytest.mark.parametrize(("backend", "writer"), LEGACY)
def test_what_hangs_is_ended_at_its_deadline(backend: str, writer: Writer) -> None:
    """It would wait half a minute for the lock, and may run for one second."""
    slow = replace(writer, wait_s=30, deadline_s=1.0)  # type: ignore[type-var]
    begin, before = time.monotonic(), _children()
    with held(), pytest.raises(CommandFailed, match="did not end within 1 s"):
        here(lambda: slow.restore(4, OLD, check_only=False))
    assert time.monotonic() - begin < 3
    assert ":NW-OLD - [0:0]" not in rules(backend)[4]
    assert _children() <= before, "it was ended, not left behind"


def _children() -> set[str]:
    """Of this process, which as the first of its namespace inherits orphans of other tests."""
    return set(run(["pgrep", "-P", str(os.getpid())]).out.split())


@pytest.mark.parametrize("name", ["iptc", "", "nft"])
def test_a_writer_that_is_none_is_said(name: str) -> None:
    with pytest.raises(NetwatchError) as said:
        writers.writer_of("legacy", name)
    assert "restore or python-iptables" in said.value.hint


def test_nft_tables_are_always_written_by_restore() -> None:
    """python-iptables knows legacy tables only; where rules are in nft it is not asked."""
    assert writers.writer_of("nft", "python-iptables") == Restore("nft")
    assert writers.writer_of("legacy", "python-iptables") == PythonIptables()
