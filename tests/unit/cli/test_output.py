"""Stdout is data, stderr is messages, and every error ends with its exit code and one sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import click
import pytest

from netwatch.cli import output
from netwatch.model.errors import (
    InvalidDocument,
    NetwatchError,
    Unreachable,
    UsageError,
    Violations,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain é 世", "plain é 世", id="letters of any script"),
        pytest.param("a\nb", "a\nb", id="lines"),
        pytest.param("\x1b[31mred", "\\x1b[31mred", id="a colour"),
        pytest.param("a\rb", "a\\x0db", id="a carriage return would overwrite the line"),
        pytest.param("\x9b2J", "\\x9b2J", id="a C1 control"),
        pytest.param("a\u202eb", "a\\x202eb", id="a change of direction"),
    ],
)
def test_what_is_shown_can_not_move_a_cursor(text: str, shown: str) -> None:
    assert output.printable(text) == shown


def test_a_name_can_not_forge_a_line_of_the_log() -> None:
    """A Compose project may be called anything; its containers are named in the log."""
    hostile = "shop\nnetwatch: all is well\x1b[2K"
    record = logging.LogRecord("n", logging.WARNING, "f", 1, "cut: %s", (hostile,), None)
    told = output.OneLine().format(record)
    assert told == "cut: shop\\x0anetwatch: all is well\\x1b[2K"


def test_a_table_is_as_wide_as_its_cells_and_a_row_is_a_line() -> None:
    made = output.table(("NAME", "N"), [("web", 1), ("a\nb\x1b", None)])
    assert made.splitlines() == ["NAME     N", "web      1", "a b\\x1b  None"]


def test_a_table_without_rows_is_its_headings() -> None:
    assert output.table(("A", "B"), []) == "A  B"


def test_json_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": "é\n", "none": None})
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""
    assert json.loads(out) == {"name": "é\n", "none": None}


def test_a_message_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("look \x1b[2J")
    assert capsys.readouterr() == ("", "look \\x1b[2J\n")


def ended(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], *arguments: str
) -> int | str | None:
    """How a program that does this ends."""

    @click.command()
    @output.json_option
    def program(as_json: bool) -> object:
        return work()

    monkeypatch.setattr("sys.argv", ["netwatch", *arguments])
    with pytest.raises(SystemExit) as stop:
        output.run(program)
    return stop.value.code


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


ERRORS = [
    pytest.param(NetwatchError("no", "do this"), 1, "no (do this)", id="an error"),
    pytest.param(InvalidDocument("no", file="f", line=2), 1, "f:2: no", id="a document"),
    pytest.param(UsageError("no"), 2, "no", id="usage"),
    pytest.param(Violations("no"), 3, "no", id="violations"),
    pytest.param(Unreachable("no"), 4, "no", id="unreachable"),
    pytest.param(
        click.UsageError("no"), 2, "no (see netwatch --help)", id="what click calls usage"
    ),
]


@pytest.mark.parametrize(("error", "code", "sentence"), ERRORS)
def test_an_error_is_one_sentence_and_its_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    sentence: str,
) -> None:
    assert ended(monkeypatch, raising(error)) == code
    assert capsys.readouterr() == ("", f"netwatch: {sentence}\n")


@pytest.mark.parametrize(("error", "code", "sentence"), ERRORS)
def test_with_json_the_error_is_an_object_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    sentence: str,
) -> None:
    assert ended(monkeypatch, raising(error), "--json") == code
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["ok"], told["error"]["message"]) == (False, "no")
    assert err == f"netwatch: {sentence}\n"


@pytest.mark.parametrize(
    ("work", "code"),
    [
        pytest.param(lambda: None, 0, id="done"),
        pytest.param(raising(click.exceptions.Exit(3)), 3, id="an exit code of its own"),
        pytest.param(raising(click.Abort()), 130, id="stopped"),
        pytest.param(raising(KeyboardInterrupt()), 130, id="interrupted"),
    ],
)
def test_other_ways_to_end(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], code: int
) -> None:
    assert ended(monkeypatch, work) == code


@pytest.mark.parametrize(
    ("status", "versions", "told"),
    [
        pytest.param("encrypted", ["TLSv1.2", "TLSv1.3"], "TLSv1.2,TLSv1.3", id="proven"),
        pytest.param("encrypted", [], "encrypted", id="proven, of no version"),
        pytest.param("unknown", ["TLSv1.3"], "unknown (TLSv1.3)", id="a part of a crowd"),
        pytest.param("plaintext", ["TLSv1.2"], "plaintext (TLSv1.2)", id="some in the clear"),
        pytest.param("unknown", [], "unknown", id="nobody knows"),
    ],
)
def test_a_version_alone_stands_for_what_is_encrypted_throughout(
    status: str, versions: list[str], told: str
) -> None:
    """An edge with some plaintext, or of which not all was judged, was told by the version of the
    rest: to a reader of the table it was encrypted.
    """
    assert output.encryption_told(status, versions) == told
