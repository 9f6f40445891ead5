"""Two reports of one conversation become one edge, which says the worst that is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.controller.columns import Half
from netwatch.controller.edges import edges_of
from tests.unit.controller.samples import DB, WEB

CLIENT = Half(
    side="client",
    source=WEB.identity,
    destination=DB.identity,
    protocol="tcp",
    port=5432,
    original_port=None,
    connections=3,
    packets=30,
    bytes=3_000,
    first_seen=100,
    last_seen=200,
    encryption="encrypted",
    direction="seen",
    versions=("TLSv1.3",),
    applications=("tls",),
    states=("established",),
    verdict="allow",
    staged=None,
)
SERVER = replace(
    CLIENT, side="server", connections=2, packets=20, bytes=2_000, first_seen=90, last_seen=250
)
KNOWN = {w.identity: w for w in (WEB, DB)}


@pytest.mark.parametrize("order", [(CLIENT, SERVER), (SERVER, CLIENT)])
def test_the_clients_figures_win_and_nothing_is_summed(order: tuple[Half, ...]) -> None:
    (edge,) = edges_of(order, KNOWN)
    assert (edge.connections, edge.packets, edge.bytes) == (3, 30, 3_000)
    assert (edge.first_seen, edge.last_seen) == (90, 250)


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ("encrypted", "encrypted", "encrypted"),
        ("encrypted", "plaintext", "plaintext"),
        ("plaintext", "encrypted", "plaintext"),
        ("unknown", "plaintext", "plaintext"),
        ("unknown", "encrypted", "unknown"),
        ("encrypted", "unknown", "encrypted"),
    ],
)
def test_never_a_false_encrypted(client: str, server: str, expected: str) -> None:
    halves = (replace(CLIENT, encryption=client), replace(SERVER, encryption=server))
    assert edges_of(halves, KNOWN)[0].encryption == expected


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ("allow", "deny", "deny"),
        ("deny", "allow", "deny"),
        (None, "allow", "allow"),
        (None, None, None),
    ],
)
def test_both_ends_must_permit(
    client: str | None, server: str | None, expected: str | None
) -> None:
    halves = (replace(CLIENT, verdict=client), replace(SERVER, verdict=server))
    assert edges_of(halves, KNOWN)[0].verdict == expected


def test_a_masqueraded_client_is_not_a_second_edge() -> None:
    """What b sees from host a through the door is web's conversation, once."""
    through = replace(CLIENT, original_port=15_432)
    hidden = replace(SERVER, source="host:a")
    assert [e.source.id for e in edges_of((through, hidden), KNOWN)] == [WEB.identity]
    assert [e.source.id for e in edges_of((CLIENT, hidden), KNOWN)] == [WEB.identity, "host:a"]
    other = replace(hidden, source="host:c")
    assert len(edges_of((through, other), KNOWN)) == 2
