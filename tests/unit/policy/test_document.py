"""What documents become: defaults, forms and refusals."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from netwatch.model.times import nanoseconds
from netwatch.policy.document import parse
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.ir import EVERYTHING, Mode, PortSpec, WorkloadPeer

from .worlds import network_policy, segment, shared


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        pytest.param("podSelector: {}", True, False, id="nothing said: ingress"),
        pytest.param("podSelector: {}\negress: []", True, False, id="an empty egress is none"),
        pytest.param("podSelector: {}\negress: [{}]", True, True, id="egress rules isolate both"),
        pytest.param("policyTypes: [Egress]", False, True, id="stated: egress alone"),
        pytest.param(
            "policyTypes: []\negress: [{}]", True, True, id="an empty list is not stated"
        ),
        pytest.param("policyTypes: [Ingress]\negress: [{}]", True, False, id="stated: no egress"),
    ],
)
def test_policy_types_have_the_defaults_of_upstream(
    spec: str, ingress: bool, egress: bool
) -> None:
    """Ingress always unless stated otherwise, egress only if egress rules exist."""
    (policy,) = network_policy(spec)
    assert (policy.isolates_ingress, policy.isolates_egress) == (ingress, egress)
    assert egress or policy.egress == ()


def test_absent_and_empty_lists_of_a_network_policy() -> None:
    """Absent or empty `from` and `ports` mean everybody and everything; `podSelector: {}` all."""
    (policy,) = network_policy("podSelector: {}\ningress: [{}, {from: [], ports: []}, {from: }]")
    assert policy.subject == EVERYTHING
    assert [(rule.peers, rule.ports) for rule in policy.ingress] == [((), ())] * 3
    (policy,) = network_policy("podSelector: {}\ningress: [{ports: [{}, {protocol: SCTP}]}]")
    assert policy.ingress[0].ports == (PortSpec("tcp"), PortSpec("sctp"))


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        pytest.param("governs: all", False, False, id="nothing"),
        pytest.param("governs: all\nrules: [{from: host}]", True, False, id="a rule with from"),
        pytest.param("governs: all\nrules: [{to: host}]", False, True, id="a rule with to"),
        pytest.param("governs: all\ningress: isolated", True, False, id="ingress: isolated"),
        pytest.param("governs: all\negress: isolated", False, True, id="egress: isolated"),
        pytest.param("governs: all\nrules: [{to: host}]\negress: open", False, False, id="open"),
    ],
)
def test_what_a_segment_isolates(spec: str, ingress: bool, egress: bool) -> None:
    """By its rules or by its word, each direction apart."""
    (policy,) = segment(spec)
    assert (policy.isolates_ingress, policy.isolates_egress) == (ingress, egress)


def test_a_rule_carries_its_reasons() -> None:
    """because, owner, ticket, expires, require and name reach the rule; `now` decides expiry."""
    (policy,) = segment(
        "governs: all\nmode: stage\nrules:\n- from: anyone\n  because: it must\n  owner: me\n"
        "  ticket: T-1\n  expires: 2030-01-31T10:00:00+01:00\n  require: TLS >= 1.2\n  name: x"
    )
    (rule,) = policy.ingress
    assert policy.mode is Mode.STAGE
    assert (rule.because, rule.owner, rule.ticket, rule.name) == ("it must", "me", "T-1", "x")
    assert rule.expires == nanoseconds("2030-01-31T09:00:00Z")
    assert rule.obligation == "tls>=1.2"


def test_namespaces_have_their_defaults() -> None:
    """Without a namespace it is `default`; with scope: all it is none, and peers name theirs."""
    text = "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: a}\nspec: {governs: all%s}\n"
    assert parse(text % "", "a")[0].namespace == "default"
    assert parse(text % ", scope: all", "a")[0].namespace is None
    (policy,) = parse(text % ", scope: all, rules: [{from: {namespace: any}}]", "a")
    assert policy.ingress[0].peers == (WorkloadPeer(EVERYTHING, EVERYTHING),)


def test_lists_and_several_documents_are_one_file() -> None:
    """A List, a bare list, `---`, empty documents and anchors all give the same two policies."""
    item = "{apiVersion: netwatch/v1, kind: Segment, metadata: {name: %s}, spec: {governs: all}}"
    one, two = item % "one", item % "two"
    for text in (
        f"{one}\n---\n{two}\n---\n",
        f"- {one}\n- {two}\n",
        f"apiVersion: v1\nkind: List\nitems:\n- {one}\n- {two}\n",
        f"---\n---\n{one}\n---\n# nothing\n---\n{two}\n",
    ):
        assert [policy.name for policy in parse(text, "a.yaml")] == ["one", "two"]
    assert parse("", "a.yaml") == () == parse("apiVersion: v1\nkind: List\nitems: []", "a.yaml")


def test_an_alias_means_what_it_repeats() -> None:
    """Anchors are for people; merge keys and bombs are refused elsewhere."""
    (policy,) = segment("governs: &who {app: web}\nrules: [{from: *who}]")
    assert policy.ingress[0].peers == (WorkloadPeer(policy.subject),)


HOSTILE = shared("hostile_inputs.json")
FIELDS = ("name", "governs", "peer", "ports")


def _with(**fields: str) -> str:
    parts = {"name": "a", "governs": "all", "peer": "host", "ports": "80"} | fields
    return (
        "apiVersion: netwatch/v1\nkind: Segment\n"
        f"metadata: {{name: {parts['name']}}}\n"
        f"spec:\n  governs: {parts['governs']}\n"
        f"  rules: [{{from: {parts['peer']}, ports: {parts['ports']}}}]\n"
    )


@pytest.mark.parametrize("case", HOSTILE, ids=[case["id"] for case in HOSTILE])
def test_hostile_text_is_refused_in_every_field(case: dict[str, Any]) -> None:
    """On printable lines that name the place; what looks like a name may be one."""
    harmless_name = re.fullmatch(r"[A-Za-z0-9.]+", case["value"])
    for field in ("governs", "peer", "ports") if harmless_name else FIELDS:
        with pytest.raises(InvalidPolicies) as caught:
            parse(_with(**{field: json.dumps(case["value"])}), "hostile.yaml")
            pytest.fail(f"taken as {field}")
        for problem in caught.value.problems:
            assert str(problem).isprintable() and problem.line in (3, 5, 6), field


@pytest.mark.parametrize("case", HOSTILE, ids=[case["id"] for case in HOSTILE])
def test_hostile_text_as_a_whole_file_is_no_policy(case: dict[str, Any]) -> None:
    """It is refused, or, being nothing but an anchor, holds no document."""
    try:
        assert parse(case["value"], "hostile.yaml") == ()
    except InvalidPolicies as error:
        assert all(str(problem).isprintable() for problem in error.problems)
