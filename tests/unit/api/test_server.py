"""Where the listeners listen, as text."""

from __future__ import annotations

import pytest

from netwatch.api.server import split_listen
from netwatch.model.errors import UsageError


@pytest.mark.parametrize(
    "text", ["", "8741", "127.0.0.1", "127.0.0.1:http", "1.2.3.4:65536", ":1"]
)
def test_what_is_no_address_and_port_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        split_listen(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8741", ("::1", 8741)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_and_port_are_told_apart(text: str, parts: tuple[str, int]) -> None:
    assert split_listen(text) == parts
