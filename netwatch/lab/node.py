"""A value of a YAML file together with the place it stands at, so that errors can point there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from netwatch.model.errors import InvalidDocument

LARGEST = 1024 * 1024  # a file of 1 MB describes thousands of workloads; more is a mistake


class Node:
    """One value: `line` and `column` count from 1."""

    __slots__ = ("value", "file", "line", "column")

    def __init__(self, value: Any, file: str, *, line: int, column: int) -> None:
        self.value = value
        self.file = file
        self.line = line
        self.column = column

    def error(self, message: str, hint: str | None = None) -> InvalidDocument:
        """The error that points here; the caller raises it."""
        return InvalidDocument(message, hint, file=self.file, line=self.line, column=self.column)

    def mapping(self, what: str) -> dict[str, Node]:
        """The values of a mapping by key, in the file's order."""
        if not isinstance(self.value, CommentedMap):
            raise self.error(f"{what} must be a mapping of `name: value`, not {kind(self.value)}")
        for key in self.value:
            if not isinstance(key, str):
                where = self._at(key, of_key=True)
                raise where.error(f"the key {key!r} of {what} must be a string", "quote it")
        return {key: self._at(key) for key in self.value}

    def fields(self, what: str, known: Sequence[str], needed: Iterable[str]) -> dict[str, Node]:
        """`mapping`, with exactly the keys that `what` may have and all that it needs."""
        found = self.mapping(what)
        for key in found:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise self._at(key, of_key=True).error(f"{what} has no key {key!r}", hint)
        for key in needed:
            if key not in found:
                raise self.error(f"{what} needs the key {key!r}")
        return found

    def items(self, what: str) -> Iterator[Node]:
        """The values of a list."""
        if not isinstance(self.value, CommentedSeq):
            raise self.error(f"{what} must be a list, not {kind(self.value)}")
        for index, value in enumerate(self.value):
            line, column = self.value.lc.item(index)
            yield Node(value, self.file, line=line + 1, column=column + 1)

    def text(self, what: str) -> str:
        """A string that is not empty."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} must be a string, not {kind(self.value)}", "quote it")
        if not self.value or len(self.value) > 1024:
            raise self.error(f"{what} must have 1 to 1024 characters")
        return str(self.value)

    def choice(self, what: str, known: Sequence[str]) -> str:
        """One of a few words."""
        if str(self.value) not in known:  # `tls: 1.3` is a number in YAML
            raise self.error(f"{what} is {kind(self.value)}", f"known: {', '.join(known)}")
        return str(self.value)

    def truth(self, what: str) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"{what} must be true or false, not {kind(self.value)}")
        return self.value

    def port(self, what: str) -> int:
        """A port number, 1 to 65535."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"{what} must be a number from 1 to 65535, not {kind(self.value)}")
        if not 1 <= self.value <= 65535:
            raise self.error(f"{what} is {self.value}, but ports go from 1 to 65535")
        return int(self.value)

    def _at(self, key: Any, *, of_key: bool = False) -> Node:
        try:
            line, column = self.value.lc.key(key) if of_key else self.value.lc.value(key)
        except (AttributeError, KeyError, TypeError):  # a key merged by `<<` has no place
            line, column = self.line - 1, self.column - 1
        return Node(self.value[key], self.file, line=line + 1, column=column + 1)


def kind(value: object) -> str:
    """What a YAML value is, in the words of the file."""
    if value is None:
        return "nothing"
    if isinstance(value, CommentedMap):
        return "a mapping"
    if isinstance(value, CommentedSeq):
        return "a list"
    return repr(value)[:80]


def parse(text: str, file: str) -> Node:
    """The one document in a YAML or JSON text; raises InvalidDocument."""
    if len(text) > LARGEST:
        raise InvalidDocument(f"the file is larger than {LARGEST} bytes", file=file)
    try:
        value = YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidDocument(
            f"this is not YAML: {getattr(error, 'problem', None) or 'it can not be parsed'}",
            file=file,
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        ) from None
    except (RecursionError, ValueError) as error:
        raise InvalidDocument(f"this is not YAML: {error}", file=file) from None
    return Node(value, file, line=1, column=1)
