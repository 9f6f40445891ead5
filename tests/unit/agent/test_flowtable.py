"""What counted connections become: flows with a client, names, NAT joined, counted once."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from netwatch import wire
from netwatch.agent.flowtable import HOLD, FlowTable
from netwatch.agent.names import names_of
from netwatch.agent.row import PATIENCE
from netwatch.capture.sensor import Batch, Payload, Translation
from netwatch.model.flow import Flow
from netwatch.model.link import Link
from netwatch.model.report import Report
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, Interface, Workload
from tests.unit.agent.rows import START, entries, packed, row
from tests.unit.dissect.handshakes import certificate, handshake

WEB, DB, OUT = "198.18.0.2", "198.18.0.3", "203.0.113.9"


def workload(name: str, address: str, index: int, port: int | None = None) -> Workload:
    ports = (
        (DocumentedPort(port, "tcp", "lab"), DocumentedPort(port, "udp", "lab")) if port else ()
    )
    return Workload(
        "a",
        "shop",
        name,
        "lab",
        addresses=(address,),
        interfaces=(Interface(f"v{index}", index),),
        ports=ports,
    )


NAMES = names_of(Snapshot("a", (workload("web", WEB, 7), workload("db", DB, 8, 5432))))
CALL = ((WEB, 40000), (DB, 5432))
LATER = START + HOLD


def told(*rows: object, table: FlowTable | None = None, now: int = LATER) -> tuple[Flow, ...]:
    return (table or FlowTable("a")).fold(Batch(entries(*rows)), NAMES, now)


def test_both_ends_are_named_and_both_directions_counted() -> None:
    """One row is one flow between two workloads, with what each side sent."""
    (flow,) = told(row(*CALL, packets=(5, 4), size=(500, 400), payload=(100, 80)))

    assert (flow.client.workload, flow.client.port) == ("a/shop/web", 40000)
    assert (flow.server.workload, flow.server.port) == ("a/shop/db", 5432)
    assert (flow.client_packets, flow.server_packets) == (5, 4)
    assert (flow.client_bytes, flow.server_bytes) == (500, 400)
    assert (flow.client_payload_bytes, flow.server_payload_bytes) == (100, 80)
    assert (flow.state, flow.direction, flow.reporter) == ("established", "seen", "both")


def test_a_flow_can_be_sent() -> None:
    """Counters are Python's own integers: numpy's can not be packed."""
    flows = told(row(*CALL))

    assert wire.unpack(wire.pack(Report("a", "boot", 0, 0, 1, flows=flows))).flows == flows


def test_only_the_increase_is_told() -> None:
    """Totals are told once: what was told before is not told again."""
    table = FlowTable("a")
    told(row(*CALL, packets=(5, 4)), table=table)
    again = told(row(*CALL, packets=(5, 4)), table=table, now=LATER + 1)
    more = told(
        row(*CALL, packets=(9, 4), first=(START, START), last=LATER), table=table, now=LATER + 2
    )

    assert again == ()
    assert [(f.client_packets, f.server_packets, f.connections) for f in more] == [(4, 0, 0)]


def test_a_young_connection_is_held_until_it_says_what_it_is() -> None:
    """No flow is first told as unknown and then otherwise; after HOLD it is told anyway."""
    table = FlowTable("a")

    assert told(row(*CALL), table=table, now=START + 1) == ()
    assert len(told(row(*CALL), table=table, now=LATER)) == 1


def test_a_new_connection_on_old_ports_is_held_again() -> None:
    """What is said on a reused tuple is judged by its own first bytes."""
    table = FlowTable("a")
    told(row(*CALL), table=table)
    again = row(*CALL, packets=(9, 8), opened=2, first=(START, START), last=LATER + 1)

    assert told(again, table=table, now=LATER + 1) == ()
    assert [f.connections for f in told(again, table=table, now=LATER + 1 + HOLD)] == [1]


def test_what_the_kernel_throws_out_while_it_is_held_is_told() -> None:
    """Its room went to another connection, or its ports did: what was read is never lost."""
    table = FlowTable("a")
    other = ((WEB, 40001), (DB, 5432))
    told(row(*CALL, packets=(5, 4)), row(*other, packets=(2, 1)), table=table, now=START + 1)

    anew = row(*CALL, packets=(1, 0), first=(START + 2, 0), last=START + 2, life=2)
    gone = told(anew, table=table, now=START + 3)
    rest = told(anew, table=table, now=START + 3 + HOLD)

    assert [(f.client.port, f.client_packets, f.server_packets) for f in gone] == [(40000, 5, 4)]
    assert {(f.client.port, f.client_packets, f.server_packets, f.connections) for f in rest} == {
        (40000, 1, 0, 1),
        (40001, 2, 1, 1),
    }


HOUR = 3_600 * SECOND


def test_a_clock_that_is_set_back_holds_nothing_for_longer() -> None:
    """By an hour, while a connection on old ports is held: it is told HOLD later all the same."""
    table = FlowTable("a")
    told(row(*CALL), table=table)
    again = row(*CALL, packets=(9, 8), opened=2, first=(START, START), last=LATER + 1)
    assert told(again, table=table, now=LATER + 1) == ()

    back = row(
        *CALL, packets=(9, 8), opened=2, first=(START - HOUR, START - HOUR), last=LATER - HOUR
    )
    assert told(back, table=table, now=LATER - HOUR + 2) == ()
    (flow,) = told(back, table=table, now=LATER - HOUR + 2 + HOLD)

    assert (flow.connections, flow.client_packets) == (1, 4)
    assert 0 <= flow.first_seen <= flow.last_seen


def test_totals_that_began_anew_are_told_whole() -> None:
    """The kernel forgot the row and made it again: its totals are no increase of the old ones."""
    table = FlowTable("a")
    told(row(*CALL, packets=(5, 4)), table=table)
    (again,) = told(row(*CALL, packets=(5, 4), last=LATER, life=2), table=table, now=LATER + HOLD)

    assert (again.client_packets, again.connections) == (5, 1)


def test_a_finished_dialogue_is_told_at_once_with_its_proof() -> None:
    """An HTTP request and answer are proof enough: plaintext, by content."""
    table = FlowTable("a")
    ends = (packed(WEB), packed(DB), 40000, 5432, 6)
    request = Payload(*ends, True, 0, 1, b"GET / HTTP/1.1\r\nHost: db\r\n\r\n")
    answer = Payload(*ends, False, 0, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    (flow,) = table.fold(Batch(entries(row(*CALL)), (request, answer)), NAMES, START + 1)

    assert (flow.encryption.status, flow.encryption.proof) == ("plaintext", "content")
    assert flow.application == "http"
    assert [(c.low_port, c.connection) for c in table.finished()] == [(40000, 1)]
    assert table.finished() == ()


def test_a_server_that_answers_late_corrects_what_was_told(tmp_path: Path) -> None:
    """After HOLD it is told as unknown, but its bytes are kept: the next delta has the proof."""
    table = FlowTable("a")
    client, server = handshake(certificate(tmp_path / "pem"), ssl.TLSVersion.TLSv1_2)
    ends = (packed(WEB), packed(DB), 40000, 5432, 6)
    end = 5 + int.from_bytes(client[3:5], "big")
    hello = Payload(*ends, True, 0, 1, client[:end])
    rest = (Payload(*ends, True, end, 1, client[end:]), Payload(*ends, False, 0, 1, server))

    (early,) = table.fold(
        Batch(entries(row(*CALL, packets=(4, 1), flags=(0x1A, 0x12))), (hello,)), NAMES, LATER
    )
    waiting = table.finished()
    open_row = row(*CALL, packets=(8, 6), first=(START, START), last=LATER + 1)
    (late,) = table.fold(Batch(entries(open_row), rest), NAMES, LATER + 1)

    assert (early.encryption.status, late.encryption.status) == ("unknown", "encrypted")
    assert (waiting, len(table.finished())) == ((), 1)


@pytest.mark.parametrize(
    ("given", "final"),
    [
        pytest.param({"flags": (0x1B, 0x1A)}, False, id="one end is done, the other may speak"),
        pytest.param({"flags": (0x1B, 0x1B)}, True, id="both ends are done"),
        pytest.param({"flags": (0x1A, 0x1E)}, True, id="reset"),
        pytest.param({"first": (START - PATIENCE, 0)}, True, id="it has had its time"),
        pytest.param(
            {"first": (START - PATIENCE, 0), "opened": 2}, False, id="a young one on old ports"
        ),
    ],
)
def test_bytes_that_prove_nothing_are_kept_while_more_may_come(
    given: dict[str, Any], *, final: bool
) -> None:
    """The kernel is told that a connection needs no more payload only when that is so."""
    table = FlowTable("a")
    riddle = Payload(packed(WEB), packed(DB), 40000, 5432, 6, True, 0, 1, b"\x00\x01\x02")

    table.fold(Batch(entries(row(*CALL, **given)), (riddle,)), NAMES, LATER)

    assert bool(table.finished()) is final


@pytest.mark.parametrize(
    ("given", "client", "direction"),
    [
        pytest.param(row(*CALL), WEB, "seen", id="the SYN says it"),
        pytest.param(row(*CALL, seen=False), WEB, "seen", id="the documented port says it"),
        pytest.param(
            row((DB, 5432), (WEB, 40000), seen=False, protocol=17),
            WEB,
            "seen",
            id="the documented port says it, though the server spoke first",
        ),
        pytest.param(
            row((DB, 9999), (WEB, 40000), seen=False, first=(START, START + 5)),
            DB,
            "guessed",
            id="else who spoke first is a guess",
        ),
    ],
)
def test_who_is_the_client(given: object, client: str, direction: str) -> None:
    """SYN, conntrack, listener, documented port, in that order; else it is called a guess."""
    (flow,) = told(given)

    assert (flow.client.address, flow.direction) == (client, direction)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        pytest.param(row(*CALL), "established", id="answered"),
        pytest.param(row(*CALL, packets=(3, 0), flags=(0x02, 0)), "unanswered", id="no answer"),
        pytest.param(
            row(*CALL, payload=(0, 0), flags=(0x02, 0x14), refused=1), "refused", id="RST to a SYN"
        ),
        pytest.param(
            row(*CALL, packets=(1, 0), flags=(0x02, 0), refused=1), "refused", id="ICMP to a SYN"
        ),
        pytest.param(row(*CALL, flags=(0x1A, 0x1E)), "reset", id="RST after data"),
        pytest.param(
            row(*CALL, protocol=17, packets=(3, 0), flags=(0, 0), seen=False),
            "one-way",
            id="UDP without answer",
        ),
    ],
)
def test_states(given: object, state: str) -> None:
    """How a conversation went is told apart."""
    (flow,) = told(given)

    assert flow.state == state


def test_the_cable_names_the_sender_not_the_address() -> None:
    """A workload that borrows its neighbour's address is still itself."""
    (flow,) = told(row((DB, 40000), (OUT, 443), interfaces=(7, 0)))

    assert flow.client.workload == "a/shop/web"


def test_traffic_of_no_workload_is_no_flow_of_ours() -> None:
    """The host's own conversations are not the containers'."""
    assert told(row(("192.0.2.1", 40000), (OUT, 443))) == ()


def test_nat_makes_two_rows_and_one_flow() -> None:
    """A published port: the request is seen before, the answer after DNAT."""
    host = "192.0.2.1"
    to_host = row((OUT, 40000), (host, 8080), packets=(3, 0), payload=(30, 0))
    from_db = row((OUT, 40000), (DB, 5432), packets=(0, 2), payload=(0, 20), seen=False, opened=0)
    joined = Translation(
        6,
        (packed(OUT), 40000, packed(host), 8080),
        (packed(DB), 5432, packed(OUT), 40000),
    )
    batch = Batch(entries(to_host, from_db), translations=(joined,))

    (flow,) = FlowTable("a").fold(batch, NAMES, LATER)

    assert (flow.client.address, flow.server.workload) == (OUT, "a/shop/db")
    assert (flow.server.port, flow.original and flow.original.port) == (5432, 8080)
    assert (flow.client_packets, flow.server_packets, flow.connections) == (3, 2, 1)
    assert flow.state == "established"


def test_more_connections_than_a_report_holds_are_summed_exactly() -> None:
    """Past the limit clients' ports are given up, not packets and not connections."""
    rows = [row((WEB, 40000 + n), (DB, 5432), packets=(5, 4)) for n in range(50)]

    (flow,) = told(*rows, table=FlowTable("a", limit=10))

    assert (flow.client.port, flow.connections) == (None, 50)
    assert (flow.client_packets, flow.server_packets) == (250, 200)


def test_the_order_of_rows_changes_nothing() -> None:
    """Whatever order the kernel's map is read in, the flows are the same."""
    rows = [row((WEB, 40000 + n), (DB, 5432)) for n in range(9)]

    assert set(told(*rows)) == set(told(*reversed(rows)))


OUTSIDE_CALL = ((WEB, 40000), (OUT, 80))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(b"Host: api.example.com", ("api.example.com", "http"), id="a name"),
        pytest.param(b"Host: 203.0.113.9", (None, None), id="an address"),
        pytest.param(b"X: y", (None, None), id="none"),
    ],
)
def test_a_server_outside_is_called_as_its_client_calls_it(
    head: bytes, expected: tuple[str | None, str | None]
) -> None:
    table = FlowTable("a")
    ends = (packed(WEB), packed(OUT), 40000, 80, 6)
    request = Payload(*ends, True, 0, 1, b"GET / HTTP/1.1\r\n" + head + b"\r\n\r\n")
    answer = Payload(*ends, False, 0, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    (flow,) = table.fold(Batch(entries(row(*OUTSIDE_CALL)), (request, answer)), NAMES, LATER)

    assert (flow.server.name, flow.server.named_by) == expected


def test_what_leaves_the_host_is_asked_for_its_link_with_where_the_far_end_was_seen() -> None:
    """Whichever end is here, and whichever address is the lower; within the host nobody asks."""
    asked: list[tuple[str, str, int]] = []

    def way(local: str, far: str, arrived: int) -> Link | None:
        asked.append((local, far, arrived))
        return Link("proven", "wireguard", "wg0")

    snapshot = Snapshot("a", (workload("web", WEB, 7), workload("db", DB, 8)))
    names = names_of(snapshot, way=way)
    rows = (
        row((WEB, 1), (OUT, 80), interfaces=(7, 3)),
        row((OUT, 2), (WEB, 80), interfaces=(3, 7)),
        row(("192.0.2.9", 3), (WEB, 80), interfaces=(4, 7)),
        row(*CALL, interfaces=(7, 8)),
    )
    flows = FlowTable("a").fold(Batch(entries(*rows)), names, LATER)

    assert asked == [(WEB, OUT, 3), (WEB, OUT, 3), (WEB, "192.0.2.9", 4)]
    assert [flow.link is None for flow in flows] == [False, False, False, True]
