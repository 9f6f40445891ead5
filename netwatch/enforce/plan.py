"""The difference between what should be and what is, and the order in which it is safe to close.

Order matters because no transaction spans sets and rules: no packet may pass that both policies
deny, and none be lost that both allow. So members that permit come first, then those that deny by
name: whom they concern and no edge permits, the new policy denies. Then the rules of a family keep
what they said before beside what they say now, until ends are closed and then opened.
A port that anyone may call has no source: such permissions come after egress is closed for those
whom they do not concern, and go before it is opened. What permitted by name goes last.
A plan of what already is has nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile

from netwatch.enforce.portguard import (
    NO_STATE,
    GuardChange,
    GuardState,
    guard_change,
    guard_state,
)
from netwatch.enforce.render import (
    chain_lines,
    chain_marks,
    create_line,
    jump,
    mark,
    member_lines,
    word,
)
from netwatch.enforce.ruleset import (
    FAMILIES,
    HOOKS,
    Chain,
    Ruleset,
)

CHAINS, SETS = "NW-", "nw-"  # what begins like this is ours
DOCKER_USER = "DOCKER-USER"
# sets of ends, and of what is barred: such a rule depends on the policies
_BLOCK = re.compile(r"--match-set nw-(?:[edb]-|bar|far|cut)")
_FIRST = (("create", ""), ("add", "allow"), ("add", "bar"), ("add", "block"))
_MIDDLE = (
    *(("add", phase) for phase in ("egress", "anyone", "ingress", "known", "guard")),
    *(("del", phase) for phase in ("guard", "known", "ingress", "anyone", "egress")),
)
_LAST = (("del", "block"), ("del", "bar"), ("del", "allow"), ("destroy", ""))
_ORDER = (_FIRST, _MIDDLE, _LAST)


@dataclass(frozen=True, slots=True)
class Actual:
    """What was read from the kernel.

    `chains`: (family, chain) to the marks of its rules, "" for a rule without one; hooks and
    DOCKER-USER are among them. `sets`: title to (kind, members). `texts`: the rules themselves, as
    `iptables-save` prints them, in the places of their marks.
    """

    chains: Mapping[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    texts: Mapping[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    guard: GuardState = NO_STATE

    @property
    def fresh(self) -> bool:
        """Whether no chain of ours is there yet."""
        return not any(name.startswith(CHAINS) for _, name in self.chains)


@dataclass(frozen=True, slots=True)
class Step:
    """Lines for the `iptables-restore` of a family; for sets if the family is None."""

    family: int | None
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order, and last to the bridges' table; `drift` says what differs."""

    steps: tuple[Step, ...] = ()
    drift: tuple[str, ...] = ()
    guard: GuardChange | None = None

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be."""
        return not self.steps and self.guard is None

    @property
    def before(self) -> tuple[str, ...]:
        """What sets get before any rule changes."""
        first = takewhile(lambda step: step.family is None, self.steps)
        return tuple(line for step in first for line in step.lines)

    @property
    def after(self) -> tuple[str, ...]:
        """What changes in sets once rules have."""
        rest = dropwhile(lambda step: step.family is None, self.steps)
        return tuple(line for step in rest if step.family is None for line in step.lines)

    @property
    def rules(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Every change of rules: (family, lines)."""
        return tuple((step.family, step.lines) for step in self.steps if step.family is not None)


NOTHING = Ruleset((), (), enforcing=False)


def plan(desired: Ruleset, actual: Actual) -> Plan:
    """What leads from `actual` to `desired`."""
    drift: list[str] = []
    stages = [_Stages.of(desired, actual, family, drift) for family in FAMILIES]
    changes = _set_changes(desired, actual, drift)

    def rules(number: int, *, since: int | None) -> list[Step]:
        found = ((each.family, each.lines(number, since=since)) for each in stages)
        return [Step(family, tuple(lines)) for family, lines in found if lines]

    def sets(*which: tuple[str, str]) -> list[Step]:
        lines = tuple(line for key in which for line in changes.get(key, ()))
        return [Step(None, lines)] if lines else []

    if actual.fresh:  # nothing denies before the rules are there
        adds = (key for key in _MIDDLE if key[0] == "add")
        steps = [*sets(*_FIRST, *adds), *rules(1, since=None), *sets(("destroy", ""))]
    else:
        steps = [
            *sets(*_FIRST),
            *rules(0, since=None),
            *sets(*_MIDDLE),
            *rules(1, since=0),
            *sets(*_LAST),
        ]
    guard = guard_change(desired.guard, actual.guard, drift)
    return Plan(tuple(steps), tuple(drift), guard)


def moves(before: Ruleset, after: Ruleset) -> Plan | None:
    """What leads from one ruleset to another one with the same rules, as `plan` would have it:
    members only. None where rules or sets are others.
    """
    if before.chains != after.chains or before.enforcing is not after.enforcing:
        return None
    held = {each.title: (each.kind, each.members) for each in before.sets}
    if held.keys() != {each.title for each in after.sets}:
        return None
    drift: list[str] = []
    changes = _set_changes(after, Actual(sets=held), drift)
    ordered = (tuple(x for key in part for x in changes.get(key, ())) for part in _ORDER)
    steps = tuple(Step(None, lines) for lines in ordered if lines)
    change = guard_change(after.guard, guard_state(before.guard), drift)
    return Plan(steps, tuple(drift), change)


@dataclass(frozen=True, slots=True)
class _Stages:
    """One family's chains that change, in up to two stages, and what else its restore says.

    Each stage is atomic. 0: what was said of ends and what is said. 1: as it should be.
    """

    family: int
    chains: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    jumps: tuple[str, ...]
    gone: tuple[str, ...]

    @classmethod
    def of(cls, desired: Ruleset, actual: Actual, family: int, drift: list[str]) -> _Stages:
        """From what is to what should be; adds to `drift`."""
        wanted = {chain.name: chain for chain in desired.of_family(family)}
        chains = []
        for name, chain in wanted.items():
            marks = chain_marks(chain, family)
            found = actual.chains.get((family, name))
            if found == marks:
                continue
            what = "is missing" if found is None else "was changed"
            drift.append(f"IPv{family}: the chain {name} {what}")
            old = tuple(zip(found or (), actual.texts.get((family, name), ()), strict=False))
            chains.append((name, _versions(chain, family, marks, old)))
        jumps = _jump_lines(actual, family, drift, wanted=bool(wanted))
        gone = sorted(
            name
            for known, name in actual.chains
            if known == family and name.startswith(CHAINS) and name not in wanted
        )
        drift += [f"IPv{family}: the chain {name} should not be there" for name in gone]
        return cls(family, tuple(chains), tuple(jumps), tuple(gone))

    def lines(self, number: int, *, since: int | None) -> list[str]:
        """The restore that leads to a stage from another one, or from what was read (None)."""
        declared: list[str] = []
        body: list[str] = []
        for name, versions in self.chains:
            if since is None or versions[number] != versions[since]:
                declared.append(f":{word(name)} - [0:0]")
                body += versions[number]
        if since is None:
            declared += [f":{word(name)} - [0:0]" for name in self.gone]
            body += (*self.jumps, *(f"-X {word(name)}" for name in self.gone))
        return ["*filter", *declared, *body, "COMMIT"] if declared or body else []


def _versions(
    chain: Chain, family: int, marks: tuple[str, ...], old: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, ...], ...]:
    """The lines of a chain in each stage; `old`: the (mark, text) of the rules that it has."""
    kept = _kept(old, frozenset(marks))
    lines = tuple(zip(marks, chain_lines(chain, family), strict=True))
    return tuple(
        tuple(text for name, line in lines for text in (*beside.get(name, ()), line))
        + beside.get("", ())
        for beside in (kept, {})
    )


def _kept(old: tuple[tuple[str, str], ...], marks: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """What was said of ends and no longer is, by the mark of the wanted rule that follows ("")."""
    found: dict[str, tuple[str, ...]] = {}
    waiting: list[str] = []
    for name, text in (*old, ("", "")):
        if name in marks or not text:
            if waiting:
                found[name] = tuple(waiting)
            waiting = []
        elif name and _BLOCK.search(text):
            waiting.append(text)
    return found


def _jump_lines(actual: Actual, family: int, drift: list[str], *, wanted: bool) -> list[str]:
    """Our jump is the first rule of its hook, once, and of no other."""
    lines = []
    docker = _through_docker_user(actual, family)
    asked = docker and _docker_first(actual, family)
    for hook, chain in (*HOOKS.items(), (DOCKER_USER, HOOKS["FORWARD"])):
        marks = actual.chains.get((family, hook), ())
        ours = mark(hook, chain)
        here = wanted and {"FORWARD": not asked, DOCKER_USER: docker}.get(hook, True)
        count = marks.count(ours)
        if here and count == 1 and marks[0] == ours:
            continue
        if not here and not count:
            continue
        if not here:
            drift.append(f"IPv{family}: {hook} has a jump to {chain} that it should not have")
        elif count:
            drift.append(f"IPv{family}: the jump to {chain} is not the first rule of {hook}")
        else:
            drift.append(f"IPv{family}: the jump to {chain} is missing from {hook}")
        lines += [f"-D {word(hook)} {jump(hook, chain)}"] * count
        if here:
            lines.append(f"-I {word(hook)} 1 {jump(hook, chain)}")
    return lines


def _docker_first(actual: Actual, family: int) -> bool:
    """Whether FORWARD asks DOCKER-USER before anything else: an ACCEPT before it asks nobody."""
    ours = mark("FORWARD", HOOKS["FORWARD"])
    others = [text for text in actual.texts.get((family, "FORWARD"), ()) if ours not in text]
    return bool(others) and others[0].endswith(f" -j {DOCKER_USER}") and others[0].count(" -") == 1


def _through_docker_user(actual: Actual, family: int) -> bool:
    """Whether FORWARD leads there. A Docker that left iptables for nftables leaves the chain
    behind, and a jump from where nothing comes along would be no enforcement.
    """
    leads = any(
        text.endswith(f" -j {DOCKER_USER}") for text in actual.texts.get((family, "FORWARD"), ())
    )
    return leads and (family, DOCKER_USER) in actual.chains


def _set_changes(
    desired: Ruleset, actual: Actual, drift: list[str]
) -> dict[tuple[str, str], list[str]]:
    """Lines by (verb, phase); to create and to destroy has no phase."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in desired.sets:
        kind, members = actual.sets.get(each.title, ("", frozenset()))
        if not kind:
            drift.append(f"the set {each.title} is missing")
            line = create_line(each.title, each.kind, each.family)
            found.setdefault(("create", ""), []).append(line)
        elif members == each.members:
            continue
        came, left = each.members - members, members - each.members
        if kind:
            drift.append(
                f"the set {each.title} lacks {len(came)} members and has {len(left)} too many"
            )
        for verb, more in (("add", came), ("del", left)):
            lines = member_lines(verb, each.title, more)
            # no rule asks for a set that is new: who is known may be told before ends are closed
            phase = "allow" if each.phase == "known" and not kind else each.phase
            found.setdefault((verb, phase), []).extend(lines)
    titles = {each.title for each in desired.sets}
    gone = sorted(name for name in actual.sets if name.startswith(SETS) and name not in titles)
    drift += [f"the set {name} should not be there" for name in gone]
    found["destroy", ""] = [f"destroy {word(name)}" for name in gone]
    return found


def desired_state(desired: Ruleset, *, docker: bool = False) -> Actual:
    """The kernel as it is once `desired` holds: for tests and for previews."""
    chains: dict[tuple[int, str], tuple[str, ...]] = {}
    texts: dict[tuple[int, str], tuple[str, ...]] = {}
    for family in FAMILIES:
        for chain in desired.of_family(family):
            chains[family, chain.name] = chain_marks(chain, family)
            texts[family, chain.name] = tuple(chain_lines(chain, family))
        if docker:
            chains[family, "FORWARD"] = ("",)
            texts[family, "FORWARD"] = (f"-A FORWARD -j {DOCKER_USER}",)
        forward = DOCKER_USER if docker else "FORWARD"
        for hook, name in ((forward, "NW-FWD"), ("INPUT", "NW-IN"), ("OUTPUT", "NW-OUT")):
            if desired.of_family(family):
                chains[family, hook] = (mark(hook, name),)
    sets = {each.title: (each.kind, each.members) for each in desired.sets}
    return Actual(chains, sets, texts, guard_state(desired.guard))
