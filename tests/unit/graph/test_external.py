"""Groups of networks outside: the smallest that holds an address names it."""

from __future__ import annotations

import pytest

from netwatch.graph.external import parse_groups
from netwatch.model.errors import InvalidDocument

GROUPS = parse_groups(
    "world=0.0.0.0/0, office=203.0.113.0/24 vpn=203.0.113.128/25, lab=2001:db8::/32"
)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        pytest.param("203.0.113.7", "office", id="one"),
        pytest.param("203.0.113.200", "vpn", id="the smaller of two"),
        pytest.param("198.51.100.1", "world", id="everything"),
        pytest.param("2001:db8::1", "lab", id="IPv6"),
        pytest.param("2001:db9::1", None, id="0.0.0.0/0 does not include IPv6"),
        pytest.param("no address", None, id="no address"),
    ],
)
def test_the_smallest_network_names_an_address(address: str, name: str | None) -> None:
    assert GROUPS.name(address) == name


def test_no_groups_name_nothing() -> None:
    assert parse_groups("").name("203.0.113.7") is None


@pytest.mark.parametrize(
    "text", ["office", "=203.0.113.0/24", "office=", "office=203.0.113.1/24", "a=::/0, b=::/0"]
)
def test_what_is_no_group_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocument, match="external"):
        parse_groups(text)
