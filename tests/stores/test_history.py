"""What history keeps, for how long, and what it makes of encryption that was proven late."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from netwatch.controller.columns import Named
from netwatch.controller.history import History
from netwatch.controller.ledger import WINDOW
from netwatch.controller.records import FlowQuery
from netwatch.controller.statements import FIVE_MINUTES, HOUR
from netwatch.controller.upkeep import FIVE_MINUTES_KEPT
from netwatch.model.flow import Encryption, Flow, Process
from netwatch.model.link import Link
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from tests.unit.controller.samples import PLAIN, START, TLS, flow

UNKNOWN = Encryption()
BASE = START - START % HOUR


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def put(history: History, sequence: int, *flows: Flow, at: int = START) -> bool:
    named = [Named(f, "a/shop/web", "b/shop/db", f.server.port, None) for f in flows]
    return history.append(Report("a", "boot", sequence, at - SECOND, at), named, at)


def served(port: int, made: Flow) -> Flow:
    return replace(made, server=replace(made.server, port=port))


def silent(made: Flow) -> Flow:
    return replace(made, client_payload_bytes=0, server_payload_bytes=0)


ENCRYPTION = {
    "the handshake came later": (flow(encryption=UNKNOWN), flow(), "encrypted"),
    "plaintext, later": (flow(encryption=UNKNOWN), flow(encryption=PLAIN), "plaintext"),
    "another connection is no proof": (flow(encryption=UNKNOWN), flow(sport=2), "unknown"),
    "a connection that said nothing gave nothing away": (
        silent(flow(encryption=UNKNOWN)),
        flow(sport=2),
        "encrypted",
    ),
    "nothing said, nothing known": (
        silent(flow(encryption=UNKNOWN)),
        silent(flow(sport=2, encryption=UNKNOWN)),
        "unknown",
    ),
    "the worst counts": (flow(), flow(sport=2, encryption=PLAIN), "plaintext"),
}


@pytest.mark.parametrize("rolled", [False, True])
def test_an_edge_is_as_encrypted_as_its_worst_connection(history: History, rolled: bool) -> None:
    """Every case is an edge of its own in one history."""
    numbers = range(1, len(ENCRYPTION) + 1)
    cases = [*ENCRYPTION.values()]
    put(history, 1, *(served(n, first) for n, (first, _, _) in zip(numbers, cases, strict=True)))
    later = [replace(then, last_seen=START + SECOND) for _, then, _ in cases]
    put(history, 2, *map(served, numbers, later), at=START + SECOND)
    if rolled:
        history.roll_up(START + HOUR)
    found = {half.port: half.encryption for half in history.edges(None, None)}
    assert {case: found[n] for case, n in zip(ENCRYPTION, numbers, strict=True)} == {
        case: expected for case, (_, _, expected) in ENCRYPTION.items()
    }


DIRECTION = {
    "seen": ([flow()], "seen"),
    "guessed": ([flow(direction="guessed")], "guessed"),
    "one was proven": ([flow(direction="guessed"), flow(sport=2)], "seen"),
    "an unanswered SYN does not prove who served the other": (
        [flow(direction="guessed"), flow(sport=2, state="unanswered")],
        "guessed",
    ),
    "a scan has a direction": ([flow(state="unanswered")], "seen"),
}


def test_direction_is_that_of_what_was_answered(history: History) -> None:
    """Every case is an edge of its own in one history."""
    for n, (flows, _) in enumerate(DIRECTION.values(), 1):
        put(history, n, *(served(n, one) for one in flows))
    found = {half.port: half.direction for half in history.edges(None, None)}
    assert {case: found[n] for n, case in enumerate(DIRECTION, 1)} == {
        case: expected for case, (_, expected) in DIRECTION.items()
    }


@pytest.mark.parametrize(
    ("later_s", "told"),
    [pytest.param(1, "violated", id="a moment"), pytest.param(301, "allow", id="long")],
)
def test_a_broken_obligation_is_not_hidden_by_the_next_conversation(
    history: History, later_s: int, told: str
) -> None:
    """The next one kept the rule a second later, and nobody ever heard of the one before."""
    put(history, 1, flow(verdict="violated"))
    last = START + later_s * SECOND
    put(history, 2, flow(sport=2, verdict="allow", first_seen=last, last_seen=last), at=last)
    assert [half.verdict for half in history.edges(None, None)] == [told]


def test_the_latest_verdict_is_the_edges(history: History) -> None:
    put(history, 1, flow(verdict="allow"))
    history.roll_up(START + HOUR)
    put(history, 2, flow(sport=2, verdict="deny", last_seen=START + 1))
    assert [half.verdict for half in history.edges(None, None)] == ["deny"]


def test_single_flows_go_after_retention_and_the_sums_stay(history: History) -> None:
    put(history, 1, flow(last_seen=BASE), at=BASE)
    put(history, 2, flow(sport=2, last_seen=BASE + 20 * HOUR), at=BASE + 20 * HOUR)
    now = BASE + 21 * HOUR
    before = history.edges(None, None)
    history.roll_up(now)
    history.purge(now, retention_hours=2)
    assert [f.client.port for f in history.flows(FlowQuery())[0]] == [2]
    assert history.edges(None, None) == before
    whole_bucket = history.edges(BASE + SECOND, BASE + 2 * SECOND)
    assert [half.connections for half in whole_bucket] == [1]


def test_old_buckets_become_hours_without_losing_a_byte(history: History) -> None:
    for n in range(4):
        at = BASE + n * 3 * FIVE_MINUTES
        put(history, n, flow(sport=n, last_seen=at, first_seen=at), at=at)
    before = history.edges(None, None)
    for days in (1, 8):
        history.roll_up(BASE + days * 24 * HOUR)
        assert history.edges(None, None) == before
    assert FIVE_MINUTES_KEPT < 8 * 24 * HOUR
    assert [half.connections for half in history.edges(BASE, BASE + HOUR)] == [4]
    assert history.edges(BASE + HOUR, None) == []


def test_the_ledger_is_bounded_and_still_refuses_what_is_older(history: History) -> None:
    put(history, 1)
    put(history, WINDOW + 10)
    history.roll_up(START + HOUR)
    history.purge(START + HOUR, retention_hours=1)
    assert put(history, 1) is False
    assert put(history, 2) is False, "older than the window: known or lost, never counted twice"
    assert put(history, 12) is True, "within the window: late, but new"


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    """The process dies the moment ingest() has returned; nothing is lost and nothing repeats."""
    program = (
        "import os, signal, sys, pathlib\n"
        "from tests.unit.controller.samples import *\n"
        "opened = controller(pathlib.Path(sys.argv[1]), Clock())\n"
        "assert opened.ingest(report('a', flow(), losses=(('x', 3),)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, timeout=60)
    assert died.returncode == -9
    history = History(tmp_path / "history.db")
    assert [half.connections for half in history.edges(None, None)] == [1]
    assert history.losses() == {"a": {"x": 3}}
    assert history.knows(Report("a", "boot", 1, 0, 1))
    assert [f.encryption for f in history.flows(FlowQuery())[0]] == [TLS]
    history.close()


def test_a_file_that_is_no_history_ends_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(
        b"not a database, and long enough to be read as one" * 99
    )
    with pytest.raises(Exception, match="history") as caught:
        History(tmp_path / "history.db")
    assert type(caught.value).__name__ == "NetwatchError"


SENT = Process(10, "/usr/bin/curl", 0, "root")
WIREGUARD = Link("proven", "wireguard", "wg0", "handshake")


@pytest.mark.parametrize("rolled", [False, True])
def test_the_worst_link_and_the_last_name_of_an_edge_survive_the_roll_up(
    history: History, rolled: bool
) -> None:
    """What nobody told of makes neither better."""
    named = replace(flow().server, name="db.example", named_by="dns")
    put(
        history, 1, flow(link=WIREGUARD, server=named), flow(sport=2),
        served(2, flow(link=WIREGUARD)), served(2, flow(sport=2, link=Link("none"))),
        served(3, flow()),
    )  # fmt: skip
    if rolled:
        history.roll_up(START + HOUR)
    found = {half.port: (half.link, half.name) for half in history.edges(None, None)}
    assert found == {
        5432: ("proven wireguard", ("db.example", "dns")),
        2: ("none", None),
        3: (None, None),
    }


def test_a_flow_comes_back_with_process_name_and_link(history: History) -> None:
    ends = flow()
    told = flow(
        client=replace(ends.client, process=SENT),
        server=replace(ends.server, name="db.example", named_by="sni"),
        link=WIREGUARD,
    )
    put(history, 1, told)
    ((found,), _) = history.flows(FlowQuery())
    assert found.client.process == SENT
    assert (found.server.name, found.server.named_by, found.server.process) == (
        "db.example", "sni", None,
    )  # fmt: skip
    assert found.link == WIREGUARD


def test_a_name_from_elsewhere_is_not_kept_as_one(history: History) -> None:
    """An agent that lies about who named something names nothing."""
    put(history, 1, flow(server=replace(flow().server, name="x", named_by="me said")))
    assert history.edges(None, None)[0].name is None


def test_a_file_of_an_older_version_gets_the_new_columns(tmp_path: Path) -> None:
    """Its flows are read as before; of names and links it knows nothing."""
    path = tmp_path / "history.db"
    opened = History(path)
    put(opened, 1, flow())
    opened.roll_up(START + HOUR)
    put(opened, 2, flow(sport=2))
    opened.close()
    old = duckdb.connect(str(path))
    for table in ("flows", "five_minutes", "hours"):
        for column in ("link", "name"):
            old.execute(f"alter table {table} drop column {column}")
    old.execute("update flows set details = regexp_replace(details, ',null,null,null,null', '')")
    kept = old.execute("select details from flows").fetchall()
    assert all(text.endswith(",[],[]]") for (text,) in kept), kept
    old.close()
    opened = History(path)
    put(opened, 3, flow(sport=3, link=WIREGUARD))
    opened.roll_up(START + 2 * HOUR)
    (half,) = opened.edges(None, None)
    assert (half.connections, half.link) == (3, "proven wireguard")
    assert [f.link for f in opened.flows(FlowQuery())[0]].count(None) == 2
    opened.close()


def test_what_is_not_summed_yet_is_not_dropped(history: History) -> None:
    put(history, 1, flow())
    assert history.shrink(1) == 0
    assert [half.connections for half in history.edges(None, None)] == [1]


def test_a_clock_that_is_set_back_brings_nothing_back(history: History) -> None:
    """An hour ahead and back again: what was deleted meanwhile is not thought to be there."""
    put(history, 1, flow(last_seen=BASE, first_seen=BASE), at=BASE)
    history.roll_up(BASE + 2 * HOUR)
    history.purge(BASE + 2 * HOUR, retention_hours=1)
    history.purge(BASE, retention_hours=1)
    whole_bucket = history.edges(BASE - SECOND, BASE + SECOND)
    assert [half.connections for half in whole_bucket] == [1]
    put(history, 2, flow(sport=2, last_seen=BASE, first_seen=BASE), at=BASE - HOUR)
    history.roll_up(BASE - HOUR + 2 * FIVE_MINUTES)
    assert [half.connections for half in history.edges(None, None)] == [2]
