"""Other forms say the same, tell what differs, or are refused with the reason."""

from __future__ import annotations

import pytest

from netwatch.model.errors import NetwatchError
from netwatch.policy.document import parse
from netwatch.policy.export import differences, to_dot, to_kubernetes, to_netwatch

from .worlds import WORLD, network_policy, segment

DB = "governs: {app: db}\nrules: [{from: [{app: api}, host], ports: [5432, dns]}]"


@pytest.mark.parametrize(
    "spec",
    [
        DB,
        "governs: all\negress: isolated\ningress: isolated\nrules: [{from: [host, {app: x}]}]",
        "governs: app in (api, web), !has(x)\nrules: [{to: internet, ports: 443}, {from: anyone}]",
        "governs: all\nrules: [{from: [{namespace: pay}, host]}, {from: {cidr: 198.18.0.0/16,"
        " except: [198.18.1.0/24]}, ports: '*/udp'}]",
    ],
)
def test_a_segment_that_lets_the_host_in_is_the_same_in_kubernetes(spec: str) -> None:
    """Or is told to be more open to the host, and to nobody else."""
    policies = segment(spec)
    again = parse(to_kubernetes(policies, WORLD), "k.yaml")
    assert {policy.kind for policy in again} == {"NetworkPolicy"}
    told = differences(policies, again, WORLD, now=0)
    assert all(line.startswith("host reaches") for line in told)


def test_the_host_that_a_segment_keeps_out_is_told() -> None:
    policies = segment("governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]")
    again = parse(to_kubernetes(policies, WORLD), "k.yaml")
    assert differences(policies, again, WORLD, now=0) == (
        "host reaches shop/db on tcp/any, udp/any, sctp/any, without ports",
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("governs: all\nrules: [{from: {app: a}, deny: true}]", "denies"),
        ("governs: all\nrules: [{from: {app: a}, require: encrypted}]", "demands encryption"),
        ("governs: all\nrules: [{from: {app: a}, expires: 2030-01-01}]", "ends"),
        ("governs: all\nrules: [{to: host}]", "the host as destination"),
        ("governs: all\nrules: [{from: host}]", "the host alone"),
        ("governs: all\ningress: open\nrules: [{from: {app: a}}]", "do not isolate"),
        ("governs: all\nscope: all\ningress: isolated", "every namespace"),
    ],
)
def test_what_has_no_equal_is_refused_with_the_place(spec: str, why: str) -> None:
    with pytest.raises(NetwatchError, match=why) as raised:
        to_kubernetes(segment(spec), WORLD)
    assert "s.yaml:" in raised.value.message


def test_a_network_policy_keeps_its_mode_and_loses_nothing() -> None:
    policies = network_policy(
        "podSelector: {}\npolicyTypes: [Egress]", annotations="{netwatch/mode: stage}"
    )
    (again,) = parse(to_netwatch(policies), "n.yaml")
    assert (again.mode, again.isolates_ingress, again.isolates_egress) == ("stage", False, True)


def test_a_graph_has_an_edge_for_each_allowed_pair_and_quotes_names() -> None:
    dot = to_dot(
        segment("governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]"), WORLD, now=0
    )
    assert '  "shop/api" -> "shop/db" [label="tcp/5432"];' in dot
    assert dot.count("->") == 1 and dot.startswith("digraph netwatch {")
