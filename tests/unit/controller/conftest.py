"""Controllers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netwatch.controller.service import Controller
from tests.unit.controller.samples import Clock, Post, controller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def fleet(tmp_path: Path, clock: Clock, post: Post) -> Iterator[Controller]:
    opened = controller(tmp_path / "state", clock, send=post)
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller without flows and receivers, for tests that leave none."""
    opened = controller(tmp_path_factory.mktemp("quiet"), Clock())
    yield opened
    opened.close()
