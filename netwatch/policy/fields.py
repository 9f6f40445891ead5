"""Reads the fields of a document: what a value must be, and what to say when it is not.

Every function takes a node and raises InvalidDocument at its place, with the offending value and
what would be right.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from netwatch.model.errors import InvalidDocument
from netwatch.policy.ir import NetworkPeer, Operator, PortSpec, Requirement
from netwatch.policy.nodes import Kind, Node, invalid, shorten

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROTOCOLS = ("TCP", "UDP", "SCTP")
LOWER = {name: name.lower() for name in PROTOCOLS}
"""How the Kubernetes API spells protocols, and how netwatch does."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
MAX_PROBLEMS = 20
"""More than a screen of errors helps nobody."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
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
    folded = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word[:100].lower(), folded, 1)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"known: {', '.join(choices[:12])}{', ...' if len(choices) > 12 else ''}"


def mapping(node: Node, what: str, known: Sequence[str] | None = None) -> dict[str, Node]:
    """The entries by key. A key whose value is nothing counts as absent, as in Kubernetes."""
    if node.kind is not Kind.MAPPING:
        example = f"with {', '.join(known[:4])}" if known else "of `key: value` lines"
        raise invalid(
            node.place, f"{what} is {node.shown}, but must be a mapping", f"a mapping {example}"
        )
    for key, _ in node.entries:
        if known is not None and key.text not in known:
            raise invalid(key.place, f"{what} has no key {key.shown}", meant(key.text, known))
    return {key.text: value for key, value in node.entries if value.kind is not Kind.NULL}


def sequence(node: Node | None, what: str) -> tuple[Node, ...]:
    """The items of a list; an absent one has none."""
    if node is None:
        return ()
    if node.kind is not Kind.LIST:
        raise invalid(
            node.place, f"{what} is {node.shown}, but must be a list", "begin each item with `- `"
        )
    return node.items


def string(node: Node, what: str, example: str) -> str:
    """A text that can be shown on one line."""
    if node.kind is not Kind.TEXT:
        hint = f'quote it: "{shorten(node.text)}"' if node.text else f"for example {example}"
        raise invalid(node.place, f"{what} is {node.shown}, but must be text", hint)
    if not node.text.isprintable() or len(node.text) > 1024 or not node.text:
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be 1 to 1,024 characters on one line",
            f"for example {example}",
        )
    return node.text


def boolean(node: Node | None, what: str) -> bool:
    """true or false; absent is false."""
    if node is None:
        return False
    if node.kind is not Kind.BOOLEAN:
        raise invalid(node.place, f"{what} is {node.shown}, but must be true or false", None)
    return node.text.lower() == "true"


def choice(node: Node, what: str, known: Sequence[str]) -> str:
    """One of the known words."""
    if node.kind is not Kind.TEXT or node.text not in known:
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be {' or '.join(known)}",
            meant(node.text, known),
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
        )
    return text


def cleaned(text: str) -> str:
    """The nearest text that may be a name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text[:60]).strip("-") or "web"


def label_key(text: str, node: Node, what: str) -> str:
    """The key of a label, `name` or `prefix/name`."""
    if not _LABEL_KEY.match(text) or len(text) > 317:
        raise invalid(
            node.place,
            f"{what} {shorten(repr(text))} is no label key",
            "write `name` or `prefix/name` with letters, digits, '-', '_' and '.'",
        )
    return text


def label_value(node: Node, what: str) -> str:
    """The value of a label; it may be empty, but must be text."""
    if node.kind is Kind.TEXT and not node.text:
        return ""
    return string(node, what, "web")


def match_labels(node: Node, what: str) -> tuple[Requirement, ...]:
    """`{key: value}`, each of which must hold."""
    mapping(node, what)
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
    text = string(node, what, "10.0.0.0/8")
    try:
        if "%" in text or not _PREFIX_LENGTH.match(text) or not (strict or "/" in text):
            raise ValueError("an interface or a mask means nothing in a policy")
        found = ipaddress.ip_network(text, strict=strict)
        if found.version == 6 and _inside(found, _MAPPED):
            raise ValueError("no packet has an IPv4 address in its IPv6 form")
        return found
    except ValueError:
        raise invalid(
            node.place, f"{what} is {node.shown}, which is no network", _network_hint(text)
        ) from None


def _network_hint(text: str) -> str:
    text = text.partition("%")[0]
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "write it like 10.0.0.0/8 or 2001:db8::/32"
    if found.version == 6 and _inside(found, _MAPPED):
        inner = ipaddress.IPv4Address(int(found.network_address) & 0xFFFFFFFF)
        return f"did you mean {inner}/{found.prefixlen - 96}?"
    return f"did you mean {found}?"


def network_peer(cidr: Node, excepts: Node | None, *, strict: bool) -> NetworkPeer:
    """A CIDR and its `except` list, each inside it and smaller, as the Kubernetes API demands."""
    outer = network(cidr, "cidr", strict=strict)
    inner = []
    for item in sequence(excepts, "except"):
        part = network(item, "except", strict=strict)
        if part.version != outer.version or part == outer or not _inside(part, outer):
            raise invalid(
                item.place,
                f"except {item.shown} is not a smaller part of {outer}",
                f"name a network inside {outer}",
            )
        inner.append(str(part))
    return NetworkPeer(str(outer), tuple(inner))


def _inside(part: Network, outer: Network) -> bool:
    first, last = int(outer.network_address), int(outer.broadcast_address)
    return first <= int(part.network_address) <= int(part.broadcast_address) <= last


def protocol(node: Node | None, *, known: Mapping[str, str]) -> str:
    """The protocol in lower case; absent is TCP."""
    if node is None:
        return "tcp"
    if node.kind is not Kind.TEXT or node.text not in known:
        hint = meant(node.text, known)
        if node.text.lower().startswith("icmp"):
            hint = "a rule without ports allows ICMP too"
        raise invalid(
            node.place, f"protocol is {node.shown}, but must be {' or '.join(known)}", hint
        )
    return known[node.text]


def port_number(text: str, node: Node, what: str) -> int:
    """1 to 65535."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise invalid(
            node.place,
            f"{what} is {shorten(text)}, but must be a whole number from 1 to 65535",
            "for example 443",
        )
    return int(text)


def number(node: Node, what: str) -> int:
    """A port that is written as a number, without quotes."""
    if node.kind is not Kind.NUMBER:
        raise invalid(
            node.place, f"{what} is {node.shown}, but must be a number", "for example 443"
        )
    return port_number(node.text, node, what)


def whole(node: Node, what: str, first: int, last: int) -> int:
    """A whole number from `first` to `last`."""
    if (
        node.kind is not Kind.NUMBER
        or not re.fullmatch(r"0|[1-9][0-9]{0,8}", node.text)
        or not first <= int(node.text) <= last
    ):
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be a whole number from {first} to {last}",
            f"for example {what}: {(first + last) // 2}",
        )
    return int(node.text)


def start_and_end(entries: Mapping[str, Node], node: Node, what: str) -> tuple[int, int]:
    """`start` and `end` of a range of ports, which the API wants to differ."""
    for needed in ("start", "end"):
        if needed not in entries:
            raise invalid(node.place, f"{what} has no {needed}", "write {start: 8000, end: 8010}")
    first, last = (number(entries[key], key) for key in ("start", "end"))
    if first >= last:
        hint = "start must be the smaller one; of one port write the number"
        raise invalid(node.place, f"{what} goes from {first} to {last}", hint)
    return first, last


def port_range(first: int, last: int, node: Node) -> tuple[int, int]:
    """Both ends, in order."""
    if last < first:
        raise invalid(
            node.place, f"the range {first}-{last} is empty", f"did you mean {last}-{first}?"
        )
    return first, last


def port_name(text: str, node: Node) -> str:
    """A port's name by RFC 6335, section 5.1: at most 15 characters, one letter at least."""
    if len(text) > 15 or not _PORT_NAME.match(text):
        raise invalid(
            node.place,
            f"{shorten(repr(text))} is no name of a port",
            "at most 15 lower-case letters, digits and single '-', with a letter: https",
        )
    return text


def named_or_numbered(node: Node, protocol_name: str) -> PortSpec:
    """`port:` of a NetworkPolicy: a number, or a text that names a port of the destination."""
    if node.kind is Kind.TEXT:
        if node.text.isdigit():
            raise invalid(
                node.place,
                f"port is the text {node.shown}, which would be a name",
                f"write the number without quotes: {shorten(node.text)}",
            )
        return PortSpec(protocol_name, name=port_name(node.text, node))
    first = number(node, "port")
    return PortSpec(protocol_name, first, first)
