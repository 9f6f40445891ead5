"""Selectors in Calico's words, both ways: `app == "web" && tier in {"a", "b"} && has(team)`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netwatch.policy import fields
from netwatch.policy.edits import instead, plain
from netwatch.policy.ir import EVERYTHING, Operator, Requirement, Selector
from netwatch.policy.nodes import Node, invalid, shorten

_VALUE = r"(?:\"[^\"]*\"|'[^']*')"
_KEY = r"([A-Za-z0-9_./-]+)"
_EQUAL = re.compile(rf"{_KEY}\s*(==|!=)\s*({_VALUE})")
_AMONG = re.compile(rf"{_KEY}\s+(in|not\s+in)\s*\{{\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\}}")
_HAS = re.compile(rf"(!?)\s*has\(\s*{_KEY}\s*\)")
_SPLIT = re.compile(rf"((?:{_VALUE}|(?!&&)[^\"'])*)(?:&&|\Z)")


def expression(selector: Selector) -> str:
    """A selector in Calico's words: `app == "web" && tier in {"a", "b"} && has(team)`."""
    return " && ".join(map(_term, selector.requirements)) or "all()"


def _term(requirement: Requirement) -> str:
    key, values = requirement.key, [_quoted(value) for value in sorted(requirement.values)]
    negated = requirement.operator is Operator.NOT_IN
    match requirement.operator:
        case Operator.EXISTS:
            return f"has({key})"
        case Operator.DOES_NOT_EXIST:
            return f"!has({key})"
    if len(values) == 1:
        return f"{key} {'!=' if negated else '=='} {values[0]}"
    return f"{key} {'not in' if negated else 'in'} {{{', '.join(values)}}}"


def _quoted(value: str) -> str:
    """In the quotes that the value does not have; a label's value never has both in a cluster."""
    quote = "'" if '"' in value else '"'
    return f"{quote}{value}{quote}"


def read_expression(node: Node | None, what: str) -> Selector:
    """The selector that the text says, all if there is none; raises InvalidDocument."""
    if node is None:
        return EVERYTHING
    text = fields.string(node, what, "all()").strip() if node.text else "all()"
    terms = [found[1].strip() for found in _SPLIT.finditer(text) if found[0]]
    return Selector(
        tuple(r for term in terms if term != "all()" for r in _read_term(term, node, what))
    )


def _read_term(term: str, node: Node, what: str) -> Iterator[Requirement]:
    if match := _EQUAL.fullmatch(term):
        operator = Operator.IN if match[2] == "==" else Operator.NOT_IN
        yield Requirement(_known(match[1]), operator, frozenset([match[3][1:-1]]))
    elif match := _AMONG.fullmatch(term):
        values = frozenset(value[1:-1] for value in re.findall(_VALUE, match[3]))
        operator = Operator.IN if match[2] == "in" else Operator.NOT_IN
        yield Requirement(_known(match[1]), operator, values)
    elif match := _HAS.fullmatch(term):
        yield Requirement(
            _known(match[2]), Operator.DOES_NOT_EXIST if match[1] else Operator.EXISTS
        )
    else:
        raise invalid(
            node.place,
            f"{what} says {shorten(repr(term))}, which has no equal here",
            "write all(), has(app), app == 'web', app != 'web' or app in {'a', 'b'}, joined by &&",
            instead(node, plain("has(app)")),
        )


def _known(key: str) -> str:
    return fields.NAMESPACE_NAME if key == "projectcalico.org/name" else key
