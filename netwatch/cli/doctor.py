"""`netwatch doctor`: what this host can and cannot do, and the remedy for each lack."""

from __future__ import annotations

import click

from netwatch.cli.output import json_option, print_json, table


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at this host and change nothing; exit code 3 if something needed is lacking."""
    from netwatch.enforce.survey import survey
    from netwatch.settings import load

    checks = survey(load().docker_socket)
    ok = all(check.ok for check in checks if check.needed)
    if as_json:
        told = [
            {
                "name": check.name,
                "ok": check.ok,
                "needed": check.needed,
                "found": check.found,
                "fix": check.fix,
            }
            for check in checks
        ]
        print_json({"ok": ok, "checks": told})
    else:
        rows = [
            (_state(check.ok, needed=check.needed), check.name, check.found, check.fix or "")
            for check in checks
        ]
        click.echo(table(("", "what", "found", "fix"), rows))
    if not ok:
        raise click.exceptions.Exit(3)


def _state(ok: bool, *, needed: bool) -> str:
    if ok:
        return "ok"
    return "lacks" if needed else "could be better"
