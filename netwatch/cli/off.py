"""`netwatch off` and `on`: stop enforcing on this host at once, and begin again."""

from __future__ import annotations

import time

import click

from netwatch.cli.host import need_root, this_host
from netwatch.cli.output import json_option, print_json, say
from netwatch.cli.trail import audited


@click.command()
@click.option("--release-all", is_flag=True, help="Set free whoever is quarantined, too.")
@json_option
def off(release_all: bool, as_json: bool) -> None:
    """Take every policy out of this host's kernel now; until `netwatch on`, none comes back.

    Needs no controller, no network and no state folder. Whoever is quarantined stays so, unless
    --release-all is given. Agent, boot and host apply enforce nothing meanwhile.
    """
    from netwatch.enforce.switch import turn_off

    need_root()
    done = turn_off(this_host, release_all=release_all, now=time.time_ns())
    facts = {"removed": done.removed, "release_all": release_all}
    warnings = (*done.warnings, *audited("host.off", facts))
    if as_json:
        told = {"quarantined": list(done.quarantined), "warnings": list(warnings)}
        print_json({"ok": True, "removed": done.removed, **told})
        return
    for warning in warnings:
        say(f"note: {warning}")
    for name in done.quarantined:
        say(f"still quarantined: {name}")
    say("netwatch is off: no policy is enforced on this host; netwatch on puts them back")


@click.command()
@json_option
def on(as_json: bool) -> None:
    """Give force again to what was in force when this host was switched off."""
    from netwatch.enforce.switch import turn_on

    need_root()
    done = turn_on(this_host, now=time.time_ns())
    warnings = (
        *filter(None, (done.problem,)),
        *audited("host.on", {"documents": done.documents}),
    )
    if as_json:
        told = {"quarantined": list(done.quarantined), "warnings": list(warnings)}
        print_json({"ok": True, "documents": done.documents, **told})
        return
    for warning in warnings:
        say(f"note: {warning}")
    say(f"netwatch is on: {done.documents} documents are in force")
