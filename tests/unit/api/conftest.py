from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from netwatch.api.app import create_app
from tests.fakes import NOW, TOKEN, FakeController, shop


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def controller() -> FakeController:
    return shop()


@pytest.fixture
def app(controller: FakeController, clock: Clock) -> Flask:
    return create_app(controller, clock=clock)  # type: ignore[arg-type]


@pytest.fixture(scope="package")
def kept() -> Flask:
    """An application for all tests that change nothing in it, and guess no token."""
    return create_app(shop(), clock=Clock())  # type: ignore[arg-type]


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A client without token or session."""
    return app.test_client()


@pytest.fixture
def program(app: Flask) -> FlaskClient:
    """A client that sends the token with each request."""
    return with_token(app)


@pytest.fixture
def reader(kept: Flask) -> FlaskClient:
    """A program that changes nothing."""
    return with_token(kept)


@pytest.fixture
def log_in(app: Flask) -> Callable[[], FlaskClient]:
    """Makes clients that have logged in through the form."""
    return lambda: logged_in(app)


def with_token(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client


def logged_in(app: Flask) -> FlaskClient:
    client = app.test_client()
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    return client
