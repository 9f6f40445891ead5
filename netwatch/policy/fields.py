"""Reads the fields of a document: what a value must be, and what to say when it is not.

Every function takes a node and raises InvalidDocument at its place, with the offending value and
what would be right.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from netwatch.model.errors import InvalidDocument
from netwatch.policy.edits import MAX_WRITTEN, added, instead, plain, without, written
from netwatch.policy.ir import NetworkPeer, Operator, Requirement
from netwatch.policy.nodes import Kind, Node, invalid, shorten

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROTOCOLS = ("TCP", "UDP", "SCTP")
"""How the Kubernetes API spells them."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
MAX_PROBLEMS = 20
"""More than a screen of errors helps nobody."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_PREFIX_LENGTH = re.compile(r"[^/]*(/[0-9]{1,3})?\Z")
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_LABEL_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9_.-]+\Z")


class InvalidPolicies(InvalidDocument):
    """Everything that is wrong with a set of files; reads like the first of `problems`."""

    def __init__(self, problems: Sequence[InvalidDocument]) -> None:
        first = problems[0]
        super().__init__(
            first.message,
            first.hint,
            file=first.file,
            line=first.line,
            column=first.column,
            replacement=first.replacement,
        )
        self.problems = tuple(problems)


class Problems:
    """Collects errors, so that one reading of a file tells all of them."""

    def __init__(self) -> None:
        self.found: list[InvalidDocument] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep an InvalidDocument raised in the block; the block's result is missing then."""
        try:
            yield
        except InvalidPolicies as several:
            self.found.extend(several.problems)
        except InvalidDocument as error:
            self.found.append(error)

    def raise_any(self) -> None:
        """Raise InvalidPolicies if anything was collected."""
        if self.found:
            raise InvalidPolicies(self.found[:MAX_PROBLEMS])


def meant(word: str, known: Iterable[str]) -> str:
    """A hint: the known word nearest to this one, else the first twelve of them."""
    choices = list(known)
    if near := nearest(word, choices):
        return f"did you mean {near}?"
    return f"known: {', '.join(choices[:12])}{', ...' if len(choices) > 12 else ''}"


def nearest(word: str, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """The known word that differs least from this one, case aside; None if all differ much."""
    folded = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(word[:100].lower(), folded, 1, alike)
    return folded[near[0]] if near else None


def mapping(
    node: Node,
    what: str,
    known: Sequence[str] | None = None,
    *,
    needed: Sequence[str] = (),
    example: str = "{}",
) -> dict[str, Node]:
    """The entries by key. A key whose value is nothing counts as absent, as in Kubernetes.

    `needed` are the keys that must be there (the caller looks); `example` is a whole one that is
    right, for whoever wrote something else.
    """
    if node.kind is not Kind.MAPPING:
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be a mapping",
            f"for example {example}" if example != "{}" else "write {}, or `key: value` lines",
            instead(node, example),
        )
    present = [key.text for key, _ in node.entries]
    for key, _ in node.entries:
        if known is not None and key.text not in known:
            free = [word for word in known if word not in present]
            lacking = [word for word in needed if word in free]
            raise _unknown_key(node, key, what, free=free, lacking=lacking, example=example)
    return {key.text: value for key, value in node.entries if value.kind is not Kind.NULL}


def _unknown_key(
    node: Node, key: Node, what: str, *, free: Sequence[str], lacking: Sequence[str], example: str
) -> InvalidDocument:
    """Misspelt, else one that is needed, else too much: what is there alone is a whole example."""
    message = f"{what} has no key {key.shown}"
    if word := nearest(key.text, free, alike=0.7) or next(iter(lacking), None):
        return invalid(key.place, message, f"did you mean {word}?", instead(key, word))
    known = f"; known: {', '.join(free[:12])}" if free else ""
    if len(node.entries) == 1 and example != "{}":
        return invalid(key.place, message, f"write {example}{known}", instead(node, example))
    return invalid(key.place, message, f"leave it out{known}", without(node, key.text))


def lacks(node: Node, message: str, key: str, value: str) -> InvalidDocument:
    """The error that this mapping has no such entry, with one that would be right."""
    return invalid(node.place, message, f"add {key}: {value}", added(node, key, value))


def sequence(node: Node | None, what: str, example: str = "[]") -> tuple[Node, ...]:
    """The items of a list; an absent one has none. `example` is a whole list that is right."""
    if node is None:
        return ()
    if node.kind is not Kind.LIST:
        alike = Kind.MAPPING if example.startswith("[{") else Kind.TEXT
        if node.kind is alike and node.size <= MAX_WRITTEN:
            example = f"[{written(node)}]"
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be a list",
            f"begin each item with `- `, or write {shorten(example)}",
            instead(node, example),
        )
    return node.items


def string(node: Node, what: str, example: str, *, quotable: bool = True) -> str:
    """A text that can be shown on one line; not `quotable`: no number in quotes is right."""
    if node.kind is not Kind.TEXT:
        text = plain(example)
        hint = f"for example {example}"
        if node.text and quotable and len(node.text) < 60:
            text = f'"{node.text}"'
            hint = f"quote it: {text}"
        raise invalid(
            node.place, f"{what} is {node.shown}, but must be text", hint, instead(node, text)
        )
    if not node.text.isprintable() or len(node.text) > 1024 or not node.text:
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be 1 to 1,024 characters on one line",
            f"for example {example}",
            instead(node, plain(example)),
        )
    return node.text


def boolean(node: Node | None, what: str) -> bool:
    """true or false; absent is false."""
    if node is None:
        return False
    if node.kind is not Kind.BOOLEAN:
        word = "true" if node.text.lower() in ("yes", "on", "y", "1", "true") else "false"
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be true or false",
            f"write {word}",
            instead(node, word),
        )
    return node.text.lower() == "true"


def choice(node: Node, what: str, known: Sequence[str]) -> str:
    """One of the known words."""
    if node.kind is not Kind.TEXT or node.text not in known:
        near = nearest(node.text, known)
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be {' or '.join(known)}",
            f"did you mean {near}?" if near else f"for example {known[0]}",
            instead(node, near or known[0]),
        )
    return node.text


def name(node: Node, what: str) -> str:
    """The name of a document or of a namespace."""
    text = string(node, what, "web")
    if not _NAME.match(text):
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but may hold only letters, digits, '-', '_' and '.'",
            f"for example {cleaned(text)}",
            instead(node, plain(cleaned(text))),
        )
    return text


def cleaned(text: str) -> str:
    """The nearest text that may be a name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text[:60]).strip("-") or "web"


def label_key(text: str, node: Node, what: str) -> str:
    """The key of a label, `name` or `prefix/name`."""
    if not _LABEL_KEY.match(text) or len(text) > 317:
        right = node.text.replace(text, cleaned(text), 1)
        raise invalid(
            node.place,
            f"{what} {shorten(repr(text))} is no label key",
            f"write `name` or `prefix/name` with letters, digits, '-', '_' and '.':"
            f" {cleaned(text)}",
            instead(node, plain(right)),
        )
    return text


def label_value(node: Node, what: str) -> str:
    """The value of a label; it may be empty, but must be text."""
    if node.kind is Kind.TEXT and not node.text:
        return ""
    return string(node, what, "web")


def match_labels(node: Node, what: str) -> tuple[Requirement, ...]:
    """`{key: value}`, each of which must hold."""
    mapping(node, what, example="{app: web}")
    return tuple(
        Requirement(
            label_key(key.text, key, f"the key in {what}"),
            Operator.IN,
            frozenset([label_value(value, f"the label {shorten(key.text)}")]),
        )
        for key, value in node.entries
    )


def network(node: Node, what: str, *, strict: bool) -> Network:
    """A CIDR. With `strict` no bit of the host part may be set, and one address is a network too.

    Without it, it is what the Kubernetes API takes: a prefix length must be there.
    """
    text = string(node, what, "10.0.0.0/8", quotable=False)
    try:
        if "%" in text or not _PREFIX_LENGTH.match(text) or not (strict or "/" in text):
            raise ValueError("an interface or a mask means nothing in a policy")
        found = ipaddress.ip_network(text, strict=strict)
        if found.version == 6 and _inside(found, _MAPPED):
            raise ValueError("no packet has an IPv4 address in its IPv6 form")
        return found
    except ValueError:
        near = _near_network(text)
        raise invalid(
            node.place,
            f"{what} is {node.shown}, which is no network",
            f"did you mean {near}?" if near else "write it like 10.0.0.0/8 or 2001:db8::/32",
            instead(node, f'"{near or "10.0.0.0/8"}"'),
        ) from None


def _near_network(text: str) -> str | None:
    """Without a zone, without zeros in front (read as decimal), and no longer than an address."""
    text = re.sub(r"%[^/]*", "", text)
    decimal = re.sub(r"(?<![0-9.:a-fA-F])0+(?=[0-9])|(?<=\.)0+(?=[0-9])", "", text)
    for candidate in (text, decimal, decimal.partition("/")[0]):
        try:
            found = ipaddress.ip_network(candidate, strict=False)
        except ValueError:
            continue
        if found.version == 6 and _inside(found, _MAPPED):
            inner = ipaddress.IPv4Address(int(found.network_address) & 0xFFFFFFFF)
            return f"{inner}/{found.prefixlen - 96}"
        return str(found)
    return None


def network_peer(cidr: Node, excepts: Node | None, *, strict: bool) -> NetworkPeer:
    """A CIDR and its `except` list, each inside it and smaller, as the Kubernetes API demands."""
    outer = network(cidr, "cidr", strict=strict)
    inner = []
    for item in sequence(excepts, "except", "[]"):
        part = network(item, "except", strict=strict)
        if part.version != outer.version or part == outer or not _inside(part, outer):
            half = next(outer.subnets(), None) if outer.prefixlen < outer.max_prefixlen else None
            raise invalid(
                item.place,
                f"except {item.shown} is not a smaller part of {outer}",
                f"name a network inside {outer}, for example {half}" if half else "leave it out",
                instead(item, f'"{half}"') if half else instead(excepts or item, "[]"),
            )
        inner.append(str(part))
    return NetworkPeer(str(outer), tuple(inner))


def _inside(part: Network, outer: Network) -> bool:
    first, last = int(outer.network_address), int(outer.broadcast_address)
    return first <= int(part.network_address) <= int(part.broadcast_address) <= last


def whole(node: Node, what: str, first: int, last: int) -> int:
    """A whole number from `first` to `last`."""
    if (
        node.kind is not Kind.NUMBER
        or not re.fullmatch(r"0|[1-9][0-9]{0,8}", node.text)
        or not first <= int(node.text) <= last
    ):
        near = str((first + last) // 2)
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be a whole number from {first} to {last}",
            f"for example {near}",
            instead(node, near),
        )
    return int(node.text)
