"""Laws of the tools around policies: whatever they say, `decide` says the same."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netwatch.model.errors import NetwatchError
from netwatch.policy.difference import difference
from netwatch.policy.document import parse
from netwatch.policy.evaluate import STAGED, Judge
from netwatch.policy.evidence import Call, Evidence
from netwatch.policy.explain import Question, explain
from netwatch.policy.formatting import formatted
from netwatch.policy.ir import Party, Policy, World
from netwatch.policy.learn import learn
from netwatch.policy.lint import lint
from netwatch.policy.match import governs
from netwatch.policy.naming import Naming
from netwatch.policy.parts import Ports
from netwatch.policy.writing import as_text
from tests.property.test_policy_laws import DOCUMENTS, LABELS, PARTIES, WORLD
from tests.unit.policy.worlds import workload

NOW = 1_795_315_200_000_000_000
CALLS = [("tcp", 80), ("tcp", 85), ("udp", 53), ("icmp", None)]
QUESTIONS = [Question(a, b, *what) for a, b, what in product(PARTIES, PARTIES, CALLS)]
ASKED = st.sampled_from(QUESTIONS)
WRITABLE = DOCUMENTS.map(
    lambda documents: [d for d in documents if d["kind"] in ("Segment", "NetworkPolicy")]
)


def _load(documents: list[dict[str, Any]], file: str = "drawn.json") -> tuple[Policy, ...]:
    return parse(json.dumps(documents), file)


def _verdicts(policies: tuple[Policy, ...]) -> list[str]:
    judge = Judge(policies, WORLD)
    return [judge.decide(*question, now=NOW).verdict for question in QUESTIONS]


@settings(max_examples=150, deadline=None)
@given(documents=DOCUMENTS, question=ASKED)
def test_an_explanation_ends_where_decide_ended(documents, question) -> None:
    """Verdict, document and rule are `decide`'s, and the last step tells that very rule."""
    policies = _load(documents)
    decision = Judge(policies, WORLD).decide(*question, now=NOW)
    found = explain(policies, WORLD, question, now=NOW)
    assert found.decision == decision
    last = found.steps[-1]
    if decision.verdict == "deny":
        assert (last.side, last.outcome) == (decision.side, "denies")
        if decision.rule is not None:
            assert last.place == decision.rule.place
    else:
        assert all(step.outcome != "denies" for step in found.steps)
        if decision.rule is not None:
            assert decision.rule.place in {s.place for s in found.steps if s.outcome == "permits"}


@settings(max_examples=150, deadline=None)
@given(documents=WRITABLE, question=ASKED)
def test_the_smallest_change_parses_and_then_allows(documents, question) -> None:
    """What is proposed for a denial, read back and added, allows the call and denies nothing."""
    policies = _load(documents)
    fix = explain(policies, WORLD, question, now=NOW).fix
    if fix is None:
        assert Judge(policies, WORLD).decide(*question, now=NOW).verdict == "allow"
        return
    assert fix.why_not is None and fix.edits
    added = (*policies, *parse(fix.text, "fix.yaml"))
    assert Judge(added, WORLD).decide(*question, now=NOW).verdict == "allow"
    before, after = _verdicts(policies), _verdicts(added)
    assert all(new == "allow" for old, new in zip(before, after, strict=True) if old == "allow")


@settings(max_examples=100, deadline=None)
@given(documents=DOCUMENTS, question=ASKED)
def test_a_nearest_rule_misses_for_a_reason(documents, question) -> None:
    """It is of a document in the set, and it says at least one thing that is not so."""
    policies = _load(documents)
    for near in explain(policies, WORLD, question, now=NOW).nearest:
        assert near.policy in policies and near.because


@settings(max_examples=150, deadline=None)
@given(documents=WRITABLE)
def test_written_documents_read_back_as_the_same_policies(documents) -> None:
    """Every verdict survives, and writing what was read changes nothing more."""
    policies = _load(documents)
    text = as_text(policies)
    again = parse(text, "written.yaml")
    assert _verdicts(again) == _verdicts(policies)
    assert as_text(again) == text


LABELLED = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(labels=LABELLED)
def test_the_labels_that_name_a_group_select_it_alone(labels) -> None:
    """Every replica, and no workload of another group of the namespace, is selected."""
    workloads = tuple(workload(f"x/w{n}", **given) for n, given in enumerate(labels))
    naming = Naming(World(workloads))
    for each in workloads:
        selector = naming.selector(each)
        found = [w for w in workloads if selector.matches(w.label_values())]
        assert tuple(found) == naming.replicas(each)
        assert all(w.label_values() == each.label_values() for w in found)


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS)
def test_no_set_of_documents_differs_from_itself(documents) -> None:
    """Read from another file in another order, the reachability is the same."""
    again = _load(documents[::-1], "other.json")
    assert difference(_load(documents), again, WORLD, now=NOW) == ()


INSIDE = [q for q in QUESTIONS if all(p.workload or p.host for p in q[:2]) and q[0] != q[1]]


@settings(max_examples=100, deadline=None)
@given(
    before=DOCUMENTS, after=DOCUMENTS, asked=st.sampled_from(INSIDE), port=st.integers(1, 65535)
)
def test_a_difference_is_exactly_what_decide_decides_differently(
    before, after, asked, port
) -> None:
    """For any pair and port: it is among the changes if and only if the verdicts differ."""
    asked = asked._replace(port=port if asked.port else None)
    sets = _load(before), _load(after)
    was, will = (Judge(s, WORLD).decide(*asked, now=NOW).verdict for s in sets)
    source, destination = (p.workload.key if p.workload else "host" for p in asked[:2])
    told = {
        change.kind
        for change in difference(*sets, WORLD, now=NOW)
        if source in change.sources and destination in change.destinations
        if any(_in(ports, asked) for ports in change.ports)
    }
    assert told == (set() if was == will else {"gained" if will == "allow" else "lost"})


def _in(ports: Ports, question: Question) -> bool:
    if question.port is None:
        return ports.first is None
    if ports.protocol != question.protocol or ports.first is None or ports.last is None:
        return False
    return ports.first <= question.port <= ports.last


FLOWS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([("tcp", 80), ("tcp", 443), ("udp", 53)])
        | st.tuples(st.just("tcp"), st.integers(40000, 40006)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(labels=st.lists(LABELS, min_size=2, max_size=6), flows=FLOWS)
def test_what_is_learned_allows_its_evidence_and_nothing_to_spare(labels, flows) -> None:
    """All evidence is allowed, no rule can be left out, and what was not seen is flagged."""
    workloads = tuple(
        replace(
            workload(f"{'xy'[n % 2]}/w{n}", f"198.18.0.{n + 1}", **given),
            ports=(),
        )
        for n, given in enumerate(labels)
    )
    world = World(workloads, networks=("198.18.0.0/24",), host_addresses=("192.0.2.1",))
    parties = [Party(w, w.addresses[0]) for w in workloads] + [Party(None, "192.0.2.1", host=True)]
    parties += [Party(None, f"203.0.113.{n}") for n in range(20)]
    calls = {}
    for source, destination, (protocol, port) in flows:
        ends = parties[source % len(parties)], parties[destination * 3 % len(parties)]
        question = Question(*ends, protocol, port)
        calls[question] = Call(
            *question, id=str(question), connections=1, first_seen=1, last_seen=2
        )
    found = learn(world, Evidence(tuple(calls.values())))
    policies = parse(as_text(found.policies), "learned.yaml")
    asked = [Question(c.source, c.destination, c.protocol, c.port) for c in found.evidence]
    assert all(_staged(policies, world, question) == "allow" for question in asked)
    assert {r.code for r in lint(policies, now=0) if r.severity == "finding"} <= {"says-nothing"}
    for smaller in _without_one_rule(policies):
        assert any(_staged(smaller, world, question) == "deny" for question in asked)
    if all(proposal.generalised is None for proposal in found.proposals):
        assert found.ratio == 1.0
        governed = {c for c in asked}
        for question in product(parties, parties, [("tcp", 80), ("tcp", 40003)]):
            one = Question(question[0], question[1], *question[2])
            if any(_isolated(policies, world, p) for p in one[:2]) and one[0] != one[1]:
                assert _staged(policies, world, one) == ("allow" if one in governed else "deny")


def _isolated(policies, world, party) -> bool:
    if party.workload is None:
        return False
    return any(governs(policy, party.workload, world) for policy in policies)


def _staged(policies, world, question) -> str:
    return Judge(policies, world, STAGED).decide(*question).verdict


def _without_one_rule(policies):
    for number, policy in enumerate(policies):
        for name in ("ingress", "egress"):
            rules = getattr(policy, name)
            for left_out in range(len(rules)):
                less = replace(policy, **{name: rules[:left_out] + rules[left_out + 1 :]})
                yield (*policies[:number], less, *policies[number + 1 :])


@settings(max_examples=60, deadline=None)
@given(documents=WRITABLE, marks=st.lists(st.integers(0, 200), max_size=6))
def test_formatting_keeps_meaning_and_comments_and_settles(documents, marks) -> None:
    """Whatever line a comment stands before or behind, it is there afterwards."""
    lines = as_text(_load(documents)).split("\n")
    for number, mark in enumerate(marks):
        spot = mark % len(lines)
        if mark % 2 and lines[spot] and not lines[spot].startswith("---"):
            lines[spot] += f"   # behind {number}"
        else:
            lines.insert(spot, f"# before {number}")
    text = "\n".join(lines) + "\n"
    try:
        laid = formatted(text, "f.yaml")
    except NetwatchError as error:
        assert "can not be laid out" in error.message
        return
    assert formatted(laid, "f.yaml") == laid
    assert laid.count("#") == text.count("#")
    assert _verdicts(parse(laid, "f.yaml")) == _verdicts(_load(documents))
