"""Read-only begins with a write that fails and ends with one that succeeds; each is told once."""

from __future__ import annotations

from netwatch.controller.health import Health
from netwatch.model.errors import NetwatchError

FULL = NetwatchError("no room", code="history-failed")


def test_each_store_speaks_for_itself_and_changes_are_told_once() -> None:
    told: list[str | None] = []
    health = Health(lambda: told.append(health.read_only and health.read_only.message))
    history, state = health.of("history"), health.of("state")

    for failure in (None, FULL, FULL, NetwatchError("still no room")):
        history(failure)
    state(None)
    assert told == ["no room"]
    assert health.read_only is not None

    state(FULL)
    history(None)
    assert health.read_only is FULL
    state(None)
    assert health.read_only is None
    assert told == ["no room", "still no room", "no room", None]
