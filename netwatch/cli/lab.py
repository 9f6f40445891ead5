"""`netwatch lab`: hosts and workloads in network namespaces."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from netwatch.cli.output import json_option, print_json, say
from netwatch.model.errors import NetwatchError


@click.group()
def lab() -> None:
    """Hosts and workloads made of network namespaces, for demos and tests."""


@lab.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def up(file: Path, as_json: bool) -> None:
    """Build the lab that FILE describes; returns when every listener accepts."""
    from netwatch.lab.lifecycle import up as build

    built = build(file, now=time.time_ns())
    plan = built.plan
    for note in built.notes:
        say(f"netwatch: {note}")
    if as_json:
        print_json(
            {
                "ok": True,
                "hosts": [host.name for host in plan.hosts],
                "workloads": [
                    {
                        "name": placed.spec.name,
                        "namespace": f"nwh-{placed.spec.host}",
                        "addresses": [str(address) for address in placed.addresses],
                    }
                    for placed in plan.workloads
                ],
                "notes": list(built.notes),
            }
        )
        return
    for host in plan.hosts:
        names = ", ".join(placed.spec.name for placed in plan.on(host.name)) or "no workloads"
        say(f"host {host.name} ({host.netns}, {host.uplink[0]}): {names}")
    say("the lab is up; netwatch lab down ends it")


@lab.command()
@json_option
def down(as_json: bool) -> None:
    """Remove the lab, also one that was broken off; fine when there is none."""
    from netwatch.lab.lifecycle import down as remove

    removed = remove()
    if as_json:
        print_json({"ok": True, "removed": removed})
    else:
        say(f"removed {len(removed)} namespaces" if removed else "no lab was up")


@lab.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--udp", is_flag=True, help="Send a datagram and wait for its echo.")
@click.option("--family", type=click.Choice(["4", "6"]), help="Of the address; default: 4 first.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.01, 600),
    default=2.0,
    show_default=True,
    help="Seconds until silence means filtered.",
)
@json_option
def connect(
    source: str,
    destination: str,
    port: int,
    udp: bool,
    family: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Connect from SRC to PORT of DST; ends with 0 if open, with 3 if refused or filtered."""
    from netwatch.lab.connect import connect as attempt

    tried = attempt(
        source,
        destination,
        port,
        udp=udp,
        family=int(family) if family else None,
        timeout_s=timeout,
    )
    if as_json:
        print_json(
            {
                "ok": True,
                "result": tried.result,
                "ms": tried.ms,
                "address": tried.address,
                "port": tried.port,
            }
        )
    else:
        click.echo(f"{tried.result} ({tried.address} port {tried.port}, {tried.ms:g} ms)")
    sys.exit(0 if tried.result == "open" else 3)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in the network namespace of a host or workload; its exit code is ours."""
    from netwatch.kernel.namespaces import enter, path_of_name
    from netwatch.lab.directory import NotInLab
    from netwatch.lab.state import read_directory

    entry = read_directory().get(name)
    if entry is None:
        raise NotInLab(f"the lab has no host or workload {name!r}")
    enter(path_of_name(entry.netns))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise NetwatchError(f"{command[0]} can not be run: {error.strerror}") from None
