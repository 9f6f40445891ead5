"""The live table of a workload: peers by name, bounded, harmless whatever they are called."""

from __future__ import annotations

from netwatch.capture.packets_live import Conversation
from netwatch.cli.capture_table import MOST_LINES, lines_of, names_of, screenful
from netwatch.model.snapshot import Neighbour, Network, Snapshot
from netwatch.model.workload import Workload


def conversation(peer: str = "shop/api", rate: float = 10.0) -> Conversation:
    return Conversation(
        peer, "out", 443, "tcp", "TLS 1.3", rate, 999, 2, "established", guessed=False
    )


def workload(name: str, *addresses: str, host: str = "a") -> Workload:
    return Workload(host, "shop", name, "docker", addresses=addresses)


def test_addresses_have_the_names_that_are_known_here() -> None:
    """Workloads, those of other hosts with their host; hosts and gateways; what is shared, not."""
    snapshot = Snapshot(
        "a",
        (workload("web", "198.18.1.2", "2001:db8::2"), workload("x", "198.18.1.9")),
        (Network("shop", "bridge", gateways=("198.18.1.1",)),),
        (
            Neighbour("b", ("192.0.2.2",), True, (workload("db", "198.18.2.2", host="b"),)),
            Neighbour("c", ("192.0.2.3",), True, (workload("y", "198.18.1.9", host="c"),)),
        ),
        addresses=("192.0.2.1",),
    )
    assert names_of(snapshot) == {
        "198.18.1.2": "shop/web",
        "2001:db8::2": "shop/web",
        "198.18.2.2": "b/shop/db",
        "192.0.2.1": "host",
        "198.18.1.1": "host",
        "192.0.2.2": "b",
        "192.0.2.3": "c",
    }


def test_a_screen_holds_no_more_than_it_has_lines_for_and_says_so() -> None:
    found = [conversation(f"shop/{number}") for number in range(30)]
    told = screenful(found, "shop/web", lines=10, losses={"dropped": 3, "forgotten": 0})
    assert told[0].startswith("shop/web: 30 conversations")
    assert told[2].split() == (
        ["PEER", "DIRECTION", "PORT", "PROTOCOL", "ENCRYPTION", "BYTES/S", "CONNS", "STATE"]
    )
    assert told[3].split() == (
        ["shop/0", "out", "443", "tcp", "TLS", "1.3", "10", "2", "established"]
    )
    assert told[-2:] == ["and 20 more", "not everything was seen: 3 dropped"]


def test_lines_for_a_pipe_are_those_of_what_goes_on() -> None:
    busy = [conversation(f"shop/{number}") for number in range(MOST_LINES + 2)]
    told = lines_of([*busy, conversation("silent", rate=0.0)])
    assert told[0] == "shop/0  out  443  tcp  TLS 1.3  10  2  established"
    assert (len(told), told[-1]) == (MOST_LINES + 1, "and 2 more")


def test_a_hostile_name_can_not_move_the_cursor_or_forge_a_line() -> None:
    evil = [conversation("x\x1b[2J\nroot  in  22")]
    for line in (*screenful(evil, "w\x1b[H", lines=5, losses={}), *lines_of(evil)):
        assert line.isprintable()
