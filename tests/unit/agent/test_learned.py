"""What is learned of names: by whom it was asked, for how long, and no more than fits."""

from __future__ import annotations

from netwatch.agent.learned import MAX_NAMES, LearnedNames
from netwatch.agent.names import names_of
from netwatch.capture.sensor import Payload
from netwatch.model.learned import LearnedName, addresses_by_name
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from tests.unit.agent.rows import SECOND, START, packed
from tests.unit.dissect.test_dns import ASKED, record, response

WEB, EVIL, SERVER, HOST = "198.18.0.2", "198.18.0.3", "203.0.113.53", "192.0.2.1"
OUTSIDE = "203.0.113.7"
SHOP = [Workload("a", "shop", n, "lab", addresses=(x,)) for n, x in (("web", WEB), ("evil", EVIL))]
NAMES = names_of(Snapshot("a", tuple(SHOP), addresses=(HOST,)))


def said(source: str, destination: str, data: bytes, *, answer: bool) -> Payload:
    ports = (53, 40_000) if answer else (40_000, 53)
    ends = [(packed(source), ports[0]), (packed(destination), ports[1])]
    (low, low_port), (high, high_port) = sorted(ends)
    from_low = (low, low_port) == ends[0]
    return Payload(low, high, low_port, high_port, 17, from_low, 0, 1, data)


def asked(client: str, server: str = SERVER) -> Payload:
    return said(client, server, response(flags=0x0100), answer=False)


def answered(client: str, *, ttl: int = 60, last: int = 7, name: bytes | None = None) -> Payload:
    found = record(ASKED, 1, bytes([203, 0, 113, last]), ttl=ttl)
    data = response(found, name=name) if name else response(found)
    return said(SERVER, client, data, answer=True)


def test_an_answer_names_the_address_for_the_one_who_asked() -> None:
    """For nobody else: whoever runs a name server may tell its own clients what it likes."""
    learned = LearnedNames()
    learned.learn([asked(WEB), answered(WEB)], NAMES, START)

    assert learned.name(OUTSIDE, workload="a/shop/web", at=START) == "api.example.com"
    assert learned.name(OUTSIDE, workload="a/shop/evil", at=START) is None
    assert learned.news() == (
        LearnedName("api.example.com", OUTSIDE, START + 60 * SECOND, "a/shop/web"),
    )
    assert learned.news() == ()


def test_an_answer_to_the_host_names_it_for_all_of_its_workloads() -> None:
    """The runtime's resolver asks for them."""
    learned = LearnedNames()
    learned.learn([asked(HOST), answered(HOST)], NAMES, START)

    assert learned.name(OUTSIDE, workload="a/shop/web", at=START) == "api.example.com"


def test_an_answer_to_no_question_is_not_taken() -> None:
    """Nor is a second answer to one question, nor one to somebody unknown."""
    learned = LearnedNames()
    learned.learn([answered(WEB)], NAMES, START)
    learned.learn([asked(WEB), answered(WEB), answered(WEB, last=8)], NAMES, START)
    learned.learn([asked("198.51.100.1"), answered("198.51.100.1", last=9)], NAMES, START)

    assert {entry.address for entry in learned.table()} == {OUTSIDE}


def test_a_name_holds_until_it_expires_and_a_short_time_is_stretched() -> None:
    """A client connects some moments after the answer, whatever the time to live."""
    learned = LearnedNames()
    learned.learn([asked(WEB), answered(WEB, ttl=0)], NAMES, START)

    assert learned.name(OUTSIDE, workload="a/shop/web", at=START + 10 * SECOND) is not None
    assert learned.name(OUTSIDE, workload="a/shop/web", at=START + 11 * SECOND) is None
    learned.learn([], NAMES, START + 31 * SECOND)
    assert learned.table() == ()


def test_who_asks_for_too_much_loses_its_own_oldest_names_only() -> None:
    learned = LearnedNames()
    learned.learn([asked(WEB), answered(WEB)], NAMES, START)
    for number in range(MAX_NAMES + 5):
        name = f"n{number}".encode()
        message = answered(EVIL, name=bytes([len(name)]) + name + b"\0")
        learned.learn([asked(EVIL), message], NAMES, START)

    assert learned.dropped == 5
    assert len(learned.table()) == MAX_NAMES + 1
    assert learned.name(OUTSIDE, workload="a/shop/web", at=START) == "api.example.com"


def test_the_table_of_a_policys_world_holds_what_is_valid_for_the_workload() -> None:
    known = (
        LearnedName("a.example", "203.0.113.1", START + 1, "a/shop/web"),
        LearnedName("a.example", "203.0.113.2", START + 1),
        LearnedName("b.example", "203.0.113.3", START + 1, "a/shop/evil"),
        LearnedName("c.example", "203.0.113.4", START),
    )

    assert addresses_by_name(known, START, workload="a/shop/web") == (
        ("a.example", ("203.0.113.1", "203.0.113.2")),
    )
