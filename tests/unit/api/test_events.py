"""The live stream: a page that returns learns what it missed; threads are left for others."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from netwatch.api.app import create_app
from netwatch.api.events import changes
from tests.fakes import NOW, TOKEN, FakeController


def _stream(controller: FakeController, after: int | None, rounds: int) -> list[str]:
    left = iter(range(rounds))
    go_on = lambda: next(left, None) is not None  # noqa: E731
    return "".join(changes(controller, after, go_on=go_on)).split("\n\n")[:-1]  # type: ignore[arg-type]


def test_a_change_is_told_with_its_number() -> None:
    controller = FakeController()
    stream = changes(controller, None, go_on=lambda: True)  # type: ignore[arg-type]
    assert "alive" in next(stream) + next(stream)
    controller.change()
    assert next(stream) == 'id: 2\nevent: change\ndata: {"counter": 2}\n\n'


@pytest.mark.parametrize(
    ("after", "first"),
    [
        pytest.param(None, "alive", id="a new page has just fetched"),
        pytest.param(1, "alive", id="nothing was missed"),
        pytest.param(0, "change", id="something was missed"),
        pytest.param(99, "change", id="the controller was restarted and counts anew"),
    ],
)
def test_a_page_that_comes_back_learns_whether_it_missed_anything(
    after: int | None, first: str
) -> None:
    assert f"event: {first}" in _stream(FakeController(), after, 0)[1]


def test_one_stream_more_than_the_cap_is_refused_until_one_closes() -> None:
    app = create_app(FakeController(), clock=lambda: NOW, streams=2)  # type: ignore[arg-type]
    client = FlaskClient(app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    open_ones = [client.get("/events", headers=headers, buffered=False) for _ in range(2)]
    assert [each.status_code for each in open_ones] == [200, 200]
    assert client.get("/events", headers=headers).status_code == 503
    for each in open_ones:
        each.close()
    with client.get("/events", headers=headers, buffered=False) as again:
        assert again.status_code == 200
