"""Nanoseconds and RFC 3339 text say the same moment, or the text is refused."""

from __future__ import annotations

import pytest

from netwatch.model.times import SECOND, nanoseconds, passed, rfc3339

MOMENT = 1_795_315_205 * SECOND


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000000Z", id="the epoch"),
        pytest.param(MOMENT, "2026-11-22T02:40:05.000000Z", id="whole seconds"),
        pytest.param(MOMENT + 123_456_789, "2026-11-22T02:40:05.123456Z", id="cut, not rounded"),
        pytest.param(MOMENT + 999_999_999, "2026-11-22T02:40:05.999999Z", id="the last one"),
        pytest.param(-1, "1969-12-31T23:59:59.999999Z", id="before the epoch"),
        pytest.param(None, None, id="unknown stays unknown"),
    ],
)
def test_a_moment_as_text(moment: int | None, text: str | None) -> None:
    assert rfc3339(moment) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-11-22T02:40:05Z", MOMENT, id="Zulu"),
        pytest.param("2026-11-22T02:40:05.000001Z", MOMENT + 1000, id="microseconds"),
        pytest.param("2026-11-22T03:40:05+01:00", MOMENT, id="another zone"),
        pytest.param("1969-12-31T23:59:59.999999Z", -1000, id="before the epoch"),
    ],
)
def test_text_as_a_moment(text: str, moment: int) -> None:
    assert nanoseconds(text) == moment


@pytest.mark.parametrize("moment", [0, MOMENT, MOMENT + 123_456_000, -1000, 2**62 // 1000 * 1000])
def test_there_and_back(moment: int) -> None:
    """Nothing is lost down to the microsecond."""
    assert nanoseconds(rfc3339(moment) or "") == moment


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-11-22T02:40:05", id="no zone: it could be any of 26 hours"),
        pytest.param("yesterday", id="no time"),
        pytest.param("2026-13-01T00:00:00Z", id="no such month"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        nanoseconds(text)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        pytest.param(0, False, id="at once"),
        pytest.param(9, False, id="too early"),
        pytest.param(10, True, id="in time"),
        pytest.param(-1, True, id="the clock was set back"),
    ],
)
def test_what_is_due_every_so_often_never_waits_for_a_clock(later: int, expected: bool) -> None:
    assert passed(MOMENT, MOMENT + later * SECOND, 10 * SECOND) is expected
