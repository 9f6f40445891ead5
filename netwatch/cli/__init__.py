"""The command line: one module per group of verbs, each imported only when it is called.

Imports are lazy because `netwatch lab connect` must not pay for flask, and `netwatch read` not for
docker. What is common to every verb (JSON or text, errors, exit codes) is in `output`.
"""

from __future__ import annotations

import importlib

import click

from netwatch import __version__

VERBS = {
    "agent": "netwatch.cli.serve",
    "alerts": "netwatch.cli.fleet",
    "audit": "netwatch.cli.audit",
    "capture": "netwatch.cli.capture",
    "controller": "netwatch.cli.serve",
    "demo": "netwatch.cli.demo",
    "doctor": "netwatch.cli.doctor",
    "edges": "netwatch.cli.fleet",
    "flows": "netwatch.cli.flows",
    "host": "netwatch.cli.host",
    "hosts": "netwatch.cli.fleet",
    "lab": "netwatch.cli.lab",
    "off": "netwatch.cli.off",
    "on": "netwatch.cli.off",
    "policy": "netwatch.cli.policy",
    "probe": "netwatch.cli.probe",
    "quarantine": "netwatch.cli.quarantine",
    "read": "netwatch.cli.read",
    "release": "netwatch.cli.quarantine",
    "up": "netwatch.cli.serve",
    "workloads": "netwatch.cli.fleet",
}


class Verbs(click.Group):
    """A click group that imports a verb's module when the verb is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order of the alphabet."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `verb` of its module is the function called `verb`."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        return command


@click.group(cls=Verbs)
@click.version_option(__version__, prog_name="netwatch")
def cli() -> None:
    """See who talks to whom between containers, and allow only what should."""


def main() -> None:
    """The program `netwatch`. Errors become one sentence and the right exit code."""
    from netwatch.cli.output import run

    run(cli)
