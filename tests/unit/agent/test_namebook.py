"""What counts for rules of what was learned: new once, longest time wins, nobody crowds others."""

from __future__ import annotations

from pathlib import Path

from netwatch.agent.namebook import MAX_OF_ONE, NameBook
from netwatch.enforce.named import LAPSED, Named, keep, known
from netwatch.model.learned import LearnedName
from netwatch.model.times import SECOND
from netwatch.policy.ir import NamePeer
from netwatch.policy.networks import stands_for
from tests.unit.agent.rows import START

OUT, GRACE = "203.0.113.9", 60 * SECOND
ASKED = (NamePeer("*.example.com"),)


def told(name: str = "api.example.com", address: str = OUT, *, who: str = "a", ttl: int = 30):
    return LearnedName(name, address, START + ttl * SECOND, who)


def read(file: Path) -> tuple[Named, ...]:
    import msgspec

    return msgspec.json.decode(file.read_bytes(), type=tuple[Named, ...])


def test_an_answer_is_news_once_while_it_lasts(tmp_path: Path) -> None:
    """Again when it had lapsed; never if no document asks for the name."""
    book = NameBook(tmp_path / "names.json", (), grace=GRACE)
    assert book.add([told()], ASKED, START)
    assert not book.add([told(ttl=40)], ASKED, START)
    assert not book.add([told("other.test")], ASKED, START)
    assert book.add([told(ttl=900)], ASKED, START + 800 * SECOND)


def test_time_to_live_and_grace_are_written_and_the_longest_holds(tmp_path: Path) -> None:
    """And an agent that starts anew goes on from the file."""
    file = tmp_path / "names.json"
    book = NameBook(file, (), grace=GRACE)
    book.add([told(ttl=30), told(ttl=10)], ASKED, START)
    book.write(START, at_once=True)
    (entry,) = read(file)
    assert entry == Named("api.example.com", OUT, START + 30 * SECOND + GRACE, "a")
    again = NameBook(file, read(file), grace=GRACE)
    assert not again.add([told(ttl=35)], ASKED, START)
    again.write(START + LAPSED + 200 * SECOND)
    assert read(file) == ()


def test_what_is_not_new_is_written_now_and_then(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    book = NameBook(file, (), grace=GRACE)
    book.add([told()], ASKED, START)
    book.write(START)
    book.add([told(ttl=99)], ASKED, START + SECOND)
    book.write(START + SECOND)
    assert read(file)[0].until == START + 30 * SECOND + GRACE
    book.write(START + 6 * SECOND)
    assert read(file)[0].until == START + 99 * SECOND + GRACE


def test_who_asks_for_many_names_loses_its_own(tmp_path: Path) -> None:
    """Its oldest; what another workload was told stays."""
    file = tmp_path / "names.json"
    book = NameBook(file, (), grace=GRACE)
    book.add([told(who="b")], ASKED, START)
    book.add([told(f"x{n}.example.com") for n in range(MAX_OF_ONE + 5)], ASKED, START)
    book.write(START, at_once=True)
    names = {(entry.workload, entry.name) for entry in read(file)}
    assert book.dropped == 5 and ("b", "api.example.com") in names
    assert ("a", "x4.example.com") not in names and ("a", "x5.example.com") in names


def test_names_are_current_then_lapsed_then_gone(tmp_path: Path) -> None:
    """One workload's answer that still holds keeps the address open for all."""
    file = tmp_path / "names.json"
    late = Named("api.example.com", OUT, START + SECOND, "b")
    keep([Named("api.example.com", OUT, START, "a"), late], file)
    opened = (("api.example.com", (OUT,)),)
    assert known(read(file), now=START) == (opened, ())
    assert known(read(file), now=START + 2 * SECOND) == ((), opened)
    assert known(read(file), now=START + LAPSED + SECOND) == ((), ())
    assert stands_for(ASKED[0], "a.example.com") and not stands_for(ASKED[0], "example.com")
