"""What an explanation says, in tables: the side, the rule, the nearest rule, the fix."""

from __future__ import annotations

import pytest

from netwatch.policy.document import parse
from netwatch.policy.evaluate import Judge
from netwatch.policy.explain import Question, explain
from netwatch.policy.ir import Party

from .worlds import API, DB, HOST, OUTSIDE, PAY, ROGUE, WEB, WORLD, network_policy, segment

NOW = 1_795_315_200_000_000_000
DB_ONLY_API = "governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]"


def _ask(policies, source, destination, port=5432):
    question = Question(source, destination, "tcp", port)
    return explain(policies, WORLD, question, now=NOW)


@pytest.mark.parametrize(
    ("source", "port", "because"),
    [
        pytest.param(Party(WEB), 5432, 1, id="the port is right and the caller is not"),
        pytest.param(Party(API), 5433, 1, id="the caller is right and the port is not"),
        pytest.param(Party(ROGUE), 22, 2, id="neither is right"),
    ],
)
def test_the_nearest_rule_says_what_it_misses(source, port, because) -> None:
    near = _ask(segment(DB_ONLY_API), source, Party(DB), port).nearest[0]
    assert (near.rule.place.line, len(near.because)) == (6, because)


def test_of_two_rules_the_one_that_misses_less_is_nearest() -> None:
    """A rule for this caller on another port is nearer than one for another caller."""
    rules = "- {from: {app: api}, ports: 1}\n- {from: {app: web}, ports: 2}"
    policies = segment(f"governs: {{app: db}}\nrules:\n{rules}")
    assert [n.rule.place.line for n in _ask(policies, Party(WEB), Party(DB), 1).nearest] == [8, 7]
    assert [n.rule.place.line for n in _ask(policies, Party(API), Party(DB), 2).nearest] == [7, 8]


def test_the_trace_names_every_side_in_order_and_stops_at_the_denial() -> None:
    """The source's egress permits first; the destination's isolation denies last."""
    found = _ask(segment(DB_ONLY_API), Party(WEB), Party(DB))
    assert [(step.side, step.outcome) for step in found.steps] == [
        ("source", "passes"),
        ("source", "permits"),
        ("destination", "holds"),
        ("destination", "misses"),
        ("destination", "denies"),
    ]
    assert str(found.steps[-1].place) == "s.yaml:1:1"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(Party(WEB), "- {from: {app: web}, ports: 5432}", id="the same namespace"),
        pytest.param(
            Party(PAY),
            "- {from: {namespace: pay, labels: {app: pay}}, ports: 5432}",
            id="another namespace",
        ),
        pytest.param(HOST, "- {from: host, ports: 5432}", id="the host"),
        pytest.param(OUTSIDE, "- {from: 203.0.113.9/32, ports: 5432}", id="an address"),
    ],
)
def test_the_edit_is_one_rule_for_this_caller_and_port(source, line) -> None:
    fix = _ask(segment(DB_ONLY_API), source, Party(DB)).fix
    assert fix is not None
    assert fix.edits == (f"add to the rules of Segment shop/s (s.yaml:1:1): {line}",)


def test_a_deny_rule_is_overruled_by_an_exception_with_an_owner_and_an_end() -> None:
    policies = segment(
        "governs: {app: db}\ningress: open\nrules: [{from: {app: web}, deny: true}]"
    )
    found = _ask(policies, Party(WEB), Party(DB))
    assert found.fix is not None
    (fix,) = parse(found.fix.text, "fix.yaml")
    rule = fix.ingress[0]
    assert rule.exception and rule.owner and rule.expires == NOW + 7 * 86_400 * 10**9
    assert not fix.isolates_ingress


def test_both_sides_are_mended_where_both_deny() -> None:
    policies = (
        *segment(DB_ONLY_API),
        *network_policy("podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]"),
    )
    found = _ask(policies, Party(WEB), Party(DB))
    assert found.decision.side == "source"
    assert found.fix is not None and len(found.fix.edits) == 2
    judge = Judge((*policies, *found.fix.policies), WORLD)
    assert judge.decide(*found.question, now=NOW).verdict == "allow"
    assert judge.decide(Party(ROGUE), Party(DB), "tcp", 5432, now=NOW).verdict == "deny"


def test_an_expired_rule_is_near_and_says_so() -> None:
    policies = segment("governs: {app: db}\nrules: [{from: {app: web}, expires: 2020-01-01}]")
    assert _ask(policies, Party(WEB), Party(DB)).nearest[0].because == ("it has expired",)


def test_a_workload_reaches_itself_in_one_step() -> None:
    found = _ask(segment(DB_ONLY_API), Party(DB), Party(DB))
    assert [(step.side, step.outcome) for step in found.steps] == [("both", "permits")]
    assert found.fix is None and found.nearest == ()


CLUSTER = """\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
    - {action: %s, from: [{namespaces: {}}]}
"""


def test_what_the_admin_tier_denies_has_no_fix_and_says_so() -> None:
    found = _ask(parse(CLUSTER % "Deny", "guard.yaml"), Party(WEB), Party(DB))
    assert (found.decision.verdict, str(found.steps[-1].place)) == ("deny", "guard.yaml:9:7")
    assert found.fix is not None and "overrides" in str(found.fix.why_not)


def test_a_pass_is_told_before_the_rule_of_the_next_tier() -> None:
    policies = (*parse(CLUSTER % "Pass", "guard.yaml"), *segment(DB_ONLY_API))
    found = _ask(policies, Party(API), Party(DB))
    told = [(s.outcome, s.place.file) for s in found.steps if s.side == "destination" and s.place]
    assert told == [("holds", "s.yaml"), ("holds", "guard.yaml"), ("permits", "s.yaml")]
    assert "next tier" in found.steps[-2].text
