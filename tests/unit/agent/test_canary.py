"""Which calls a canary makes, and what it makes of their outcomes; no packet is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netwatch.agent.canary import Canary, Proof, pair_of
from netwatch.enforce.probe import Answer, Planner, Question
from netwatch.model.snapshot import Snapshot
from netwatch.policy.ir import Action, Mode, Policy, PortSpec, Tier, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

WEB, API, ROGUE = workload("web", 10), workload("api", 11), workload("rogue", 12)
NOBODY = 2**22  # pids begin below it: nothing listens there
RUNNING = tuple(replace(w, pid=NOBODY + n) for n, w in enumerate((WEB, API, ROGUE)))
HERE = snapshot(*RUNNING)
FROM_WEB = allow(WorkloadPeer(chosen("app", "web")), ports=(PortSpec("tcp", 80, 80),))
CLOSED = policy(chosen("app", "api"), isolates_ingress=True, ingress=(FROM_WEB,))


def calls(
    document: Policy, at: Snapshot = HERE, *, turn: int = 0
) -> set[tuple[str, str, int, str]]:
    planner = Planner([document], at, {}, now=0)
    return {
        (
            q.source.workload.name if q.source.workload else "",
            q.destination.workload.name if q.destination.workload else "",
            q.port,
            q.expected.verdict,
        )
        for q in pair_of(document, planner, at, turn=turn)
    }


def test_one_call_that_is_allowed_and_one_that_is_denied() -> None:
    assert calls(CLOSED) == {("web", "api", 80, "allow"), ("web", "api", 1, "deny")}


def test_each_turn_tries_others() -> None:
    """What every turn tried is more than what one tried."""
    denied = {call for turn in range(6) for call in calls(CLOSED, turn=turn) if call[3] == "deny"}
    assert {source for source, *_ in denied} == {"web", "rogue"}


def test_a_direction_that_is_not_isolated_is_not_tried() -> None:
    """Nor a document that says nothing about anybody here, nor one without anybody running."""
    out = policy(chosen("app", "rogue"), isolates_egress=True)
    assert {(source, verdict) for source, _, _, verdict in calls(out)} == {("rogue", "deny")}
    assert calls(policy(chosen("app", "gone"), isolates_ingress=True)) == set()
    assert calls(CLOSED, snapshot(WEB, API, ROGUE)) == set()


def test_a_tier_that_isolates_nobody_is_proven_by_its_rules() -> None:
    deny = replace(FROM_WEB, action=Action.DENY)
    admin = policy(chosen("app", "api"), namespace=None, tier=Tier.ADMIN, ingress=(deny,))
    assert calls(admin) == {("web", "api", 80, "deny")}


class Kernel:
    """Answers as the documents say, but for the ports that it was told to get wrong."""

    def __init__(self, *wrong: int) -> None:
        self.wrong = set(wrong)
        self.asked: list[Question] = []

    def __call__(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Answer]]:
        for question in questions:
            self.asked.append(question)
            through = (question.expected.verdict == "allow") != (question.port in self.wrong)
            yield question, Answer("open" if through else "filtered", 1.0)


def told(proof: Proof | None) -> tuple[int, list[tuple[str, int]]]:
    assert proof is not None
    return proof.proven, [(each.kind, each.port) for each in proof.wrong]


def test_a_canary_tells_holes_from_walls_and_forgets_what_is_right_again() -> None:
    kernel = Kernel()
    canary = Canary(kernel, pause_s=0)
    assert told(canary.round([CLOSED], lambda: HERE, 1)) == (2, [])
    kernel.wrong = set(range(1, 65_536))
    proven, wrong = told(canary.round([CLOSED], lambda: HERE, 2))
    assert proven == 0 and {kind for kind, _ in wrong} == {"false-allow", "false-deny"}
    kernel.wrong = set()
    assert told(canary.round([CLOSED], lambda: HERE, 3))[1] == []


def test_what_was_wrong_is_tried_again_whoever_has_the_turn() -> None:
    """An alert must not end because the next round looked elsewhere."""
    kernel = Kernel(1)
    canary = Canary(kernel, pause_s=0)
    canary.round([CLOSED], lambda: HERE, 1)
    (doubtful,) = {q for q in kernel.asked if q.port == 1}
    for now in range(2, 6):
        kernel.asked.clear()
        canary.round([CLOSED], lambda: HERE, now)
        assert doubtful in kernel.asked


def test_a_change_during_the_round_makes_it_void() -> None:
    """A workload that came or went meanwhile may not have been programmed yet."""
    looks = iter([HERE, snapshot(*RUNNING[:2])])
    assert Canary(Kernel(1), pause_s=0).round([CLOSED], lambda: next(looks), 1) is None
    unknown = replace(HERE, problem="the runtime does not answer")
    assert Canary(Kernel(), pause_s=0).round([CLOSED], lambda: unknown, 1) is None


def test_only_enforcing_documents_are_proven() -> None:
    kernel = Kernel()
    staged = replace(CLOSED, mode=Mode.STAGE)
    assert told(Canary(kernel, pause_s=0).round([staged], lambda: HERE, 1)) == (0, [])
    assert kernel.asked == []
