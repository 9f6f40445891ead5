"""Flows of a report become rows: many at once, sorted by what they say, and none mistaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from netwatch.controller import arrived
from netwatch.controller.columns import Named
from netwatch.model.flow import Certificate, Encryption, Endpoint, Flow, Process, Tunnel
from netwatch.model.link import Link
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START, TLS, flow

LATEST = START + 300 * SECOND
CURL = Process(10, "/usr/bin/curl", 0, "root")
WIREGUARD = Link("proven", "wireguard", "wg0", "handshake")
CERTIFICATE = Certificate("CN=api", "CN=acme", 0, 1, "ff", "rsa", 2048)
OTHER: dict[str, Any] = {  # by annotation: what no sample has
    "str": "another",
    "str | None": "another",
    "int": 77,
    "bool | None": True,
    "tuple[str, ...]": ("another",),
    "Certificate | None": CERTIFICATE,
}


def rows(flows: Sequence[Flow], latest: int = LATEST) -> list[dict[str, Any]]:
    """The rows of these flows, in the order of their client ports."""
    named = [Named(f, "a/shop/web", "b/shop/db", f.server.port, None) for f in flows]
    made = arrived.from_flows(named, latest=latest)
    lists = {name: column.tolist() for name, column in made.items()}
    found = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return sorted(found, key=lambda row: row["client_port"])


def changed(value: Any) -> list[Any]:
    """The dataclass with another value in each of its fields, one by one."""
    return [replace(value, **{field.name: OTHER[str(field.type)]}) for field in fields(value)]


def variants() -> list[Flow]:
    """Flows that differ in one thing from some other: in each field of what a flow is made of."""
    client, server = flow().client, flow().server
    return [
        *(flow(encryption=e) for e in (TLS, *changed(TLS))),
        *(flow(client=replace(client, process=p)) for p in (CURL, *changed(CURL))),
        *(flow(server=replace(server, process=p)) for p in (CURL, *changed(CURL))),
        *(flow(link=link) for link in (WIREGUARD, *changed(WIREGUARD))),
        *(flow(server=replace(server, name=name, named_by="sni")) for name in ("a.b", "c.b")),
        flow(server=replace(server, name="a.b", named_by="dns")),
        flow(vlan=(7,)),
        flow(tunnel=(Tunnel("vxlan", 1, "198.18.7.1", "198.18.7.2"),)),
        flow(original=Endpoint("198.18.9.9", 8443)),
        *(flow(**{name: "another"}) for name in ("protocol", "reporter", "state", "direction")),
        *(flow(**{name: "another"}) for name in ("application", "verdict", "staged")),
    ]


def test_flows_that_differ_in_anything_have_rows_that_do() -> None:
    """Nothing that a flow says is lost on the way into its row."""
    alone = [rows([made])[0] for made in variants()]
    assert len({repr(sorted(row.items(), key=str)) for row in alone}) == len(alone)


def test_each_flow_has_its_own_row_among_many() -> None:
    """In whatever company it comes: a field that is forgotten would make two of them one kind."""
    some = variants()
    many = [
        replace(some[n % len(some)], client=replace(some[n % len(some)].client, port=n))
        for n in range(3 * arrived.BLOCK + 5)
    ]
    many = [replace(f, client_bytes=n * 3, first_seen=START - n) for n, f in enumerate(many)]
    assert rows(many) == [rows([made])[0] for made in many]


def test_rows_that_say_the_same_lie_together() -> None:
    alike = [flow(sport=n, state=("reset", "established")[n % 2]) for n in range(600)]
    made = arrived.from_flows([Named(f, "x", "y", 1, None) for f in alike], latest=LATEST)
    state = made["state"]
    assert np.count_nonzero(state[1:] != state[:-1]) == 1


def test_of_an_encryption_only_what_is_known_is_written() -> None:
    (row,) = rows([flow(encryption=Encryption(ech=False))])
    known = '{"status":"unknown","proof":"none","ech":false}'
    assert row["details"] == f"[{known},[],[],null,null,null,null]"


IMPOSSIBLE = [
    pytest.param(flow(client_bytes=2**63), OverflowError, id="more than 64 bits"),
    pytest.param(flow(server_packets=-1), ValueError, id="a counter below zero"),
    pytest.param(flow(first_seen=-1), ValueError, id="a time below zero"),
    pytest.param(flow(port=65_536), ValueError, id="a port too large"),
    pytest.param(flow(sport=-2), ValueError, id="a port below zero"),
    pytest.param(flow(sport=2**40), ValueError, id="a port of 40 bits"),
]


@pytest.mark.parametrize(("made", "error"), IMPOSSIBLE)
def test_numbers_that_no_counter_has_are_refused(made: Flow, error: type[Exception]) -> None:
    """Wherever in a report they stand."""
    many = [flow(sport=n) for n in range(arrived.BLOCK + 1)]
    with pytest.raises(error):
        rows([*many, made])


def test_a_clock_that_is_ahead_is_not_believed() -> None:
    (row,) = rows([flow(last_seen=LATEST + SECOND, first_seen=LATEST + 1)])
    assert (row["seen"], row["first_seen"]) == (LATEST, LATEST)


def test_a_report_without_flows_has_no_rows() -> None:
    assert rows([]) == []
