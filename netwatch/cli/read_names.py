"""Whose address it is, for `netwatch read --workloads`.

A capture may be older than the list: a name says who has the address in the list, no more. An
address that several workloads have (those in the host's network) names none of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from netwatch.cli.fleet import remote
from netwatch.model.errors import InvalidDocument
from netwatch.model.flow import Endpoint, Flow

_LARGEST = 64 << 20
_HINT = (
    "give a WORLD file, what `netwatch workloads --json` prints, or a controller's state folder"
)


def names_of(source: Path) -> dict[str, str]:
    """Identities by address, from a file or from the controller whose state folder it is.

    Raises InvalidDocument where the file is no list of workloads, and Unreachable.
    """
    found: dict[str, str] = {}
    shared: set[str] = set()
    for row in _pages(source) if source.is_dir() else _listed(source):
        name = _identity(row, source)
        for text in row.get("addresses", ()):
            address = _address(text, source)
            if found.setdefault(address, name) != name:
                shared.add(address)
    return {address: name for address, name in found.items() if address not in shared}


def named(flow: Flow, names: Mapping[str, str]) -> Flow:
    """The flow, with the workloads of its ends where they are known."""
    return replace(flow, client=_end(flow.client, names), server=_end(flow.server, names))


def _end(end: Endpoint, names: Mapping[str, str]) -> Endpoint:
    return Endpoint(end.address, end.port, names.get(end.address))


def _pages(state: Path) -> Iterator[Mapping[str, Any]]:
    controller, cursor = remote({}, state), None
    while True:
        answer = controller.get("workloads", {"cursor": cursor})
        yield from answer["workloads"]
        cursor = answer["next"]
        if cursor is None:
            return


def _listed(file: Path) -> list[Mapping[str, Any]]:
    try:
        with file.open("rb") as stream:
            data = json.loads(stream.read(_LARGEST))
    except OSError as error:
        raise InvalidDocument(
            f"can not be read: {error.strerror}", _HINT, file=str(file)
        ) from None
    except ValueError:
        raise InvalidDocument("is no JSON", _HINT, file=str(file)) from None
    rows = data.get("workloads") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidDocument("has no list of workloads", _HINT, file=str(file))
    return rows


def _identity(row: Mapping[str, Any], source: Path) -> str:
    parts = [row.get("host"), row.get("namespace"), row.get("name")]
    whole = row.get("identity") or "/".join(part for part in parts if isinstance(part, str))
    if not isinstance(whole, str) or not whole:
        raise InvalidDocument("a workload has no name", _HINT, file=str(source))
    return whole


def _address(text: object, source: Path) -> str:
    try:
        given = str(text)
        return str(ip_interface(given).ip if "/" in given else ip_address(given))
    except ValueError:
        raise InvalidDocument(
            f"{text!r} is no address of a workload", _HINT, file=str(source)
        ) from None
