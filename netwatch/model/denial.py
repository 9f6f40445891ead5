"""What the kernel refused, or would have refused: counted by who, to whom and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339

KINDS = ("denied", "would-deny", "unknown", "quarantined", "spoofed")


@dataclass(frozen=True, slots=True)
class Denial:
    """Packets from `source` to a port of `destination`, both by `Peer.id`.

    `kind`: denied, would-deny (a staged document), unknown (a source that no workload has, on a
    closed network), quarantined or spoofed (frames of a workload that are not its own: `source` is
    whose port sent them, `claimed` the address that they named). `document`, `file` and `line`
    name the rule that decided or the document that isolates. `count` is what was heard: rules log
    a sample, never more than they met. `first` and `last` are nanoseconds since the epoch.
    """

    source: str
    destination: str
    protocol: str
    port: int | None
    kind: str
    document: str | None = None
    file: str | None = None
    line: int | None = None
    count: int = 1
    first: int = 0
    last: int = 0
    claimed: str | None = None


def denial_as_json(denial: Denial) -> dict[str, Any]:
    """The object of `netwatch host denials --json` and of a finding's evidence."""
    return {
        "source": denial.source,
        "destination": denial.destination,
        "protocol": denial.protocol,
        "port": denial.port,
        "kind": denial.kind,
        "document": denial.document,
        "file": denial.file,
        "line": denial.line,
        "count": denial.count,
        "first": rfc3339(denial.first),
        "last": rfc3339(denial.last),
        "claimed": denial.claimed,
    }
