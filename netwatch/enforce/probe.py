"""What a segmentation test asks, what the documents answer, and whether the kernel agrees.

Pure: who is to be tried from where, on which ports, and what an outcome proves. It never claims
more than this host can know: what another host judges, what a runtime keeps apart beside us, and a
UDP port that stays silent, prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netwatch.enforce.cordon import may_talk
from netwatch.enforce.ends import host_addresses, in_local_subnet, world_of
from netwatch.enforce.regions import family_of
from netwatch.model.errors import UsageError
from netwatch.model.probe import Disagreement
from netwatch.model.snapshot import Neighbour, Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import Decision, Party, Policy, PortSpec
from netwatch.policy.match import port_numbers

MAX_QUESTIONS = 2_000  # of one run: all silent, they take about a minute
FAMILIES = (4, 6)
PROTOCOLS = ("tcp", "udp")
ANY = ("0.0.0.0", "::")
AGREE, FALSE_ALLOW, FALSE_DENY, UNPROVEN = "agree", "false-allow", "false-deny", "unproven"
Listening = Mapping[str, frozenset[tuple[str, int]]]
Port = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Question:
    """One call to try: from `source` to `port` of `destination`, by knocking at `aim`.

    `aim` differs from the destination's own address and port where NAT hides them. `expected` is
    what the documents say. `beyond` says why a permitted call that does not get through, or (with
    `elsewhere`) a forbidden one that does, is not this host's to judge.
    """

    source: Party
    destination: Party
    protocol: str
    port: int
    aim: tuple[str, int]
    expected: Decision
    beyond: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel did. `told` is False where nothing was heard at all."""

    result: str
    ms: float
    told: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """agree, false-allow, false-deny or unproven; `why` for what is unproven."""

    kind: str
    why: str | None = None


class Expectation:
    """What the documents and the quarantine say about calls, for one snapshot."""

    def __init__(self, policies: Sequence[Policy], snapshot: Snapshot, *, now: int) -> None:
        self._judge = Judge(policies, world_of(snapshot))
        self._may_talk = may_talk(snapshot)
        self._now = now

    def of(self, source: Party, destination: Party, protocol: str, port: int) -> Decision:
        """The decision; quarantine is judged first (semantics, 1)."""
        ends = source.address, destination.address
        if ends[0] and ends[1] and not self._may_talk(ends[0], ends[1]):
            return Decision("deny", "one of them is quarantined", isolated=True)
        return self._judge.decide(source, destination, protocol, port, now=self._now)


class Planner:
    """Makes questions about one snapshot."""

    def __init__(
        self, policies: Sequence[Policy], snapshot: Snapshot, listening: Listening, *, now: int
    ) -> None:
        self._snapshot = snapshot
        self._listening = listening
        self._expect = Expectation(policies, snapshot, now=now)
        self._local = {w.identity for w in snapshot.workloads}
        self._known = {w.identity: w for w in world_of(snapshot).workloads}
        self._neighbours = {w.identity: n for n in snapshot.neighbours for w in n.workloads}

    def sources(self, parties: Iterable[Party]) -> list[Party]:
        """Those of them that can be tried from: the host, and workloads with a namespace here."""
        return [p for p in parties if p.host or (p.workload and self.can_try(p.workload))]

    def can_try(self, workload: Workload) -> bool:
        """Whether it has a network namespace of its own on this host, and runs."""
        if workload.host_network:
            return False
        return workload.identity in self._local and workload.pid is not None

    def ports(self, workload: Workload) -> list[Port]:
        """Documented and listening ports, and a closed TCP port, to prove denial."""
        known = {(port.protocol, port.number) for port in workload.ports}
        known |= self._listening.get(workload.identity, frozenset())
        closed = next(number for number in range(1, 65_536) if ("tcp", number) not in known)
        return [*sorted(port for port in known if port[0] in PROTOCOLS), ("tcp", closed)]

    def questions(
        self,
        sources: Iterable[Party],
        destinations: Sequence[Party],
        *,
        ports: Sequence[PortSpec] = (),
        families: Sequence[int] = FAMILIES,
    ) -> Iterator[Question]:
        """Every call of every pair; nobody is asked about itself."""
        for source in sources:
            for destination in destinations:
                if _same(source, destination):
                    continue
                for protocol, port in self._asked(destination, ports):
                    for family in families:
                        question = self.question(source, destination, protocol, port, family)
                        if question is not None:
                            yield question

    def _asked(self, destination: Party, ports: Sequence[PortSpec]) -> list[Port]:
        if not ports:
            return self.ports(destination.workload) if destination.workload else []
        found: dict[Port, None] = {}
        for spec in ports:
            if spec.name is not None:
                for protocol, number, _ in port_numbers(spec, destination.workload):
                    found[protocol, number] = None
            elif spec.first is not None:
                found[spec.protocol or "tcp", spec.first] = None
        return [port for port in found if port[0] in PROTOCOLS]

    def question(
        self, source: Party, destination: Party, protocol: str, port: int, family: int
    ) -> Question | None:
        """None where the ends have no addresses of that family that lead to one another."""
        found = self._ends(source, destination, family)
        if found is None:
            return None
        start, end = found
        assert end.address is not None
        aim, beyond, elsewhere = (end.address, port), self._beyond(start, end), False
        neighbour = self._neighbours.get(end.workload.identity) if end.workload else None
        expected = self._expect.of(start, end, protocol, port)
        if neighbour is not None:
            door = self._door(neighbour, end, protocol, port, family)
            if door is None:
                return None
            aim, beyond = door, f"{neighbour.name} judges it too"
            elsewhere = expected.side != "source"
        return Question(start, end, protocol, port, aim, expected, beyond, elsewhere)

    def again(self, question: Question) -> Question | None:
        """The same call with what is known now; None if an end has gone."""
        ends = []
        for party in (question.source, question.destination):
            if party.workload is not None:
                known = self._known.get(party.workload.identity)
                if known is None:
                    return None
                party = Party(known)
            ends.append(party)
        if not self.sources(ends[:1]):
            return None
        family = family_of(question.aim[0])
        return self.question(ends[0], ends[1], question.protocol, question.port, family)

    def _ends(self, source: Party, destination: Party, family: int) -> tuple[Party, Party] | None:
        """Both with addresses: those of one subnet where there is one."""
        froms, tos = self._addresses(source, family), self._addresses(destination, family)
        if not tos or (not froms and not source.host):
            return None
        start, end = next(
            ((a, b) for a in froms for b in tos if self._together(a, b)),
            (froms[0] if froms else None, tos[0]),
        )
        if source.host:
            start = next((a for a in froms if self._together(a, end)), None)
        return (
            Party(source.workload, start, host=source.host),
            Party(destination.workload, end, host=destination.host),
        )

    def _addresses(self, party: Party, family: int) -> tuple[str, ...]:
        if party.address is not None:
            found: tuple[str, ...] = (party.address,)
        elif party.host:
            found = host_addresses(self._snapshot)
        else:
            found = party.workload.addresses if party.workload else ()
        return tuple(address for address in found if family_of(address) == family)

    def _together(self, one: str, other: str) -> bool:
        return any(
            all(ip_address(each) in ip_network(subnet, strict=False) for each in (one, other))
            for network in self._snapshot.networks
            for subnet in network.subnets
            if family_of(subnet) == family_of(one)
        )

    def _beyond(self, source: Party, destination: Party) -> str | None:
        """Why silence towards this destination may not be ours."""
        if destination.workload is None and not destination.host:
            return "it is outside: it may not be there, or refuse by itself"
        one, other = source.workload, destination.workload
        if one and other and not set(one.networks) & set(other.networks):
            return "they share no network: the runtime keeps them apart beside us"
        return None

    def _door(
        self, neighbour: Neighbour, end: Party, protocol: str, port: int, family: int
    ) -> Port | None:
        """Where this host must knock to reach a workload of another one."""
        assert end.address is not None and end.workload is not None
        if neighbour.routed and not in_local_subnet(self._snapshot, end.address):
            return end.address, port
        for address in neighbour.addresses:
            for door in end.workload.published:
                fits = (door.port, door.protocol) == (port, protocol)
                if fits and door.host_address in (*ANY, address) and family_of(address) == family:
                    return address, door.host_port
        return None


def _same(source: Party, destination: Party) -> bool:
    if source.workload is None or destination.workload is None:
        return source.host and destination.host
    return source.workload.identity == destination.workload.identity


def spread(questions: Sequence[Question], limit: int = MAX_QUESTIONS) -> list[Question]:
    """At most `limit` of them, evenly from the whole, so that no pair is favoured."""
    if len(questions) <= limit:
        return list(questions)
    return [questions[number * len(questions) // limit] for number in range(limit)]


def single_ports(specs: Iterable[PortSpec]) -> tuple[PortSpec, ...]:
    """Ports that can be knocked at; raises UsageError for ranges and `*`."""
    found = tuple(specs)
    for spec in found:
        if spec.name is None and (spec.first is None or spec.last not in (None, spec.first)):
            raise UsageError(
                "a probe knocks at single ports", "for example --port 80 --port 53/udp"
            )
    return found


def judged(question: Question, answer: Answer) -> Verdict:
    """Whether the kernel did what the documents say; a refused port was reached."""
    if answer.result == "untried":
        return Verdict(UNPROVEN, "it could not be tried: the source went, or has no such address")
    reached = answer.result in ("open", "refused")
    allowed = question.expected.verdict == "allow"
    if question.protocol == "udp" and not answer.told:
        return Verdict(UNPROVEN, "silence: of UDP it may also mean that nobody had an answer")
    if allowed == reached:
        return Verdict(AGREE)
    if reached:
        if question.elsewhere:
            return Verdict(UNPROVEN, question.beyond)
        return Verdict(FALSE_ALLOW)
    return Verdict(FALSE_DENY) if question.beyond is None else Verdict(UNPROVEN, question.beyond)


def disagreement(
    question: Question,
    answer: Answer,
    verdict: Verdict,
    *,
    segment: str,
    name: Callable[[Party], str],
    at: int,
) -> Disagreement:
    """What is told of a question whose verdict is false-allow or false-deny."""
    decided = question.expected
    place = decided.rule.place if decided.rule else decided.policy and decided.policy.place
    return Disagreement(
        verdict.kind,
        name(question.source),
        name(question.destination),
        question.aim[0],
        question.protocol,
        question.port,
        answer.result,
        segment,
        decided.policy.title if decided.policy else None,
        place.file if place else None,
        place.line if place else None,
        at,
    )


def peer_name(snapshot: Snapshot) -> Callable[[Party], str]:
    """A function from a party to its `Peer.id`."""

    def name(party: Party) -> str:
        if party.workload is not None:
            return party.workload.identity
        return f"host:{snapshot.host}" if party.host else f"external:{party.address}"

    return name
