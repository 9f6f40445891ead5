"""What began as one of too many is told as one flow per edge: exact, and of unknown encryption."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from netwatch.agent.departed import Departed, Stay
from netwatch.agent.flowtable import HOLD, FlowTable
from netwatch.agent.names import Names
from netwatch.capture.sensor import Batch, Payload, Translation
from netwatch.model.flow import Flow
from netwatch.model.times import SECOND
from tests.unit.agent.rows import START, entries, packed, row
from tests.unit.agent.test_flowtable import DB, LATER, NAMES, OUT, WEB

REQUEST = b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def crowd(count: int, port: int = 40_000, **given: Any) -> list[Any]:
    return [row((WEB, port + n), (DB, 5432), crowded=True, **given) for n in range(count)]


def told(
    rows: Iterable[Any],
    payloads: Iterable[Payload] = (),
    *,
    table: FlowTable | None = None,
    names: Names = NAMES,
    now: int = START + 1,
    translations: tuple[Translation, ...] = (),
) -> tuple[Flow, ...]:
    batch = Batch(entries(*rows), tuple(payloads), translations)
    return (table or FlowTable("a")).fold(batch, names, now)


def test_a_crowd_is_one_flow_at_once_and_exact() -> None:
    """Nothing is waited for: nobody will have its first bytes."""
    (flow,) = told(crowd(50, packets=(5, 4), size=(500, 400), payload=(100, 80)))

    assert (flow.client.workload, flow.client.port) == ("a/shop/web", None)
    assert (flow.server.workload, flow.server.port) == ("a/shop/db", 5432)
    assert (flow.connections, flow.state, flow.direction) == (50, "established", "seen")
    assert (flow.client_packets, flow.server_packets) == (250, 200)
    assert (flow.client_bytes, flow.server_bytes) == (25_000, 20_000)
    assert (flow.client_payload_bytes, flow.server_payload_bytes) == (5_000, 4_000)
    assert (flow.encryption.status, flow.encryption.proof) == ("unknown", "none")


def test_a_neighbour_that_was_judged_proves_nothing_for_the_crowd() -> None:
    """One of the same edge is told by itself, with its own proof and port."""
    ends = (packed(WEB), packed(DB), 50_000, 5432, 6)
    said = (Payload(*ends, True, 0, 1, REQUEST), Payload(*ends, False, 0, 1, ANSWER))

    flows = told([row((WEB, 50_000), (DB, 5432)), *crowd(9)], said)

    assert {(f.client.port, f.connections, f.encryption.status) for f in flows} == {
        (50_000, 1, "plaintext"),
        (None, 9, "unknown"),
    }


def test_a_later_connection_of_the_crowd_on_the_ports_of_a_judged_one_is_unknown() -> None:
    """And so is what was judged, if it had not been told by then."""
    table, ends = FlowTable("a"), (packed(WEB), packed(DB), 40_000, 5432, 6)
    told([row((WEB, 40_000), (DB, 5432))], (Payload(*ends, True, 0, 1, b"\x16"),), table=table)

    (flow,) = told(crowd(1, opened=2, packets=(9, 9), connection=2), table=table, now=START + 2)

    assert (flow.connections, flow.client_packets, flow.encryption.status) == (2, 9, "unknown")


def test_what_is_alike_only_in_part_stays_apart() -> None:
    """Other ends, other ways and other outcomes are other flows."""
    refused = crowd(3, 41_000, packets=(1, 1), flags=(0x02, 0x14), payload=(0, 0), refused=1)
    elsewhere = [row((WEB, 42_000 + n), (OUT, 5432), crowded=True) for n in range(4)]
    flows = told([*crowd(2), *refused, *elsewhere])

    assert {(f.server.address, f.state, f.connections) for f in flows} == {
        (DB, "established", 2),
        (DB, "refused", 3),
        (OUT, "established", 4),
    }


def test_only_the_increase_of_a_crowd_is_told() -> None:
    table = FlowTable("a")
    told(crowd(5, packets=(5, 4)), table=table)
    again = told(crowd(5, packets=(5, 4)), table=table)
    (more,) = told(crowd(5, packets=(7, 4)), table=table)

    assert again == ()
    assert (more.client_packets, more.server_packets, more.connections) == (10, 0, 0)


UNANSWERED = {"packets": (1, 0), "flags": (0x02, 0), "payload": (0, 0)}


@pytest.mark.parametrize(
    ("later", "state"),
    [
        pytest.param({"packets": (4, 3)}, "established", id="the answer comes"),
        pytest.param(UNANSWERED, "unanswered", id="none comes"),
        pytest.param(None, "unanswered", id="the kernel throws it out"),
    ],
)
def test_who_has_no_answer_yet_is_given_the_time_for_it(
    later: dict[str, Any] | None, state: str
) -> None:
    """A connection that is read in the middle of its handshake is not called unanswered."""
    table = FlowTable("a")
    early = told(crowd(6, **UNANSWERED), table=table)
    after = told([] if later is None else crowd(6, **later), table=table, now=LATER)

    assert early == ()
    assert [(f.state, f.connections) for f in after] == [(state, 6)]


def test_who_waits_is_told_at_once_where_another_takes_the_place() -> None:
    """The same ports with totals that began anew are another connection."""
    table = FlowTable("a")
    told(crowd(1, **UNANSWERED), table=table)
    flows = told(crowd(1, packets=(3, 3), life=2), table=table, now=START + 2)

    assert {(f.state, f.client_packets, f.connections) for f in flows} == {
        ("unanswered", 1, 1),
        ("established", 3, 1),
    }


def test_what_was_held_for_its_first_bytes_is_counted_once_when_the_crowd_takes_its_ports() -> (
    None
):
    """Held as one, then crowded without an answer, then answered: each packet is told once."""
    table = FlowTable("a")
    told([row((WEB, 40_000), (DB, 5432), **UNANSWERED)], table=table)
    second = {**UNANSWERED, "packets": (2, 0), "opened": 2, "connection": 2}
    flows = [
        *told(crowd(1, last=START + 1, first=(START, 0), **second), table=table, now=START + 2),
        *told([], table=table, now=START + SECOND),
        *told(crowd(1, packets=(5, 5), opened=2), table=table, now=LATER),
        *told([], table=table, now=LATER + HOLD),
    ]

    assert (sum(f.client_packets for f in flows), sum(f.connections for f in flows)) == (5, 2)


LEFT = Departed(by_address={WEB: (Stay(NAMES.by_address[DB], START, START + 1),)})


@pytest.mark.parametrize(
    ("names", "ports", "translations"),
    [
        pytest.param(NAMES, 61_000, (), id="a port that probes come from"),
        pytest.param(
            replace(NAMES, departed=LEFT), 40_000, (), id="an address that changed hands"
        ),
        pytest.param(
            NAMES,
            40_000,
            tuple(
                Translation(
                    6,
                    (packed(WEB), 40_000 + n, packed(DB), 5432),
                    (packed(DB), 5432, packed(WEB), 40_000 + n),
                )
                for n in range(3)
            ),
            id="NAT",
        ),
    ],
)
def test_where_the_single_connection_matters_it_is_told(
    names: Names, ports: int, translations: tuple[Translation, ...]
) -> None:
    """Their bytes are not known all the same."""
    flows = told(crowd(3, ports), names=names, translations=translations)

    assert [(f.client.port, f.encryption.status) for f in flows] == [
        (ports + n, "unknown") for n in range(3)
    ]


def test_the_server_of_datagrams_is_found_for_all() -> None:
    """By the documented port, though it spoke first; else by who spoke first, as a guess."""
    first = (START + 5, START)
    known = crowd(4, protocol=17, seen=False, opened=0, first=first, last=START + 9)
    guessed = [
        row((WEB, 9_999), (OUT, 50_000 + n), protocol=17, seen=False, opened=0, crowded=True,
            first=first, last=START + 9)
        for n in range(4)
    ]  # fmt: skip
    flows = told([*known, *guessed], now=START + 10 + HOLD)

    assert {(f.client.address, f.server.port, f.direction, f.connections) for f in flows} == {
        (WEB, 5432, "seen", 4),
        (OUT, 9_999, "guessed", 4),
    }
