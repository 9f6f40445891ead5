"""`netwatch up`, `agent` and `controller`: what runs for a long time, and how it ends.

SIGTERM and SIGINT end it cleanly; rules in the kernel stay as they are, whatever happens here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import click

from netwatch.agent.handout import Handout
from netwatch.agent.loop import Agent
from netwatch.agent.uplink import Spool, Uplink, poster
from netwatch.cli.fleet_lab import agents_in_lab, lab_doors
from netwatch.cli.output import json_option, print_json
from netwatch.cli.signals import until_signalled
from netwatch.cli.station import Doors, Station, open_agent, state_folder
from netwatch.kernel.commands import WITH_PARENT, end_with_parent
from netwatch.kernel.notify import ALIVE, READY, STOPPING, Pulse, alive_every_s, notify
from netwatch.model.errors import UsageError
from netwatch.settings import Settings, load

STATE = click.option("--state", metavar="DIR", help="Where state is kept.")
LISTEN = click.option("--listen", metavar="A:P", help="Address and port of page and API.")
CAPTURE = click.option("--capture", type=click.Choice(["auto", "tcx", "clsact", "conntrack"]))
ENFORCE = click.option(
    "--enforce/--observe",
    default=None,
    help="Give the controller's policies force here; or, the default, touch no rule.",
)
HOST = click.option("--host", metavar="NAME", help="The name of this host in every identity.")


@click.command()
@LISTEN
@STATE
@CAPTURE
@HOST
@ENFORCE
@json_option
def up(as_json: bool, **flags: Any) -> None:
    """Watch this host: agent, controller and map in one process.

    Where a lab is up and this is none of its hosts, it watches the lab's hosts.
    """
    settings = load(flags)
    with until_signalled() as stop, running(settings) as (station, pulses):
        greet(station, as_json=as_json)
        _wait(stop, pulses)


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[tuple[Station, list[Pulse]]]:
    """A station with the agents it watches by, and their pulses; all end with the block."""
    doors = lab_doors()
    station = Station(settings, doors=doors)
    try:
        if doors is not None:
            with agents_in_lab(station, settings):
                yield station, [station.pulse]
        else:
            with in_thread(station.agent(settings)) as pulse:
                yield station, [station.pulse, pulse]
    finally:
        station.close()


def greet(station: Station, *, as_json: bool) -> None:
    """Say where the map is: the first line of `netwatch up --json`."""
    if as_json:
        print_json({"ok": True, "url": station.url, "token": station.token})
    else:
        click.echo(f"The map: {station.url}")
        click.echo(f"Log in with the token {station.token}")


@click.command()
@click.option("--controller", metavar="URL", help="https:// URL of the controller.")
@click.option("--controller-pin", metavar="SHA256", help="Its certificate's fingerprint.")
@click.option("--agent-token", metavar="TOKEN", help="This host's token.")
@STATE
@CAPTURE
@HOST
@ENFORCE
def agent(**flags: Any) -> None:
    """Watch this host and report to a controller."""
    if WITH_PARENT in os.environ:
        end_with_parent()
    settings = load(flags)
    missing = [n for n in ("controller", "controller_pin", "agent_token") if not _get(settings, n)]
    if missing:
        names = ", ".join(f"NETWATCH_{name.upper()}" for name in missing)
        raise UsageError(
            f"an agent needs to know its controller: {names} is not set",
            "netwatch controller --enrol HOST prints all three",
        )
    folder = state_folder(settings)
    handout = Handout(folder, enforce=settings.enforce, drain=settings.drain)
    post = poster(
        settings.controller,
        pin=settings.controller_pin,
        token=settings.agent_token,
        holds=handout.holds,
        told=handout.take,
    )
    spool = Spool(folder / "spool", limit=settings.spool_bytes)
    uplink = Uplink(post, spool)
    try:
        with (
            until_signalled() as stop,
            in_thread(open_agent(settings, uplink, handout, uplink.losses)) as pulse,
        ):
            _wait(stop, [pulse])
    finally:
        uplink.close()


@click.command()
@LISTEN
@STATE
@click.option("--agents", metavar="A:P", help="Address and port for agents.")
@click.option("--enrol", metavar="HOST", multiple=True, help="Make a token for a host's agent.")
@json_option
def controller(as_json: bool, agents: str | None, enrol: tuple[str, ...], **flags: Any) -> None:
    """Take the reports of agents; serve map, API and alerts."""
    settings = load(flags)
    with until_signalled() as stop:
        station = Station(settings, doors=Doors(agents or "127.0.0.1:8742"))
        try:
            greet(station, as_json=as_json)
            for host in enrol:
                _show_enrolment(station, host, as_json=as_json)
            _wait(stop, [station.pulse])
        finally:
            station.close()


def _show_enrolment(station: Station, host: str, *, as_json: bool) -> None:
    token = station.controller.enrol(host)
    if as_json:
        facts = {"controller": station.agents_url, "controller_pin": station.pin}
        print_json({"ok": True, "host": host, **facts, "agent_token": token})
        return
    click.echo(f"For the agent of {host}:")
    click.echo(f"  NETWATCH_CONTROLLER={station.agents_url}")
    click.echo(f"  NETWATCH_CONTROLLER_PIN={station.pin}")
    click.echo(f"  NETWATCH_AGENT_TOKEN={token}")


def _get(settings: Settings, name: str) -> object:
    return getattr(settings, name)


@contextlib.contextmanager
def in_thread(agent: Agent) -> Iterator[Pulse]:
    """The agent's loop in a thread; a failure of it ends the program, it is never half alive."""
    failures: list[BaseException] = []
    pulse = Pulse()

    def work() -> None:
        try:
            agent.run(beat=pulse.beat)
        except BaseException as error:  # told by the thread that started it, below
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work, name="agent")
    thread.start()
    try:
        yield pulse
    finally:
        agent.stop()
        thread.join()
        agent.close()
    if failures:
        raise failures[0]


def _wait(stop: threading.Event, pulses: Sequence[Pulse]) -> None:
    """Until a signal; tells the init system that we are ready, and alive while every loop is."""
    socket = os.environ.get("NOTIFY_SOCKET")
    every = alive_every_s(os.environ.get("WATCHDOG_USEC"))
    notify(socket, READY)
    while not stop.wait(every):
        if all(pulse.beats(2 * (every or 0.0)) for pulse in pulses):
            notify(socket, ALIVE)
    notify(socket, STOPPING)
