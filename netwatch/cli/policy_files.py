"""`netwatch policy fmt`, `import` and `export`: the same policies, written in another way."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, say, write_report
from netwatch.model.errors import NetwatchError, Violations
from netwatch.model.snapshot import Network, Snapshot
from netwatch.policy import export as forms
from netwatch.policy.files import policy_files, read_policies, read_text
from netwatch.policy.formatting import formatted
from netwatch.policy.importing import read_foreign
from netwatch.policy.ir import Mode, Policy, World
from netwatch.policy.schema import schema as described
from netwatch.policy.writing import as_text

WRITERS = {
    "kubernetes": forms.to_kubernetes,
    "calico": forms.to_calico,
    "cilium": forms.to_cilium,
}


@click.command()
@inputs.PATHS
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit 3 if any differs.")
@json_option
def fmt(paths: Sequence[Path], only_check: bool, as_json: bool) -> None:
    """Lay policy files out the one way; comments stay, and nothing means anything else."""
    files = [file for file in policy_files(paths) if file.suffix != ".json"]
    laid = [(file, text := read_text(file), formatted(text, str(file))) for file in files]
    changed = [(file, new) for file, old, new in laid if old != new]
    if not only_check:
        for file, new in changed:
            write_report(file, new)
    names = [str(file) for file, _ in changed]
    failed = only_check and bool(changed)
    if as_json:
        print_json({"ok": not failed, "files": len(files), "changed": names})
    else:
        for name in names:
            say(f"{name} {'would change' if only_check else 'changed'}")
        say(f"{len(names)} of {len(files)} files {'differ' if only_check else 'laid out'}")
    sys.exit(Violations.exit_code if failed else 0)


@click.command("import")
@inputs.PATHS
@inputs.WORLD
@click.option(
    "--mode",
    type=click.Choice([str(mode) for mode in Mode]),
    default="stage",
    show_default=True,
    help="The mode that the documents get.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write them here.")
@json_option
def import_(
    paths: Sequence[Path], world_file: Path | None, mode: str, output: Path | None, as_json: bool
) -> None:
    """Take over what a cluster has: documents of Kubernetes, Calico and Cilium, staged.

    `kubectl get networkpolicy -A -o yaml`, say. A CIDR of Cilium never means a pod: the workloads
    of --world are taken out of it.
    """
    world = World() if world_file is None else inputs.read_world(world_file)
    texts = [(read_text(file), str(file)) for file in policy_files(paths)]
    policies = [replace(policy, mode=Mode(mode)) for policy in read_foreign(texts, world)]
    _put(as_text(policies), output, as_json=as_json, number=len(policies), differs=())


@click.command()
@inputs.PATHS
@inputs.WORLD
@click.option(
    "--to",
    "--format",
    "form",
    type=click.Choice(["netwatch", *WRITERS, "nft", "dot"]),
    default="netwatch",
    show_default=True,
    help="YAML of their own kinds; of Kubernetes, Calico or Cilium; a script for `nft -f` with"
    " what is enforced in this world; or a graph for Graphviz.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it here.")
@json_option
def export(
    paths: Sequence[Path],
    world_file: Path | None,
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write policies in another form; exit 3 if that form decides anything differently."""
    policies = read_policies(paths)
    now = time.time_ns()
    differs: tuple[str, ...] = ()
    if form == "netwatch":
        text = forms.to_netwatch(policies)
    elif form == "dot":
        text = forms.to_dot(policies, inputs.read_world(world_file), now=now)
    elif form == "nft":
        text, differs = _as_script(policies, world_file, now=now)
    else:
        world = inputs.read_world(world_file)
        text = WRITERS[form](policies, world)
        again = read_foreign([(text, f"{form}.yaml")], world)
        differs = forms.differences(policies, again, world, now=now)
    _put(text, output, as_json=as_json, number=len(policies), differs=differs)


def _as_script(
    policies: Sequence[Policy], world_file: Path | None, *, now: int
) -> tuple[str, tuple[str, ...]]:
    """For the world of this file as if it were one host; without one, for this host."""
    from netwatch.enforce.compile import compile
    from netwatch.enforce.nftscript import script

    if world_file is None:
        from netwatch.cli.host import this_host

        snapshot = this_host()
        if snapshot.problem:
            raise NetwatchError(f"this host is not known: {snapshot.problem}", "add --world FILE")
    else:
        snapshot = _as_host(inputs.read_world(world_file))
    enforced = [policy for policy in policies if policy.mode is Mode.ENFORCE]
    ruleset = compile(enforced, snapshot, now=now)
    return script(ruleset), ruleset.facts.notes


def _as_host(world: World) -> Snapshot:
    """One host with all workloads of the world, their addresses as they are."""
    subnets = (Network("world", "routed", subnets=world.networks),) if world.networks else ()
    return Snapshot(
        "world",
        world.workloads,
        subnets,
        namespaces=world.namespaces,
        addresses=world.host_addresses,
        protected=world.protected,
    )


@click.command()
def schema() -> None:
    """Print the JSON Schema of all documents, for editors."""
    print_json(described())


def _put(
    text: str, output: Path | None, *, as_json: bool, number: int, differs: Sequence[str]
) -> None:
    if output is not None:
        if output.is_dir():
            raise NetwatchError(f"{output} is a folder", "name a file")
        write_report(output, text)
    if as_json:
        print_json(
            {"ok": not differs, "text": text, "documents": number, "differences": list(differs)}
        )
    elif output is None:
        click.echo(text, nl=False)
    for line in differs:
        say(f"not the same: {line}")
    say(f"{number} documents")
    sys.exit(Violations.exit_code if differs else 0)
