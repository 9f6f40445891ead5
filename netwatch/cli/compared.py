"""`netwatch edges --compare`: what is new, gone or changed between two times, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from netwatch.cli.output import print_json, say, say_gaps, table

HEADINGS = ("WHAT", "SOURCE", "DESTINATION", "PORT", "CHANGE")


def say_compared(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the answer of `/api/v1/edges/compare`."""
    if as_json:
        print_json(answer)
        return
    rows = [("new", e, "") for e in answer["new"]] + [("gone", e, "") for e in answer["gone"]]
    rows += [("changed", c["after"], _differences(c)) for c in answer["changed"]]
    cells = [
        (what, e["source"]["id"], e["destination"]["id"], f"{e['port']}/{e['protocol']}", change)
        for what, e, change in rows
    ]
    click.echo(table(HEADINGS, cells) if cells else "no edge is new, gone or changed")
    say_gaps(answer["gaps"])
    if answer["omitted"]:
        say(f"{answer['omitted']} more are not shown")


def _differences(changed: Mapping[str, Any]) -> str:
    before, after = changed["before"], changed["after"]
    told = []
    for what in changed["what"]:
        old, new = (_brief(_value(edge, what)) for edge in (before, after))
        told.append(f"{what}: {old} -> {new}")
    return ", ".join(told)


def _value(edge: Mapping[str, Any], what: str) -> object:
    if what == "encryption":
        return edge["encryption"]["status"]
    return edge["encryption"]["versions"] if what == "versions" else edge[what]


def _brief(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return str(value.get("status"))
    return "none" if value is None else str(value)
