"""`netwatch policy reach`: who can get at a workload, and how far somebody in it would get."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, table
from netwatch.graph.ways import Ways, ways
from netwatch.model.errors import UsageError
from netwatch.policy.evaluate import ENFORCED, STAGED
from netwatch.policy.files import read_policies
from netwatch.policy.ir import NetworkPeer, World
from netwatch.policy.links import INTERNET, allowed, possible
from netwatch.policy.networks import holds, internet
from netwatch.policy.questions import party

SHOWN = 20  # names in a cell that a person reads; --json has all


@click.command()
@click.argument("name", metavar="NAMESPACE/NAME")
@inputs.WORLD
@inputs.POLICIES
@click.option("--staged", is_flag=True, help="Judge by staged documents too.")
@json_option
def reach(
    name: str, world_file: Path | None, paths: Sequence[Path], staged: bool, as_json: bool
) -> None:
    """Who reaches this workload, whom it reaches, and its ways to the internet.

    Three answers stand side by side: what is possible without any policy, what the policies allow,
    and, where a controller is asked, what was used.
    """
    world = inputs.read_world(world_file)
    workload = party(world, name).workload
    if workload is None:
        raise UsageError(f"{name[:60]!r} is no workload", "name it NAMESPACE/NAME")
    modes = STAGED if staged else ENFORCED
    permitted = allowed(read_policies(paths), world, now=time.time_ns(), modes=modes)
    answers: dict[str, Ways | None] = {
        "possible": ways(possible(world), workload.key, INTERNET),
        "allowed": ways(permitted, workload.key, INTERNET),
        "used": None if world_file else _used(world, workload.key),
    }
    if as_json:
        found = {kind: answer and _as_json(answer) for kind, answer in answers.items()}
        print_json({"ok": True, "workload": workload.key, **found})
        return
    rows = [_row(kind, answer) for kind, answer in answers.items() if answer is not None]
    click.echo(
        table(("", "reached by", "reaches", "then, through others", "to the internet"), rows)
    )


def _used(world: World, name: str) -> Ways | None:
    """The same of what was seen; None without a controller."""
    source = inputs.controller()
    if source is None:
        return None
    public = internet(world)
    pairs = (
        (_end(edge["source"], public), _end(edge["destination"], public))
        for edge in inputs.everything(source, "edges")
    )
    return ways(((a, b) for a, b in pairs if a and b), name, INTERNET)


def _end(peer: dict[str, Any], public: Iterable[NetworkPeer]) -> str | None:
    """What a peer is called here; None for the host, and for private addresses."""
    if peer["kind"] == "workload":
        return f"{peer['namespace']}/{peer['name']}"
    if peer["kind"] == "external" and any(_holds(network, peer["name"]) for network in public):
        return INTERNET
    return None


def _holds(network: NetworkPeer, name: str) -> bool:
    try:
        return holds(network, name)
    except ValueError:  # an external group is called by its name
        return False


def _as_json(answer: Ways) -> dict[str, Any]:
    return {
        "callers": [{"name": name, "steps": steps} for name, steps in answer.callers],
        "reaches": [{"name": name, "steps": steps} for name, steps in answer.called],
        "internet": {
            "direct": answer.shortest[1:] == (INTERNET,),
            "shortest": list(answer.shortest),
            "exits": list(answer.exits),
            "independent_ways": answer.independent,
        },
    }


def _row(kind: str, answer: Ways) -> tuple[str, ...]:
    direct = [name for name, steps in answer.called if steps == 1]
    further = [name for name, steps in answer.called if steps > 1]
    number = "1 way" if answer.independent == 1 else f"{answer.independent} independent ways"
    ways_out = f"{number}: {' > '.join(answer.shortest)}"
    return (
        kind,
        _names([name for name, _ in answer.callers]),
        _names(direct),
        _names(further),
        printable(ways_out) if answer.shortest else "no way",
    )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return printable(", ".join(names[:SHOWN]) + more) if names else "nobody"
