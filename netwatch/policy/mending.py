"""What would be right where a file is no YAML, or YAML of a form that is refused.

There the readers of documents never get to see a value, so nothing is known of what was meant. A
few likely mendings are tried, and the first that makes the whole file right is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

from netwatch.model.errors import InvalidDocument, Replacement
from netwatch.policy.nodes import shorten

TEMPLATE = (
    "{apiVersion: netwatch/v1, kind: Segment, metadata: {name: web},"
    " spec: {governs: {app: web}, rules: [{from: {app: api}}]}}"
)
"""A whole document, for whoever wrote none."""
MAX_TRIES = 40
MAX_READ = 1 << 16
"""Characters, of all tries together: each reads the whole file, in about a second for 128 kB. A
longer file is not mended at all, so that a hostile one costs one reading."""
MAX_BRACKETS = 500
"""The time that ruamel.yaml takes grows with the square of those that stand open."""
MAX_REPLACED = 400
"""Characters. A longer file is more than a slip, and nobody wants it replaced by an example."""

_VALUES = ("{app: web}", "443", "{}")
_VALUE = re.compile(r"(?P<key>\s*(?:- +)*[A-Za-z]+: +)(?P<value>.*\S)(?P<rest>\s*)\Z")


def mended(
    error: InvalidDocument,
    text: str,
    is_right: Callable[[str], bool],
    *,
    template: str = TEMPLATE,
    word: str = "kind",
) -> InvalidDocument:
    """The error with a replacement that `is_right` takes, if one is found.

    A short file that nothing helps, or in which `word` does not stand, gets `template`, a whole
    document.
    """
    if len(text) > MAX_READ:
        return error
    tries = islice(_tries(error, text, word), min(MAX_TRIES, MAX_READ // max(len(text), 1)))
    found = next((one for one in tries if is_right(applied(text, one))), None)
    if found is None and len(text) > MAX_REPLACED and word in text:
        return error
    if found is None:
        lines = _lines(text)
        found = Replacement(1, 1, len(lines), len(lines[-1]) + 1, template)
        hint = f"a document is, for example, {template}"
    elif found.text.strip():
        hint = f"write {shorten(' '.join(found.text.split()))}"
    else:
        hint = f"indent by {len(found.text)} spaces" if found.text else "leave this out"
    if error.hint and found.text != template:
        hint = f"{error.hint}; {hint}"
    return InvalidDocument(
        error.message,
        hint,
        file=error.file,
        line=error.line,
        column=error.column,
        replacement=found,
    )


def applied(text: str, change: Replacement) -> str:
    """The text after the replacement."""
    lines = _lines(text)
    start = sum(map(len, lines[: change.line - 1])) + change.column - 1
    end = sum(map(len, lines[: change.end_line - 1])) + change.end_column - 1
    return text[:start] + change.text + text[end:]


def _lines(text: str) -> list[str]:
    """Each with its end; the last may be empty, so that every place of the file is in one."""
    *whole, last = text.split("\n")
    return [*(f"{line}\n" for line in whole), last]


def _tries(error: InvalidDocument, text: str, word: str) -> Iterator[Replacement]:
    """Most likely first, and nothing that makes a policy wider before what does not."""
    if word not in text:
        return
    lines = _lines(text)
    number = min(error.line or 1, len(lines))
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        match = _VALUE.match(lines[number - 1])
        if match and match["value"].count("[") > MAX_BRACKETS // 2:
            column, stop = match.start("value") + 1, match.end("value") + 1
            for other in _VALUES:
                yield Replacement(number, column, number, stop, other)
        return
    near = [lines[at - 1].rstrip("\n") for at in (number, number - 1) if at >= 1]
    yield from _at_place(near[0], number, (error.column or 1) - 1)
    bare = text.rstrip()
    row, column = bare.count("\n") + 1, len(bare.rpartition("\n")[2]) + 1
    for back, line in enumerate([*near, lines[row - 1].rstrip("\n")]):
        at = number - back if back < len(near) else row
        for closing in _closings(line):
            yield Replacement(at, len(line) + 1, at, len(line) + 1, closing)
    for back, line in enumerate(near):
        at = number - back
        yield from _of_line(line, at, lines[at - 2].rstrip("\n") if at > 1 else "")
    for closing in ("]}", "}]", '"', "'", '"}', "'}", '"]'):
        yield Replacement(row, column, row, column, closing)
    yield Replacement(number, 1, number, len(near[0]) + 1, "")


def _closings(line: str) -> Iterator[str]:
    """What a line lacks at its end."""
    lacking = [
        closing
        for opening, closing in (("[", "]"), ("{", "}"))
        if line.count(opening) > line.count(closing)
    ]
    yield from lacking
    if len(lacking) > 1:
        yield from ("]}", "}]")
    if line.count('"') % 2:
        yield from ('"', *(f'"{closing}' for closing in lacking))


def _at_place(line: str, number: int, at: int) -> Iterator[Replacement]:
    """A tag left out before its value, or an entry left out of braces."""
    if match := re.compile(r"!\S*\s+([^\s,\[\]{}]+)").match(line, at):
        yield Replacement(number, at + 1, number, match.end() + 1, f"'{match[1]}'")
    if match := re.compile(r"![^\s\[\]{}]*\s+").match(line, at):
        yield Replacement(number, at + 1, number, match.end() + 1, "")
    if "{" in line[:at] and (match := re.compile(r"[^,{}\[\]]+(, *)?").match(line, at)):
        yield Replacement(number, at + 1, number, match.end() + 1, "")


def _of_line(line: str, number: int, before: str) -> Iterator[Replacement]:
    """Mendings of one line: its value, its colon, its margin."""
    end = len(line) + 1
    if match := _VALUE.match(line):
        column, stop = match.start("value") + 1, match.end("value") + 1
        value = match["value"]
        if "'" not in value:
            yield Replacement(number, column, number, stop, f"'{value}'")
        if "\\" in value:
            yield Replacement(number, column, number, stop, value.replace("\\", "-"))
        for other in _VALUES:
            yield Replacement(number, column, number, stop, other)
    margin = len(line) - len(line.lstrip())
    wanted = len(before) - len(before.lstrip(" -"))
    outer = len(before) - len(before.lstrip())
    for width in dict.fromkeys((wanted, outer, max(outer - 2, 0), outer + 2)):
        yield Replacement(number, 1, number, margin + 1, " " * width)
    if "\t" in line:
        yield Replacement(number, 1, number, end, line.replace("\t", "  "))
    if match := re.match(r"(\s*(?:- +)*[A-Za-z]+):(?=\S)", line):
        yield Replacement(number, match.end() + 1, number, match.end() + 1, " ")
    if match := re.match(r"(\s*(?:- +)*[A-Za-z]+)(?= +[^:]*\Z)", line):
        yield Replacement(number, match.end() + 1, number, match.end() + 1, ":")
