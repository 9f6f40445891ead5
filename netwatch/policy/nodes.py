"""Turns YAML or JSON text into nodes that know their line and column, and stays small.

ruamel.yaml's own loaders build Python objects and recurse; a policy comes from anywhere, so this
reads the parser's events itself. Depth, size and the expansion of aliases are bounded, and tags,
merge keys and duplicate keys are refused: each of them makes a document mean something that its
reader does not see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from netwatch.model.errors import InvalidDocument, Replacement
from netwatch.policy.ir import Place

MAX_CHARACTERS = 1 << 20
"""One file. The largest NetworkPolicy list that a Kubernetes API server stores is 1.5 MB."""
MAX_DEPTH = 64
"""A List of Segments needs 12 levels."""
MAX_NODES = 100_000
"""Aliases count as often as they are used, so that nested aliases can not explode."""

_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")


class Kind(StrEnum):
    """What a node is, in the words of an error message."""

    MAPPING = "a mapping"
    LIST = "a list"
    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    NULL = "nothing"


@dataclass(frozen=True, slots=True)
class Node:
    """One value: `text` of a scalar, `items` of a list, `entries` (key, value) of a mapping.

    `size` counts the nodes in it, itself included, with every alias expanded. `end` is the line
    and column just behind it; `flow` tells that brackets or braces hold it.
    """

    kind: Kind
    place: Place
    text: str = ""
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()
    size: int = 1
    end: tuple[int, int] = (0, 0)
    flow: bool = False

    @property
    def shown(self) -> str:
        """The value as a message may print it: short, and with control characters escaped."""
        match self.kind:
            case Kind.TEXT:
                return shorten(repr(self.text))
            case Kind.NUMBER | Kind.BOOLEAN:
                return shorten(self.text)
            case _:
                return str(self.kind)


def shorten(text: str) -> str:
    """At most 60 characters of a foreign text."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def invalid(
    place: Place, message: str, hint: str | None = None, right: Replacement | None = None
) -> InvalidDocument:
    """The error that names this place; `right` is what the hint says, for programs."""
    return InvalidDocument(
        message,
        hint,
        file=place.file,
        line=place.line,
        column=place.column,
        replacement=right,
    )


@lru_cache(maxsize=1)  # who writes into a text asks for its policies and for its nodes in turn
def read_nodes(text: str, file: str, *, merges: bool = False) -> tuple[Node, ...]:
    """The root of every document in `text`; raises InvalidDocument for what is no such text.

    With `merges` a merge key is a key like others, for whoever reads it.
    """
    if len(text) > MAX_CHARACTERS:
        raise invalid(
            Place(file, 1, 1),
            f"the file has {len(text)} characters, and {MAX_CHARACTERS} is the limit",
            "split it into several files of one folder",
        )
    builder = _Builder(file, merges=merges)
    for event in _events(text, file):
        builder.take(event)
    return tuple(builder.roots)


def _events(text: str, file: str) -> Iterator[Event]:
    """The parser's events. It also fails with ValueError or OverflowError on odd escapes."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(str(error.problem or error.context or "it ends too early").split())
        raise invalid(
            Place(file, line, column),
            f"this is not YAML: {shorten(problem)}",
            "check indentation, quotes and brackets up to here",
        ) from None
    except YAMLError:
        raise invalid(
            _unprintable(text, file),
            "this is not YAML: it contains a character that can not be printed",
            "remove it, or write it as an escape in double quotes",
        ) from None
    except (ValueError, OverflowError):
        raise invalid(
            Place(file, 1, 1),
            "this is not YAML: an escape in double quotes names no character",
            "write the character itself",
        ) from None


def _unprintable(text: str, file: str) -> Place:
    before = re.split(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    lines = before[0].split("\n")
    return Place(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end was not read yet; of a mapping, keys and values alternate."""

    kind: Kind
    place: Place
    anchor: str | None
    flow: bool = False
    children: list[Node] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


class _Builder:
    """Takes events in order; `roots` holds the documents that are complete."""

    def __init__(self, file: str, *, merges: bool) -> None:
        self.roots: list[Node] = []
        self._file = file
        self._merges = merges
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def take(self, event: Event) -> None:
        """One event more."""
        place = Place(self._file, *_start(event))
        if isinstance(event, NodeEvent):
            self._node(event, place)
        elif isinstance(event, DocumentStartEvent):
            self._anchors = {}
        elif self._open and type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            self._close(self._open.pop(), _end(event))

    def _node(self, event: NodeEvent, place: Place) -> None:
        if isinstance(event, AliasEvent):
            node = self._alias(event, place)
            self._add(node, anchor=None, cost=node.size)
            return
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise invalid(
                place,
                f"tags such as {shorten(repr(tag))} are refused",
                'leave the tag out; quotes make text of anything: "1"',
            )
        if isinstance(event, ScalarEvent):
            node = Node(_scalar_kind(event), place, event.value, end=_end(event))
            self._add(node, anchor=event.anchor, cost=1)
        elif isinstance(event, CollectionStartEvent):
            if len(self._open) >= MAX_DEPTH:
                raise invalid(place, f"this is nested deeper than {MAX_DEPTH} levels")
            kind = Kind.MAPPING if isinstance(event, MappingStartEvent) else Kind.LIST
            self._open.append(_Open(kind, place, event.anchor, bool(event.flow_style)))

    def _alias(self, event: AliasEvent, place: Place) -> Node:
        known = self._anchors.get(event.anchor)
        if known is None:
            raise invalid(
                place,
                f"the alias *{shorten(event.anchor)} refers to nothing before it",
                f"write &{shorten(event.anchor)} at the value that is meant",
            )
        inside = known.text, known.items, known.entries, known.size
        return Node(known.kind, place, *inside, _end(event), known.flow)

    def _close(self, done: _Open, end: tuple[int, int]) -> None:
        size = 1 + sum(child.size for child in done.children)
        if not done.flow and done.children:  # the event stands where the next line begins
            end = done.children[-1].end
        if done.kind is Kind.LIST:
            node = Node(
                done.kind,
                done.place,
                items=tuple(done.children),
                size=size,
                end=end,
                flow=done.flow,
            )
        else:
            pairs = tuple(zip(done.children[::2], done.children[1::2], strict=True))
            node = Node(done.kind, done.place, entries=pairs, size=size, end=end, flow=done.flow)
        self._add(node, anchor=done.anchor, cost=1)

    def _add(self, node: Node, *, anchor: str | None, cost: int) -> None:
        self._nodes += cost
        if self._nodes > MAX_NODES:
            raise invalid(
                node.place,
                f"the file holds more than {MAX_NODES} values, aliases counted as often as used",
                "split it into several files of one folder",
            )
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.roots.append(node)
            return
        parent = self._open[-1]
        if parent.kind is Kind.MAPPING and len(parent.children) % 2 == 0:
            _check_key(node, parent, merges=self._merges)
        parent.children.append(node)


def _start(event: Event) -> tuple[int, int]:
    """Line and column; of a value that is not there, those behind what announces it."""
    mark = event.start_mark
    first = mark.index
    if isinstance(event, ScalarEvent) and first == event.end_mark.index:
        while first and mark.buffer[first - 1] in " \t\r\n":
            first -= 1
    line = mark.line - mark.buffer.count("\n", first, mark.index)
    if line == mark.line:
        return line + 1, mark.column + 1 - (mark.index - first)
    return line + 1, first - mark.buffer.rfind("\n", 0, first)


def _end(event: Event) -> tuple[int, int]:
    if isinstance(event, ScalarEvent) and event.start_mark.index == event.end_mark.index:
        return _start(event)
    return event.end_mark.line + 1, event.end_mark.column + 1


def _check_key(node: Node, parent: _Open, *, merges: bool) -> None:
    if node.kind in (Kind.MAPPING, Kind.LIST):
        raise invalid(node.place, f"{node.kind} can not be a key", "keys are plain words")
    if node.text == "<<" and node.kind is Kind.TEXT and not merges:
        raise invalid(node.place, "merge keys (<<) are refused", "write the keys out")
    if node.text in parent.keys:
        raise invalid(
            node.place,
            f"the key {node.shown} stands twice in this mapping",
            "keep one of the two",
        )
    parent.keys.add(node.text)


def _scalar_kind(event: ScalarEvent) -> Kind:
    """YAML 1.2's core schema; a quoted or block scalar is text."""
    if event.style is not None:
        return Kind.TEXT
    if event.value in ("", "~", "null", "Null", "NULL"):
        return Kind.NULL
    if event.value in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return Kind.BOOLEAN
    return Kind.NUMBER if _NUMBER.match(event.value) else Kind.TEXT
