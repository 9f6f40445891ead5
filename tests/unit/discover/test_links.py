"""Which interfaces lie on which, where the kernel of a test can not make them all."""

from __future__ import annotations

import pytest

from netwatch.discover.links import Link, below


def link(index: int, name: str, peer: int | None = None, namespace: int | None = None) -> Link:
    return Link(index, name, "", None, peer, namespace)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("eth0", set(), id="a card"),
        pytest.param("eth0.10", {"eth0"}, id="a VLAN"),
        pytest.param("eth0.10.7", {"eth0.10", "eth0"}, id="a VLAN in a VLAN"),
        pytest.param("veth1", {"veth1", "veth2"}, id="the two ends of a veth lie on each other"),
        pytest.param("veth3", set(), id="the other end is in another namespace"),
        pytest.param("gone.5", set(), id="what it lay on is gone"),
    ],
)
def test_what_carries_an_interface(name: str, expected: set[str]) -> None:
    """IFLA_LINK is followed within this namespace, and comes to an end."""
    links = {
        each.index: each
        for each in (
            link(2, "eth0"),
            link(3, "eth0.10", 2),
            link(4, "eth0.10.7", 3),
            link(5, "veth1", 6),
            link(6, "veth2", 5),
            link(7, "veth3", 2, namespace=1),
            link(8, "gone.5", 99),
        )
    }
    by_name = {each.name: each for each in links.values()}
    assert below(by_name[name], links) == expected
