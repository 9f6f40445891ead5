"""Flows as a table, as JSON lines, as CSV and as Parquet."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from netwatch.cli.output import printable, table
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
# A spreadsheet takes a cell that starts like this for a formula; names on the wire are hostile.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

WRITERS: dict[str, Callable[[Iterable[Flow], bool], None]] = {
    "table": lambda flows, named: click.echo(table(_HEADINGS, map(_cells, flows))),
    "json": lambda flows, named: _json_lines(flows, sys.stdout.buffer, named=named),
    "csv": lambda flows, named: _csv(flows, named=named),
}


def write_parquet(flows: Iterable[Flow], target: Path, *, named: bool) -> None:
    """Write a Parquet file with the columns of the JSON; raises NetwatchError if it can not."""
    import duckdb  # takes 50 ms, which the other formats need not pay

    with tempfile.NamedTemporaryFile(suffix=".jsonl") as lines:
        _json_lines(flows, lines, named=named)
        try:
            found = duckdb.read_json(
                lines.name, format="newline_delimited", sample_size=-1, map_inference_threshold=-1
            )
            found.write_parquet(str(target), compression="zstd")
        except duckdb.Error as error:
            why = str(error).partition("\n")[0]
            raise NetwatchError(
                f"{target} can not be written: {why}", "is there a flow, and room for it?"
            ) from None


def _json_lines(flows: Iterable[Flow], out: IO[bytes], *, named: bool) -> None:
    encode = msgspec.json.Encoder().encode
    for flow in flows:
        out.write(encode(_line(flow, named=named)) + b"\n")
    out.flush()


def _line(flow: Flow, *, named: bool) -> dict[str, Any]:
    line = flow_as_json(flow)
    if named:
        line["client"]["workload"] = flow.client.workload
        line["server"]["workload"] = flow.server.workload
    return line


def _csv(flows: Iterable[Flow], *, named: bool) -> None:
    nowhere = Endpoint("", None)
    columns = _flat(_line(Flow(nowhere, nowhere, "", 0, 0), named=named))
    writer = csv.DictWriter(sys.stdout, list(columns), lineterminator="\n")
    writer.writeheader()
    for flow in flows:
        writer.writerow(_flat(_line(flow, named=named)))
    sys.stdout.flush()


def _flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by `_`, lists by `;`, tunnels as `type id client server`."""
    cells: dict[str, Any] = {}
    for key, value in line.items():
        if key == "certificate" and value is None:
            value = _NO_CERTIFICATE
        if isinstance(value, Mapping):
            cells |= _flat(value, f"{prefix}{key}_")
        elif isinstance(value, list):
            cells[prefix + key] = _cell(";".join(map(_item, value)))
        else:
            cells[prefix + key] = _cell(value) if isinstance(value, str) else value
    return cells


_NO_CERTIFICATE: Mapping[str, Any] = {
    **dict.fromkeys(("subject", "issuer", "not_before", "not_after", "sha256")),
    "key": {"type": None, "bits": None},
}


def _item(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join("-" if part is None else str(part) for part in value.values())
    return str(value)


def _cell(text: str) -> str:
    text = printable(text).replace("\n", " ")
    return f"'{text}" if text.startswith(_FORMULA) else text


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
    host = end.workload or end.address
    if end.port is None:
        return host
    return f"[{host}]:{end.port}" if ":" in host else f"{host}:{end.port}"
