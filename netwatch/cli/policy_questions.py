"""`netwatch policy decide`, `explain` and `matrix`: questions to the one meaning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, table
from netwatch.policy.answers import decision_json, explanation_json
from netwatch.policy.evaluate import ENFORCED, STAGED, Judge
from netwatch.policy.explain import Explanation
from netwatch.policy.explain import explain as explained
from netwatch.policy.files import read_policies
from netwatch.policy.matrix import matrix as tables
from netwatch.policy.matrix import parse_probe
from netwatch.policy.questions import question


@click.command()
@inputs.WORLD
@inputs.POLICIES
@inputs.question_options
@json_option
def decide(
    world_file: Path | None,
    paths: Sequence[Path],
    source: str,
    destination: str,
    port: int | None,
    protocol: str,
    as_json: bool,
) -> None:
    """May this end reach that one? Prints the verdict, the reason and the deciding rule."""
    world = inputs.read_world(world_file)
    policies = read_policies(paths)
    asked = question(world, source, destination, protocol=protocol, port=port)
    now = time.time_ns()
    decision = Judge(policies, world).decide(*asked, now=now)
    staged = Judge(policies, world, STAGED).decide(*asked, now=now)
    if as_json:
        print_json({"ok": True, **decision_json(decision), "staged": staged.verdict})
        return
    click.echo(printable(f"{decision.verdict}: {decision.reason}"))
    for obligation in decision.obligations:
        click.echo(printable(f"the connection must be {obligation}"))
    if staged.verdict != decision.verdict:
        click.echo(printable(f"staged: {staged.verdict}: {staged.reason}"))


@click.command()
@inputs.WORLD
@inputs.POLICIES
@inputs.question_options
@click.option("--staged", is_flag=True, help="Judge by staged documents too.")
@json_option
def explain(
    world_file: Path | None,
    paths: Sequence[Path],
    source: str,
    destination: str,
    port: int | None,
    protocol: str,
    staged: bool,
    as_json: bool,
) -> None:
    """Why? Each step of the judgement; for a denial the nearest rule and what would allow it."""
    world = inputs.read_world(world_file)
    asked = question(world, source, destination, protocol=protocol, port=port)
    modes = STAGED if staged else ENFORCED
    found = explained(read_policies(paths), world, asked, now=time.time_ns(), modes=modes)
    if as_json:
        print_json({"ok": True, **explanation_json(found)})
        return
    _tell(found)


def _tell(found: Explanation) -> None:
    lines = [f"{found.decision.verdict}: {found.decision.reason}", ""]
    for step in found.steps:
        where = f" ({step.place})" if step.place else ""
        lines.append(f"  {step.side:<11} {step.outcome:<8} {step.text}{where}")
    if found.omitted:
        lines.append(f"  and {found.omitted} rules that miss")
    for near in found.nearest[:1]:
        lines += ["", f"nearest: {near.policy.title} ({near.rule.place}), but"]
        lines += [f"  {reason}" for reason in near.because]
    if found.fix is not None:
        lines.append("")
        if found.fix.why_not:
            lines.append(found.fix.why_not)
        else:
            lines += [f"to allow it, {' and '.join(found.fix.edits)}", "", found.fix.text]
    click.echo(printable("\n".join(lines)))


@click.command()
@inputs.WORLD
@inputs.POLICIES
@click.option("--probe", "probes", multiple=True, required=True, help="tcp/80, udp/53, …")
@json_option
def matrix(
    world_file: Path | None, paths: Sequence[Path], probes: Sequence[str], as_json: bool
) -> None:
    """Who reaches whom: 1 allowed, 0 denied, - no such port there. Rows are sources."""
    asked = [parse_probe(probe) for probe in probes]
    world = inputs.read_world(world_file)
    answers = tables(read_policies(paths), world, asked, now=time.time_ns())
    order = [workload.key for workload in world.workloads]
    if as_json:
        rows = [{"probe": str(t.probe), "rows": list(t.rows)} for t in answers]
        print_json({"ok": True, "order": order, "probes": rows})
        return
    for answer in answers:
        lines = zip(order, answer.rows, strict=True)
        click.echo(table((str(answer.probe), "to the same, in this order"), lines))
