"""A canary for each enforced document: a call that must get through, and one that must not.

The rules may be as they should be and the kernel pass packets by them all the same: a switch that
hides bridged packets, somebody's table before ours, a defect of ours. So what decide() says is
tried, every round with other workloads where there are others, and what was found wrong is tried
again until it is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from netwatch.agent.listeners import listening
from netwatch.enforce import trial
from netwatch.enforce.ends import world_of
from netwatch.enforce.probe import (
    FALSE_ALLOW,
    FALSE_DENY,
    Answer,
    Planner,
    Question,
    disagreement,
    judged,
    peer_name,
)
from netwatch.model.probe import Disagreement
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.ir import Mode, Party, Policy
from netwatch.policy.match import governs

MAX_CALLS = 200  # of a round: a hundred documents; the others have their turn in the next
MAX_LOOKED = 300  # calls that are asked of decide() to find the two of a document: 3 ms
MAX_TOLD = 50
PAUSE_S = 1.0  # a rule that is being changed right now is no disagreement
T = TypeVar("T")
WRONG = (FALSE_ALLOW, FALSE_DENY)
Try = Callable[[Iterable[Question]], Iterator[tuple[Question, Answer]]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a round showed: calls that did what the documents say, and those that did not."""

    proven: int = 0
    wrong: tuple[Disagreement, ...] = ()
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A question, and the title of the document that it proves."""

    segment: str
    question: Question


class Canary:
    """Remembers what was wrong, and whose turn it is."""

    def __init__(self, attempt: Try = trial.tried, *, pause_s: float = PAUSE_S) -> None:
        self._attempt = attempt
        self._pause_s = pause_s
        self._turn = 0
        self._doubtful: tuple[Call, ...] = ()

    def round(
        self, policies: Sequence[Policy], look: Callable[[], Snapshot], now: int
    ) -> Proof | None:
        """Try this round's calls; None if the workloads changed meanwhile, which proves nothing.

        Takes a few milliseconds where all is well, a few seconds where nothing answers.
        """
        snapshot = look()
        if snapshot.problem:
            return None
        calls = self._calls(policies, snapshot, now)
        self._turn += 1
        wrong = self._tried(calls)
        if wrong:
            time.sleep(self._pause_s)
            wrong = self._tried([call for call, _ in wrong])
        if look() != snapshot:
            return None
        self._doubtful = tuple(call for call, _ in wrong)
        name = peer_name(snapshot)
        return Proof(
            len(calls) - len(wrong),
            tuple(
                disagreement(
                    call.question,
                    answer,
                    judged(call.question, answer),
                    segment=call.segment,
                    name=name,
                    at=now,
                )
                for call, answer in wrong[:MAX_TOLD]
            ),
            now,
        )

    def _calls(self, policies: Sequence[Policy], snapshot: Snapshot, now: int) -> list[Call]:
        planner = Planner(policies, snapshot, _heard(snapshot), now=now)
        enforced = [policy for policy in policies if policy.mode is Mode.ENFORCE]
        room = MAX_CALLS // 2
        chosen = _turned(enforced, self._turn * room)[:room] if enforced[room:] else enforced
        titles = {policy.title for policy in enforced}
        found = {
            question: call.segment
            for call in self._doubtful
            if call.segment in titles and (question := planner.again(call.question)) is not None
        }
        for policy in chosen:
            for question in pair_of(policy, planner, snapshot, turn=self._turn):
                found.setdefault(question, policy.title)
        return [Call(segment, question) for question, segment in found.items()]

    def _tried(self, calls: Sequence[Call]) -> list[tuple[Call, Answer]]:
        answers = self._attempt([call.question for call in calls])
        return [
            (call, answer)
            for call, (question, answer) in zip(calls, answers, strict=True)
            if judged(question, answer).kind in WRONG
        ]


def pair_of(
    policy: Policy, planner: Planner, snapshot: Snapshot, *, turn: int
) -> Iterator[Question]:
    """A call that this document allows and one that it denies, by TCP, where there are such.

    Only calls that begin on this host, and whose fate only this host decides.
    """
    wanted = {"allow", "deny"}
    for question in islice(_candidates(policy, planner, snapshot, turn), MAX_LOOKED):
        decided = question.expected
        mine = decided.policy is not None and decided.policy.title == policy.title
        if mine and decided.verdict in wanted and question.beyond is None:
            wanted.discard(decided.verdict)
            yield question
        if not wanted:
            return


def _candidates(
    policy: Policy, planner: Planner, snapshot: Snapshot, turn: int
) -> Iterator[Question]:
    """Calls of TCP between a workload that the document governs and another, each turn others."""
    families = (4, 6) if turn % 2 else (6, 4)
    for source, destination in _pairs(policy, planner, snapshot, turn):
        for protocol, port in planner.ports(destination):
            for family in families if protocol == "tcp" else ():
                found = planner.question(Party(source), Party(destination), protocol, port, family)
                if found is not None:
                    yield found
                    break


def _pairs(
    policy: Policy, planner: Planner, snapshot: Snapshot, turn: int
) -> Iterator[tuple[Workload, Workload]]:
    world = world_of(snapshot)
    governed = _turned([w for w in world.workloads if governs(policy, w, world)], turn)
    others = _turned(world.workloads, turn)
    callers = [w for w in others if planner.can_try(w)]
    if policy.isolates_ingress or policy.ingress:
        yield from ((a, b) for b in governed for a in callers if a.identity != b.identity)
    if policy.isolates_egress or policy.egress:
        own = [w for w in governed if planner.can_try(w)]
        yield from ((a, b) for a in own for b in others if a.identity != b.identity)


def _turned(items: Sequence[T], turn: int) -> list[T]:
    at = turn % len(items) if items else 0
    return [*items[at:], *items[:at]]


def _heard(snapshot: Snapshot) -> dict[str, frozenset[tuple[str, int]]]:
    return {w.identity: listening(w.pid) for w in snapshot.workloads if w.pid is not None}
