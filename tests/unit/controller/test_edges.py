"""Two reports of one conversation become one edge, which says the worst that is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.controller.columns import Half
from netwatch.controller.edges import edges_of, grouped
from netwatch.graph.external import Groups, parse_groups
from netwatch.model.flow import Endpoint
from tests.unit.controller.samples import DB, WEB, flow

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


@pytest.mark.parametrize(
    ("through", "expected"),
    [
        pytest.param(8080, 4, id="a workload came through the door: the rest may be docker-proxy"),
        pytest.param(None, 9, id="nobody did: all of it is the host's"),
    ],
)
def test_a_host_that_calls_its_own_workload_is_told_apart_where_its_rules_translate(
    through: int | None, expected: int
) -> None:
    """Four calls of host b were translated by its rules, five went to db as they were."""
    call = replace(CLIENT, source="b/shop/api", original_port=through)
    own = replace(CLIENT, source="host:b", original_port=8080, connections=4)
    rest = replace(SERVER, source="host:b", connections=5)
    found = {e.source.id: e.connections for e in edges_of((call, own, rest), KNOWN)}
    assert found == {"b/shop/api": 3, "host:b": expected}


@pytest.mark.parametrize(
    ("client", "server", "link", "protection"),
    [
        pytest.param(
            "proven wireguard", "proven wireguard", "proven wireguard", "both", id="both"
        ),
        pytest.param("proven wireguard", "none", "none", "tls", id="one way is bare"),
        pytest.param("proven ipsec", None, "proven ipsec", "both", id="one agent tells nothing"),
        pytest.param("unknown", "proven ipsec", "unknown", "tls", id="one does not know"),
        pytest.param(None, None, None, "tls", id="nobody tells"),
    ],
)
def test_a_link_is_as_good_as_the_worse_side_says(
    client: str | None, server: str | None, link: str | None, protection: str
) -> None:
    (edge,) = edges_of((replace(CLIENT, link=client), replace(SERVER, link=server)), KNOWN)
    assert (edge.link, edge.protection) == (link, protection)


OUTSIDE = replace(CLIENT, destination="external:203.0.113.7", port=443)
GROUPS = parse_groups("office=203.0.113.0/24")


@pytest.mark.parametrize(
    ("name", "groups", "expected"),
    [
        pytest.param(None, GROUPS, ("office", "cidr"), id="a group"),
        pytest.param(("a.example", "dns"), GROUPS, ("a.example", "dns"), id="a name says more"),
        pytest.param(None, Groups(), (None, None), id="nothing is known"),
    ],
)
def test_a_peer_outside_is_called_by_name_or_group(
    name: tuple[str, str] | None, groups: Groups, expected: tuple[str | None, str | None]
) -> None:
    """Its id stays the address: names come and go."""
    (edge,) = edges_of((replace(OUTSIDE, name=name),), KNOWN, groups)
    assert (edge.destination.known_as, edge.destination.named_by) == expected
    assert edge.destination.id == "external:203.0.113.7"


def test_a_flow_with_an_end_in_a_group_says_so() -> None:
    """Unless somebody named it already, or it is a workload."""
    named = flow(server=Endpoint("203.0.113.7", 443, name="a.example", named_by="sni"))
    plain = flow(server=Endpoint("203.0.113.7", 443))
    assert grouped(named, GROUPS) is named
    assert grouped(plain, GROUPS).server == Endpoint(
        "203.0.113.7", 443, name="office", named_by="cidr"
    )
    assert grouped(flow(side="server"), GROUPS) == flow(side="server")


def test_a_workload_brings_what_it_was_made_from() -> None:
    made = replace(DB, image="postgres:16", image_digest="sha256:1", project="shop", service="db")
    (edge,) = edges_of((CLIENT,), {**KNOWN, DB.identity: made})
    peer = edge.destination
    assert (peer.image, peer.image_digest, peer.project, peer.service) == (
        "postgres:16", "sha256:1", "shop", "db",
    )  # fmt: skip
