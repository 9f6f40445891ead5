"""Reads the ports of a document: numbers, ranges, names and protocols, in every dialect's words.

As in `fields`, what is wrong is raised at its place with the value and one that would be right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from netwatch.policy.edits import instead, plain, rewritten
from netwatch.policy.fields import PROTOCOLS, nearest
from netwatch.policy.ir import PortSpec
from netwatch.policy.nodes import Kind, Node, invalid, shorten

LOWER = {name: name.lower() for name in PROTOCOLS}
"""How the Kubernetes API spells protocols, and how netwatch does."""
LAST_PORT = 65_535

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")


def protocol(node: Node | None, *, known: Mapping[str, str]) -> str:
    """The protocol in lower case; absent is TCP."""
    if node is None:
        return "tcp"
    if node.kind is not Kind.TEXT or node.text not in known:
        near = nearest(node.text, known) or next(iter(known))
        hint = f"write {near}"
        if node.text.lower().startswith("icmp"):
            near = next(iter(known))
            hint = f"a rule without ports allows ICMP too; with ports write {near}"
        raise invalid(
            node.place,
            f"protocol is {node.shown}, but must be {' or '.join(known)}",
            hint,
            instead(node, near),
        )
    return known[node.text]


def port_number(text: str, node: Node, what: str) -> int:
    """1 to 65535."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        near = near_port(text)
        whole_text = node.text.replace(text, near, 1)
        raise invalid(
            node.place,
            f"{what} is {shorten(text)}, but must be a whole number from 1 to 65535",
            f"for example {near}",
            instead(node, whole_text if whole_text.isdigit() else plain(whole_text)),
        )
    return int(text)


def near_port(text: str) -> str:
    """The port that this may have meant: one of these digits, else 443."""
    digits = re.sub(r"[^0-9].*", "", text.lstrip("+-"))[:9].lstrip("0")
    if not digits:
        return "443"
    return str(min(int(digits), LAST_PORT))


def number(node: Node, what: str) -> int:
    """A port that is written as a number, without quotes."""
    if node.kind is not Kind.NUMBER:
        near = near_port(node.text)
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must be a number",
            f"for example {near}",
            instead(node, near),
        )
    return port_number(node.text, node, what)


def start_and_end(entries: Mapping[str, Node], node: Node, what: str) -> tuple[int, int]:
    """`start` and `end` of a range of ports, which the API wants to differ."""
    for needed, other in (("start", "end"), ("end", "start")):
        if needed not in entries:
            said = number(entries[other], other) if other in entries else None
            first, last = _bounds(needed, said)
            raise invalid(
                node.place,
                f"{what} has no {needed}",
                f"write {{start: {first}, end: {last}}}",
                rewritten(node, {"start": str(first), "end": str(last)}),
            )
    first, last = (number(entries[key], key) for key in ("start", "end"))
    if first >= last:
        low, high = (last, first) if last < first else _bounds("end", first)
        raise invalid(
            node.place,
            f"{what} goes from {first} to {last}",
            f"write {{start: {low}, end: {high}}}; of one port write the number",
            rewritten(node, {"start": str(low), "end": str(high)}),
        )
    return first, last


def _bounds(missing: str, said: int | None) -> tuple[int, int]:
    """A range of eleven ports that begins or ends with this one, if there is room."""
    if said is None:
        return 8000, 8010
    if (missing == "end" and said < LAST_PORT) or said == 1:
        return said, min(said + 10, LAST_PORT)
    return max(said - 10, 1), said


def port_range(first: int, last: int, node: Node) -> tuple[int, int]:
    """Both ends, in order; `node` is the text that says both."""
    if last < first:
        right = re.sub(r"[0-9]+\s*-\s*[0-9]+", f"{last}-{first}", node.text, count=1)
        raise invalid(
            node.place,
            f"the range {first}-{last} is empty",
            f"did you mean {last}-{first}?",
            instead(node, plain(right)),
        )
    return first, last


def port_name(text: str, node: Node) -> str:
    """A port's name by RFC 6335, section 5.1: at most 15 characters, one letter at least."""
    if len(text) > 15 or not _PORT_NAME.match(text):
        near = re.sub(r"[^a-z0-9]+", "-", text[:60].lower()).strip("-")[:15].strip("-")
        near = near if _PORT_NAME.match(near) else "https"
        raise invalid(
            node.place,
            f"{shorten(repr(text))} is no name of a port",
            f"at most 15 lower-case letters, digits and single '-', with a letter: {near}",
            instead(node, plain(node.text.replace(text, near, 1) if text else near)),
        )
    return text


def named_or_numbered(node: Node, protocol_name: str) -> PortSpec:
    """`port:` of a NetworkPolicy: a number, or a text that names a port of the destination."""
    if node.kind is Kind.TEXT:
        if node.text.isdigit():
            raise invalid(
                node.place,
                f"port is the text {node.shown}, which would be a name",
                f"write the number without quotes: {near_port(node.text)}",
                instead(node, near_port(node.text)),
            )
        return PortSpec(protocol_name, name=port_name(node.text, node))
    first = number(node, "port")
    return PortSpec(protocol_name, first, first)
