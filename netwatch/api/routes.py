"""What a REST route is: one entry here serves it, checks its parameters and documents it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response

from netwatch.controller.service import Controller
from netwatch.model.errors import UsageError
from netwatch.model.times import nanoseconds

MAX_TEXT = 1000  # characters of a parameter; the longest edge id is below
_KINDS: dict[str, tuple[type, str]] = {
    "text": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "documents": (list, "a list of {name, text}"),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of a query or a body. `kind`: text, integer, time; of a body also boolean and documents
    (a list of {name, text}), and no time. `choices` if only these are known.
    """

    name: str
    kind: str
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**31


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the checks: `query` by parameter name, `path` by placeholder."""

    query: Mapping[str, Any]
    body: Mapping[str, Any]
    path: Mapping[str, str]
    by: str

    def limit(self, default: int) -> int:
        """How many rows are asked for."""
        return int(self.query.get("limit", default))

    def number(self, name: str, default: int) -> int:
        """A whole number of the body."""
        given = self.body.get(name)
        return default if given is None else int(given)


View = Callable[[Controller, Call], Mapping[str, Any] | Response]


@dataclass(frozen=True, slots=True)
class Route:
    """`gives` maps the keys of the answer, beside `ok`, to a schema name or `[schema name]`.

    A route with `media` answers with a file of one of these types instead.
    """

    method: str
    path: str
    name: str
    summary: str
    view: View
    gives: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...] = ()
    body: tuple[Parameter, ...] = ()
    required: tuple[str, ...] = ()
    status: int = 200
    media: tuple[str, ...] = ()


def query_of(route: Route, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters as values; raises UsageError for an unknown or a wrong one."""
    known = {parameter.name: parameter for parameter in route.parameters}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            raise UsageError(f"unknown parameter {name[:60]!r}", hint)
        values[name] = _value(known[name], text)
    return values


def _value(parameter: Parameter, text: str) -> Any:
    if len(text) > MAX_TEXT:
        raise UsageError(f"{parameter.name} is longer than {MAX_TEXT} characters")
    if parameter.choices and text not in parameter.choices:
        known = ", ".join(parameter.choices)
        raise UsageError(f"{parameter.name} can not be {text[:60]!r}", f"known: {known}")
    if parameter.kind == "integer":
        return _integer(parameter, text)
    if parameter.kind == "time":
        return _time(parameter, text)
    return text


def _integer(parameter: Parameter, text: str) -> int:
    low, high = parameter.minimum, parameter.maximum
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
    if not low <= number <= high:
        raise UsageError(f"{parameter.name} is {text[:60]!r}", f"a number from {low} to {high}")
    return number


def _time(parameter: Parameter, text: str) -> int:
    try:
        return nanoseconds(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{parameter.name} is {text[:60]!r}", "a time like 2026-11-22T02:20:05Z"
        ) from None


def body_of(route: Route, given: object) -> dict[str, Any]:
    """The members of a JSON body; raises UsageError for an unknown, missing or wrong one."""
    if not isinstance(given, dict):
        raise UsageError("the body is not a JSON object", "send Content-Type: application/json")
    known = {member.name: member for member in route.body}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"unknown member {str(name)[:60]!r}", f"known: {', '.join(known)}")
        if value is not None:
            _check_member(known[name], value)
    for name in route.required:
        if not given.get(name):
            raise UsageError(f"{name} is missing")
    return given


def _check_member(member: Parameter, value: object) -> None:
    wanted, said = _KINDS[member.kind]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise UsageError(f"{member.name} must be {said}")
    if member.choices and value not in member.choices:
        known = ", ".join(member.choices)
        raise UsageError(f"{member.name} can not be {str(value)[:60]!r}", f"known: {known}")
    if isinstance(value, int) and not member.minimum <= value <= member.maximum:
        span = f"a number from {member.minimum} to {member.maximum}"
        raise UsageError(f"{member.name} is {value}", span)
    if isinstance(value, list) and not all(map(_is_document, value)):
        raise UsageError(f"{member.name} must be {said}")


def _is_document(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"name", "text"}
        and all(isinstance(part, str) for part in value.values())
    )
