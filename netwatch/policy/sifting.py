"""Sifts what was seen: calls that prove how things should be, and the others with the reason.

Semantics, section 6: what is denied, unanswered, guessed, scanned or under an alert is never
evidence. It is set aside and listed, never dropped in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.policy.evidence import Call
from netwatch.policy.ir import Party

PORTED = frozenset({"tcp", "udp", "sctp"})
SCANNED_AT_LEAST = 10
"""Different calls that nobody answered: a scan, if they are most of what the source did."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A call that teaches nothing, and why."""

    call: Call
    why: str


def sift(
    calls: Sequence[Call], suspects: frozenset[str], outcasts: frozenset[str] = frozenset()
) -> tuple[list[Call], list[Aside]]:
    """Calls that teach, and the others with the reason why not."""
    scanners = _scanners(calls)
    kept: list[Call] = []
    aside: list[Aside] = []
    for call in calls:
        why = _why_not(call, suspects, outcasts)
        if why is None and name_of(call.source) in scanners:
            why = f"{name_of(call.source)} scans: most of its calls were never answered"
        if why is None:
            kept.append(call)
        else:
            aside.append(Aside(call, why))
    return kept, aside


def _why_not(call: Call, suspects: frozenset[str], outcasts: frozenset[str]) -> str | None:
    ends = (call.source.workload, call.destination.workload)
    cast_out = next((w.key for w in ends if w is not None and w.identity in outcasts), None)
    reasons = (
        (call.unclear is not None, call.unclear or ""),
        (call.id in suspects, "it is under an open alert"),
        (cast_out is not None, f"{cast_out} is in quarantine, or its identity in question"),
        (call.direction == "guessed", "nothing proves who called whom"),
        (call.verdict == "deny", "it was denied"),
        (call.verdict == "violated", "it broke what its rule demands"),
        (not call.answered, "nobody answered"),
        (call.protocol not in PORTED, f"a rule for {call.protocol} would allow every port"),
        (not call.port, "its port is not known"),
        (_has_no_name(call.source) or _has_no_name(call.destination), "an end has no address"),
    )
    return next((why for holds, why in reasons if holds), None)


def _has_no_name(party: Party) -> bool:
    return party.workload is None and party.address is None and not party.host


def name_of(party: Party) -> str:
    """What a person calls this end."""
    if party.workload is not None:
        return party.workload.key
    return "the host" if party.host else party.address or "nobody"


def _scanners(calls: Iterable[Call]) -> frozenset[str]:
    answered: dict[str, int] = defaultdict(int)
    silent: dict[str, int] = defaultdict(int)
    for call in calls:
        (answered if call.answered else silent)[name_of(call.source)] += 1
    return frozenset(
        name
        for name, count in silent.items()
        if count >= SCANNED_AT_LEAST and count > answered[name]
    )
