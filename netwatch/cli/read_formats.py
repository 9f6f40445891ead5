"""Flows as a table, as JSON lines, as CSV and as Parquet."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from netwatch.cli.output import encryption_told, printable, table
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Encryption, Endpoint, Flow, flow_as_json
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

NAMES = ("table", "json", "csv", "parquet")


@dataclass(frozen=True, slots=True)
class Format:
    """How a flow becomes a line (which any process can do), and where all lines go."""

    encode: Callable[[Flow], Any]
    write: Callable[[Iterable[Any]], None]


def format_of(name: str, *, named: bool, target: Path | None = None) -> Format:
    """The format of that name. Writing Parquet to `target` raises NetwatchError if it can not."""
    if name == "table":
        return Format(_cells, lambda rows: click.echo(table(_HEADINGS, rows)))
    if name == "csv":
        return Format(_Row(named=named), partial(_csv, named=named))
    encode = msgspec.json.Encoder().encode
    write = partial(_parquet, target=target) if target else _json_lines
    return Format(lambda flow: encode(_line(flow, named=named)) + b"\n", write)


def _parquet(lines: Iterable[bytes], *, target: Path) -> None:
    import duckdb  # takes 50 ms, which the other formats need not pay

    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.writelines(lines)
        file.flush()
        try:
            found = duckdb.read_json(
                file.name, format="newline_delimited", sample_size=-1, map_inference_threshold=-1
            )
            found.write_parquet(str(target), compression="zstd")
        except duckdb.Error as error:
            why = str(error).partition("\n")[0]
            raise NetwatchError(
                f"{target} can not be written: {why}", "is there a flow, and room for it?"
            ) from None


def _json_lines(lines: Iterable[bytes]) -> None:
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


def _line(flow: Flow, *, named: bool) -> dict[str, Any]:
    line = flow_as_json(flow)
    if named:
        line["client"]["workload"] = flow.client.workload
        line["server"]["workload"] = flow.server.workload
    return line


def _csv(lines: Iterable[str], *, named: bool) -> None:
    nowhere = Endpoint("", None)
    columns = _flat(_line(Flow(nowhere, nowhere, "", 0, 0), named=named))
    csv.writer(sys.stdout, lineterminator="\n").writerow(columns)
    sys.stdout.writelines(lines)
    sys.stdout.flush()


class _Row:
    """A flow as a line of CSV."""

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._line = io.StringIO(newline="")
        self._write = csv.writer(self._line, lineterminator="\n").writerow

    def __call__(self, flow: Flow) -> str:
        self._write(_flat(_line(flow, named=self._named)).values())
        text = self._line.getvalue()
        self._line.seek(0)
        self._line.truncate()
        return text


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
        encryption_told(encryption.status, filter(None, [encryption.version])),
        _name(encryption),
    )


def _name(encryption: Encryption) -> str:
    """The name asked for; with a question mark where it may be only that of a front (ECH)."""
    return f"{encryption.server_name or '-'}{' ?' if encryption.ech else ''}"


def _end(end: Endpoint) -> str:
    host = end.workload or end.address
    if end.port is None:
        return host
    return f"[{host}]:{end.port}" if ":" in host else f"{host}:{end.port}"
