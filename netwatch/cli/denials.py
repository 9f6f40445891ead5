"""`netwatch host denials`: what the rules refuse, live, on a host without a controller."""

from __future__ import annotations

import time
from pathlib import Path

import click

from netwatch import settings
from netwatch.agent.denials import MAX_TOLD, Naming
from netwatch.cli.host import this_host
from netwatch.cli.output import print_json, printable
from netwatch.enforce import counters, host, nflog
from netwatch.model.denial import Denial, denial_as_json
from netwatch.model.times import rfc3339

EVERY_S = 1.0
WORKLOADS_EVERY = 10  # rounds: a container that is new since then is an address until then


def listen(seconds: float | None, *, as_json: bool) -> None:
    """Print one line a second for each pair and port that was refused; None: without end.

    JSON is one object a line, and a last one with what could not be heard.
    """
    tally, rounds = nflog.Tally(), 0
    end = None if seconds is None else time.monotonic() + seconds
    with nflog.listen() as link:
        while end is None or time.monotonic() < end:
            if rounds % WORKLOADS_EVERY == 0:
                state = host.applied()
                naming = Naming(state.policies if state else (), this_host())
            rounds += 1
            until = time.monotonic() + EVERY_S
            while (left := min(until, end or until) - time.monotonic()) > 0:
                link.settimeout(left)
                try:
                    tally.add(link.recv(nflog.BUFFER_SIZE), time.time_ns())
                except TimeoutError:
                    break
            heard = sorted(tally.take(), key=lambda each: -each.count)[:MAX_TOLD]
            for each in heard:
                _tell(naming.denial(each, time.time_ns()), as_json=as_json)
    totals = _totals()
    losses = {"not_heard": tally.lost, "over_limit": tally.overflow}
    if as_json:
        print_json({"ok": True, "losses": losses, "totals": totals})
        return
    if any(losses.values()):
        click.echo(f"not heard: {tally.lost}, over the limit: {tally.overflow}", err=True)
    _tell_lines(totals)


def tell_totals(*, as_json: bool) -> None:
    """Print how many packets were refused in all, by kind; exact, from the rules' counters."""
    totals = _totals()
    if as_json:
        print_json({"ok": True, "totals": totals})
        return
    _tell_lines(totals)


def _totals() -> dict[str, int]:
    """Nothing is in force: what an agent counted while something was."""
    state = host.applied()
    file = counters.file_of(Path(settings.load().state), this_host().host)
    known = (
        counters.totals(file, state.backend, host.folder()) if state else counters.load(file).total
    )
    return {kind: known.get(kind, 0) for kind in counters.KINDS}


def _tell_lines(totals: dict[str, int]) -> None:
    packets = {kind: count for kind, count in totals.items() if kind != counters.ESCAPED}
    told = ", ".join(f"{count} {kind}" for kind, count in packets.items())
    click.echo(f"packets in all: {told}", err=True)
    click.echo(
        f"sessions that began before they were denied: {totals[counters.ESCAPED]}", err=True
    )


def _tell(denial: Denial, *, as_json: bool) -> None:
    if as_json:
        print_json(denial_as_json(denial))
        return
    what = denial.protocol if denial.port is None else f"{denial.protocol}/{denial.port}"
    why = f" by {denial.document} ({denial.file}:{denial.line})" if denial.document else ""
    text = f"{denial.source} -> {denial.destination} {what}{why}, {denial.count} packets"
    click.echo(printable(f"{rfc3339(denial.last)} {denial.kind} {text}"))
