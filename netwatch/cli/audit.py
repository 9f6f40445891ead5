"""`netwatch audit`: what was done on this host, by whom, and whether that record is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from netwatch.audit import Entry
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.model.errors import Violations

_HEADINGS = ("LINE", "TIME", "UID", "SUDO", "ACTION", "SUBJECT", "DETAILS")
_HASH = 64


@click.group(invoke_without_command=True)
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@json_option
@click.pass_context
def audit(ctx: click.Context, limit: int, as_json: bool) -> None:
    """The last lines of the audit trail, oldest first; `verify` checks the whole of it."""
    if ctx.invoked_subcommand is not None:
        return
    from netwatch.audit import read

    entries = read(_folder(), last=limit)
    if as_json:
        told = [msgspec.to_builtins(entry) for entry in entries]
        print_json({"ok": True, "entries": told, "next": None, "losses": {}})
        return
    click.echo(table(_HEADINGS, map(_cells, entries)) if entries else "nothing was audited yet")


@audit.command()
@click.option("--head", metavar="HASH", help="A hash noted earlier: it must be part of the chain.")
@json_option
def verify(head: str | None, as_json: bool) -> None:
    """Whether every line still follows from the one before; exit code 3 if not.

    It prints the head's hash: note it elsewhere, and give it back by --head.
    """
    from netwatch.audit import verify as followed

    if head is not None and len(head) != _HASH:
        raise click.UsageError(f"--head takes the {_HASH} digits that verify prints")
    found = followed(_folder(), head=head)
    if as_json:
        broken = {"line": found.line, "reason": found.broken} if found.broken else None
        print_json(
            {
                "ok": broken is None,
                "entries": found.entries,
                "head": found.head,
                "broken": broken,
            }
        )
        if broken:
            raise click.exceptions.Exit(Violations.exit_code)
        return
    if found.broken:
        where = f"line {found.line}: " if found.line else ""
        raise Violations(
            f"the audit trail is broken: {where}{found.broken}",
            f"the {found.entries} lines before that hold; keep the file as it is",
        )
    say(f"{found.entries} lines hold; the head is {found.head}")


def _folder() -> Path:
    from netwatch.settings import load

    return Path(load().state)


def _cells(entry: Entry) -> tuple[Any, ...]:
    details = " ".join(f"{k}={v}" for k, v in entry.details.items() if v is not None)
    actor = entry.actor
    who = actor.uid if actor.login_uid is None else f"{actor.uid}, login {actor.login_uid}"
    return (
        entry.number,
        entry.time,
        who,
        actor.sudo_user or "-",
        entry.action,
        entry.subject,
        details,
    )
