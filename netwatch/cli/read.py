"""`netwatch read`: a capture file as flows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from netwatch.capture.files.reading import Reading
from netwatch.capture.files.reading import read as read_capture
from netwatch.cli.output import json_option, say, table
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Endpoint, Flow, flow_as_json
from netwatch.model.times import rfc3339

_HEADINGS = (
    "FIRST SEEN",
    "CLIENT",
    "SERVER",
    "PROTOCOL",
    "PACKETS",
    "BYTES",
    "STATE",
    "APPLICATION",
    "ENCRYPTION",
    "NAME",
)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def read(files: Sequence[Path], as_json: bool) -> None:
    """Read pcap and pcapng FILES and print their flows, one a line.

    A damaged capture is read up to the damage.
    """
    for file in files:
        reading = _reading(file)
        if as_json:
            _print_lines(reading.flows())
        else:
            click.echo(table(_HEADINGS, [_cells(flow) for flow in reading.flows()]))
        if reading.damage:
            say(f"netwatch: {file} is damaged and was read up to there: {reading.damage}")


def _reading(file: Path) -> Reading:
    try:
        with file.open("rb") as stream:
            return read_capture(stream, str(file))
    except OSError as error:
        raise NetwatchError(
            f"{file} can not be read: {error.strerror}", "name a pcap or pcapng file"
        ) from error


def _print_lines(flows: Iterable[Flow]) -> None:
    encode = msgspec.json.Encoder().encode
    for flow in flows:
        sys.stdout.buffer.write(encode(flow_as_json(flow)) + b"\n")
    sys.stdout.buffer.flush()


def _cells(flow: Flow) -> tuple[object, ...]:
    encryption = flow.encryption
    return (
        rfc3339(flow.first_seen),
        _end(flow.client),
        _end(flow.server),
        flow.protocol,
        f"{flow.client_packets}/{flow.server_packets}",
        f"{flow.client_bytes}/{flow.server_bytes}",
        flow.state,
        flow.application or "-",
        encryption.version or encryption.status,
        encryption.server_name or "-",
    )


def _end(end: Endpoint) -> str:
    if end.port is None:
        return end.address
    return f"[{end.address}]:{end.port}" if ":" in end.address else f"{end.address}:{end.port}"
