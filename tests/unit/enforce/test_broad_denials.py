"""Whole shelves of documents that each deny a few ports: few rules, few members, and exact."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.laying import MAX_BLOCKS
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.told import MAX_EVENT, MAX_WIDTH
from netwatch.policy.ir import Action, Mode, Policy, PortSpec, Rule, Selector
from tests.unit.enforce.worlds import HERE, policy, snapshot, workload
from tests.unit.policy.shelf import FILES, HOST, NEEDED, entry_of


def _ports(spec: PortSpec) -> int:
    return MAX_WIDTH if spec.first is None else (spec.last or spec.first) - spec.first


@cache
def library() -> tuple[Policy, ...]:
    """What the library holds that needs no values, enforced."""
    return tuple(
        replace(each, mode=Mode.ENFORCE)
        for name in FILES
        if name not in NEEDED
        for each in entry_of(name).policies
    )


@cache
def denials() -> tuple[Policy, ...]:
    """Those of its documents that do nothing but deny ports."""
    return tuple(
        each
        for each in library()
        if not each.isolates_ingress
        and not each.isolates_egress
        and all(
            rule.action is Action.DENY and rule.ports and max(map(_ports, rule.ports)) < MAX_WIDTH
            for rule in (*each.ingress, *each.egress)
        )
    )


def rules(ruleset: Ruleset) -> int:
    """How many rules the larger family has."""
    return max(sum(len(c.rules) for c in ruleset.of_family(family)) for family in (4, 6))


def test_a_denial_more_costs_no_rule() -> None:
    """Ten documents, or one: their ports are members."""
    assert len(denials()) >= 8
    sizes = [rules(compile(denials()[:n], HOST, now=0)) for n in (1, len(denials()))]
    assert max(sizes) - min(sizes) <= 4


@pytest.mark.parametrize("size", [20, 60])
def test_workloads_more_cost_no_rule_and_members_in_proportion(size: int) -> None:
    crowd = snapshot(*(workload("web", 2 + n) for n in range(size)))
    found = compile(denials(), crowd, now=0)
    few = compile(denials(), replace(crowd, workloads=crowd.workloads[:5]), now=0)
    assert rules(found) == rules(few) <= MAX_BLOCKS + 40
    per_end = (members(found) - members(few)) / (size - 5)
    assert per_end < MAX_EVENT / 4


def members(ruleset: Ruleset) -> int:
    """All members of both families."""
    return sum(len(each.members) for each in ruleset.sets)


def test_a_document_of_thousands_of_ports_becomes_rules_before_a_start_adds_too_much() -> None:
    """The long ranges of it first: whatever is denied, one more end adds at most so many."""
    ports = tuple(PortSpec("tcp", 1000 * n, 1000 * n + 63) for n in range(20))
    document = policy(Selector(), kind="Segment", ingress=(Rule(HERE, (), ports, Action.DENY),))
    crowd = snapshot(*(workload(f"w{n}", 2 + n) for n in range(6)))
    found = compile((document,), crowd, now=0)
    less = compile((document,), replace(crowd, workloads=crowd.workloads[1:]), now=0)
    added = [
        len(each.members) - len(next(o for o in less.sets if o.title == each.title).members)
        for each in found.sets
        if each.family == 4
    ]
    assert 0 < sum(added) <= MAX_EVENT
