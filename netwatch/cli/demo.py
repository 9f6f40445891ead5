"""`netwatch demo`: the whole product on real traffic, in a lab that is gone afterwards.

The story: watch the shop, try every call of the lab file, apply the shipped policy on both hosts,
try every call again. What the map shows comes from the agents alone; they never read the calls.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click

from netwatch.cli.output import json_option, print_json, say, table
from netwatch.cli.serve import greet, running
from netwatch.cli.signals import until_signalled
from netwatch.cli.station import Station
from netwatch.kernel import commands
from netwatch.lab import lifecycle
from netwatch.lab.connect import connect
from netwatch.lab.spec import Call, Lab
from netwatch.model.edge import edge_as_json
from netwatch.model.finding import alert_as_json
from netwatch.model.workload import workload_as_json
from netwatch.resources import resource
from netwatch.settings import load

WATCH_S = 10.0  # long enough for the call that is made every 5 s to be seen twice
ONCE_S = 20.0
TRY_S = 1.5


@click.command()
@click.option("--once", is_flag=True, help="Run for 20 seconds, print what was found, and end.")
@click.option("--listen", metavar="A:P", help="Address and port of page and API.")
@json_option
def demo(once: bool, as_json: bool, listen: str | None) -> None:
    """Build the demo shop in network namespaces, watch it, and stop its rogue."""
    began = time.monotonic()
    with (
        until_signalled() as stop,
        tempfile.TemporaryDirectory(prefix="netwatch-demo-") as folder,
        as_file(files("netwatch.lab").joinpath("shop.yaml")) as file,
    ):
        flags = {"listen": listen or ("127.0.0.1:0" if once else None), "state": folder}
        settings = load(flags)
        say("building two hosts, twelve workloads and an internet out of network namespaces")
        with _lab(file) as lab, running(settings) as (station, _pulses):
            if not once:
                greet(station, as_json=as_json)
            policy = _story(lab, stop)
            if once:
                stop.wait(max(0.0, began + ONCE_S - time.monotonic()))
                _report(station, policy, as_json=as_json)
            else:
                say(_told(policy))
                say("Ctrl-C ends the demo and removes everything")
                stop.wait()
                say("removing the lab")


@contextmanager
def _lab(file: Path) -> Iterator[Lab]:
    built = lifecycle.up(file, now=time.time_ns())
    try:
        for note in built.notes:
            say(note)
        yield built.plan.lab
    finally:
        lifecycle.down()


def _story(lab: Lab, stop: threading.Event) -> dict[str, list[dict[str, Any]]]:
    say(f"watching for {WATCH_S:g} s; nothing is enforced, nothing is dropped")
    stop.wait(WATCH_S)
    before = _try_all(lab)
    say("applying the shipped policy on both hosts")
    with as_file(resource("policies").joinpath("shop.yaml")) as policy:
        for host in lab.hosts:
            _apply(host, policy)
    return {"before": before, "after": _try_all(lab)}


def _apply(host: str, policy: Path) -> None:
    program = [sys.executable, "-m", "netwatch"]
    inside = [*program, "lab", "exec", host, "--"]
    commands.check([*inside, *program, "host", "apply", "--policies", str(policy)])


def _try_all(lab: Lab) -> list[dict[str, Any]]:
    """Every call of the lab file, once, by a connection from inside its workload."""
    calls = [(w.name, call) for w in lab.workloads for call in w.calls]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda pair: _try(*pair), calls))


def _try(source: str, call: Call) -> dict[str, Any]:
    udp = call.speak == "udp"
    tried = connect(source, call.to, call.port, udp=udp, family=call.family, timeout_s=TRY_S)
    return {
        "source": source,
        "destination": call.to,
        "protocol": "udp" if udp else "tcp",
        "port": call.port,
        "family": call.family or 4,
        "result": tried.result,
    }


def _report(station: Station, policy: dict[str, Any], *, as_json: bool) -> None:
    controller = station.controller
    workloads, edges = controller.workloads(), controller.edges()
    alerts = controller.alerts()
    if as_json:
        print_json(
            {
                "ok": True,
                "workloads": [workload_as_json(w) for w in workloads],
                "edges": [edge_as_json(e) for e in edges],
                "alerts": [alert_as_json(a) for a in alerts],
                "policy": policy,
                "losses": controller.losses(),
            }
        )
        return
    rows = [
        (e.source.name, e.destination.name, f"{e.protocol}/{e.port}", e.encryption,
         " ".join(e.versions), e.verdict or "", "cross-host" if e.crosses_hosts else "")
        for e in edges
    ]  # fmt: skip
    headings = ("from", "to", "port", "encryption", "version", "verdict", "")
    click.echo(table(headings, rows))
    for alert in alerts:
        click.echo(f"{alert.finding.severity}: {alert.finding.title}")
    click.echo(_told(policy))


def _told(policy: dict[str, list[dict[str, Any]]]) -> str:
    """What the policy changed, in words."""
    changed = [
        f"  {a['source']} to {a['destination']} {a['protocol']}/{a['port']} (IPv{a['family']}): "
        f"{b['result']} before, {a['result']} after"
        for b, a in zip(policy["before"], policy["after"], strict=True)
        if a["result"] != b["result"]
    ]
    same = len(policy["after"]) - len(changed)
    return "\n".join(["the policy changed:", *changed, f"and left {same} calls as they were"])
