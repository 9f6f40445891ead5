"""How one end judged a call, and the sentence that tells a person about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from netwatch.policy.ir import LINK_ENCRYPTED, Decision, Party, Policy, Rule


class Direction(StrEnum):
    """Which rules of a workload judge: its ingress as destination, its egress as source."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Isolation:
    """The documents that isolate a workload, for each direction; none means not isolated."""

    ingress: tuple[Policy, ...] = ()
    egress: tuple[Policy, ...] = ()


class Clause(NamedTuple):
    """One rule with its document; `rank` orders the clauses of all documents."""

    rank: int
    policy: Policy
    rule: Rule


class Judgement(NamedTuple):
    """How one end judges. `clause` None: no rule decided, but isolation or its absence."""

    permits: bool
    clause: Clause | None
    isolating: tuple[Policy, ...]


def title(party: Party) -> str:
    """What a person calls this end."""
    if party.workload is not None:
        suffix = " (in the host's network)" if party.workload.host_network else ""
        return f"{party.workload.key}{suffix}"
    return "the host" if party.host else party.address or "an unknown address"


def denied(
    judged: Judgement,
    side: str,
    source: str,
    destination: str,
    what: str,
    *,
    also: tuple[Policy, ...] = (),
) -> Decision:
    """The denial by one end, `side`; `also` are the documents that isolate the other end."""
    call = f"{source} to {destination} on {what}"
    isolated = bool(judged.isolating or also)
    if judged.clause is not None:
        policy, rule = judged.clause.policy, judged.clause.rule
        reason = f"{policy.title} denies {call} ({rule.place})"
        return Decision("deny", reason, policy, rule, side, isolated)
    policy = judged.isolating[0]
    if side == "source":
        reason = f"{policy.title} isolates the egress of {source}"
    else:
        reason = f"{policy.title} isolates the ingress of {destination}"
    reason = f"{reason}, and no rule allows {call} ({policy.place})"
    return Decision("deny", reason, policy, None, side, isolated)


def allowed(out: Judgement, into: Judgement, source: str, destination: str, what: str) -> Decision:
    """The permission of both ends; the destination's rule is named where it has one."""
    call = f"{source} to {destination} on {what}"
    isolated = bool(out.isolating or into.isolating)
    clause = into.clause or out.clause
    if clause is None:
        if isolated:
            reason = f"only NetworkPolicy objects isolate {destination}, so the host may in"
        else:
            reason = f"no policy isolates {source} or {destination} for this call"
        return Decision("allow", reason, isolated=isolated)
    demanding = [
        judged.clause.rule
        for judged in (out, into)
        if judged.clause is not None
        and judged.clause.rule.obligation not in (None, LINK_ENCRYPTED)
    ]
    obligations = tuple(dict.fromkeys(rule.obligation or "" for rule in demanding))
    strict = any(rule.strict for rule in demanding)
    policy, rule = clause.policy, clause.rule
    word = "makes an exception for" if rule.exception else "allows"
    reason = f"{policy.title} {word} {call} ({rule.place})"
    return Decision("allow", reason, policy, rule, None, isolated, obligations, strict)
