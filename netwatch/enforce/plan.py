"""The difference between what should be and what is, and the order in which it is safe to close.

Order matters because no transaction spans sets and rules. Whoever is permitted gets its membership
first; then the rules of each family change at once; then ends are closed; then ends are opened;
what permitted goes last. So no packet passes that both policies deny, and none is lost that both
allow. A plan of what already is has nothing in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netwatch.enforce.render import (
    chain_lines,
    chain_marks,
    create_line,
    jump,
    mark,
    member_line,
    word,
)
from netwatch.enforce.ruleset import FAMILIES, HOOKS, MemberSet, Ruleset

CHAINS, SETS = "NW-", "nw-"  # what begins like this is ours
DOCKER_USER = "DOCKER-USER"
_ADDS_LATER = ("egress", "anyone", "ingress", "known", "guard")
_REMOVES = ("guard", "known", "ingress", "anyone", "egress", "allow")


@dataclass(frozen=True, slots=True)
class Actual:
    """What was read from the kernel.

    `chains`: (family, chain) to the marks of its rules, "" for a rule without one; hooks and
    DOCKER-USER are among them. `sets`: title to (kind, members).
    """

    chains: Mapping[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, frozenset[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order: `before` and `after` feed `ipset restore`, `rules` each family's restore.

    `drift` says in sentences what differs.
    """

    before: tuple[str, ...] = ()
    rules: tuple[tuple[int, tuple[str, ...]], ...] = ()
    after: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.before or self.rules or self.after)


NOTHING = Ruleset((), (), enforcing=False)


def plan(desired: Ruleset, actual: Actual) -> Plan:
    """What leads from `actual` to `desired`."""
    drift: list[str] = []
    rules = []
    for family in FAMILIES:
        lines = _family_lines(desired, actual, family, drift)
        if lines:
            rules.append((family, tuple(lines)))
    before, after = _set_lines(desired, actual, drift, fresh=not _ours(actual))
    return Plan(tuple(before), tuple(rules), tuple(after), tuple(drift))


def _ours(actual: Actual) -> bool:
    return any(name.startswith(CHAINS) for _, name in actual.chains)


def _family_lines(desired: Ruleset, actual: Actual, family: int, drift: list[str]) -> list[str]:
    """One restore for one family: changed chains whole, jumps, and chains that go."""
    wanted = {chain.name: chain for chain in desired.of_family(family)}
    declared: list[str] = []
    body: list[str] = []
    for name, chain in wanted.items():
        found = actual.chains.get((family, name))
        if found == chain_marks(chain, family):
            continue
        if found is None:
            drift.append(f"IPv{family}: the chain {name} is missing")
        else:
            drift.append(f"IPv{family}: the chain {name} was changed")
        declared.append(f":{word(name)} - [0:0]")
        body += chain_lines(chain, family)
    jumps = _jump_lines(actual, family, drift, wanted=bool(wanted))
    gone = sorted(
        name
        for known, name in actual.chains
        if known == family and name.startswith(CHAINS) and name not in wanted
    )
    drift += [f"IPv{family}: the chain {name} should not be there" for name in gone]
    declared += [f":{word(name)} - [0:0]" for name in gone]
    removals = [f"-X {word(name)}" for name in gone]
    lines = [*declared, *body, *jumps, *removals]
    return ["*filter", *lines, "COMMIT"] if lines else []


def _jump_lines(actual: Actual, family: int, drift: list[str], *, wanted: bool) -> list[str]:
    """Our jump is the first rule of its hook, once, and of no other."""
    lines = []
    docker = (family, DOCKER_USER) in actual.chains
    for hook, chain in (*HOOKS.items(), (DOCKER_USER, HOOKS["FORWARD"])):
        marks = actual.chains.get((family, hook), ())
        ours = mark(hook, chain)
        here = wanted and hook != ("FORWARD" if docker else DOCKER_USER)
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


def _set_lines(
    desired: Ruleset, actual: Actual, drift: list[str], *, fresh: bool
) -> tuple[list[str], list[str]]:
    """Sets before and after the rules; with no rules of ours yet, all is filled before."""
    adds: dict[str, list[str]] = {}
    removes: dict[str, list[str]] = {}
    creates: list[str] = []
    for each in desired.sets:
        kind, members = actual.sets.get(each.title, ("", frozenset()))
        if not kind:
            drift.append(f"the set {each.title} is missing")
            creates.append(create_line(each.title, each.kind, each.family))
        _tell(each, members, drift, known=bool(kind))
        more, less = sorted(each.members - members), sorted(members - each.members)
        adds.setdefault(each.phase, []).extend(member_line("add", each.title, m) for m in more)
        removes.setdefault(each.phase, []).extend(member_line("del", each.title, m) for m in less)
    titles = {each.title for each in desired.sets}
    gone = sorted(name for name in actual.sets if name.startswith(SETS) and name not in titles)
    drift += [f"the set {name} should not be there" for name in gone]
    first = [*creates, *adds.get("allow", ())]
    later = [line for phase in _ADDS_LATER for line in adds.get(phase, ())]
    last = [line for phase in _REMOVES for line in removes.get(phase, ())]
    destroys = [f"destroy {word(name)}" for name in gone]
    if fresh:
        return [*first, *later, *last], destroys
    return first, [*later, *last, *destroys]


def _tell(each: MemberSet, members: frozenset[str], drift: list[str], *, known: bool) -> None:
    if known and each.members != members:
        more, less = len(each.members - members), len(members - each.members)
        drift.append(f"the set {each.title} lacks {more} members and has {less} too many")


def desired_state(desired: Ruleset, *, docker: bool = False) -> Actual:
    """The kernel as it is once `desired` holds: for tests and for previews."""
    chains: dict[tuple[int, str], tuple[str, ...]] = {}
    for family in FAMILIES:
        for chain in desired.of_family(family):
            chains[family, chain.name] = chain_marks(chain, family)
        forward = DOCKER_USER if docker else "FORWARD"
        for hook, name in ((forward, "NW-FWD"), ("INPUT", "NW-IN"), ("OUTPUT", "NW-OUT")):
            if desired.of_family(family):
                chains[family, hook] = (mark(hook, name),)
    sets = {each.title: (each.kind, each.members) for each in desired.sets}
    return Actual(chains, sets)
