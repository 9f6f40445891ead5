"""What an agent tells its controller, once per interval; and how much of the truth it missed."""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.model.denial import Denial
from netwatch.model.flow import Flow
from netwatch.model.learned import LearnedName
from netwatch.model.link import Links
from netwatch.model.probe import Disagreement
from netwatch.model.repair import Repair
from netwatch.model.workload import Workload

SCHEMA = 1  # raised when a field changes its meaning; the controller refuses what it does not know


@dataclass(frozen=True, slots=True)
class Capture:
    """How a host sees: `method` is tcx, clsact, conntrack or none; `interfaces` are attached."""

    method: str = "none"
    interfaces: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What is really in the kernel of a host, as it was read back; `digest` of the ruleset.

    `policies` is the hash of the documents in force (policy_version.digest_of), None for none.
    `mode` is enforce where the controller's policies are given force, else observe. `pending`:
    they are undone unless they are confirmed. `totals` are packets by kind of denial, exact, since
    an agent of this host began to count. Of the last round of canaries, at `proven_at`, `proven`
    calls did what the documents say and `unproven` did not. `repairs` are the last changes by
    others that were undone.
    """

    backend: str | None = None
    digest: str | None = None
    enforced: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    problem: str | None = None
    quarantined: tuple[str, ...] = ()
    policies: str | None = None
    mode: str = "observe"
    pending: bool = False
    totals: tuple[tuple[str, int], ...] = ()
    proven: int = 0
    proven_at: int | None = None
    unproven: tuple[Disagreement, ...] = ()
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One interval of one host. (`host`, `boot`, `sequence`) names it, so a retry is harmless.

    `flows` hold what was counted since the report before, not totals. `losses` are (reason, count)
    pairs of the same interval: what was seen and dropped, or could not be seen. `denials` are a
    sample too: rules log at most some of what they refuse. `names` were learned or renewed since
    the report before; `links` are the host's tunnels as they were read last.
    """

    host: str
    boot: str
    sequence: int
    started: int
    ended: int
    workloads: tuple[Workload, ...] = ()
    flows: tuple[Flow, ...] = ()
    losses: tuple[tuple[str, int], ...] = ()
    capture: Capture = Capture()
    enforcement: Enforcement = Enforcement()
    addresses: tuple[str, ...] = ()
    version: str = ""
    schema: int = SCHEMA
    denials: tuple[Denial, ...] = ()
    names: tuple[LearnedName, ...] = ()
    links: Links = Links()
