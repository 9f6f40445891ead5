"""Why a call is allowed or denied, and the least that would allow it.

The verdict is `decide`'s. The trace asks the same small questions in the same order and stops
where `decide` stopped; a fix is shown only after its text was read back and `decide` then allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netwatch.model.errors import NetwatchError
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload
from netwatch.policy.document import parse
from netwatch.policy.evaluate import ENFORCED, Judge
from netwatch.policy.ir import (
    LINK_ENCRYPTED,
    Action,
    Decision,
    HostPeer,
    Mode,
    NetworkPeer,
    Party,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Tier,
    WorkloadPeer,
    World,
)
from netwatch.policy.judgement import Direction, Judgement, title
from netwatch.policy.match import address_of, governs, is_host, peer_matches, port_matches
from netwatch.policy.naming import Naming
from netwatch.policy.short import named_namespace
from netwatch.policy.writing import as_text, port_text, rule_line

MAX_STEPS = 200
"""Rules told of one side; what is left out is counted."""
EXCEPTION_LASTS = 7 * 86_400 * SECOND
_PORTED = ("tcp", "udp", "sctp")


class Question(NamedTuple):
    """May `source` reach `destination` on this? `port` is the destination's, None for ICMP."""

    source: Party
    destination: Party
    protocol: str
    port: int | None

    @property
    def what(self) -> str:
        """`tcp/443`, `icmp`."""
        return self.protocol if self.port is None else f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the judgement. `outcome`: holds, misses, passes, permits or denies.

    `side` is source, destination, or both for a workload that calls itself.
    """

    side: str
    outcome: str
    text: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """A rule that would have allowed the call but for `because`."""

    policy: Policy
    rule: Rule
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """Documents that, added to the rest, allow the call; and the same as edits of what is there.

    `why_not` says in a sentence why there is none.
    """

    policies: tuple[Policy, ...] = ()
    text: str = ""
    edits: tuple[str, ...] = ()
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """`steps` in the order of judgement; `nearest` and `fix` only for a denial."""

    question: Question
    decision: Decision
    steps: tuple[Step, ...]
    omitted: int
    nearest: tuple[Near, ...] = ()
    fix: Fix | None = None


def explain(
    policies: Sequence[Policy],
    world: World,
    question: Question,
    *,
    now: int,
    modes: frozenset[Mode] = ENFORCED,
) -> Explanation:
    """The decision, the way to it, and for a denial what would change it."""
    judge = Judge(policies, world, modes)
    decision = judge.decide(*question, now=now)
    steps: list[Step] = []
    omitted = 0
    if decision.policy is None and not decision.isolated and _is_self(question):
        steps.append(Step("both", "permits", decision.reason))
    else:
        for direction in (Direction.EGRESS, Direction.INGRESS):
            told = _Side(judge, question, direction, now)
            mine = list(told.steps())
            steps.extend(mine[:1] + mine[max(1, len(mine) - MAX_STEPS) :])
            omitted += max(0, len(mine) - 1 - MAX_STEPS)
            if not told.judged.permits:
                break
    if decision.verdict != "deny":
        return Explanation(question, decision, tuple(steps), omitted)
    side = Direction.EGRESS if decision.side == "source" else Direction.INGRESS
    nearest = _Side(judge, question, side, now).nearest()
    fix = _fix(policies, world, question, now, modes)
    return Explanation(question, decision, tuple(steps), omitted, nearest, fix)


def _is_self(question: Question) -> bool:
    one, other = question.source.workload, question.destination.workload
    return one is not None and other is not None and one.identity == other.identity


class _Side:
    """One end's judgement, told."""

    def __init__(self, judge: Judge, question: Question, direction: Direction, now: int) -> None:
        self._judge, self._question, self._direction, self._now = judge, question, direction, now
        self._ingress = direction is Direction.INGRESS
        ends = question.source, question.destination
        self._subject, self._other = ends[::-1] if self._ingress else ends
        self._name = "destination" if self._ingress else "source"
        self.judged: Judgement = judge.side(
            direction, self._subject, self._other, question.protocol, question.port, now=now
        )

    def steps(self) -> Iterator[Step]:
        """What was asked, in order, up to what decided."""
        subject = title(self._subject)
        workload = self._subject.workload
        if workload is None or is_host(self._subject):
            text = f"{subject} is no workload of a policy: nothing judges its {self._direction}"
            yield Step(self._name, "passes", text)
            return
        yield self._isolation(subject)
        deciding = self.judged.clause
        passed: Tier | None = None
        for policy, rule in self._rules(workload):
            if policy.tier is passed or (
                deciding is None and policy.tier is Tier.BASELINE and self.judged.isolating
            ):
                continue
            if deciding is not None and rule is deciding.rule and policy is deciding.policy:
                outcome = "permits" if self.judged.permits else "denies"
                yield Step(self._name, outcome, f"{_said(policy, rule)} decides", rule.place)
                return
            missed = self._misses(policy, rule)
            if not missed and rule.action is Action.PASS:
                passed = policy.tier
            yield self._considered(policy, rule, missed)
        yield self._default(subject)

    def _considered(self, policy: Policy, rule: Rule, missed: Sequence[str]) -> Step:
        """A rule that did not decide."""
        if missed:
            text = f"{_said(policy, rule)}: {'; '.join(missed)}"
            return Step(self._name, "misses", text, rule.place)
        why = "the next tier decides" if rule.action is Action.PASS else "another rule decides"
        return Step(self._name, "holds", f"{_said(policy, rule)}: {why}", rule.place)

    def _isolation(self, subject: str) -> Step:
        isolating = self.judged.isolating
        if not isolating:
            text = f"no document isolates the {self._direction} of {subject}"
            return Step(self._name, "passes", text)
        names = ", ".join(policy.title for policy in isolating)
        text = f"{names} isolates the {self._direction} of {subject}"
        return Step(self._name, "holds", text, isolating[0].place)

    def _default(self, subject: str) -> Step:
        if not self.judged.permits:
            place = self.judged.isolating[0].place if self.judged.isolating else None
            text = f"no rule allows it, and the {self._direction} of {subject} is isolated"
            return Step(self._name, "denies", text, place)
        if self.judged.isolating:
            text = "only NetworkPolicy objects isolate it, so the host may in"
            return Step(self._name, "permits", text)
        return Step(self._name, "permits", "no rule denies it, and nothing isolates")

    def _rules(self, workload: Workload) -> list[tuple[Policy, Rule]]:
        """The rules of all documents that govern the workload, in the order of judgement."""
        found = [
            (policy, rule)
            for policy in self._judge.policies
            if governs(policy, workload, self._judge.world)
            for rule in (policy.ingress if self._ingress else policy.egress)
        ]
        return sorted(found, key=lambda pair: _stage(*pair))

    def _misses(self, policy: Policy, rule: Rule) -> list[str]:
        """Why the rule does not speak about this call; empty if it does."""
        question = self._question
        missed = []
        world = self._judge.world
        if rule.peers and not any(
            peer_matches(peer, policy.namespace, world, self._other) for peer in rule.peers
        ):
            missed.append(f"{title(self._other)} is not {_peers_said(rule.peers)}")
        target = question.destination.workload
        if rule.ports and not any(
            port_matches(spec, question.protocol, question.port, destination=target)
            for spec in rule.ports
        ):
            missed.append(f"{question.what} is not {_ports_said(rule.ports)}")
        if rule.expires is not None and self._now >= rule.expires:
            missed.append("it has expired")
        if rule.obligation == LINK_ENCRYPTED and not self._judge.linked(
            question.source, question.destination
        ):
            missed.append("no link between the two is known to encrypt")
        return missed

    def nearest(self) -> tuple[Near, ...]:
        """At most three allowing rules that miss least, the nearest first."""
        workload = self._subject.workload
        if workload is None:
            return ()
        found = [
            (self._distance(policy, rule, missed), Near(policy, rule, tuple(missed)))
            for policy, rule in self._rules(workload)
            if rule.action is Action.ALLOW and (missed := self._misses(policy, rule))
        ]
        found.sort(key=lambda pair: pair[0])
        return tuple(near for _, near in found[:3])

    def _distance(self, policy: Policy, rule: Rule, missed: Sequence[str]) -> tuple[int, int]:
        """The number of things it misses, then of the labels that the other end lacks."""
        return len(missed), min((self._lacks(policy, peer) for peer in rule.peers), default=0)

    def _lacks(self, policy: Policy, peer: PeerSpec) -> int:
        workload = self._other.workload
        if peer_matches(peer, policy.namespace, self._judge.world, self._other):
            return 0
        if workload is None or not isinstance(peer, WorkloadPeer):
            return 9
        labels = workload.label_values()
        lacking = sum(not r.holds(labels) for r in peer.workloads.requirements)
        near = policy.namespace in (None, workload.namespace)
        if peer.namespaces is not None:
            known = self._judge.world.namespace_labels(workload.namespace)
            near = peer.namespaces.matches(known)
        return lacking + (not near)


def _stage(policy: Policy, rule: Rule) -> tuple[int, int]:
    """When the rule is asked: by tier, and in it by priority, or by what the middle asks first."""
    tier = tuple(Tier).index(policy.tier)
    if policy.tier is not Tier.MIDDLE:
        return tier, policy.priority
    return tier, 0 if rule.exception else 1 if rule.action is Action.DENY else 2


def _said(policy: Policy, rule: Rule) -> str:
    word = "exception" if rule.exception else f"{rule.action} rule"
    named = f" {rule.name!r}" if rule.name else ""
    return f"{word}{named} of {policy.title}"


def _peers_said(peers: Sequence[PeerSpec]) -> str:
    try:
        line = rule_line(Rule(Place("", 1, 1), tuple(peers)), ingress=True)
    except NetwatchError:
        return "among its peers"
    return line.removeprefix("- {from: ").removesuffix("}")


def _ports_said(ports: Sequence[PortSpec]) -> str:
    return ", ".join(
        f"{text}/tcp" if isinstance(text, int) else text for text in map(port_text, ports)
    )


def _fix(
    policies: Sequence[Policy],
    world: World,
    question: Question,
    now: int,
    modes: frozenset[Mode],
) -> Fix:
    """One more rule for each side that denies, tried until `decide` allows."""
    made: list[Policy] = []
    edits: list[str] = []
    for _ in Direction:
        decision = Judge((*policies, *made), world, modes).decide(*question, now=now)
        if decision.verdict == "allow":
            break
        denying = decision.policy
        if denying is not None and decision.rule is not None and denying.tier is Tier.ADMIN:
            return Fix(why_not=f"no Segment overrides the Admin tier: {decision.reason}")
        policy, rule, ingress = _permission(world, question, decision, now)
        made.append(policy)
        edits.append(_edit(decision, rule, ingress=ingress))
    try:
        text = as_text(made)
        read = parse(text, "fix.yaml")
    except NetwatchError as error:
        return Fix(why_not=f"no rule can name both ends: {error.message}")
    after = Judge((*policies, *read), world, modes).decide(*question, now=now)
    if after.verdict != "allow":
        return Fix(why_not=f"no rule of a Segment changes this: {after.reason}")
    return Fix(read, text, tuple(edits))


def _permission(
    world: World, question: Question, decision: Decision, now: int
) -> tuple[Policy, Rule, bool]:
    """The narrowest document that permits the call on the side that denied."""
    ingress = decision.side == "destination"
    subject, other = (
        (question.destination, question.source)
        if ingress
        else (question.source, question.destination)
    )
    workload = subject.workload
    assert workload is not None
    naming = Naming(world)
    denying = decision.policy.tier if decision.policy and decision.rule else None
    overrides = denying is Tier.MIDDLE
    rule = Rule(
        Place("fix.yaml", 1, 1),
        (peer_of(naming, other, workload.namespace),),
        ports_of(question),
        exception=overrides,
        because="say here why this call is needed",
        owner="say-who" if overrides else None,
        expires=(now + EXCEPTION_LASTS) // SECOND * SECOND if overrides else None,
    )
    policy = Policy(
        "Segment",
        f"allow-{naming.title(workload)}-{decision.side}",
        workload.namespace,
        naming.selector(workload),
        Mode.ENFORCE,
        rule.place,
        ingress=(rule,) if ingress else (),
        egress=() if ingress else (rule,),
    )
    return policy, rule, ingress


def peer_of(naming: Naming, party: Party, namespace: str) -> PeerSpec:
    """The narrowest peer that is this party, for a document of `namespace`."""
    if is_host(party):
        return HostPeer()
    workload = party.workload
    if workload is None:
        address = address_of(party)
        return NetworkPeer(f"{address}/{128 if ':' in address else 32}") if address else HostPeer()
    spaces = None if workload.namespace == namespace else named_namespace([workload.namespace])
    return WorkloadPeer(naming.selector(workload), spaces)


def ports_of(question: Question) -> tuple[PortSpec, ...]:
    """Exactly the port asked about; none where the protocol has none that a rule can name."""
    if question.protocol not in _PORTED or question.port is None:
        return ()
    return (PortSpec(question.protocol, question.port, question.port),)


def _edit(decision: Decision, rule: Rule, *, ingress: bool) -> str:
    """The same as a change of what is there, for a person."""
    line = rule_line(dataclasses.replace(rule, because=None), ingress=ingress)
    if decision.rule is not None and decision.policy is not None:
        return f"overrule {decision.policy.title} ({decision.rule.place}): {line}"
    policy = decision.policy
    if policy is not None and policy.kind == "Segment":
        return f"add to the rules of {policy.title} ({policy.place}): {line}"
    return f"add a Segment for {policy.title if policy else 'it'} with: {line}"
