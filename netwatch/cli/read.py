"""`netwatch read`: capture files as flows."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from netwatch.capture.files.jobs import MOST, Encode, Lines, lines
from netwatch.cli.output import json_option, printable, say
from netwatch.cli.read_formats import NAMES, format_of
from netwatch.model.errors import NetwatchError, UsageError

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
    type=click.Choice(NAMES),
    default=None,
    help="How flows are written; --json is short for --format json.",
)
@click.option(
    "-w", "--write", "target", type=click.Path(path_type=Path), help="The file for Parquet."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=None,
    help=f"Processes that share a large file; default: the cores, at most {MOST}.",
)
@json_option
def read(
    files: Sequence[Path],
    workloads: Path | None,
    form: str | None,
    target: Path | None,
    jobs: int | None,
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
    names = _names(workloads) if workloads else None
    written = format_of(form, named=names is not None, target=target)
    encode = _naming(written.encode, names) if names is not None else written.encode
    unread: list[NetwatchError] = []
    found = _lines(files, encode, jobs or len(os.sched_getaffinity(0)), unread)
    # What is made here has no cycles, and looking for some takes a tenth of the time.
    gc.disable()
    try:
        written.write(found)
    finally:
        # Also when writing failed: with it, the other processes end.
        found.close()
        gc.enable()
    _end(unread, of=len(files))


def _names(workloads: Path) -> Mapping[str, str]:
    # Asking a controller takes 100 ms to import, which who has no names need not pay.
    from netwatch.cli.read_names import names_of

    return names_of(workloads)


def _naming(encode: Encode, names: Mapping[str, str]) -> Encode:
    from netwatch.cli.read_names import named

    return lambda flow: encode(named(flow, names))


def _lines(
    files: Sequence[Path], encode: Encode, jobs: int, unread: list[NetwatchError]
) -> Generator[Any, None, None]:
    for file in files:
        try:
            with ExitStack() as stack:
                stream = stack.enter_context(file.open("rb"))
                with _watched(stream, file) as moved:
                    read = lines(stream, str(file), encode, jobs=jobs, moved=moved)
                    found = stack.enter_context(read)
                yield from found
        except NetwatchError as error:
            unread.append(error)
        except OSError as error:
            why = f"{file} can not be read: {error.strerror}"
            unread.append(NetwatchError(why, "name a pcap or pcapng file"))
        else:
            _tell(file, found)


def _tell(file: Path, found: Lines) -> None:
    if found.damage:
        say(f"netwatch: {file} is damaged and was read up to there: {found.damage}")
    for reason, count in found.losses.items():
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


@contextmanager
def _watched(stream: BinaryIO, file: Path) -> Iterator[Callable[[int], object]]:
    """Tells a bar on stderr, while a person watches, what was read; it ends with reading."""
    size = os.fstat(stream.fileno()).st_size
    if not sys.stderr.isatty() or size < _LARGE:
        yield lambda count: None
        return
    label = printable(file.name)
    with click.progressbar(length=size, label=label, file=sys.stderr) as bar:
        yield bar.update
