"""`netwatch capture`: the packets of one workload of this host, to a file or as a live table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netwatch.cli.output import json_option, print_json, say
from netwatch.model.errors import NetwatchError, UsageError
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

if TYPE_CHECKING:
    from netwatch.capture.packets import Tap
    from netwatch.capture.record import Record

SECONDS, MOST_SECONDS = 60.0, 86_400.0  # a day: what runs longer is a probe, not a question
BYTES, MOST_BYTES = 64 << 20, 16 << 30
LEAST_BYTES, LEAST_SNAP = 1024, 64  # a snap of 64 holds Ethernet, IPv6 and the ports
MOST_SNAP = 262_144  # libpcap's MAXIMUM_SNAPLEN
_ENDED = {
    "time": "the time is over",
    "bytes": "the limit of bytes is reached",
    "gone": "its link is gone",
    "interrupted": "stopped by hand",
    "reader-gone": "nobody reads on",
    "disk-full": "the disk is full",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workload's packets pass: links of a namespace (None: this one)."""

    links: tuple[str, ...]
    namespace: Path | None


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for, checked."""

    workload: Workload
    place: Place
    filter: str
    seconds: float
    bytes: int
    snap: int


@click.command()
@click.argument("name")
@click.option("-w", "--write", "target", metavar="FILE", help="A new pcap file; - is stdout.")
@click.option("--summary", is_flag=True, help="A live table of its conversations instead.")
@click.option("--filter", "words", default="", metavar="F", help="In words of pcap-filter(7).")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, MOST_SECONDS),
    help=f"At most so long; {SECONDS:g} for a file, a summary goes on until Ctrl-C.",
)
@click.option(
    "--bytes",
    "most",
    type=click.IntRange(LEAST_BYTES, MOST_BYTES),
    default=BYTES,
    show_default=True,
    help="At most so large a file.",
)
@click.option(
    "--snap",
    type=click.IntRange(LEAST_SNAP, MOST_SNAP),
    default=MOST_SNAP,
    show_default=True,
    help="Bytes kept of each packet.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
def capture(
    name: str,
    target: str | None,
    summary: bool,
    words: str,
    seconds: float | None,
    most: int,
    snap: int,
    force: bool,
    as_json: bool,
) -> None:
    """Capture the packets of the workload NAME of this host, both directions.

    Who did it, what and when becomes a line of the audit trail before the first packet, and one
    with the SHA-256 of the file after the last; see netwatch audit.
    """
    from netwatch.capture.packets import Tap
    from netwatch.capture.packets_filter import compiled
    from netwatch.cli.host import this_host
    from netwatch.cli.signals import until_signalled

    _refuse(target, summary=summary, as_json=as_json)
    snapshot = this_host()
    workload = _find(name, snapshot)
    length = seconds or (MOST_SECONDS if summary else SECONDS)
    asked = Question(workload, place_of(workload, snapshot), words, length, most, snap)
    program = compiled(words, snap=snap)
    with (
        until_signalled() as stop,
        closing(Tap(asked.place.links, program, namespace=asked.place.namespace)) as tap,
    ):
        if summary:
            _summary(asked, tap, snapshot, stop=stop.is_set, as_json=as_json)
        else:
            _file(asked, tap, target or "", force=force, stop=stop.is_set, as_json=as_json)


def _refuse(target: str | None, *, summary: bool, as_json: bool) -> None:
    if (target is None) != summary:
        raise UsageError(
            "say what to do with the packets", "-w FILE keeps them, --summary shows who talks"
        )
    if target == "-" and as_json:
        raise UsageError("the packets and the answer can not both be on stdout", "-w FILE --json")
    if target == "-" and sys.stdout.isatty():
        raise UsageError("a terminal can not read packets", "-w - | another program")


def _find(name: str, snapshot: Snapshot) -> Workload:
    """The workload of that name; raises NetwatchError not-found or ambiguous."""
    from netwatch.enforce.quarantine import by_name

    if snapshot.problem:
        say(f"netwatch: the workloads may be incomplete: {snapshot.problem}")
    return by_name(name, {workload.key: workload for workload in snapshot.workloads})


def place_of(workload: Workload, snapshot: Snapshot) -> Place:
    """Where to look: at its links on the host, else inside its namespace, else at the uplinks.

    Raises NetwatchError where its packets pass nowhere that is known.
    """
    from netwatch.kernel.namespaces import inside, path_of_pid

    if workload.host_network:
        say(f"{workload.key} is the host on the wire: this is all that passes the host's uplinks")
        return Place(snapshot.uplinks, None)
    if workload.interfaces:
        return Place(tuple(link.name for link in workload.interfaces), None)
    if workload.pid is None:
        raise NetwatchError(
            f"{workload.key} has no link and no process that are known", "is it running?"
        )
    import socket

    namespace = path_of_pid(workload.pid)
    links = inside(namespace, socket.if_nameindex)
    return Place(tuple(name for _, name in links if name != "lo"), namespace)


def _file(
    asked: Question,
    tap: Tap,
    target: str,
    *,
    force: bool,
    stop: Callable[[], bool],
    as_json: bool,
) -> None:
    from netwatch.capture.record import Record, new_file

    descriptor = sys.stdout.fileno() if target == "-" else new_file(Path(target), force=force)
    where = "stdout" if target == "-" else str(Path(target).absolute())
    try:
        _audit("capture.started", asked, tap, {"file": where, "bytes": asked.bytes})
    except NetwatchError:  # nothing was captured, so nothing is left
        if target != "-":
            Path(target).unlink(missing_ok=True)
        raise
    say(
        f"capturing {asked.workload.key} on {', '.join(tap.links)} for {asked.seconds:g} s or"
        f" {asked.bytes} bytes; Ctrl-C ends it"
    )
    started = time.monotonic()
    record = Record(descriptor, most=asked.bytes, snap=asked.snap)
    for records in tap.batches(asked.seconds, lambda: stop() or record.full is not None):
        record.add(records)
    took = time.monotonic() - started
    if target != "-":
        os.fsync(descriptor)
        os.close(descriptor)
    ended = record.full or ("gone" if tap.gone else "interrupted" if stop() else "time")
    answer = _told(record, tap) | {"file": where, "ended": ended}
    line = _audit("capture.ended", asked, tap, answer)
    _tell(asked, answer | {"seconds": round(took, 3), "audit": line}, as_json=as_json)
    if ended == "disk-full":
        raise NetwatchError(
            f"the disk is full: {where} ends after {record.packets} packets, and is whole",
            "make room, or lower --bytes",
            code="disk-full",
        )


def _told(record: Record, tap: Tap) -> dict[str, Any]:
    return {
        "packets": record.packets,
        "bytes": record.size,
        "dropped": tap.lost(),
        "sha256": record.sha256(),
    }


def _tell(asked: Question, answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json and answer["ended"] != "disk-full":  # then the error is the answer
        print_json(
            {
                "ok": True,
                "workload": asked.workload.identity,
                "filter": asked.filter or None,
                **answer,
            }
        )
        return
    say(
        f"{answer['packets']} packets, {answer['bytes']} bytes, {answer['dropped']} dropped by the"
        f" kernel; {_ENDED[answer['ended']]}\nsha256 {answer['sha256']}, line"
        f" {answer['audit']} of the audit trail"
    )


def _audit(action: str, asked: Question, tap: Tap, more: Mapping[str, Any]) -> int:
    """Add a line to the trail and return its number."""
    from netwatch.audit import append, this_actor
    from netwatch.settings import load

    details = {"filter": asked.filter or None, "links": " ".join(tap.links), **more}
    entry = append(
        Path(load().state),
        action,
        subject=asked.workload.identity,
        actor=this_actor(os.environ),
        details=details,
        now=time.time_ns(),
    )
    return entry.number


def _summary(
    asked: Question, tap: Tap, snapshot: Snapshot, *, stop: Callable[[], bool], as_json: bool
) -> None:
    from netwatch.capture.packets_live import Live
    from netwatch.cli.capture_table import names_of, show

    own = snapshot.addresses if asked.workload.host_network else asked.workload.addresses
    live = Live(own, names_of(snapshot))
    _audit("summary.started", asked, tap, {})
    say(f"watching {asked.workload.key} on {', '.join(tap.links)}; Ctrl-C ends it")
    shown = time.monotonic()
    for records in tap.batches(asked.seconds, stop):
        live.add(records)
        since = time.monotonic() - shown
        if since >= 1.0:
            show(live, asked.workload.key, tap.lost(), seconds=since, as_json=as_json)
            shown += since
    show(live, asked.workload.key, tap.lost(), seconds=time.monotonic() - shown, as_json=as_json)
    _audit("summary.ended", asked, tap, {"dropped": tap.lost(), "forgotten": live.forgotten})
