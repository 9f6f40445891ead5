"""Holds what Compose files declare against what policies allow, before anything is deployed.

A declared link that no policy permits would be cut on the first day; an allowed one that nothing
declares is a door that nobody may need. Both are judged by `decide`, over the workloads that the
services will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from netwatch.model.workload import Workload
from netwatch.policy.compose import Link, Project, Service
from netwatch.policy.evaluate import ENFORCED, STAGED, Judge
from netwatch.policy.explain import Question, explain
from netwatch.policy.ir import Decision, Mode, Policy, World
from netwatch.policy.lint import Remark
from netwatch.policy.matrix import Probe, pair
from netwatch.policy.parts import port_parts


def world_of(projects: Iterable[Project]) -> World:
    """The workloads that the services will be: one replica of each, without addresses yet."""
    return World(tuple(s.workload for p in projects for s in p.services.values()))


def check_links(
    policies: Sequence[Policy], projects: Sequence[Project], *, now: int
) -> tuple[Remark, ...]:
    """One finding for each declared link that is denied, one warning for each allowed that is not.

    A link that only staged documents deny is a warning too. `now` in nanoseconds. Rules by address
    match no service, because none has an address yet.
    """
    world = world_of(projects)
    check = _Check(policies, world, now)
    remarks = [remark for project in projects for remark in check.remarks(project)]
    return tuple(sorted(set(remarks), key=lambda r: (r.place.file, r.place.line, r.code)))


class _Check:
    """The questions of one world to one set of documents."""

    def __init__(self, policies: Sequence[Policy], world: World, now: int) -> None:
        self._policies, self._world = policies, world
        self._judge = Judge(policies, world)
        self._staged = Judge(policies, world, STAGED)
        self._now = now
        self._any = tuple(
            Probe(part.protocol, max(part.first, 1))
            for part in port_parts(policies, world)
            if part.first is not None and part.last
        )

    def remarks(self, project: Project) -> Iterator[Remark]:
        """Denied links in the order of the file, then pairs that nothing declares."""
        for link in project.links:
            source, destination = (project.services[n] for n in (link.source, link.destination))
            if (remark := self._denied(link, source, destination)) is not None:
                yield remark
        declared = {(link.source, link.destination, link.port) for link in project.links}
        for source in project.services.values():
            for destination in project.services.values():
                if source is not destination and source.networks & destination.networks:
                    yield from self._undeclared(source, destination, declared)

    def _denied(self, link: Link, source: Service, destination: Service) -> Remark | None:
        """None if the link, by at least one of its ports, is allowed."""
        probes = _probes(link, destination.workload) or self._any
        for judge, modes, severity, code, word in (
            (self._judge, ENFORCED, "finding", "declared-denied", "is denied"),
            (self._staged, STAGED, "warning", "declared-staged-denied", "is denied once enforced"),
        ):
            asked = [self._ask(judge, source.workload, destination.workload, p) for p in probes]
            if asked and all(decision.verdict != "allow" for decision in asked):
                what = _listed(probes) if probes is not self._any else "any port"
                return Remark(
                    code,
                    severity,
                    f"{link.source} says by {link.how} that it calls {link.destination}, which"
                    f" {word} on {what}: {asked[0].reason}",
                    self._fix(modes, source.workload, destination.workload, probes[0]),
                    link.place,
                )
        return None

    def _undeclared(
        self, source: Service, destination: Service, declared: set[tuple[str, str, int | None]]
    ) -> Iterator[Remark]:
        """What some rule allows and the file does not mention, of what the service documents."""
        names = source.name, destination.name
        if (*names, None) in declared:
            return
        for port in destination.workload.ports:
            probe = Probe(port.protocol, port.number)
            decision = self._ask(self._judge, source.workload, destination.workload, probe)
            if decision.verdict != "allow" or not decision.isolated:
                continue
            if (*names, port.number) not in declared:
                yield Remark(
                    "allowed-undeclared",
                    "warning",
                    f"{names[0]} may call {names[1]} on {probe}{_by(decision)}, and nothing"
                    " declares that",
                    f"narrow the rule, or add depends_on: [{names[1]}] to {names[0]}",
                    source.place,
                )

    def _ask(
        self, judge: Judge, source: Workload, destination: Workload, probe: Probe
    ) -> Decision:
        ends = pair(source, destination)
        return judge.decide(*ends, probe.protocol, probe.port, now=self._now)

    def _fix(
        self, modes: frozenset[Mode], source: Workload, destination: Workload, probe: Probe
    ) -> str:
        question = Question(*pair(source, destination), probe.protocol, probe.port)
        told = explain(self._policies, self._world, question, now=self._now, modes=modes)
        if told.fix is None or not told.fix.edits:
            return "allow it, or take the declaration out"
        return "; ".join(told.fix.edits)


def _probes(link: Link, destination: Workload) -> tuple[Probe, ...]:
    """The ports that the link means: its own, else the documented ones; none: any."""
    ports = [p for p in destination.ports if link.port in (None, p.number)]
    probes = dict.fromkeys(Probe(port.protocol, port.number) for port in ports)
    if link.port is not None and not probes:
        return (Probe("tcp", link.port),)
    return tuple(probes)


def _listed(probes: Sequence[Probe]) -> str:
    more = f" and {len(probes) - 3} more" if len(probes) > 3 else ""
    return " and ".join(map(str, probes[:3])) + more


def _by(decision: Decision) -> str:
    return f" (rule at {decision.rule.place})" if decision.rule is not None else ""
