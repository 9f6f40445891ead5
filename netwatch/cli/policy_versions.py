"""`netwatch policy apply`, `confirm`, `rollback`, `mode`, `versions`: the policies of the fleet.

They speak to the controller that NETWATCH_URL and NETWATCH_TOKEN name, else to that of the state
folder; `netwatch host` is for one host without a controller.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch.cli.fleet import all_pages, fleet
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.cli.policy_inputs import PATHS
from netwatch.model.errors import InvalidDocument
from netwatch.policy.document import check_together, parse
from netwatch.policy.files import policy_files, read_text
from netwatch.policy.ir import Mode, Policy

F = TypeVar("F", bound=Callable[..., Any])

HEADINGS = ("VERSION", "STATE", "SHA256", "CREATED", "AUTHOR", "TICKET", "REASON", "FILES")


def signed(function: F) -> F:
    """`--author`, `--reason`, `--ticket`, `--replay`."""
    for option in (
        click.option("--replay", metavar="ID", help="The replay that it was signed off with."),
        click.option("--ticket", metavar="TICKET", help="Where that is written down."),
        click.option("--reason", metavar="TEXT", help="Why."),
        click.option("--author", metavar="NAME", help="Who wants it; default: the login name."),
    ):
        function = option(function)
    return function


def confirm_option(default: int) -> Callable[[F], F]:
    """`--confirm SECONDS`."""
    return click.option(
        "--confirm",
        type=click.IntRange(0, 3600),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help="Undone by every host unless confirmed within them; 0: final.",
    )


@click.command()
@PATHS
@signed
@confirm_option(60)
@json_option
def apply(paths: Sequence[Path], as_json: bool, **given: Any) -> None:
    """Make PATHS the policies of the fleet: all of them, in place of those before.

    Every agent that runs with --enforce gives them force. Objects of a cluster that state no mode
    are staged.
    """
    files = policy_files(paths)
    if not files:
        raise InvalidDocument("there is no policy file", "policy files end with .yaml or .json")
    documents = [{"name": str(file), "text": read_text(file)} for file in files]
    _decide("policies", {"documents": documents, **given}, as_json=as_json)


@click.command()
@click.argument("version", default="current")
@json_option
def confirm(version: str, as_json: bool) -> None:
    """Keep the version that waits for its confirmation."""
    answer = fleet().post(f"policies/{_path(version)}/confirm", {})
    if as_json:
        print_json(answer)
        return
    say(f"version {answer['version']['version']} stays")


@click.command()
@click.argument("version", default="previous")
@signed
@confirm_option(0)
@json_option
def rollback(version: str, as_json: bool, **given: Any) -> None:
    """Go back to VERSION, or to the one before; 0 takes all policies away."""
    _decide(f"policies/{_path(version)}/rollback", given, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("mode", type=click.Choice([str(mode) for mode in Mode]))
@signed
@confirm_option(60)
@json_option
def mode(as_json: bool, **given: Any) -> None:
    """Change the mode of one document: a name, namespace/name or kind/namespace/name."""
    source = fleet()
    now = source.get("policies/current")["version"]["version"]
    _decide(f"policies/{now}/mode", given, as_json=as_json)


@click.command()
@json_option
def versions(as_json: bool) -> None:
    """Every version, newest first: who set it and why, and which is in force."""
    rows = all_pages(fleet(), "policies", {})
    if as_json:
        print_json(rows)
        return
    if not rows["policies"]:
        say("no policy was ever applied; `netwatch policy apply PATH`")
        return
    click.echo(table(HEADINGS, map(_row, rows["policies"])))


def _row(v: dict[str, Any]) -> Sequence[object]:
    return (
        v["version"],
        v["state"],
        v["sha256"][:12],
        v["created"],
        v["author"],
        v["ticket"] or "-",
        v["reason"] or (f"restores {v['restores']}" if v["restores"] is not None else "-"),
        len(v["documents"]),
    )


def policies_of(version: str) -> tuple[Policy, ...]:
    """The documents of a version that the controller has; raises what the controller tells."""
    answer = files_of(version)
    found = [p for d in answer["documents"] for p in parse(d["text"], d["name"])]
    check_together(found)
    return tuple(found)


def files_of(version: str) -> dict[str, Any]:
    """The version and the text of its files, as the controller tells them."""
    return fleet().get(f"policies/{_path(version)}")


def _decide(path: str, given: dict[str, Any], *, as_json: bool) -> None:
    author = given.get("author") or getpass.getuser()
    body = {name: value for name, value in given.items() if value is not None}
    answer = fleet().post(path, {**body, "author": author})
    if as_json:
        print_json(answer)
        return
    version = answer["version"]
    say(f"version {version['version']} ({version['sha256'][:12]}) is what agents are told now")
    if version["confirm_by"] is not None:
        say(f"`netwatch policy confirm` until {version['confirm_by']} keeps it")


def _path(version: str) -> str:
    """A version as part of a URL; what is none is refused by the controller."""
    return "".join(c for c in version if c.isascii() and c.isalnum()) or "none"
