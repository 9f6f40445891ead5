"""Proposes the least that would have allowed what was seen: one Segment for each service.

Replicas are one service, ephemeral ports one range, many addresses outside one `internet`; each of
these is wider than what was seen, is flagged as generalised, and counts in the ratio. What is no
evidence (semantics, section 6) is set aside and listed, never dropped in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from netwatch.model.times import SECOND, rfc3339
from netwatch.model.workload import Workload
from netwatch.policy.coverage import Coverage, coverage_of
from netwatch.policy.evidence import Call, Evidence
from netwatch.policy.explain import peer_of
from netwatch.policy.ir import (
    InternetPeer,
    Mode,
    Party,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Selector,
    World,
)
from netwatch.policy.match import is_host
from netwatch.policy.naming import Naming
from netwatch.policy.networks import Outside
from netwatch.policy.sifting import Aside, name_of, sift

EPHEMERAL = 32_768
"""Linux takes ports for outgoing connections from here on (net.ipv4.ip_local_port_range)."""
EPHEMERAL_AT_LEAST = 3
"""Different undocumented ports of one pair, all of them high: a range, not so many services."""
OUTSIDE_AT_LEAST = 8
"""Different addresses outside on one port: a client of the internet, or customers."""
DAY = 86_400 * SECOND
_PLACE = Place("learned.yaml", 1, 1)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rule of a learned document and what it rests on.

    `allows` counts (source, destination, port) that it allows in this world, `seen` those of them
    that are evidence; `generalised` says how it is wider, or is None. `confidence`: low, medium or
    high. Times are nanoseconds.
    """

    policy: str
    rule: Rule
    ingress: bool
    evidence: tuple[Call, ...]
    seen: int
    allows: int
    generalised: str | None
    confidence: str

    @property
    def connections(self) -> int:
        """How often it was seen."""
        return sum(call.connections for call in self.evidence)


@dataclass(frozen=True, slots=True)
class Learned:
    """`policies` are staged Segments; `ratio` is evidence / allowed, 1 for least privilege."""

    policies: tuple[Policy, ...]
    proposals: tuple[Proposal, ...]
    evidence: tuple[Call, ...]
    aside: tuple[Aside, ...]
    coverage: Coverage
    seen: int
    allows: int

    @property
    def ratio(self) -> float:
        """Of what the proposal allows, how much was seen."""
        return self.seen / self.allows if self.allows else 1.0


@dataclass(slots=True)
class _Draft:
    """One document while its rules are gathered: calls by direction and other end."""

    subject: Workload
    ingress: dict[PeerSpec, list[Call]] = field(default_factory=lambda: defaultdict(list))
    egress: dict[PeerSpec, list[Call]] = field(default_factory=lambda: defaultdict(list))


def learn(
    world: World,
    evidence: Evidence,
    *,
    namespaces: frozenset[str] | None = None,
    suspects: frozenset[str] = frozenset(),
    outcasts: frozenset[str] = frozenset(),
    mode: Mode = Mode.STAGE,
) -> Learned:
    """Proposals for the workloads of these namespaces (None: all) from calls that prove something.

    `suspects` are ids of calls under open alerts, `outcasts` identities of workloads that are in
    quarantine or whose identity is in question. Removing any rule denies a call of the evidence.
    """
    concerned = [call for call in evidence.calls if _concerns(call, namespaces)]
    kept, aside = sift(concerned, suspects, outcasts)
    mine = [w for w in world.workloads if _is_mine(Party(w), namespaces)]
    naming = Naming(world)
    drafts = _drafts(world, kept, naming, namespaces)
    taken: set[tuple[str, str]] = set()
    policies, proposals = [], []
    for (namespace, selector), draft in sorted(
        drafts.items(), key=lambda d: (d[0][0], repr(d[0]))
    ):
        name = _unused(naming.title(draft.subject), namespace, taken)
        policy = Policy(
            "Segment",
            name,
            namespace,
            selector,
            mode,
            _PLACE,
            isolates_ingress=True,
            isolates_egress=True,
        )
        found = [*_proposals(policy, draft, naming)]
        proposals.extend(found)
        policies.append(
            replace(
                policy,
                ingress=tuple(p.rule for p in found if p.ingress),
                egress=tuple(p.rule for p in found if not p.ingress),
            )
        )
    return Learned(
        tuple(policies),
        tuple(proposals),
        tuple(kept),
        tuple(aside),
        coverage_of(kept, mine, naming),
        sum(p.seen for p in proposals),
        sum(p.allows for p in proposals),
    )


def _drafts(
    world: World, kept: Sequence[Call], naming: Naming, namespaces: frozenset[str] | None
) -> dict[tuple[str, Selector], _Draft]:
    """Each call at both of its ends, as far as those are to be governed."""
    outside = _Outside(world, naming, kept)
    drafts: dict[tuple[str, Selector], _Draft] = {}
    for call in kept:
        for subject, other, ingress in (
            (call.destination, call.source, True),
            (call.source, call.destination, False),
        ):
            if not _is_mine(subject, namespaces):
                continue
            workload = subject.workload
            assert workload is not None
            key = (workload.namespace, naming.selector(workload))
            draft = drafts.setdefault(key, _Draft(naming.replicas(workload)[0]))
            peer = outside.peer(call, ingress=ingress) or peer_of(naming, other, key[0])
            (draft.ingress if ingress else draft.egress)[peer].append(call)
    return drafts


def _unused(title: str, namespace: str, taken: set[tuple[str, str]]) -> str:
    name, number = title, 1
    while (namespace, name) in taken:
        number += 1
        name = f"{title}-{number}"
    taken.add((namespace, name))
    return name


def _is_mine(party: Party, namespaces: frozenset[str] | None) -> bool:
    workload = party.workload
    if workload is None or is_host(party):
        return False
    return namespaces is None or workload.namespace in namespaces


def _concerns(call: Call, namespaces: frozenset[str] | None) -> bool:
    if _same(call):
        return False
    if call.unclear and namespaces is None:
        return True
    return _is_mine(call.source, namespaces) or _is_mine(call.destination, namespaces)


def _same(call: Call) -> bool:
    one, other = call.source.workload, call.destination.workload
    return one is not None and other is not None and one.identity == other.identity


class _Outside:
    """Where so many addresses of the internet were seen that `internet` is what was meant."""

    def __init__(self, world: World, naming: Naming, calls: Iterable[Call]) -> None:
        self._internet = Outside(world)
        self._naming = naming
        seen: dict[tuple[object, ...], set[str]] = defaultdict(set)
        for call in calls:
            for ingress in (True, False):
                address = self._address(call, ingress=ingress)
                if address is not None:
                    seen[self._key(call, ingress=ingress)].add(address)
        self._wide = {key for key, found in seen.items() if len(found) >= OUTSIDE_AT_LEAST}

    def peer(self, call: Call, *, ingress: bool) -> InternetPeer | None:
        """`internet`, or None where the end itself is named."""
        if self._address(call, ingress=ingress) is None:
            return None
        return InternetPeer() if self._key(call, ingress=ingress) in self._wide else None

    def _address(self, call: Call, *, ingress: bool) -> str | None:
        party = call.source if ingress else call.destination
        if party.workload is not None or party.host or party.address is None:
            return None
        return party.address if self._internet.holds(party.address) else None

    def _key(self, call: Call, *, ingress: bool) -> tuple[object, ...]:
        """The service, and its port; of ephemeral ports any, as their rule will be a range."""
        workload = (call.destination if ingress else call.source).workload
        group = workload and (workload.namespace, self._naming.selector(workload))
        return ingress, group, call.protocol, min(call.port or 0, EPHEMERAL)


def _proposals(policy: Policy, draft: _Draft, naming: Naming) -> Iterator[Proposal]:
    for ingress, by_peer in ((True, draft.ingress), (False, draft.egress)):
        for peer, calls in sorted(by_peer.items(), key=lambda item: repr(_order(item))):
            ports, merged = _ports(calls)
            rule = Rule(_PLACE, (peer,), ports)
            seen, allows = _counted(draft, rule, calls, naming, ingress=ingress)
            wide = [
                *(["the internet for the addresses seen"] if peer == InternetPeer() else []),
                *(["a range for the ephemeral ports seen"] if merged else []),
                *(["every replica"] if allows > seen and not merged else []),
            ]
            generalised = " and ".join(wide) or None
            rule = replace(rule, because=_because(calls, generalised))
            yield Proposal(
                policy.title,
                rule,
                ingress,
                tuple(calls),
                seen,
                allows,
                generalised,
                _confidence(calls, generalised),
            )


def _order(item: tuple[PeerSpec, list[Call]]) -> tuple[str, str]:
    return type(item[0]).__name__, item[1][0].id


def _ports(calls: Iterable[Call]) -> tuple[tuple[PortSpec, ...], bool]:
    """The ports of these calls, and whether ephemeral ones became a range."""
    found: set[tuple[str, int]] = set()
    high: dict[str, set[int]] = defaultdict(set)
    for call in calls:
        port = call.port or 0
        target = call.destination.workload
        documented = target is not None and target.documents(call.protocol, port) is not None
        if port >= EPHEMERAL and not documented:
            high[call.protocol].add(port)
        else:
            found.add((call.protocol, port))
    ranges = {p for p, ports in high.items() if len(ports) >= EPHEMERAL_AT_LEAST}
    found |= {(p, port) for p, ports in high.items() if p not in ranges for port in ports}
    # A documented high port lies in the range already.
    found = {(p, n) for p, n in found if p not in ranges or n < EPHEMERAL}
    specs = [PortSpec(p, n, n) for p, n in sorted(found)]
    specs += [PortSpec(p, EPHEMERAL, 65_535) for p in sorted(ranges)]
    return tuple(specs), bool(ranges)


def _counted(
    draft: _Draft, rule: Rule, calls: Sequence[Call], naming: Naming, *, ingress: bool
) -> tuple[int, int]:
    """(source, destination, port) that are evidence, and that the rule allows in this world.

    What is outside counts as the addresses that were seen.
    """
    subjects = {workload.identity for workload in naming.replicas(draft.subject)}
    others: set[str] = set()
    seen = set()
    for call in calls:
        mine, other = call.source, call.destination
        if ingress:
            mine, other = other, mine
        assert mine.workload is not None
        name = name_of(other)
        if other.workload is not None and not is_host(other):
            name = other.workload.identity
            others.update(workload.identity for workload in naming.replicas(other.workload))
        others.add(name)
        seen.add((mine.workload.identity, name, call.protocol, call.port))
    pairs = len(subjects) * len(others) - len(subjects & others)
    ports = sum((spec.last or 0) - (spec.first or 0) + 1 for spec in rule.ports)
    return len(seen), max(pairs * ports, len(seen))


def _because(calls: Sequence[Call], generalised: str | None) -> str:
    first = str(rfc3339(min(call.first_seen for call in calls)))[:10]
    last = str(rfc3339(max(call.last_seen for call in calls)))[:10]
    count = sum(call.connections for call in calls)
    times = "once" if count == 1 else f"{count} times"
    period = f"on {first}" if first == last else f"from {first} to {last}"
    wider = f" - generalised to {generalised}" if generalised else ""
    return f"learned - seen {times} {period}{wider}"


def _confidence(calls: Sequence[Call], generalised: str | None) -> str:
    """High: often, over days, and nothing was guessed. Low: a few times within an hour."""
    count = sum(call.connections for call in calls)
    lasted = max(c.last_seen for c in calls) - min(c.first_seen for c in calls)
    if count >= 10 and lasted >= DAY and generalised is None:
        return "high"
    return "medium" if count >= 3 and lasted >= DAY // 24 else "low"
