"""Each kind of error has the exit code and the JSON that the interface fixes."""

from __future__ import annotations

import pytest

from netwatch.model.errors import (
    InvalidDocument,
    NetwatchError,
    Unreachable,
    UsageError,
    Violations,
)


@pytest.mark.parametrize(
    ("kind", "exit_code", "code"),
    [
        (NetwatchError, 1, "error"),
        (InvalidDocument, 1, "invalid-document"),
        (UsageError, 2, "usage"),
        (Violations, 3, "violations"),
        (Unreachable, 4, "unreachable"),
    ],
)
def test_the_kind_decides_how_a_command_ends(
    kind: type[NetwatchError], exit_code: int, code: str
) -> None:
    error = kind("it did not work")
    assert (error.exit_code, error.code) == (exit_code, code)


def test_every_kind_has_a_code_of_the_interface() -> None:
    """Subclasses anywhere in the program end with 1 to 4, never with another number."""
    kinds = [NetwatchError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} <= {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(NetwatchError("no"), "no", id="a message alone"),
        pytest.param(NetwatchError("no", "do this"), "no (do this)", id="with what to do"),
        pytest.param(NetwatchError("no", file="f"), "f: no", id="with a file"),
        pytest.param(
            NetwatchError("no", "do this", file="f", line=3, column=7),
            "f:3:7: no (do this)",
            id="with the place, as compilers write it",
        ),
    ],
)
def test_an_error_as_a_sentence(error: NetwatchError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            InvalidDocument("no", "do this", file="f", line=3, column=7),
            {
                "code": "invalid-document",
                "message": "no",
                "hint": "do this",
                "file": "f",
                "line": 3,
                "column": 7,
            },
            id="everything known",
        ),
        pytest.param(
            NetwatchError("no", code="port-taken"),
            {
                "code": "port-taken",
                "message": "no",
                "hint": None,
                "file": None,
                "line": None,
                "column": None,
            },
            id="unknown is null, never missing; a code of its own",
        ),
    ],
)
def test_an_error_as_json(error: NetwatchError, expected: dict[str, object]) -> None:
    assert error.as_json() == {"ok": False, "error": expected}
