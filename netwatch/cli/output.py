"""What every verb shares: stdout is data, stderr is messages, and errors have one shape."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch.model.errors import NetwatchError

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`, on every verb that reads."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line, at once (a program may be waiting for it)."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """A message for a person, on stderr."""
    click.echo(printable(message), err=True)


def printable(text: str) -> str:
    """Text that can not move a cursor or forge a line: control characters become `\\xNN`."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def encryption_told(status: str, versions: Iterable[str]) -> str:
    """`TLSv1.3` only where all is encrypted; else `unknown (TLSv1.3)`: some of it was that, or
    said that it would be.
    """
    named = ",".join(versions)
    if status == "encrypted":
        return named or status
    return f"{status} ({named})" if named else status


def say_gaps(gaps: Iterable[Mapping[str, Any]]) -> None:
    """A line for each time in which nobody watched a host: what it did then is not told."""
    for gap in gaps:
        say(f"{gap['host']} was not observed from {gap['since']} to {gap['until']}")


def write_report(file: Path, text: str) -> None:
    """A report for another program; raises NetwatchError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NetwatchError(
            f"{file} can not be written: {error.strerror}", "name a folder that exists"
        ) from None


class OneLine(logging.Formatter):
    """A log line for each message, whatever is in the names that it holds."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message with line breaks as `\\x0a`; a trace behind it stays as it is."""
        return printable(super().formatMessage(record)).replace("\n", "\\x0a")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; cells are made printable."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(headings), *cells]
    ]
    return "\n".join(lines)


def run(command: click.Command) -> None:
    """Run the program; ends the process with the exit code of the interface."""
    wants_json = "--json" in sys.argv
    lines = logging.StreamHandler()
    lines.setFormatter(OneLine())
    logging.basicConfig(handlers=[lines], level=logging.WARNING)
    try:
        # Without standalone mode click returns the code that a command ended with.
        sys.exit(command.main(standalone_mode=False, prog_name="netwatch") or 0)
    except NetwatchError as error:
        _fail(error.as_json() if wants_json else None, str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        _fail(None, "stopped", 130)
    except click.ClickException as error:
        told = NetwatchError(error.format_message(), "see netwatch --help", code="usage")
        _fail(told.as_json() if wants_json else None, str(told), 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _fail(answer: Mapping[str, Any] | None, message: str, code: int) -> None:
    if answer is not None:
        print_json(answer)
    say(f"netwatch: {message}")
    sys.exit(code)
