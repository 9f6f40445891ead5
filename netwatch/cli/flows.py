"""`netwatch flows`: search, follow and export what the controller keeps of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from netwatch.cli.fleet import Remote, Row, filters, fleet, show, verdict_of
from netwatch.cli.output import encryption_told, json_option, print_json, table
from netwatch.model.errors import UsageError

SEEN = 20_000  # flows that `--follow` remembers, to print each change once

FLOW_HEADINGS = ("LAST", "CLIENT", "SERVER", "PROTOCOL", "ENCRYPTION", "VERDICT", "BYTES", "STATE")


def _flow_row(flow: Row) -> Sequence[object]:
    encryption = flow["encryption"]
    return (
        flow["last_seen"],
        _address(flow["client"]),
        _address(flow["server"]),
        flow["protocol"],
        encryption_told(encryption["status"], filter(None, [encryption["version"]])),
        verdict_of(flow),
        flow["client_bytes"] + flow["server_bytes"],
        flow["state"],
    )


def _address(end: Row) -> str:
    name = end["workload"] or end["name"] or end["address"]
    return name if end["port"] is None else f"{name}:{end['port']}"


@click.command()
@filters("workload", "host", "namespace", "address", "edge", "port", "protocol", "encryption")
@filters("version", "server_name", "verdict", "flow_state", "since", "until", "where", "limit")
@click.option(
    "--export", type=click.Path(path_type=Path), help="All that fit: .csv .jsonl .parquet"
)
@click.option("--follow", is_flag=True, help="Print new ones as they come, until interrupted.")
@json_option
def flows(*, as_json: bool, follow: bool, export: Path | None, **given: Any) -> None:
    """Conversations, newest first; with --follow each one when it changes."""
    given["where"] = " and ".join(given["where"]) or None
    if export is not None:
        if follow or given.pop("limit"):
            raise UsageError(
                "--export takes neither --follow nor --limit", "all that fit are written"
            )
        format = export.suffix.removeprefix(".")
        fleet().save("flows/export", {**given, "format": format}, export)
        return
    if not follow:
        given["limit"] = given["limit"] or 100
        show("flows", given, as_json=as_json, headings=FLOW_HEADINGS, row=_flow_row)
        return
    given["limit"] = given["limit"] or 1000
    for flow in followed(fleet(), given):
        if as_json:
            print_json(flow)
        else:
            click.echo(table(("",) * len(FLOW_HEADINGS), [_flow_row(flow)]).strip())


def followed(source: Remote, parameters: Mapping[str, Any]) -> Iterator[Row]:
    """Each flow when it is first seen or has grown, oldest first, until the stream ends."""
    seen: dict[tuple[object, ...], object] = {}
    for _ in source.changes():
        for flow in reversed(source.get("flows", parameters)["flows"]):
            key = _key(flow)
            if seen.get(key) != flow["last_seen"]:
                seen.pop(key, None)
                seen[key] = flow["last_seen"]
                yield flow
        for key in list(seen)[: max(0, len(seen) - SEEN)]:
            del seen[key]


def _key(flow: Row) -> tuple[object, ...]:
    ends: Iterable[Row] = (flow["client"], flow["server"])
    return (
        flow["protocol"],
        flow["host"],
        flow["reporter"],
        flow["first_seen"],
        *((end["address"], end["port"]) for end in ends),
    )
