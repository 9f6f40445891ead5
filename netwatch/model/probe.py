"""What netwatch tried itself: where probes come from, and where kernel and policies disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339

# Above Linux's default ip_local_port_range (32768 to 60999), so that no ordinary client is there.
PORTS = range(61_000, 65_536)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One call whose fate in the kernel is not what the documents say; ends are `Peer.id`s.

    `kind`: false-allow (denied by the documents, and it got through) or false-deny. `result` is
    open, refused or filtered. `document`, `file` and `line` name who decides; `segment` is the
    document that was being proven. `at` is nanoseconds since the epoch.
    """

    kind: str
    source: str
    destination: str
    address: str
    protocol: str
    port: int
    result: str
    segment: str
    document: str | None = None
    file: str | None = None
    line: int | None = None
    at: int = 0


def disagreement_as_json(found: Disagreement) -> dict[str, Any]:
    """The object of a finding's evidence and of `netwatch hosts --json`."""
    return {
        "kind": found.kind,
        "source": found.source,
        "destination": found.destination,
        "address": found.address,
        "protocol": found.protocol,
        "port": found.port,
        "result": found.result,
        "segment": found.segment,
        "document": found.document,
        "file": found.file,
        "line": found.line,
        "at": rfc3339(found.at),
    }
