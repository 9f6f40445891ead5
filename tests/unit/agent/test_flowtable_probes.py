"""Connections of netwatch's own probes are no traffic; nobody else can make his look like one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.agent.flowtable import HOLD, FlowTable
from netwatch.agent.names import Names, names_of
from netwatch.capture.sensor import Batch
from netwatch.enforce.probed import Probed
from netwatch.model.flow import Flow
from netwatch.model.snapshot import Neighbour, Snapshot
from netwatch.model.workload import Workload
from tests.unit.agent.rows import START, entries, row

WEB, DB, FAR = "198.18.0.2", "198.18.0.3", "198.18.1.2"
HERE = Snapshot(
    "a",
    tuple(
        Workload("a", "shop", n, "lab", addresses=(at,)) for n, at in (("web", WEB), ("db", DB))
    ),
    neighbours=(
        Neighbour("b", (), True, (Workload("b", "shop", "far", "lab", addresses=(FAR,)),)),
    ),
)
NAMES = names_of(HERE)
PORT = 61_234  # of the range that probes come from


def told(*rows: object, names: Names = NAMES, table: FlowTable | None = None) -> tuple[Flow, ...]:
    return (table or FlowTable("a")).fold(Batch(entries(*rows)), names, START + HOLD)


@pytest.mark.parametrize("protocol", [6, 17])
def test_a_recorded_probe_is_set_aside_and_counted(protocol: int) -> None:
    """Exactly that connection: another one on the same edge is traffic."""
    ours = Probed({6: "tcp", 17: "udp"}[protocol], WEB, PORT, DB, 5432)
    names, table = replace(NAMES, probed=frozenset({ours})), FlowTable("a")
    real = row((WEB, 40_000), (DB, 5432), protocol=protocol)
    probe = row((WEB, PORT), (DB, 5432), protocol=protocol, packets=(1, 0), flags=(2, 0))
    (flow,) = told(real, probe, names=names, table=table)
    assert flow.client.port == 40_000
    assert dict(table.losses())["own probes set aside"] == 1


def test_a_workload_that_takes_such_a_port_hides_nothing() -> None:
    """The range alone is no proof: what is not recorded is told as it was seen."""
    (flow,) = told(row((WEB, PORT), (DB, 5432)))
    assert (flow.client.port, flow.direction) == (PORT, "seen")


def test_what_another_hosts_agent_may_have_probed_teaches_nothing_here() -> None:
    """Its own agent knows and tells; an address outside may not choose to be overlooked."""
    directions = {
        client: told(row((client, port), (DB, 5432)))[0].direction
        for client, port in ((FAR, PORT), ("203.0.113.9", PORT))
    }
    assert directions == {FAR: "guessed", "203.0.113.9": "seen"}
    assert told(row((FAR, 40_000), (DB, 5432)))[0].direction == "seen"
