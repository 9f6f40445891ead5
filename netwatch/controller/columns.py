"""How rows of the flow history become flows and halves of edges; arrived.py makes the rows.

Kept beside history.py, which alone runs the SQL. A missing port is -1 in every table: a number
column of numpy has no null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import msgspec

from netwatch.controller.records import FlowQuery
from netwatch.model.errors import UsageError
from netwatch.model.flow import Encryption, Endpoint, Flow, Process, Tunnel
from netwatch.model.link import Link

NO_PORT = -1
NAMERS = ("sni", "http", "dns")  # who may name a server outside; groups are added when asked for
_ENCRYPTION = ("unknown", "encrypted", "unknown", "plaintext")  # by rank, see history.py
# By rank: an edge is as good as the worst of its flows, so `max` finds it. Never reordered.
LINKS = (
    *("proven wireguard", "proven ipsec", "proven overlay"),
    *("claimed wireguard", "claimed ipsec", "claimed overlay"),
    *("unknown", "none"),
)


class _Details(msgspec.Struct, array_like=True, frozen=True):
    """What only single flows keep. New fields come last: rows of older versions lack them."""

    encryption: Encryption
    vlan: tuple[int, ...] = ()
    tunnel: tuple[Tunnel, ...] = ()
    client_process: Process | None = None
    server_process: Process | None = None
    link: Link | None = None
    server_name: tuple[str, str] | None = None


_details = msgspec.json.Decoder(_Details)

CONVERSATIONS = """
select connection, any_value(source), any_value(destination), any_value(protocol),
    any_value(host), any_value(reporter), any_value(client_address), any_value(client_port),
    any_value(server_address), any_value(server_port), any_value(original_address),
    max(original_port), min(first_seen), max(seen), sum(client_packets), sum(server_packets),
    sum(client_bytes), sum(server_bytes), sum(client_payload), sum(server_payload),
    sum(connections), arg_max(state, seen), arg_max(application, seen),
    if(bool_or(direction = 'seen'), 'seen', 'guessed'),
    coalesce(arg_max(details, seen) filter (encryption <> 'unknown'), arg_max(details, seen)),
    arg_max(verdict, seen), arg_max(staged, seen)
from flows where {where} group by connection
"""


@dataclass(frozen=True, slots=True)
class Named:
    """A flow with the identities of both ends and the port that its edge has."""

    flow: Flow
    source: str
    destination: str
    port: int | None
    original_port: int | None


@dataclass(frozen=True, slots=True)
class Half:
    """What one side (client or server) reported of an edge in a period. Ends are `Peer.id`s."""

    side: str
    source: str
    destination: str
    protocol: str
    port: int | None
    original_port: int | None
    connections: int
    packets: int
    bytes: int
    first_seen: int
    last_seen: int
    encryption: str
    direction: str
    versions: tuple[str, ...]
    applications: tuple[str, ...]
    states: tuple[str, ...]
    verdict: str | None
    staged: str | None
    link: str | None = None
    name: tuple[str, str] | None = None


def half(row: Sequence[Any]) -> Half:
    """A row of history's rolled columns as one side of an edge."""
    states, applications, versions = _kinds(row[15])
    # A guess beside a proven conversation changes nothing; proof of another kind of packet
    # (a SYN without answer) does not prove who served one that was answered.
    answered = "established" in states or "reset" in states
    seen = row[13] if answered else row[14]
    return Half(
        side=row[1],
        source=row[2],
        destination=row[3],
        protocol=row[4],
        port=_port(row[5]),
        original_port=_port(row[6]),
        connections=int(row[7]),
        packets=int(row[8]),
        bytes=int(row[9]),
        first_seen=row[10],
        last_seen=row[11],
        encryption=_ENCRYPTION[row[12]],
        direction="seen" if seen else "guessed",
        versions=versions,
        applications=applications,
        states=states,
        verdict=row[16],
        staged=row[17],
        link=None if row[18] is None else LINKS[row[18]],
        name=_name(row[19]),
    )


@lru_cache(maxsize=4_096)
def _kinds(text: str) -> tuple[tuple[str, ...], ...]:
    """States, applications and versions of history's `kinds`; most edges share a few texts."""
    triples = [kind.split("\x1f") for kind in text.split("\x1e")]
    found = zip_longest(*triples, fillvalue="")
    return tuple(tuple(sorted(set(column) - {""})) for column in found)[:3]


def _name(text: str | None) -> tuple[str, str] | None:
    """(name, who named it)."""
    if text is None:
        return None
    by, _, name = text.partition(" ")
    return name, by


def _port(number: int) -> int | None:
    return None if number == NO_PORT else number


def flow_of(row: Sequence[Any]) -> Flow:
    """A row of CONVERSATIONS as a flow."""
    details = _details.decode(row[24])
    name, named_by = details.server_name or (None, None)
    original = None
    if row[10] is not None:
        original = Endpoint(row[10], _port(row[11]))
    return Flow(
        client=Endpoint(row[6], _port(row[7]), _workload(row[1]), details.client_process),
        server=Endpoint(
            row[8], _port(row[9]), _workload(row[2]), details.server_process, name, named_by
        ),
        protocol=row[3],
        host=row[4],
        reporter=row[5],
        original=original,
        first_seen=row[12],
        last_seen=row[13],
        client_packets=int(row[14]),
        server_packets=int(row[15]),
        client_bytes=int(row[16]),
        server_bytes=int(row[17]),
        client_payload_bytes=int(row[18]),
        server_payload_bytes=int(row[19]),
        connections=int(row[20]),
        state=row[21],
        application=row[22],
        direction=row[23],
        encryption=details.encryption,
        vlan=details.vlan,
        tunnel=details.tunnel,
        verdict=row[25],
        staged=row[26],
        link=details.link,
    )


def alike_of(row: Sequence[Any]) -> Flow:
    """A row of statements.ALIKE as one flow that stands for all that are alike."""
    return Flow(
        client=Endpoint(row[1], None, _workload(row[0])),
        server=Endpoint(row[3], _port(row[5]), _workload(row[2])),
        protocol=row[4],
        reporter=row[6],
        state=row[7],
        direction=row[8],
        encryption=Encryption(row[9]),
        verdict=row[10],
        first_seen=row[11],
        last_seen=row[12],
        connections=int(row[13]),
    )


def _workload(id: str) -> str | None:
    return None if id.startswith(("host:", "external:")) else id


def where_of(query: FlowQuery) -> tuple[str, list[Any]]:
    """What a single delta must fulfil; raises UsageError for an edge id that is none."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.workload is not None:
        conditions.append("(source = ? or destination = ?)")
        values += [query.workload, query.workload]
    if query.edge is not None:
        condition, more = _edge(query.edge)
        conditions.append(condition)
        values += more
    for condition, value in (
        ("seen >= ?", query.since),
        ("seen < ?", query.until),
        ("port = ?", query.port),
        ("protocol = ?", query.protocol),
        ("reporter = ?", query.reporter),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return " and ".join(conditions) or "true", values


def having_of(query: FlowQuery) -> tuple[str, list[Any]]:
    """What a whole conversation must fulfil; raises UsageError for a cursor that is none."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.encryption is not None:
        known = "max(encryption) filter (encryption <> 'unknown')"
        conditions.append(f"coalesce({known}, 'unknown') = ?")
        values.append(query.encryption)
    if query.verdict is not None:
        conditions.append("arg_max(verdict, seen) = ?")
        values.append(query.verdict)
    if query.cursor is not None:
        newest, _, connection = query.cursor.partition("-")
        if not (newest.isdecimal() and connection.isdecimal() and len(query.cursor) < 48):
            raise UsageError("the cursor is not one that an answer before gave")
        conditions.append("(newest < ? or (newest = ? and connection < ?))")
        values += [int(newest), int(newest), int(connection)]
    return " and ".join(conditions) or "true", values


def _edge(id: str) -> tuple[str, list[Any]]:
    ends, _, service = id.rpartition(":")
    protocol, _, port = service.partition("/")
    parts = ends.split(">")
    if not (port == "None" or (port.isdecimal() and len(port) < 6)) or not 2 <= len(parts) <= 16:
        raise UsageError(f"{id!r} is no edge id", "take one from `netwatch edges --json`")
    # A name may itself contain ">": every place where the two ends may part is tried.
    pairs = [(">".join(parts[:n]), ">".join(parts[n:])) for n in range(1, len(parts))]
    either = " or ".join("(source = ? and destination = ?)" for _ in pairs)
    number = NO_PORT if port == "None" else int(port)
    values = [end for pair in pairs for end in pair]
    return f"({either}) and protocol = ? and port = ?", [*values, protocol, number]
