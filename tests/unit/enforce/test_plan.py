"""Plans: nothing to do where nothing differs, and a safe order where something does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.plan import NOTHING, Actual, desired_state, plan
from netwatch.enforce.ruleset import FAMILIES, Drop, Reject, Ruleset
from netwatch.policy.ir import Mode, PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import (
    allow,
    chosen,
    policy,
    random_policies,
    random_world,
    snapshot,
    workload,
)

WEB_TO_API = policy(
    chosen("app", "api"),
    isolates_ingress=True,
    ingress=(allow(WorkloadPeer(chosen("app", "web")), ports=(PortSpec("tcp", 80, 80),)),),
)
HOST = snapshot(workload("web", 10), workload("api", 11), workload("rogue", 12))


def compiled(*policies: object) -> Ruleset:
    return compile(policies, HOST, now=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_plan_of_what_is_already_is_empty(seed: int, docker: bool) -> None:
    """plan(x, x) is empty, with the runtime's chain and without."""
    draw = random.Random(seed)
    desired = compile(random_policies(draw, 3), random_world(draw, 4), now=0)
    chains = {(family, "DOCKER-USER"): () for family in FAMILIES} if docker else {}
    actual = desired_state(desired, docker=docker)
    leads = {key: text for key, text in actual.texts.items() if key[1] == "FORWARD"}
    there = replace(actual, chains={**chains, **actual.chains}, texts=leads)
    assert plan(desired, there).empty


@pytest.mark.parametrize(
    ("documents", "stops"),
    [
        pytest.param((), False, id="no document at all"),
        pytest.param((replace(WEB_TO_API, mode=Mode.OBSERVE),), False, id="observed"),
        pytest.param((replace(WEB_TO_API, mode=Mode.STAGE),), False, id="staged"),
        pytest.param((WEB_TO_API,), True, id="enforced"),
    ],
)
def test_only_an_enforcing_document_can_stop_a_packet(documents: tuple, stops: bool) -> None:
    """Observing and staging never touch a packet: no DROP and no REJECT in any chain."""
    targets = {
        type(rule.target)
        for family in FAMILIES
        for chain in compiled(*documents).of_family(family)
        for rule in chain.rules
    }
    assert bool(targets & {Drop, Reject}) is stops


def test_the_number_of_rules_does_not_depend_on_the_number_of_workloads() -> None:
    few = compiled(WEB_TO_API)
    crowd = snapshot(*(workload("web", n) for n in range(2, 100)), workload("api", 200))
    many = compile((WEB_TO_API,), crowd, now=0)
    assert few.of_family(4) == many.of_family(4)
    sizes = [{s.title: len(s.members) for s in each.sets}["nw-edge4"] for each in (few, many)]
    assert sizes == [1, 98]


def test_who_is_permitted_gets_it_before_the_rules_and_ends_are_closed_after() -> None:
    """A change from api-only to web-and-api: edges first, isolation last, removals after all."""
    web = replace(WEB_TO_API, name="web", subject=chosen("app", "web"))
    old, new = compiled(WEB_TO_API), compiled(replace(web, ingress=()))
    change = plan(new, desired_state(old))
    assert all(line.startswith(("create", "add")) for line in change.before)
    closing = [n for n, line in enumerate(change.after) if line.startswith("add nw-iso-in4")]
    opening = [n for n, line in enumerate(change.after) if line.startswith("del nw-iso-in4")]
    permits = [n for n, line in enumerate(change.after) if line.startswith("del nw-edge4")]
    assert closing and opening and permits
    assert max(closing) < min(opening) < min(permits)


def test_nothing_is_denied_before_its_edges_exist_at_the_first_apply() -> None:
    """With no rules of ours yet, every set is full before the first rule is there."""
    first = plan(compiled(WEB_TO_API), Actual())
    assert first.after == ()
    assert any(line.startswith("add nw-iso-in4") for line in first.before)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda a: Actual(
                {k: v for k, v in a.chains.items() if k != (4, "INPUT")}, a.sets, guard=a.guard
            ),
            "the jump to NW-IN is missing from INPUT",
            id="jump gone",
        ),
        pytest.param(
            lambda a: Actual(
                {**a.chains, (6, "INPUT"): ("", *a.chains[6, "INPUT"])}, a.sets, guard=a.guard
            ),
            "IPv6: the jump to NW-IN is not the first rule of INPUT",
            id="jump not first",
        ),
        pytest.param(
            lambda a: Actual(
                {k: v for k, v in a.chains.items() if k != (4, "NW-PAIR")}, a.sets, guard=a.guard
            ),
            "the chain NW-PAIR is missing",
            id="chain gone",
        ),
        pytest.param(
            lambda a: Actual(
                {**a.chains, (4, "NW-NEW"): ("", *a.chains[4, "NW-NEW"])}, a.sets, guard=a.guard
            ),
            "the chain NW-NEW was changed",
            id="a foreign rule in a chain",
        ),
        pytest.param(
            lambda a: Actual(
                a.chains,
                {**a.sets, "nw-iso-in4": ("hash:ip", frozenset({"192.0.2.77"}))},
                guard=a.guard,
            ),
            "the set nw-iso-in4 lacks 1 members and has 1 too many",
            id="members changed",
        ),
        pytest.param(
            lambda a: Actual(
                a.chains, {**a.sets, "nw-old4": ("hash:ip", frozenset())}, guard=a.guard
            ),
            "the set nw-old4 should not be there",
            id="a set too many",
        ),
    ],
)
def test_each_drift_is_named_and_mended(spoil: object, says: str) -> None:
    desired = compiled(WEB_TO_API)
    change = plan(desired, spoil(desired_state(desired)))  # type: ignore[operator]
    assert len(change.drift) == 1
    assert says in change.drift[0]
    assert not change.empty


def test_a_docker_host_is_hooked_in_its_own_chain_and_no_longer_in_forward() -> None:
    desired = compiled(WEB_TO_API)
    without = desired_state(desired)
    there = Actual(
        {**without.chains, (4, "DOCKER-USER"): ("",)},
        without.sets,
        {(4, "FORWARD"): ("-A FORWARD -j DOCKER-USER",)},
        guard=without.guard,
    )
    lines = dict(plan(desired, there).rules)[4]
    assert [line[:18] for line in lines if "FORWARD" in line] == ["-D FORWARD -m comm"]
    assert [line[:16] for line in lines if "-USER" in line] == ["-I DOCKER-USER 1"]


@pytest.mark.parametrize(
    ("before", "hooks"),
    [
        pytest.param((), ["DOCKER-USER"], id="asked first"),
        pytest.param(("-A FORWARD -j ACCEPT",), ["DOCKER-USER", "FORWARD"], id="after an ACCEPT"),
        pytest.param(
            ("-A FORWARD -i br0 -j DOCKER-USER",), ["DOCKER-USER", "FORWARD"], id="not always"
        ),
    ],
)
def test_who_stands_before_docker_user_does_not_pass_by(
    before: tuple[str, ...], hooks: list[str]
) -> None:
    """What FORWARD accepts before it asks DOCKER-USER would never meet our rules."""
    texts = (*before, "-A FORWARD -j DOCKER-USER")
    there = Actual({(4, "DOCKER-USER"): ()}, {}, {(4, "FORWARD"): texts})
    lines = dict(plan(compiled(WEB_TO_API), there).rules)[4]
    found = {line.split(" ")[1] for line in lines if line.startswith("-I ")}
    assert sorted(found - {"INPUT", "OUTPUT"}) == hooks


def test_a_chain_that_nothing_leads_to_is_no_hook() -> None:
    """What Docker leaves behind when it changes to nftables: a jump there would see no packet."""
    desired = compiled(WEB_TO_API)
    there = Actual({(4, "DOCKER-USER"): ("",), (4, "FORWARD"): ()})
    lines = dict(plan(desired, there).rules)[4]
    assert [line[:12] for line in lines if "NW-FWD" in line and "-I" in line] == ["-I FORWARD 1"]
    assert not any("-USER" in line for line in lines)


def test_removal_leaves_no_chain_no_jump_and_no_set() -> None:
    held = desired_state(compiled(WEB_TO_API))
    change = plan(NOTHING, held)
    deleted = {line[3:] for _, lines in change.rules for line in lines if line.startswith("-X")}
    assert deleted == {name for _, name in held.chains if name.startswith("NW-")}
    assert {line[8:] for line in change.after} == set(held.sets)
    assert sum(line.startswith("-D ") for _, lines in change.rules for line in lines) == 6
