"""When a link is proven to encrypt: fresh keys, the right way out, and both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.graph.protection import link_of
from netwatch.model.link import (
    Links,
    SecurityAssociation,
    SecurityPolicy,
    Template,
    WireGuard,
    WireGuardPeer,
    protection_of,
)
from netwatch.model.times import SECOND

NOW = 1_700_000_000 * SECOND
LOCAL, REMOTE = "198.18.1.10", "198.18.2.10"
PEER = WireGuardPeer("AAAA", ("198.18.2.0/24", "2001:db8:2::/64"), "192.0.2.2:51820", NOW - SECOND)
OTHER = WireGuardPeer("BBBB", ("0.0.0.0/0",), None, NOW - SECOND)


def tunnel(*peers: WireGuardPeer) -> Links:
    return Links(wireguard=(WireGuard("wg0", peers),), read=NOW)


@pytest.mark.parametrize(
    ("links", "out", "back", "status", "reason"),
    [
        pytest.param(Links(), "eth0", None, "none", None, id="no tunnel at all"),
        pytest.param(Links(problem="no"), "eth0", None, "unknown", "no", id="could not be read"),
        pytest.param(tunnel(PEER), "wg0", "wg0", "proven", "AAAA", id="a fresh handshake"),
        pytest.param(tunnel(PEER), "wg0", None, "proven", "AAAA", id="nothing came back yet"),
        pytest.param(tunnel(PEER), "eth0", None, "none", None, id="the route goes past it"),
        pytest.param(tunnel(PEER), None, None, "unknown", "no route", id="no route is known"),
        pytest.param(tunnel(PEER), "wg0", "eth0", "claimed", "eth0", id="back on the bare wire"),
        pytest.param(
            tunnel(replace(PEER, handshake=NOW - 181 * SECOND)), "wg0", None, "claimed", "181 s",
            id="an old handshake",
        ),
        pytest.param(
            tunnel(replace(PEER, handshake=NOW - 180 * SECOND)), "wg0", None, "proven", "AAAA",
            id="one at the limit",
        ),
        pytest.param(
            tunnel(replace(PEER, handshake=None)), "wg0", None, "claimed", "no handshake",
            id="no handshake",
        ),
        pytest.param(
            tunnel(OTHER, replace(PEER, handshake=None)), "wg0", None, "claimed", "AAAA",
            id="the smaller network's peer counts",
        ),
        pytest.param(
            tunnel(replace(PEER, allowed=("198.18.3.0/24",))), "wg0", None, "claimed", "no peer",
            id="no peer is allowed the address",
        ),
    ],
)  # fmt: skip
def test_wireguard_proves_by_way_and_handshake(
    links: Links, out: str | None, back: str | None, status: str, reason: str | None
) -> None:
    found = link_of(links, LOCAL, REMOTE, out=out, now=NOW, back=back)
    assert found.status == status
    assert reason is None or reason in (found.reason or "")


GATES = ("192.0.2.1", "192.0.2.2")
OUT = SecurityPolicy(
    "out", "198.18.1.0/24", "198.18.2.0/24", 10, templates=(Template(*GATES, "esp", "tunnel", 5),)
)
FORWARD = SecurityPolicy(
    "fwd", "198.18.2.0/24", "198.18.1.0/24", 10,
    templates=(Template(*GATES[::-1], "esp", "tunnel", 5),),
)  # fmt: skip
STATES = (
    SecurityAssociation(*GATES, 1, "esp", "tunnel", 5, encrypts=True),
    SecurityAssociation(*GATES[::-1], 2, "esp", "tunnel", 5, encrypts=True),
)
WHOLE = Links(associations=STATES, policies=(OUT, FORWARD), read=NOW)


def with_out(**changes: object) -> Links:
    return replace(WHOLE, policies=(replace(OUT, **changes), FORWARD))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("links", "status"),
    [
        pytest.param(WHOLE, "proven", id="policies and states of both directions"),
        pytest.param(replace(WHOLE, associations=STATES[:1]), "claimed", id="no state back"),
        pytest.param(replace(WHOLE, associations=STATES[1:]), "claimed", id="no state out"),
        pytest.param(replace(WHOLE, policies=(OUT,)), "claimed", id="plain is let back in"),
        pytest.param(replace(WHOLE, policies=(FORWARD,)), "none", id="nothing demands it"),
        pytest.param(
            replace(WHOLE, associations=tuple(replace(s, encrypts=False) for s in STATES)),
            "claimed",
            id="ESP that hides nothing",
        ),
        pytest.param(with_out(protocol=6), "claimed", id="for one protocol only"),
        pytest.param(with_out(mark=(1, 255)), "claimed", id="for marked packets only"),
        pytest.param(with_out(interface_id=3), "claimed", id="for an xfrm interface only"),
        pytest.param(
            with_out(templates=(replace(OUT.templates[0], optional=True),)), "claimed",
            id="level use: may go in the clear",
        ),
        pytest.param(
            with_out(templates=(replace(OUT.templates[0], protocol="ah"),)), "claimed", id="AH"
        ),
        pytest.param(with_out(templates=(replace(OUT.templates[0], request=6),)), "claimed",
                     id="a state of another request"),
        pytest.param(with_out(destination="198.18.3.0/24"), "none", id="another network"),
        pytest.param(
            replace(WHOLE, policies=(replace(OUT, priority=1, templates=()), OUT, FORWARD)),
            "none",
            id="a policy before it lets pass",
        ),
    ],
)  # fmt: skip
def test_ipsec_proves_by_policies_and_states(links: Links, status: str) -> None:
    """Composed after linux/xfrm.h: this kernel holds policies and no states (fixture-proven)."""
    assert link_of(links, LOCAL, REMOTE, out="eth0", now=NOW).status == status


@pytest.mark.parametrize(
    ("encryption", "link", "expected"),
    [
        ("encrypted", "none", "tls"),
        ("encrypted", "proven", "both"),
        ("encrypted", None, "tls"),
        ("plaintext", "proven", "link"),
        ("unknown", "proven", "link"),
        ("plaintext", "none", "neither"),
        ("plaintext", "claimed", "unknown"),
        ("plaintext", "unknown", "unknown"),
        ("unknown", "none", "unknown"),
    ],
)
def test_who_protects(encryption: str, link: str | None, expected: str) -> None:
    """Only what is proven protects, and neither is said only where that is proven too."""
    assert protection_of(encryption, link) == expected
