"""A host as the controller knows it: when its agent spoke last, how it sees, what it missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.link import Links, links_as_json
from netwatch.model.policy_version import NO_DOCUMENTS
from netwatch.model.probe import disagreement_as_json
from netwatch.model.repair import repair_as_json
from netwatch.model.report import Capture, Enforcement
from netwatch.model.times import rfc3339


@dataclass(frozen=True, slots=True)
class HostState:
    """Times are nanoseconds since the epoch, by the controller's clock.

    `first_report` and `last_report` are None for a host that was enrolled and never reported.
    `clock_skew` is the agent's clock minus the controller's, in nanoseconds, the way of the report
    included; `skewed` says that it is large and lasts. `interval` is the length of the last
    report, in nanoseconds. `losses` are totals.
    `wanted` is the hash of the policies that the controller wants in force, None for no wish.
    """

    host: str
    version: str = ""
    enrolled: int | None = None
    first_report: int | None = None
    last_report: int | None = None
    silent: bool = False
    capture: Capture = Capture()
    enforcement: Enforcement = Enforcement()
    losses: tuple[tuple[str, int], ...] = ()
    clock_skew: int = 0
    skewed: bool = False
    interval: int = 0
    workloads: int = 0
    addresses: tuple[str, ...] = ()
    wanted: str | None = None
    links: Links = Links()


def host_as_json(host: HostState) -> dict[str, Any]:
    """The object of `netwatch hosts --json` and `/api/v1/hosts`."""
    capture, enforcement = host.capture, host.enforcement
    return {
        "host": host.host,
        "version": host.version or None,
        "enrolled": rfc3339(host.enrolled),
        "first_report": rfc3339(host.first_report),
        "last_report": rfc3339(host.last_report),
        "silent": host.silent,
        "capture": {
            "method": capture.method,
            "interfaces": list(capture.interfaces),
            "problem": capture.problem,
        },
        "enforcement": {
            "backend": enforcement.backend,
            "digest": enforcement.digest,
            "enforced": list(enforcement.enforced),
            "staged": list(enforcement.staged),
            "drift": list(enforcement.drift),
            "problem": enforcement.problem,
            "quarantined": list(enforcement.quarantined),
            "totals": dict(enforcement.totals),
            "proven": enforcement.proven,
            "proven_at": rfc3339(enforcement.proven_at),
            "unproven": [disagreement_as_json(each) for each in enforcement.unproven],
            "repairs": [repair_as_json(each) for each in enforcement.repairs],
            "policies": enforcement.policies,
            "mode": enforcement.mode,
            "pending": enforcement.pending,
        },
        "wanted": host.wanted,
        "differs": host.wanted is not None
        and host.wanted != (enforcement.policies or NO_DOCUMENTS),
        "losses": dict(host.losses),
        "clock_skew_ms": host.clock_skew / 1e6,
        "skewed": host.skewed,
        "workloads": host.workloads,
        "addresses": list(host.addresses),
        "links": links_as_json(host.links),
    }
