"""How the flows of a report become columns of DuckDB's `flows`; columns.py reads them back.

10,000 flows are some 10 MB of small objects, more than a core has at hand, and to fetch them costs
more than what is done with them. So they are gone through once, a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np

from netwatch.controller.columns import LINKS, NAMERS, NO_PORT, Named
from netwatch.dissect.dns import host_name
from netwatch.model.flow import Encryption, Flow, Process
from netwatch.model.link import Link

BLOCK = 256  # flows; from 128 to 1,000 were as fast
_TEXTS = ("source", "destination", "client_address", "server_address", "original_address")
_PORTS = ("port", "client_port", "server_port", "original_port")
_NUMBERS = (
    *("seen", "first_seen", "client_packets", "server_packets", "client_bytes", "server_bytes"),
    *("client_payload", "server_payload", "connections"),
)

_ENCRYPTION = tuple(field.name for field in fields(Encryption))
_encode = msgspec.json.Encoder().encode


def from_flows(named: Sequence[Named], *, latest: int) -> dict[str, Any]:
    """The columns of `flows` but host, batch and connection; no flow is newer than `latest`.

    Rows of a kind come side by side: DuckDB packs a text by those just before it, which are the
    same then. Raises OverflowError or ValueError for numbers that no counter has.
    """
    made = {name: np.empty(len(named), dtype=object) for name in _TEXTS}
    made |= {name: np.empty(len(named), dtype=np.int64) for name in (*_NUMBERS, *_PORTS)}
    encryptions: dict[tuple[Any, ...], int] = {}
    kinds: dict[tuple[Any, ...], int] = {}
    which = np.empty(len(named), dtype=np.int64)
    for start in range(0, len(named), BLOCK):
        block = named[start : start + BLOCK]
        here = slice(start, start + len(block))
        flows = [n.flow for n in block]
        which[here] = [kinds.setdefault(_kind(f, encryptions), len(kinds)) for f in flows]
        for name, values in (_ends(block, flows) | _counted(flows)).items():
            made[name][here] = values  # OverflowError beyond 64 bits
    _check(made)
    for name in ("seen", "first_seen"):
        made[name] = np.minimum(made[name], latest)
    order = np.argsort(which, kind="stable")
    made = {name: column[order] for name, column in made.items()}
    which = which[order]
    firsts = order[np.flatnonzero(np.diff(which, prepend=-1))]
    told = _told([named[n].flow for n in firsts], [kind[0] for kind in kinds], encryptions)
    return made | {name: column[which] for name, column in told.items()}


def _kind(flow: Flow, encryptions: dict[tuple[Any, ...], int]) -> tuple[Any, ...]:
    """All that it says beside who, when and how much: what few flows of a report differ in.

    Each flow's objects were decoded anew, so they are alike only by value; to compare these takes
    less time without the methods of their classes. The encryption is a number in `encryptions`,
    which have the order of _ENCRYPTION.
    """
    e, server, link = flow.encryption, flow.server, flow.link
    encryption = (
        e.status, e.proof, e.protocol, e.version, e.cipher, e.group, e.server_name, e.alpn_offered,
        e.alpn, e.ja3, e.ja3s, e.ja4, e.certificate, e.hassh, e.hassh_server, e.ech,
    )  # fmt: skip
    client_process, server_process = flow.client.process, server.process
    return (
        encryptions.setdefault(encryption, len(encryptions)),
        flow.protocol, flow.reporter, flow.state, flow.application, flow.direction, flow.verdict,
        flow.staged, server.name, server.named_by, flow.vlan, flow.tunnel,
        client_process and _process(client_process),
        server_process and _process(server_process),
        link and (link.status, link.kind, link.through, link.reason),
    )  # fmt: skip


def _process(p: Process) -> tuple[Any, ...]:
    return p.pid, p.exe, p.uid, p.user


def _told(
    kinds: Sequence[Flow], encrypted: Sequence[int], encryptions: Iterable[tuple[Any, ...]]
) -> dict[str, Any]:
    """The columns that are the same for all flows of a kind, by one flow of each.

    `encrypted` are their numbers in `encryptions`. These and the names are fewer than the kinds.
    """
    names = {end: _called(end) for end in {(f.server.name, f.server.named_by) for f in kinds}}
    called = [names[f.server.name, f.server.named_by] for f in kinds]
    written = [_known(encryption) for encryption in encryptions]
    found = {
        "protocol": [f.protocol for f in kinds],
        "reporter": [f.reporter for f in kinds],
        "state": [f.state for f in kinds],
        "application": [f.application for f in kinds],
        "direction": [f.direction for f in kinds],
        "encryption": [f.encryption.status for f in kinds],
        "version": [f.encryption.version for f in kinds],
        "details": [
            _details(written[n], f, name)
            for n, f, name in zip(encrypted, kinds, called, strict=True)
        ],
        "verdict": [f.verdict for f in kinds],
        "staged": [f.staged for f in kinds],
        "name": [f"{name[1]} {name[0]}" if name else None for name in called],
    }
    texts = {name: np.array(values, dtype=object) for name, values in found.items()}
    return texts | {"link": _ranks([f.link for f in kinds])}


def _known(encryption: tuple[Any, ...]) -> msgspec.Raw:
    """Of an encryption what is known, as JSON."""
    pairs = zip(_ENCRYPTION, encryption, strict=True)
    return msgspec.Raw(_encode({k: v for k, v in pairs if v is not None and v != ()}))


def _details(encryption: msgspec.Raw, flow: Flow, called: tuple[str, str] | None) -> str:
    """What columns.flow_of reads."""
    ends = (flow.client.process, flow.server.process)
    return _encode((encryption, flow.vlan, flow.tunnel, *ends, flow.link, called)).decode()


def _ends(named: Sequence[Named], flows: Sequence[Flow]) -> dict[str, list[Any]]:
    return {
        "source": [n.source for n in named],
        "destination": [n.destination for n in named],
        "client_address": [f.client.address for f in flows],
        "server_address": [f.server.address for f in flows],
        "original_address": [f.original.address if f.original else None for f in flows],
        "port": [NO_PORT if n.port is None else n.port for n in named],
        "client_port": [NO_PORT if (p := f.client.port) is None else p for f in flows],
        "server_port": [NO_PORT if (p := f.server.port) is None else p for f in flows],
        "original_port": [NO_PORT if (p := n.original_port) is None else p for n in named],
    }


def _counted(flows: Sequence[Flow]) -> dict[str, list[int]]:
    return {
        "seen": [f.last_seen for f in flows],
        "first_seen": [f.first_seen for f in flows],
        "client_packets": [f.client_packets for f in flows],
        "server_packets": [f.server_packets for f in flows],
        "client_bytes": [f.client_bytes for f in flows],
        "server_bytes": [f.server_bytes for f in flows],
        "client_payload": [f.client_payload_bytes for f in flows],
        "server_payload": [f.server_payload_bytes for f in flows],
        "connections": [f.connections for f in flows],
    }


def _check(made: dict[str, Any]) -> None:
    for name in _NUMBERS:
        if (made[name] < 0).any():
            raise ValueError("a counter or a time is negative")
    for name in _PORTS:
        if ((made[name] < NO_PORT) | (made[name] > 65_535)).any():
            raise ValueError("a port is not between 0 and 65535")


def _ranks(links: Sequence[Link | None]) -> Any:
    """Ranks in LINKS; no link is null. A word that is none of ours is `unknown`."""
    none = LINKS.index("unknown")
    known = {text: rank for rank, text in enumerate(LINKS)}
    found = [known.get(_as_text(link), none) if link else 0 for link in links]
    return np.ma.masked_array(found, mask=[link is None for link in links], dtype=np.int8)


def _as_text(link: Link) -> str:
    return f"{link.status} {link.kind}" if link.kind else link.status


def _called(end: tuple[str | None, str | None]) -> tuple[str, str] | None:
    """(name, who said so), if it is a name and one of those who may: agents may lie."""
    name, told = host_name(end[0]), end[1]
    return (name, told) if name and told in NAMERS else None
