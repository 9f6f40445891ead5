"""Whether intention, files and kernel are one: the documents, what was remembered, what is there.

Intention is what the operator says (`--policies`), else what was applied. Files are what is kept
under /run, which an agent repairs from. The kernel is rules, sets, and the switches without which
it would not ask them. What is host-granular is named: nobody claims more for it (semantics, 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from netwatch.enforce import host
from netwatch.enforce.compile import compile
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from netwatch.policy.ir import Place, Policy, Rule


@dataclass(frozen=True, slots=True)
class Verified:
    """What differs, in sentences, by the pair that differs; `notes` and the rest is no drift."""

    intention: tuple[str, ...]
    files: tuple[str, ...]
    kernel: tuple[str, ...]
    documents: tuple[str, ...]
    staged: tuple[str, ...]
    host_granular: tuple[str, ...]
    notes: tuple[str, ...]
    backend: str
    applied_at: int
    policies: tuple[Policy, ...]

    @property
    def drift(self) -> tuple[str, ...]:
        """Everything that differs."""
        return (*self.intention, *self.files, *self.kernel)


def verify(snapshot: Snapshot, *, now: int, policies: Sequence[Policy] | None = None) -> Verified:
    """Compare all three for the workloads as they are now.

    Raises NetwatchError if nothing is applied, or if what was remembered can not be read.
    """
    kernel = host.verify(snapshot, now=now, policies=policies)
    state = host.applied()
    if state is None:
        raise NetwatchError("what was applied has just been removed", "ask again")
    chosen = tuple(policies) if policies is not None else state.policies
    facts = compile(chosen, snapshot, now=now).facts
    return Verified(
        intention=differ(chosen, state.policies),
        files=host.damage(),
        kernel=kernel,
        documents=facts.documents,
        staged=facts.staged,
        host_granular=facts.host_granular,
        notes=facts.notes,
        backend=state.backend,
        applied_at=state.at,
        policies=chosen,
    )


def differ(wanted: Sequence[Policy], kept: Sequence[Policy]) -> tuple[str, ...]:
    """What is not the same in two sets of documents, wherever they stand in their files."""
    one, other = ({p.title: _placeless(p) for p in each} for each in (wanted, kept))
    told: list[str] = []
    for title in sorted(one.keys() | other.keys()):
        if title not in other:
            told.append(f"{title} is wanted and was not applied")
        elif title not in one:
            told.append(f"{title} is applied and not wanted")
        elif one[title] != other[title]:
            told.append(f"{title} says something else than what was applied")
    return tuple(told)


def _placeless(policy: Policy) -> Policy:
    nowhere = Place("", 0, 0)

    def plain(rules: Iterable[Rule]) -> tuple[Rule, ...]:
        return tuple(replace(rule, place=nowhere) for rule in rules)

    return replace(
        policy,
        place=nowhere,
        ingress=plain(policy.ingress),
        egress=plain(policy.egress),
        ignored=plain(policy.ignored),
    )
