"""Which address and port lead from one name of a lab to another."""

from __future__ import annotations

import pytest

from netwatch.lab.directory import Entry, NotInLab, reach

B = ("192.0.2.2", "2001:db8:0:ffff::2")
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("a", "nwh-a", "a", ("192.0.2.1",)),
        Entry("b", "nwh-b", "b", B),
        Entry("internet", "nw-internet", None, ("203.0.113.10", "2001:db8:ffff::10")),
        Entry("web", "nw-web", "a", ("198.18.1.10", "2001:db8:1::a")),
        Entry("db", "nw-db", "b", ("198.18.1.10",), B, {"tcp/80": 20000, "udp/53": 53}),
        Entry("mate", "nw-mate", "b", ("198.18.1.11",), B, {"tcp/80": 80}),
    )
}


@pytest.mark.parametrize(
    ("source", "target", "protocol", "port", "family", "aim"),
    [
        pytest.param("db", "web", "tcp", 80, None, ("198.18.1.10", 80), id="routed, IPv4 first"),
        pytest.param("db", "web", "tcp", 80, 6, ("2001:db8:1::a", 80), id="routed, IPv6"),
        pytest.param("web", "db", "tcp", 80, None, ("192.0.2.2", 20000), id="the published port"),
        pytest.param("web", "db", "tcp", 80, 6, (B[1], 20000), id="the door's own IPv6 address"),
        pytest.param("web", "db", "udp", 53, None, ("192.0.2.2", 53), id="published udp"),
        pytest.param("web", "db", "tcp", 81, None, ("192.0.2.2", 81), id="not published"),
        pytest.param("internet", "db", "tcp", 80, None, ("192.0.2.2", 20000), id="from outside"),
        pytest.param("mate", "db", "tcp", 80, None, ("198.18.1.10", 80), id="on its own host"),
        pytest.param("b", "db", "tcp", 80, None, ("198.18.1.10", 80), id="from its host"),
        pytest.param("web", "b", "tcp", 22, None, ("192.0.2.2", 22), id="a host"),
        pytest.param("web", "internet", "tcp", 443, 6, ("2001:db8:ffff::10", 443), id="internet"),
        pytest.param("web", "198.51.100.1", "tcp", 1, None, ("198.51.100.1", 1), id="address"),
    ],
)
def test_a_name_leads_to_an_address_and_port(
    source: str, target: str, protocol: str, port: int, family: int | None, aim: tuple[str, int]
) -> None:
    """Direct where it is routed or on the same host, else through the other host's door."""
    assert (
        reach(ENTRIES, source, target=target, protocol=protocol, port=port, family=family) == aim
    )


@pytest.mark.parametrize(
    ("source", "target", "port", "family", "words"),
    [
        pytest.param("x", "web", 80, None, "'x'", id="unknown source"),
        pytest.param("web", "x", 80, None, "'x'", id="unknown target"),
        pytest.param("mate", "db", 80, 6, "no IPv6 address", id="family it does not have"),
        pytest.param("web", "mate", 20000, None, "elsewhere", id="a port that leads to another"),
    ],
)
def test_what_leads_nowhere_is_an_error(
    source: str, target: str, port: int, family: int | None, words: str
) -> None:
    """Never a connection to somebody else."""
    with pytest.raises(NotInLab, match=words):
        reach(ENTRIES, source, target=target, protocol="tcp", port=port, family=family)
