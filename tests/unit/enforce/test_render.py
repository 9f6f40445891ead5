"""Rules as text: nothing hostile can become part of one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.plan import Actual, plan
from netwatch.enforce.render import chain_lines, member_line, member_lines, rule_text
from netwatch.enforce.ruleset import FAMILIES, InSet, Return, Rule
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Network
from netwatch.model.workload import Label
from netwatch.policy.ir import Mode, PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "hostile_inputs.json"


def everything_said(name: str) -> list[str]:
    """All text for the kernel, on a host where `name` stands wherever somebody may choose it."""
    web = workload(name, 10, labels=(Label("app", name, "lab"), Label(name, name, "lab")))
    web_key = Label("role", "web", "lab")
    host = snapshot(
        workload("x" + name, 10, labels=(*web.labels, web_key), project=name, image=name),
        workload("api", 11),
    )
    rule = allow(
        WorkloadPeer(chosen("role", "web")),
        ports=(PortSpec("tcp", 80, 80),),
        name=name,
        because=name,
        owner=name,
    )
    document = policy(
        chosen("app", "api"), name=name, isolates_ingress=True, ingress=(rule, allow())
    )
    change = plan(compile((document,), host, now=0), Actual())
    return [*change.before, *(line for _, lines in change.rules for line in lines), *change.after]


def test_hostile_names_give_the_rules_of_a_harmless_twin() -> None:
    """No name, label, image, title or reason has any influence on the text."""
    if not DATA.exists():
        pytest.skip(f"the hostile inputs are not at {DATA}")
    hostile = [str(case["value"]) for case in json.loads(DATA.read_text())]
    harmless = _masked(everything_said("harmless"))
    assert hostile
    for value in hostile:
        assert _masked(everything_said(value)) == harmless, value


def _masked(lines: list[str]) -> list[str]:
    """Digests depend on what the documents say, names included; their form does not."""
    return sorted(
        re.sub(r"(nw:[ADU]:|nw:|nw-(?:s-)?[bn]-)[0-9a-f]{10,12}", r"\1#", line) for line in lines
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a b", id="space"),
        pytest.param('a"b', id="quote"),
        pytest.param("a\n-A FORWARD -j ACCEPT", id="newline"),
        pytest.param("-j", id="option"),
        pytest.param("ä", id="not ascii"),
    ],
)
def test_a_name_that_is_no_word_is_refused(name: str) -> None:
    with pytest.raises(NetwatchError, match="may not become part of a rule"):
        rule_text(Rule(Return(), (InSet(name, "src"),)), 4)


@pytest.mark.parametrize(
    "member", ["1.2.3.4\nflush", "1.2.3.4\n1.2.3.5", "1.2.3.4 nomatch", "web", "", "1.2.3.4,br 0"]
)
def test_a_member_that_is_no_member_is_refused(member: str) -> None:
    with pytest.raises(NetwatchError, match="can not be a set's member"):
        member_line("add", "nw-edge4", member)
    with pytest.raises(NetwatchError):
        member_lines("add", "nw-edge4", ["198.18.0.1", member])


def test_a_bridge_with_a_hostile_name_stops_the_whole_change() -> None:
    """Interface names may hold almost anything; nothing is applied then, rather than half."""
    host = snapshot(workload("web", 10), workload("api", 11))
    evil = Network("lab", "bridge", "br0 nomatch", ("198.18.1.0/24",), ())
    document = policy(chosen("app", "api"), isolates_ingress=True)
    ruleset = compile((document,), type(host)("a", host.workloads, (evil,)), now=0)
    with pytest.raises(NetwatchError, match="can not be a set's member"):
        plan(ruleset, Actual())


def test_every_rule_has_a_mark_and_every_name_fits() -> None:
    """28 characters for a chain, 31 for a set: the kernel cuts or refuses what is longer."""
    host = snapshot(workload("web", 10), workload("api", 11))
    document = policy(chosen("app", "api"), isolates_ingress=True, ingress=(allow(),))
    staged = policy(chosen("app", "web"), isolates_egress=True, mode=Mode.STAGE)
    ruleset = compile((document, staged), host, now=0)
    for family in FAMILIES:
        for chain in ruleset.of_family(family):
            assert len(chain.name) <= 28
            assert all("--comment nw:" in line for line in chain_lines(chain, family))
    assert all(len(each.title) <= 31 for each in ruleset.sets)
