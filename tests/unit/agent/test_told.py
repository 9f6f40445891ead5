"""What was told is remembered by connection, and forgotten with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from netwatch.agent.told import COUNTED, Changed, Told, keys_of
from tests.unit.agent.rows import entries, row


def some(ports: range, **given: Any) -> Any:
    return entries(*(row(("198.18.0.2", port), ("198.18.0.3", 80), **given) for port in ports))


def compare(told: Told, rows: Any) -> Changed:
    return told.compare(rows, np.ones(len(rows), bool))


def keep(told: Told, changed: Changed) -> None:
    zero = np.zeros(len(changed.rows), np.uint8)
    told.keep(changed.places, [*(changed.rows[name] for name in (*COUNTED, "life")), zero])


def test_only_rows_with_more_packets_than_were_told_are_changed() -> None:
    told, rows = Told(), some(range(3000))
    first = compare(told, rows)
    keep(told, first)
    rows["packets"][7] += 1
    again = compare(told, rows)

    assert (len(first.rows), len(set(first.places.tolist()))) == (3000, 3000)
    assert again.rows["low_port"].tolist() == [7]
    assert again.told["packets"].tolist() == [[5, 4]]


def test_rows_that_were_not_looked_at_are_not_changed() -> None:
    told, rows = Told(), some(range(10))
    looked = np.arange(10) < 4

    assert told.compare(rows, looked).rows["low_port"].tolist() == [0, 1, 2, 3]


def test_totals_that_began_anew_were_never_told() -> None:
    """The same ports in another life."""
    told = Told()
    keep(told, compare(told, some(range(1), life=1)))
    anew = compare(told, some(range(1), life=2))

    assert anew.told["packets"].tolist() == [[0, 0]]


def test_what_is_gone_is_forgotten_and_its_place_is_another_s() -> None:
    """Who waits to be told keeps his place; nobody inherits what was told of another."""
    told = Told()
    before = compare(told, some(range(100)))
    keep(told, before)
    waiting = int(before.places[50])
    gone = told.forget_all_but(some(range(40)), {waiting})
    after = compare(told, some(range(200, 259)))

    assert (len(gone), len(told)) == (59, 100)
    assert keys_of(before.rows)[50] not in gone
    assert set(after.places.tolist()) == set(before.places.tolist()[40:]) - {waiting}
    assert not after.told["packets"].any()
