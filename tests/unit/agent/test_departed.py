"""Who had an address is asked of the moment of the packet, not of the moment of reading it."""

from __future__ import annotations

from netwatch.agent.departed import KEPT, MOST, Presence
from netwatch.agent.names import names_of
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Interface, Workload


def workload(name: str, *, address: str | None = "198.18.0.4", link: int = 0) -> Workload:
    return Workload(
        "h",
        "shop",
        name,
        "docker",
        addresses=(address,) if address else (),
        interfaces=(Interface(f"veth{link}", link),) if link else (),
        runtime_id=name,
    )


def noted(*moments: tuple[int, tuple[Workload, ...]]) -> Presence:
    presence = Presence()
    for moment, workloads in moments:
        presence.note(Snapshot("h", workloads=workloads), moment * SECOND)
    return presence


FIRST, SECOND_ONE = workload("first"), workload("second")


def named(presence: Presence, now: int, moment: int, *, interface: int = 0) -> str | None:
    names = names_of(Snapshot("h"), departed=presence.departed(now * SECOND))
    found = names.workload("198.18.0.4", interface, moment * SECOND)
    return found.name if found else None


def test_an_address_is_his_who_had_it_then() -> None:
    """Three containers with one address within a second: each has the calls of its own time."""
    presence = noted((10, (FIRST,)), (12, ()), (14, (SECOND_ONE,)), (16, ()))
    answers = [named(presence, 17, moment) for moment in (9, 11, 13, 15, 17)]
    assert answers == [None, "first", None, "second", None]


def test_the_interface_says_it_at_any_moment() -> None:
    presence = noted((10, (workload("brief", link=7),)), (11, ()))
    assert named(presence, 12, 0, interface=7) == "brief"
    assert named(presence, 12, 0, interface=8) is None


def test_who_is_here_is_asked_before_who_was() -> None:
    presence = noted((10, (FIRST,)), (12, (SECOND_ONE,)))
    names = names_of(
        Snapshot("h", workloads=(SECOND_ONE,)), departed=presence.departed(13 * SECOND)
    )
    assert names.workload("198.18.0.4", moment=13 * SECOND) is SECOND_ONE
    assert names.workload("198.18.0.4", moment=11 * SECOND) is FIRST
    assert names.workload("198.18.0.4") is SECOND_ONE


def test_an_address_that_is_lost_first_is_remembered() -> None:
    """dockerd disconnects a container before it removes it."""
    presence = noted((10, (FIRST,)), (11, (workload("first", address=None),)), (12, ()))
    assert named(presence, 12, 10) == "first"


def test_an_engine_that_does_not_answer_sends_nobody_away() -> None:
    presence = noted((10, (FIRST,)))
    presence.note(Snapshot("h", problem="Docker does not answer"), 11 * SECOND)
    assert named(presence, 12, 10) is None
    presence.note(Snapshot("h", workloads=(FIRST,)), 13 * SECOND)
    assert named(presence, 14, 10) is None


def test_memory_ends_by_time_and_by_number() -> None:
    presence = noted((10, (FIRST,)), (11, ()))
    assert named(presence, 11 + KEPT // SECOND, 10) == "first"
    assert named(presence, 12 + KEPT // SECOND, 10) is None
    crowd = Presence()
    for number in range(MOST + 2):
        one = workload(f"w{number}", address=f"2001:db8::{number:x}")
        crowd.note(Snapshot("h", workloads=(one,)), number)
    assert len(crowd.departed(0).by_address) == MOST
