"""A network that claims to encrypt, held against what leaves and arrives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netwatch.agent.addresses import packed
from netwatch.agent.overlays import FRESH, Wire, link_over, seen_on
from netwatch.capture.sensor import ENTRY
from netwatch.model.link import Links
from netwatch.model.snapshot import Network
from netwatch.model.times import SECOND

NOW = 1_700_000_000 * SECOND
HERE, THERE = "192.0.2.1", "192.0.2.2"
MESH = Network("mesh", "overlay", None, ("198.18.0.0/15",), encrypted=True)


def rows(
    protocol: int, port: int, *, low: str = HERE, high: str = THERE, ago: int = SECOND
) -> npt.NDArray[Any]:
    """One conversation that nobody answers, whose high end has the port."""
    found = np.zeros(1, ENTRY)
    found["low"], found["high"] = np.void(packed(low)), np.void(packed(high))
    found["high_port"], found["protocol"] = port, protocol
    found["last"][0, 0] = NOW - ago
    return found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(rows(17, 4789), Wire(clear=True), id="VXLAN that leaves"),
        pytest.param(rows(17, 4789, low=THERE, high=HERE), Wire(clear=True), id="that arrives"),
        pytest.param(
            rows(17, 4789, low="2001:db8::1", high="2001:db8::2"), Wire(clear=True), id="over IPv6"
        ),
        pytest.param(rows(50, 0), Wire(sealed=True), id="ESP"),
        pytest.param(rows(17, 4790), Wire(), id="another port"),
        pytest.param(rows(6, 4789), Wire(), id="TCP to that port"),
        pytest.param(
            rows(17, 4789, low="198.18.1.2", high="198.18.1.3"), Wire(), id="a workload's"
        ),
        pytest.param(rows(17, 4789, ago=FRESH + SECOND), Wire(), id="long ago"),
        pytest.param(np.zeros(0, ENTRY), Wire(), id="nothing"),
    ],
)
def test_what_is_on_the_wire(entries: npt.NDArray[Any], expected: Wire) -> None:
    """Only packets of the host itself, and only those of the last minute."""
    assert seen_on(entries, (HERE, "2001:db8::1"), NOW) == expected


@pytest.mark.parametrize(
    ("wire", "others", "status", "said"),
    [
        pytest.param(Wire(), (), "claimed", "may travel in the clear", id="nothing was seen"),
        pytest.param(Wire(sealed=True), (), "claimed", "ESP is on the wire", id="ESP"),
        pytest.param(Wire(clear=True), (), "none", "in the clear", id="the claim is refuted"),
        pytest.param(
            Wire(clear=True, sealed=True),
            (),
            "none",
            "in the clear",
            id="by a part of the packets",
        ),
        pytest.param(
            Wire(clear=True),
            (Network("plain", "overlay"),),
            "claimed",
            "may be that of plain",
            id="another overlay may be it",
        ),
    ],
)
def test_a_claim_is_never_proven_and_can_be_refuted(
    wire: Wire, others: tuple[Network, ...], status: str, said: str
) -> None:
    link = link_over(MESH, (MESH, *others), Links(), wire)
    assert (link.status, link.kind, link.through) == (status, "overlay", "mesh")
    assert link.reason is not None and said in link.reason
