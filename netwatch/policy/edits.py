"""What to write in place of a mistake: every hint of a reader as text that a program can put in.

A replacement is part of an error, so it has to be right by itself: put in, the document says
something that its reader takes. Nothing here judges; it writes YAML at places that nodes know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from netwatch.model.errors import Replacement
from netwatch.policy.nodes import Kind, Node

MAX_WRITTEN = 40
"""Values. What is larger is not written anew only to change a part of it."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_RESERVED = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


def instead(node: Node, text: str) -> Replacement:
    """Write `text`, one line of YAML, in place of the value."""
    line, column = node.place.line, node.place.column
    if node.kind is Kind.NULL and node.end == (line, column):
        text = f" {text}"
    elif node.kind is Kind.LIST and not node.flow:
        text = f"  {text}"  # its dashes may stand in the column of its own key
    if node.end[1] == 1 and node.end[0] > line:
        text = f"{text}\n"  # a block of text ends with its last line
    return Replacement(line, column, *node.end, text)


def added(mapping: Node, key: str, value: str) -> Replacement:
    """Put one more entry in front of the others; a key without a value gets it."""
    for known, nothing in mapping.entries:
        if known.text == key:
            return instead(nothing, value)
    line, column = mapping.place.line, mapping.place.column
    if not mapping.entries:
        return instead(mapping, f"{{{key}: {value}}}")
    if mapping.flow:
        return Replacement(line, column, line, column + 1, f"{{{key}: {value}, ")
    first = mapping.entries[0][0].place
    margin = " " * (first.column - 1)
    return Replacement(
        first.line, first.column, first.line, first.column, f"{key}: {value}\n{margin}"
    )


def without(mapping: Node, key: str) -> Replacement:
    """Take an entry out; the last time that the key stands there, if it stands twice."""
    keys = [known.text for known, _ in mapping.entries]
    index = len(keys) - 1 - keys[::-1].index(key)
    start, value = mapping.entries[index]
    if len(keys) == 1:
        return instead(mapping, "{}")
    place = start.place
    if index + 1 < len(keys):
        following = mapping.entries[index + 1][0].place
        return Replacement(place.line, place.column, following.line, following.column, "")
    return Replacement(place.line, place.column, *value.end, "")


def rewritten(mapping: Node, changes: Mapping[str, str | None]) -> Replacement | None:
    """The whole mapping with these values in place of the old ones; None takes a key out."""
    if mapping.size > MAX_WRITTEN:
        return None
    texts: dict[str, str | None] = {key.text: written(value) for key, value in mapping.entries}
    texts |= changes
    inside = ", ".join(f"{plain(key)}: {text}" for key, text in texts.items() if text is not None)
    return instead(mapping, f"{{{inside}}}")


def written(node: Node) -> str:
    """The value as one line of YAML that means the same."""
    match node.kind:
        case Kind.TEXT:
            return plain(node.text)
        case Kind.LIST:
            return f"[{', '.join(map(written, node.items))}]"
        case Kind.MAPPING:
            pairs = (f"{plain(key.text)}: {written(value)}" for key, value in node.entries)
            return f"{{{', '.join(pairs)}}}"
        case _:
            return node.text or "null"


def plain(text: str) -> str:
    """A text as YAML, in quotes where it would mean something else without."""
    if _PLAIN.match(text) and text.lower() not in _RESERVED:
        return text
    return json.dumps(text, ensure_ascii=False)
