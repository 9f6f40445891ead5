"""`netwatch read`: capture files as flows."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click

from netwatch.capture.files.reading import Reading
from netwatch.capture.files.reading import read as read_capture
from netwatch.cli.output import json_option, printable, say
from netwatch.cli.read_formats import WRITERS, write_parquet
from netwatch.cli.read_names import named, names_of
from netwatch.model.errors import NetwatchError, UsageError
from netwatch.model.flow import Flow

# Below this a file is read before anybody could look.
_LARGE = 64 << 20
_LOSSES = {
    "conversations": "conversations were too many to be judged to the end",
    "tunnels": "packets came through more tunnels than are told apart",
    "damaged": "packets have damaged headers and are in no flow",
}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--workloads",
    type=click.Path(path_type=Path),
    help="Name addresses by a WORLD file, a list of workloads (JSON), or a controller's STATE.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default=None,
    help="How flows are written; --json is short for --format json.",
)
@click.option(
    "-w", "--write", "target", type=click.Path(path_type=Path), help="The file for Parquet."
)
@json_option
def read(
    files: Sequence[Path],
    workloads: Path | None,
    form: str | None,
    target: Path | None,
    as_json: bool,
) -> None:
    """Read pcap and pcapng FILES and print their flows, one a line.

    A damaged capture is read up to the damage; a file that can not be read at all does not stop
    the others, but ends the command with 1.
    """
    form = form or ("json" if as_json else "table")
    if as_json and form != "json":
        raise UsageError(f"--json contradicts --format {form}", "give one of them")
    if (form == "parquet") != (target is not None):
        raise UsageError("Parquet goes to a file", "give --format parquet and --write FILE")
    names = names_of(workloads) if workloads else None
    unread: list[NetwatchError] = []
    flows = _flows(files, names, unread)
    # What is made here has no cycles, and looking for some takes a tenth of the time.
    gc.disable()
    try:
        if target is not None:
            write_parquet(flows, target, named=names is not None)
        else:
            WRITERS[form](flows, names is not None)
    finally:
        gc.enable()
    _end(unread, of=len(files))


def _flows(
    files: Sequence[Path], names: Mapping[str, str] | None, unread: list[NetwatchError]
) -> Iterator[Flow]:
    for file in files:
        try:
            reading = _reading(file)
        except NetwatchError as error:
            unread.append(error)
            continue
        yield from named(reading.flows(), names) if names is not None else reading.flows()
        if reading.damage:
            say(f"netwatch: {file} is damaged and was read up to there: {reading.damage}")
        for reason, count in reading.losses().items():
            say(f"netwatch: {file}: {count} {_LOSSES[reason]}")


def _end(unread: Sequence[NetwatchError], *, of: int) -> None:
    """One file that can not be read is the error; several are told one by one."""
    if not unread:
        return
    for error in unread[:-1]:
        say(f"netwatch: {error}")
    if of > 1:
        say(f"netwatch: {unread[-1]}")
        raise click.exceptions.Exit(1)
    raise unread[-1]


def _reading(file: Path) -> Reading:
    try:
        with file.open("rb") as stream, _watched(stream, file) as watched:
            return read_capture(watched, str(file))
    except OSError as error:
        raise NetwatchError(
            f"{file} can not be read: {error.strerror}", "name a pcap or pcapng file"
        ) from error


@contextmanager
def _watched(stream: BinaryIO, file: Path) -> Iterator[BinaryIO]:
    """The stream, with a bar on stderr while a person watches; it ends however reading ends."""
    size = file.stat().st_size
    if not sys.stderr.isatty() or size < _LARGE:
        yield stream
        return
    label = printable(file.name)
    with click.progressbar(length=size, label=label, file=sys.stderr) as bar:
        yield cast(BinaryIO, _Watched(stream, bar.update))


class _Watched:
    """The two ways in which captures are read; each moves the bar."""

    def __init__(self, stream: BinaryIO, moved: Callable[[int], None]) -> None:
        self._stream = stream
        self._moved = moved

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._moved(len(data))
        return data

    def readinto(self, space: memoryview) -> int:
        count: int = self._stream.readinto(space)  # type: ignore[attr-defined]
        self._moved(count)
        return count
