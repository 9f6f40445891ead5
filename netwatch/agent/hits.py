"""Which rules of the documents in force were used, how often, and when last.

The kernel's sets do not say which document a member came from, and per-member counters would cost
every host memory and every look a listing; capture counts every connection anyway. So each flow is
put to the same `Judge` that decides verdicts, and the rule of either end that spoke is counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from netwatch.agent.verdicts import party_of
from netwatch.enforce.ends import world_of
from netwatch.model.flow import Flow
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND, passed
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import Mode, Place, Policy, Rule
from netwatch.policy.judgement import Direction

MAX_RULES = 20_000  # ten times the documents of a large host
MAX_REMEMBERED = 50_000  # answers about pairs; they are computed anew beyond it
SAVE_EVERY = 10 * SECOND


class Hit(msgspec.Struct):
    """Connections that a rule let through or refused; times in ns since the epoch."""

    since: int
    count: int = 0
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """One rule of a document in force and what was counted of it; `hit` None: it is new."""

    policy: Policy
    direction: Direction
    rule: Rule
    hit: Hit | None


class Hits:
    """Counts by rule; remembered in a file, under what the rule says and not where it stands."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hits = load(file)
        self._saved = 0
        self._known: tuple[object, Snapshot, _Reader] | None = None
        self._answers: dict[object, tuple[str, ...]] = {}
        self.dropped = 0

    def count(
        self, flows: Sequence[Flow], policies: Sequence[Policy], snapshot: Snapshot, now: int
    ) -> None:
        """Add the new connections of these flows."""
        reader = self._reader(policies, snapshot, now)
        for flow in flows if policies else ():
            if not flow.connections or flow.direction != "seen":
                continue
            ends = flow.client.address, flow.server.address, flow.protocol, flow.server.port
            answer = self._answers.get(ends)
            if answer is None:
                if len(self._answers) >= MAX_REMEMBERED:
                    self._answers.clear()
                answer = self._answers[ends] = tuple(reader.spoke(flow, now))
            for key in answer:
                hit = self._hits.get(key)
                if hit is not None:
                    hit.count += flow.connections
                    hit.last = max(flow.last_seen, hit.last or 0)
        if passed(self._saved, now, SAVE_EVERY):
            self.save(now)

    def save(self, now: int) -> None:
        """Write the file, whole or not at all."""
        if self._hits:
            part = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            part.write_bytes(msgspec.json.encode(self._hits))
            part.replace(self._file)
        self._saved = now

    def _reader(self, policies: Sequence[Policy], snapshot: Snapshot, now: int) -> _Reader:
        known = self._known
        if known is None or known[0] is not policies or known[1] != snapshot:
            reader = _Reader(policies, snapshot)
            wanted = dict.fromkeys(reader.keys.values())
            self.dropped = max(0, len(wanted) - MAX_RULES)
            kept = {key: hit for key, hit in self._hits.items() if key in wanted}
            for key in list(wanted)[:MAX_RULES]:
                kept.setdefault(key, Hit(now))
            self._hits = kept if policies else self._hits
            self._answers.clear()
            self._known = known = (policies, snapshot, reader)
        return known[2]


class _Reader:
    """Which rules speak about a flow, for the same documents and workloads."""

    def __init__(self, policies: Sequence[Policy], snapshot: Snapshot) -> None:
        world = world_of(snapshot)
        self.keys = {id(rule): key for _, _, rule, key in _rules(policies)}
        self._judge = Judge(policies, world)
        self._workloads = {workload.identity: workload for workload in world.workloads}
        self._snapshot = snapshot

    def spoke(self, flow: Flow, now: int) -> Iterator[str]:
        """The keys of the rules of either end that decided."""
        source, destination = (
            party_of(end, self._workloads, self._snapshot) for end in (flow.client, flow.server)
        )
        for direction, subject, other in (
            (Direction.EGRESS, source, destination),
            (Direction.INGRESS, destination, source),
        ):
            said = self._judge.side(
                direction, subject, other, flow.protocol, flow.server.port, now=now
            )
            if said.clause is not None and id(said.clause.rule) in self.keys:
                yield self.keys[id(said.clause.rule)]


def _rules(policies: Sequence[Policy]) -> Iterator[tuple[Policy, Direction, Rule, str]]:
    """Every rule that is enforced, with its key."""
    for policy in policies:
        if policy.mode is not Mode.ENFORCE:
            continue
        for direction, rules in (
            (Direction.INGRESS, policy.ingress),
            (Direction.EGRESS, policy.egress),
        ):
            for rule in rules:
                told = msgspec.json.encode([direction, _plain(rule)], order="deterministic")
                key = f"{policy.title} {sha256(told).hexdigest()[:16]}"
                yield policy, direction, rule, key


def _plain(rule: Rule) -> object:
    """What a rule says, without its place: it may move in its file and stay the same rule."""
    kinds = [type(peer).__name__ for peer in rule.peers]
    return kinds, msgspec.to_builtins(replace(rule, place=Place("", 0, 0)), order="deterministic")


def used(policies: Sequence[Policy], file: Path) -> tuple[Used, ...]:
    """Every rule in force with what an agent counted of it."""
    hits = load(file)
    return tuple(Used(p, way, rule, hits.get(key)) for p, way, rule, key in _rules(policies))


def file_of(state: Path, name: str) -> Path:
    """Where the agent of a host keeps its counts."""
    return state / f"hits.{re.sub(r'[^A-Za-z0-9.-]', '_', name)[:64]}.json"


def load(file: Path) -> dict[str, Hit]:
    """What was saved; nothing if there is no file, or a damaged one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Hit])
    except (OSError, msgspec.MsgspecError):
        return {}
