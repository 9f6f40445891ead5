"""What the verbs of `netwatch policy` read: worlds, and the options of questions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch import settings
from netwatch.cli.fleet import Remote, remote
from netwatch.cli.output import say
from netwatch.model.errors import InvalidDocument, NetwatchError, Unreachable
from netwatch.policy.ir import World
from netwatch.policy.world import parse_world, world_of_rows

F = TypeVar("F", bound=Callable[..., Any])

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
POLICIES = click.option(
    "--policies",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder of policies; may be repeated.",
)
WORLD = click.option(
    "--world",
    "world_file",
    type=click.Path(path_type=Path),
    help="A JSON file with namespaces and workloads; default: the running controller's, else"
    " those of this host.",
)


def question_options(function: F) -> F:
    """`--from`, `--to`, `--port` and `--protocol`."""
    for option in (
        click.option("--protocol", default="tcp", show_default=True, help="tcp, udp, icmp, …"),
        click.option(
            "--port", type=click.IntRange(1, 65535), help="The destination's; none for ICMP."
        ),
        click.option("--to", "destination", required=True, help="ns/name, an address, or host."),
        click.option("--from", "source", required=True, help="ns/name, an address, or host."),
    ):
        function = option(function)
    return function


def read_world(file: Path | None) -> World:
    """The world of this file; without one, of the running controller, else of this host."""
    if file is not None:
        return parse_world(text_of(file, "the world"), str(file))
    source = controller()
    if source is not None:
        try:
            return _of_controller(source)
        except Unreachable as error:
            if os.environ.get("NETWATCH_URL"):
                raise
            say(f"{error.message}; this host's own workloads are taken")
    return _of_this_host()


def text_of(file: Path, what: str) -> str:
    """The text of a file; raises InvalidDocument."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidDocument(
            f"{what} can not be read: {reason.lower()}", "check the path", file=str(file)
        ) from None


def controller() -> Remote | None:
    """The controller that the environment or the state folder names, or None."""
    try:
        return remote(os.environ, Path(settings.load().state))
    except Unreachable:
        return None


def everything(source: Remote, name: str, **parameters: object) -> list[Any]:
    """All rows of a list of the controller."""
    rows: list[Any] = []
    cursor = None
    while True:
        answer = source.get(name, {**parameters, "cursor": cursor})
        rows.extend(answer[name])
        cursor = answer["next"]
        if cursor is None:
            return rows


def _of_controller(source: Remote) -> World:
    addresses = [a for row in everything(source, "hosts") for a in row["addresses"]]
    return world_of_rows(everything(source, "workloads"), addresses, source.url)


def _of_this_host() -> World:
    from netwatch.cli.host import this_host
    from netwatch.enforce import named
    from netwatch.enforce.ends import world_of

    snapshot = named.dressed(this_host(), now=time.time_ns())
    if snapshot.problem:
        raise NetwatchError(
            f"no world is known: {snapshot.problem}", "name one with --world WORLD.json"
        )
    return world_of(snapshot)
