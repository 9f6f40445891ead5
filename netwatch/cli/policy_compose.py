"""`netwatch policy check --compose` and `propose`: Compose files read, judged and asked for
proposals, and running workloads for theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, say
from netwatch.policy.allow_labels import LABEL, Wish, proposed, read_wishes, wishes_in
from netwatch.policy.compose import Project, read_compose
from netwatch.policy.compose_check import check_links, world_of
from netwatch.policy.document import parse
from netwatch.policy.fields import Problems
from netwatch.policy.files import read_text
from netwatch.policy.ir import Policy
from netwatch.policy.lint import Remark
from netwatch.policy.writing import as_text


@dataclass(frozen=True, slots=True)
class Deployment:
    """What Compose files say: their projects, and what labels in them would like."""

    projects: tuple[Project, ...] = ()
    wishes: tuple[Wish, ...] = ()

    def remarks(self, policies: Sequence[Policy], *, now: int) -> tuple[Remark, ...]:
        """Declared links that are denied, and allowed ones that nothing declares."""
        return check_links(policies, self.projects, now=now)

    def proposals(self) -> str:
        """Staged Segments as YAML, read back before anybody sees them; empty without labels."""
        policies = proposed(self.wishes, world_of(self.projects))
        text = as_text(policies)
        parse(text, "proposed.yaml")
        return text


def read_deployment(files: Sequence[Path]) -> Deployment:
    """The projects of these files; raises InvalidPolicies with every problem of every file."""
    problems = Problems()
    projects: list[Project] = []
    wishes: list[Wish] = []
    for file in files:
        with problems.collected():
            folder = file.absolute().parent.name
            projects.append(read_compose(read_text(file), str(file), folder=folder))
    for project in projects:
        for service in project.services.values():
            if service.allow is not None:
                with problems.collected():
                    wishes += read_wishes(service.workload, service.allow, project.services)
    problems.raise_any()
    return Deployment(tuple(projects), tuple(wishes))


@click.command()
@inputs.WORLD
@json_option
def propose(world_file: Path | None, as_json: bool) -> None:
    """What labels netwatch.allow of workloads would like, as staged Segments; no rule by itself.

    A label that names no service or no port is told and left out: anybody may write one.
    """
    world, wishes, refused = wishes_in(inputs.read_world(world_file))
    text = as_text(proposed(wishes, world))
    parse(text, "proposed.yaml")
    if as_json:
        told = [error.as_json()["error"] for error in refused]
        print_json({"ok": True, "proposals": text, "wishes": len(wishes), "refused": told})
        return
    for error in refused:
        say(f"left out: {error}")
    if not wishes:
        say(f"no workload has a label {LABEL} that could be read")
    click.echo(printable(text), nl=False)
