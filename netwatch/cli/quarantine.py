"""`netwatch quarantine` and `release`: cut a workload of this host off, and let it back."""

from __future__ import annotations

import re
import time
from typing import Any

import click

from netwatch.cli.host import need_root, this_host
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.cli.trail import audited
from netwatch.model.snapshot import Quarantine
from netwatch.model.times import SECOND, rfc3339

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_UNITS_S = (86_400, 3_600, 60, 1)


def seconds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """`90s`, `15m`, `1h30m` or `2d` in seconds; raises click.BadParameter for anything else."""
    if value is None:
        return None
    parts = _DURATION.fullmatch(value)
    numbers = [int(part or 0) for part in parts.groups()] if parts else [0]
    total = sum(number * unit for number, unit in zip(numbers, _UNITS_S, strict=False))
    if not total:
        raise click.BadParameter(f"{value!r} is no duration; write 90s, 15m, 1h30m or 2d")
    return total


@click.command()
@click.argument("name", required=False)
@click.option("--allow", metavar="CIDR", multiple=True, help="Who may still talk to it; repeats.")
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    callback=seconds,
    help="Release by itself: 15m, 1h30m, 2d.",
)
@json_option
def quarantine(name: str | None, allow: tuple[str, ...], for_s: int | None, as_json: bool) -> None:
    """Cut the workload NAME of this host off, in both directions; its processes go on.

    NAME is its name or namespace/name. What is established ends at once, whatever policies say.
    Without a NAME: who is quarantined here.
    """
    from netwatch.enforce import quarantine as guard

    need_root()
    now = time.time_ns()
    if name is None:
        if allow or for_s is not None:
            raise click.UsageError("--allow and --for need the NAME of a workload")
        _list(guard.lasting(guard.quarantined(), now=now), as_json=as_json)
        return
    snapshot = this_host()
    until = None if for_s is None else now + for_s * SECOND
    workload = guard.find(snapshot, name)
    done = guard.quarantine(workload, snapshot, allow=allow, until=until, now=now)
    facts = {"allow": " ".join(allow) or None, "until": rfc3339(until)}
    warnings = audited("quarantine", facts, subject=workload.key)
    if as_json:
        cut = {"addresses": list(done.addresses), "sessions_cut": list(done.cuts)}
        print_json({"ok": True, **_described(done.entry), **cut, "warnings": list(warnings)})
        return
    for warning in warnings:
        say(f"note: {warning}")
    for session in done.cuts[:20]:
        say(f"session that is cut: {session}")
    if len(done.cuts) > 20:
        say(f"session that is cut: and {len(done.cuts) - 20} more")
    ends = f"until {rfc3339(until)}" if until else f"until netwatch release {workload.key}"
    say(f"{workload.key} is quarantined {ends}")


@click.command()
@click.argument("name")
@json_option
def release(name: str, as_json: bool) -> None:
    """End the quarantine of the workload NAME of this host; policies hold for it as before."""
    from netwatch.enforce import quarantine as guard

    need_root()
    entry = guard.entry_of(name)
    guard.release(entry, this_host(), now=time.time_ns())
    warnings = audited("release", {}, subject=entry.workload)
    if as_json:
        print_json({"ok": True, **_described(entry), "warnings": list(warnings)})
        return
    for warning in warnings:
        say(f"note: {warning}")
    say(f"{entry.workload} is released")


def _described(entry: Quarantine) -> dict[str, Any]:
    until = rfc3339(entry.until)
    return {"workload": entry.workload, "allow": list(entry.allow), "until": until}


def _list(entries: tuple[Quarantine, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": True, "quarantined": [_described(entry) for entry in entries]})
        return
    rows = [(e.workload, " ".join(e.allow), rfc3339(e.until) or "") for e in entries]
    click.echo(table(("WORKLOAD", "ALLOWED", "UNTIL"), rows))
