"""`netwatch policy diff` and `test`: what a change changes, and whether it may."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, say, write_report
from netwatch.cli.policy_versions import policies_of
from netwatch.model.errors import Violations
from netwatch.policy.answers import place_json
from netwatch.policy.assertions import Result, parse_assertions, run
from netwatch.policy.difference import difference
from netwatch.policy.evaluate import ENFORCED, STAGED
from netwatch.policy.files import read_policies, read_text
from netwatch.policy.junit import Case, junit


@click.command()
@click.argument("paths", nargs=-1, metavar="[BEFORE AFTER]", type=click.Path(path_type=Path))
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="N",
    help="Of the controller, in place of a path; two of them: before, after.",
)
@inputs.WORLD
@click.option("--staged", is_flag=True, help="Compare what staged documents would do too.")
@json_option
def diff(
    paths: Sequence[Path],
    versions: Sequence[str],
    world_file: Path | None,
    staged: bool,
    as_json: bool,
) -> None:
    """Who reaches whom only BEFORE (lost) or only AFTER (gained); exit 3 if anybody.

    Texts that differ and mean the same do not differ here. A --version stands before a path:
    `--version current draft.yaml` is what the draft would change.
    """
    if len(versions) + len(paths) != 2:
        raise click.UsageError("diff needs two: BEFORE and AFTER, each a path or --version N")
    old, new = (*map(policies_of, versions), *(read_policies([path]) for path in paths))
    world = inputs.read_world(world_file)
    modes = STAGED if staged else ENFORCED
    changes = difference(old, new, world, now=time.time_ns(), modes=modes)
    if as_json:
        rows = [
            {
                "kind": change.kind,
                "source": change.source,
                "destination": change.destination,
                "ports": [
                    {"protocol": p.protocol, "first": p.first, "last": p.last}
                    for p in change.ports
                ],
                "sources": list(change.sources),
                "destinations": list(change.destinations),
            }
            for change in changes
        ]
        print_json({"ok": not changes, "changes": rows})
    else:
        for change in changes:
            sign = "+" if change.kind == "gained" else "-"
            ports = ", ".join(map(str, change.ports))
            click.echo(printable(f"{sign} {change.source} -> {change.destination} {ports}"))
        say(f"{len(changes)} changes of reachability" if changes else "the same reachability")
    sys.exit(Violations.exit_code if changes else 0)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@inputs.WORLD
@inputs.POLICIES
@click.option("--staged", is_flag=True, help="Judge by staged documents too.")
@click.option("--junit", "report", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@json_option
def test(
    files: Sequence[Path],
    world_file: Path | None,
    paths: Sequence[Path],
    staged: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Hold policies to the sentences in FILES; exit 3 if one does not hold.

    A file lists sentences: "web must reach db:5432", "nothing in shop reaches the internet".
    """
    assertions = [a for f in files for a in parse_assertions(read_text(f), str(f))]
    policies = read_policies(paths)
    world = inputs.read_world(world_file)
    modes = STAGED if staged else ENFORCED
    results = run(assertions, policies, world, now=time.time_ns(), modes=modes)
    failed = [result for result in results if not result.passed]
    if report is not None:
        write_report(report, junit("netwatch policy test", list(map(_case, results))))
    if as_json:
        print_json({"ok": not failed, "failed": len(failed), "tests": list(map(_json, results))})
    else:
        for result in failed:
            click.echo(printable(f"FAILED {result.assertion.place}: {result.assertion.text}"))
            for reason in result.against:
                click.echo(printable(f"  {reason}"))
        say(f"{len(results) - len(failed)} of {len(results)} hold")
    sys.exit(Violations.exit_code if failed else 0)


def _json(result: Result) -> dict[str, Any]:
    return {
        "test": result.assertion.text,
        "passed": result.passed,
        "against": list(result.against),
        "decisions": result.asked,
        **place_json(result.assertion.place),
    }


def _case(result: Result) -> Case:
    place = result.assertion.place
    failure = None if result.passed else "\n".join(result.against)
    return Case(result.assertion.text, place.file, place.line, failure)
