"""A draft of policies against what was seen: what would have gone on, and who would break.

Documents of every mode take part: a replay is what observing is for. The same draft, world and
evidence give the same answer and the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

from netwatch.policy.evaluate import Judge
from netwatch.policy.evidence import Call, Evidence
from netwatch.policy.ir import Decision, Mode, Place, Policy, Rule, World
from netwatch.policy.judgement import title

OUTCOMES = ("escaped", "misdropped", "uncertain", "rejected", "permitted")
CHANGED = frozenset({"escaped", "misdropped"})
ALL_MODES = frozenset(Mode)
_NOWHERE = Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One call replayed.

    `outcome`: permitted (allowed then and by the draft), escaped (allowed then, the draft denies),
    rejected (denied by both), misdropped (denied then, the draft allows), uncertain.
    """

    call: Call
    outcome: str
    was: str
    will: str
    reason: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Broken:
    """A workload that loses calls it made or took. Times are nanoseconds."""

    name: str
    calls: int
    connections: int
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class Replay:
    """`id` names draft, world and evidence; rows stand in the order of OUTCOMES."""

    id: str
    rows: tuple[Row, ...]
    breaks: tuple[Broken, ...]
    dropped: int

    def counts(self) -> dict[str, int]:
        """Calls by outcome, every outcome present."""
        return {o: sum(row.outcome == o for row in self.rows) for o in OUTCOMES}


def replay(
    draft: Sequence[Policy],
    world: World,
    evidence: Evidence,
    *,
    now: int,
    before: Sequence[Policy] | None = None,
) -> Replay:
    """Every call judged by the draft as it would be at `now`.

    What happened is the verdict that was recorded; where `before` is given, it judges instead.
    A call without either counts as allowed, for it was seen.
    """
    judge = Judge(draft, world, ALL_MODES)
    past = Judge(before, world) if before is not None else None
    rows = [_row(call, judge, past, now) for call in evidence.calls]
    rows.sort(key=lambda row: (OUTCOMES.index(row.outcome), -row.call.connections, row.call.id))
    return Replay(
        _id(draft, before, world, evidence, now), tuple(rows), _breaks(rows), evidence.dropped
    )


def _row(call: Call, judge: Judge, past: Judge | None, now: int) -> Row:
    question = (call.source, call.destination, call.protocol, call.port)
    decision = judge.decide(*question, now=now)
    was = call.verdict or "allow"
    was = "allow" if was == "violated" else was  # the packets passed
    if past is not None:
        was = past.decide(*question, now=now).verdict
    will, reason, unsure = decision.verdict, decision.reason, call.unclear
    if call.direction == "guessed":
        unsure = unsure or "nothing proves who called whom"
    if will == "allow" and decision.obligations:
        demands = ", ".join(decision.obligations)
        if call.encryption == "plaintext":
            will, reason = "deny", f"it was plaintext, and must be {demands}"
        elif call.encryption == "unknown":
            unsure = unsure or f"it must be {demands}, and how it is encrypted is not known"
    if unsure:
        return Row(call, "uncertain", was, will, unsure, decision)
    outcome = {
        ("allow", "allow"): "permitted",
        ("allow", "deny"): "escaped",
        ("deny", "deny"): "rejected",
        ("deny", "allow"): "misdropped",
    }.get((was, will), "uncertain")
    return Row(call, outcome, was, will, reason, decision)


def _breaks(rows: Iterable[Row]) -> tuple[Broken, ...]:
    """Both ends of every escaped call, whoever loses most connections first."""
    lost: dict[str, list[Call]] = {}
    for row in rows:
        if row.outcome == "escaped":
            for party in (row.call.source, row.call.destination):
                if party.workload is not None:
                    lost.setdefault(title(party), []).append(row.call)
    found = [
        Broken(
            name,
            len(calls),
            sum(call.connections for call in calls),
            min(call.first_seen for call in calls),
            max(call.last_seen for call in calls),
        )
        for name, calls in lost.items()
    ]
    return tuple(sorted(found, key=lambda broken: (-broken.connections, broken.name)))


def _id(
    draft: Sequence[Policy],
    before: Sequence[Policy] | None,
    world: World,
    evidence: Evidence,
    now: int,
) -> str:
    """A hash of everything that the answer depends on, and of nothing else.

    Of the time only which rules have expired; of the documents not where they are written.
    """
    workloads = sorted(
        _stable((w.identity, tuple(sorted(w.label_values().items())), w.addresses, w.ports))
        for w in world.workloads
    )
    world_parts = (world.namespaces, world.networks, world.host_addresses, world.names)
    parts = [
        *sorted(_stable(_lasting(policy, now)) for policy in draft),
        "before",
        *sorted(_stable(_lasting(policy, now)) for policy in before or ()),
        repr(before is None),
        *workloads,
        *(_stable(tuple(sorted(part))) for part in world_parts),
        *(_stable(_told(call)) for call in evidence.calls),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _told(call: Call) -> tuple[object, ...]:
    return (
        call.id,
        call.source.address,
        call.destination.address,
        call.connections,
        call.first_seen,
        call.last_seen,
        call.direction,
        call.verdict,
        call.encryption,
        call.unclear,
    )


def _lasting(policy: Policy, now: int) -> Policy:
    """The document without places, modes and reasons, and without the rules that have expired."""
    ingress, egress = (
        tuple(_bare(rule) for rule in rules if rule.expires is None or now < rule.expires)
        for rules in (policy.ingress, policy.egress)
    )
    return replace(policy, place=_NOWHERE, mode=Mode.OBSERVE, ingress=ingress, egress=egress)


def _bare(rule: Rule) -> Rule:
    return replace(rule, place=_NOWHERE, expires=None, because=None, owner=None, ticket=None)


def _stable(value: object) -> str:
    """Like repr, but sets in order: that of a frozenset differs from run to run."""
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_stable, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_stable, value))})"
    if not is_dataclass(value):
        return repr(value)
    inner = ", ".join(f"{f.name}={_stable(getattr(value, f.name))}" for f in fields(value))
    return f"{type(value).__name__}({inner})"
