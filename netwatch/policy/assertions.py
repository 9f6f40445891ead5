"""Sentences about policies that a test run holds `decide` to.

tests:
  - web must reach db:5432
  - nothing in shop reaches the internet
  - app=pay in pay must not reach host on 22/tcp
  - 203.0.113.9 must reach shop/edge:443

Without a port, "must reach" is about the ports that the destination documents, and everything
else about every port there is. A sentence that speaks about nobody fails: it would hold for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netwatch.model.workload import Workload
from netwatch.policy import fields
from netwatch.policy.evaluate import ENFORCED, Judge
from netwatch.policy.fields import Problems
from netwatch.policy.ir import Mode, Party, Place, Policy, PortSpec, World
from netwatch.policy.match import port_matches
from netwatch.policy.matrix import pair
from netwatch.policy.networks import Outside
from netwatch.policy.nodes import Kind, Node, invalid, read_nodes
from netwatch.policy.parts import Ports, outside_ends, port_parts
from netwatch.policy.short import read_ports
from netwatch.policy.words import parties

MAX_TOLD = 5
"""Counter-examples of one sentence."""
_SENTENCE = re.compile(
    r"(?P<none>(?:nothing|nobody)\b)?\s*(?P<source>.*?)\s*\b"
    r"(?P<verb>must not reach|can not reach|cannot reach|never reaches|must reach|may reach"
    r"|can reach|reaches)\s+(?P<destination>.+?)(?:\s+on\s+(?P<ports>[\w, */-]+))?"
)
_NEGATIVE = ("must not reach", "can not reach", "cannot reach", "never reaches")
_WITH_PORT = re.compile(r"(?P<name>[^:]+):(?P<port>[\w*-]+(/\w+)?)")
_EXAMPLE = "for example: web must reach db:5432, or: nothing in shop reaches the internet"


@dataclass(frozen=True, slots=True)
class Assertion:
    """One sentence. `source` and `destination` are words yet: a world says who that is."""

    text: str
    place: Place
    source: str
    destination: str
    ports: str | None
    allowed: bool


@dataclass(frozen=True, slots=True)
class Result:
    """`against` are at most five sentences that prove the opposite; `asked` counts decisions."""

    assertion: Assertion
    passed: bool
    against: tuple[str, ...]
    asked: int


def parse_assertions(text: str, file: str) -> tuple[Assertion, ...]:
    """The sentences of a file, a list or `tests:` with a list; raises InvalidPolicies."""
    problems = Problems()
    found: list[Assertion] = []
    with problems.collected():
        for root in read_nodes(text, file):
            items = root
            if root.kind is Kind.MAPPING:
                entries = fields.mapping(root, "the file", ("tests",))
                items = entries.get("tests", root)
            for node in fields.sequence(items, "tests"):
                with problems.collected():
                    found.append(_assertion(node))
    problems.raise_any()
    return tuple(found)


def _assertion(node: Node) -> Assertion:
    text = " ".join(fields.string(node, "the test", _EXAMPLE).split())
    match = _SENTENCE.fullmatch(text)
    if match is None:
        raise invalid(node.place, f"the test is {node.shown}, which is no assertion", _EXAMPLE)
    destination, ports = match["destination"], match["ports"]
    with_port = _WITH_PORT.fullmatch(destination)
    if with_port and ports is None:
        destination, ports = with_port["name"], with_port["port"]
    allowed = match["none"] is None and match["verb"] not in _NEGATIVE
    if match["none"] and match["verb"] in _NEGATIVE:
        raise invalid(node.place, "the test denies twice", "write: nothing in shop reaches host")
    if match["source"] == "" and match["none"] is None:
        raise invalid(node.place, "the test does not say who", _EXAMPLE)
    if ports is not None:
        _specs(ports, node.place)
    return Assertion(text, node.place, match["source"], destination, ports, allowed)


def _specs(text: str, place: Place) -> tuple[PortSpec, ...]:
    nodes = tuple(Node(Kind.TEXT, place, text=word.strip()) for word in text.split(","))
    return read_ports(Node(Kind.LIST, place, items=nodes))


def run(
    assertions: Sequence[Assertion],
    policies: Sequence[Policy],
    world: World,
    *,
    now: int,
    modes: frozenset[Mode] = ENFORCED,
) -> tuple[Result, ...]:
    """Each sentence held to `decide`; raises InvalidPolicies where one names nobody it knows."""
    examiner = _Examiner(policies, world, now, modes)
    problems = Problems()
    results = []
    for assertion in assertions:
        with problems.collected():
            results.append(examiner.result(assertion))
    problems.raise_any()
    return tuple(results)


class _Examiner:
    """Turns words into parties and ports, and asks."""

    def __init__(
        self, policies: Sequence[Policy], world: World, now: int, modes: frozenset[Mode]
    ) -> None:
        self._judge = Judge(policies, world, modes)
        self._world = world
        self._now = now
        self._parts = port_parts(self._judge.policies, world)

    def result(self, assertion: Assertion) -> Result:
        against: list[str] = []
        asked = 0
        for source in self._parties(assertion.source, assertion.place):
            for destination in self._parties(assertion.destination, assertion.place):
                if source == destination:
                    continue
                for question in self._questions(assertion, source, destination):
                    asked += 1
                    decision = self._judge.decide(*question, now=self._now)
                    if (decision.verdict == "allow") != assertion.allowed:
                        against.append(decision.reason)
        if not asked:
            against.append("the sentence speaks about nobody, or about no port")
        return Result(assertion, not against, tuple(dict.fromkeys(against))[:MAX_TOLD], asked)

    def _questions(
        self, assertion: Assertion, source: Party, destination: Party
    ) -> Iterator[tuple[Party, Party, str, int | None]]:
        ends = source, destination
        if (
            source.workload
            and destination.workload
            and not (source.address or destination.address)
        ):
            ends = pair(source.workload, destination.workload)
        for ports in self._ports(assertion, destination.workload):
            yield *ends, ports.protocol, ports.first

    def _ports(self, assertion: Assertion, target: Workload | None) -> Iterator[Ports]:
        """Stated ones; else the documented ones of who must be reached; else all."""
        if assertion.ports is not None:
            yield from self._stated(assertion.ports, assertion.place, target)
        elif assertion.allowed and target is not None:
            for port in target.ports:
                yield Ports(port.protocol, port.number, port.number)
        else:
            yield from self._parts

    def _stated(self, text: str, place: Place, target: Workload | None) -> Iterator[Ports]:
        """Each part that a stated port touches, and every end of a stated range."""
        for spec in _specs(text, place):
            if spec.first is not None:
                yield Ports(spec.protocol or "tcp", spec.first, spec.first)
            elif spec.name is not None and target is not None:
                for port in target.ports:
                    if port_matches(spec, port.protocol, port.number, destination=target):
                        yield Ports(port.protocol, port.number, port.number)
            for part in self._parts:
                if part.first is not None and port_matches(
                    spec, part.protocol, part.first, destination=target
                ):
                    yield part

    def _parties(self, words: str, place: Place) -> list[Party]:
        if words.removeprefix("the ").strip() == "internet":
            outside = Outside(self._world)
            ends = outside_ends(self._judge.policies, self._world)
            found = [e.party for e in ends if e.party.address and outside.holds(e.party.address)]
            return found or [Party(None, "1.0.0.0")]
        return parties(words, self._world, place)
