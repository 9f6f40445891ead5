"""The grammar of a search over flows: `field op value`, joined by `and`.

A field is one of FIELDS, an operator fits its kind, a value becomes a parameter: nothing of what
was written is SQL. Numbers, times and addresses are read here, before anything is searched.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from netwatch.model.errors import UsageError
from netwatch.model.times import nanoseconds

TERMS_LIMIT = 16
_TERM = re.compile(
    r"\s*(?P<field>[a-z0-9_.]+)\s*(?P<op>!=|<=|>=|=|<|>|~|in\b)\s*"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|[^\s\"]+)\s*(?P<and>and\b|$)"
)
_OPERATORS = {
    "text": ("=", "!=", "~"),
    "address": ("=", "!=", "in"),
    "number": ("=", "!=", "<", "<=", ">", ">="),
    "time": ("<", "<=", ">", ">="),
}
_DETAILS = (
    "coalesce(arg_max(details, seen) filter (encryption <> 'unknown'), arg_max(details, seen))"
)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field is: `columns` of single deltas, any of which may fit, or of a whole
    conversation (`whole`), for what a later delta may change. One delta at least bears `trace` of
    a value that the conversation has: what finds few conversations is then found at once.
    """

    kind: str
    columns: tuple[str, ...]
    whole: bool = False
    trace: str | None = None


def _inside(path: str) -> Field:
    column = f"json_extract_string({_DETAILS}, '$[{path}')"
    return Field("text", (column,), whole=True, trace="contains(lower(details), ?)")


def _last(column: str) -> Field:
    trace = f"contains(lower({column}), ?)"
    return Field("text", (f"arg_max({column}, seen)",), whole=True, trace=trace)


def _namespace(column: str) -> str:
    outside = f"{column} like 'host:%' or {column} like 'external:%'"
    return f"if({outside}, null, split_part({column}, '/', 2))"


_ENCRYPTED = (
    *("proof", "protocol", "version", "cipher", "group", "server_name", "alpn", "ja3", "ja3s"),
    *("ja4", "hassh", "hassh_server"),
)
_CERTIFIED = ("subject", "issuer", "sha256", "key_type")
_SUMS = tuple(f"{s}_{n}" for s in ("client", "server") for n in ("packets", "bytes", "payload"))

FIELDS: dict[str, Field] = {
    "workload": Field("text", ("source", "destination")),
    "namespace": Field("text", (_namespace("source"), _namespace("destination"))),
    "address": Field("address", ("client_address", "server_address", "original_address")),
    "client.workload": Field("text", ("source",)),
    "client.namespace": Field("text", (_namespace("source"),)),
    "client.address": Field("address", ("client_address",)),
    "client.port": Field("number", ("client_port",)),
    "server.workload": Field("text", ("destination",)),
    "server.namespace": Field("text", (_namespace("destination"),)),
    "server.address": Field("address", ("server_address",)),
    "server.port": Field("number", ("server_port",)),
    "port": Field("number", ("port", "server_port", "original_port")),
    "original.address": Field("address", ("original_address",)),
    "original.port": Field("number", ("original_port",)),
    "protocol": Field("text", ("protocol",)),
    "host": Field("text", ("host",)),
    "reporter": Field("text", ("reporter",)),
    "state": _last("state"),
    "application": _last("application"),
    "verdict": _last("verdict"),
    "staged": _last("staged"),
    "direction": Field(
        "text", ("if(bool_or(direction = 'seen'), 'seen', 'guessed')",), whole=True
    ),
    "encryption": Field(
        "text",
        ("coalesce(arg_max(encryption, seen) filter (encryption <> 'unknown'), 'unknown')",),
        whole=True,
        trace="contains(encryption, ?)",
    ),
    **{f"encryption.{name}": _inside(f"0].{name}") for name in _ENCRYPTED},
    **{f"certificate.{name}": _inside(f"0].certificate.{name}") for name in _CERTIFIED},
    "client.process": _inside("3].exe"),
    "server.process": _inside("4].exe"),
    "client.user": _inside("3].user"),
    "server.user": _inside("4].user"),
    "link": _inside("5].status"),
    "name": _inside("6][0]"),
    **{name: Field("number", (f"sum({name})",), whole=True) for name in _SUMS},
    "connections": Field("number", ("sum(connections)",), whole=True),
    "first_seen": Field("time", ("min(first_seen)",), whole=True),
    "last_seen": Field("time", ("max(seen)",), whole=True),
}


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. `value` is text, a number, nanoseconds, a network, or None for null."""

    field: Field
    operator: str
    value: Any


def parse(text: str) -> tuple[Term, ...]:
    """The comparisons, all of which must hold; raises UsageError."""
    terms: list[Term] = []
    position = 0
    more = True
    while more:
        found = _TERM.match(text, position)
        if found is None:
            raise UsageError(
                f"the search can not be read from {text[position : position + 40].strip()!r} on",
                'like: server.port = 443 and encryption.server_name ~ "example"',
            )
        terms.append(_term(found["field"], found["op"], found["value"]))
        position, more = found.end(), bool(found["and"])
    if text[position:].strip() or len(terms) > TERMS_LIMIT:
        raise UsageError(f"a search has at most {TERMS_LIMIT} comparisons, joined by and")
    return tuple(terms)


def term(name: str, value: str) -> str:
    """`name = value` as the grammar writes it, whatever is in the value."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{escaped}"'


def _term(name: str, operator: str, written: str) -> Term:
    field = FIELDS.get(name)
    if field is None:
        near = get_close_matches(name, FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(FIELDS)}"
        raise UsageError(f"flows have no field {name[:60]!r}", hint)
    if operator not in _OPERATORS[field.kind]:
        known = " ".join(_OPERATORS[field.kind])
        raise UsageError(f"{name} can not be compared by {operator}", f"known: {known}")
    if written == "null" and operator in ("=", "!="):
        return Term(field, operator, None)
    value = re.sub(r"\\(.)", r"\1", written[1:-1]) if written[0] == '"' else written
    try:
        return Term(field, operator, _value(field.kind, operator, value))
    except (ValueError, OverflowError):
        what = {"number": "a whole number", "time": "a time like 2026-11-22T02:20:05Z"}
        hint = what.get(field.kind, "an address, or after `in` a network like 198.18.0.0/15")
        raise UsageError(f"{name} is compared with {value[:60]!r}", hint) from None


def _value(kind: str, operator: str, value: str) -> Any:
    if kind == "number":
        number = int(value)
        if not 0 <= number < 2**62:
            raise ValueError
        return number
    if kind == "time":
        return nanoseconds(value)
    if operator == "in":
        return ipaddress.ip_network(value, strict=False)
    return str(ipaddress.ip_address(value)) if kind == "address" else value


def conditions(
    terms: Iterable[Term], *, whole: bool, known: Callable[[str], Iterable[str]]
) -> tuple[list[str], list[Any]]:
    """SQL for the terms about single deltas, or about whole conversations, and its parameters.

    `known` gives the addresses that are in a column: a network is looked up there.
    """
    texts, values = [], []
    for each in terms:
        if each.field.whole is not whole:
            if not whole and each.field.trace and each.operator in "=~" and _plain(each.value):
                traced = f"select connection from flows where {each.field.trace}"
                texts.append(f"connection in ({traced})")
                values.append(each.value.lower())
            continue
        either = []
        for column in each.field.columns:
            text, value = _condition(column, each, known)
            either.append(text)
            values += value
        # "address != x" means that none of them is x.
        texts.append(f"({(' and ' if each.operator == '!=' else ' or ').join(either)})")
    return texts, values


def _plain(value: Any) -> bool:
    """Whether it is written the same in JSON."""
    return isinstance(value, str) and re.fullmatch(r"[\w .:=@-]+", value, re.ASCII) is not None


def _condition(
    column: str, term: Term, known: Callable[[str], Iterable[str]]
) -> tuple[str, list[Any]]:
    if term.operator == "in":
        inside = [a for a in known(column) if _is_in(a, term.value)]
        return f"list_contains(?::varchar[], {column})", [inside]
    if term.value is None:
        return f"{column} is {'not ' * (term.operator == '!=')}null", []
    if term.operator == "~":
        return f"contains(lower({column}), ?)", [str(term.value).lower()]
    operator = "is distinct from" if term.operator == "!=" else term.operator
    return f"{column} {operator} ?", [term.value]


def _is_in(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False
