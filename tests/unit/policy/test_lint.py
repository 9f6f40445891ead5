"""Each remark is made where it is true, and not where it is not."""

from __future__ import annotations

import pytest

from netwatch.model.times import nanoseconds
from netwatch.policy.lint import lint

from .worlds import cluster_network_policy, network_policy, segment

NOW = nanoseconds("2030-01-01T00:00:00Z")
GOVERNS = "governs: {app: db}\n"


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        pytest.param("rules: [{from: {app: a}, ports: 1}]", set(), id="a plain rule"),
        pytest.param("rules: [{from: {app: a}, expires: 2029-12-31}]", {"expired"}, id="expired"),
        pytest.param("rules: [{from: {app: a}, expires: 2030-01-01}]", set(), id="last day"),
        pytest.param("rules: [{from: anyone}]", {"too-wide"}, id="everybody, every port"),
        pytest.param("rules: [{from: 0.0.0.0/0}]", {"too-wide"}, id="every address, every port"),
        pytest.param("rules: [{from: anyone, because: x}]", set(), id="everybody, justified"),
        pytest.param("rules: [{from: anyone, ports: 80}]", set(), id="everybody, one port"),
        pytest.param("rules: [{from: host}, {from: host}]", {"shadowed"}, id="the same twice"),
        pytest.param(
            "rules: [{from: host}, {from: host, ports: 80}]", {"shadowed"}, id="ports covered"
        ),
        pytest.param(
            "rules: [{from: [host, internet], ports: 1-9}, {from: host, ports: 2-3}]",
            {"shadowed"},
            id="peers and ports covered",
        ),
        pytest.param(
            "rules: [{from: host, require: encrypted}, {from: host, ports: 80}]",
            set(),
            id="an obligation covers nothing freer",
        ),
        pytest.param(
            "rules: [{from: host, ports: 80}, {from: host, ports: 80/udp}]",
            set(),
            id="other protocol",
        ),
        pytest.param(
            "rules: [{from: host, deny: true}, {from: host, ports: 80}, {from: internet}]",
            {"shadowed"},
            id="an allow below a deny",
        ),
        pytest.param("rules: [{from: 'app=a, app!=a'}]", {"matches-nobody"}, id="contradiction"),
        pytest.param("rules: [{from: 'has(a), !has(a)'}]", {"matches-nobody"}, id="has and not"),
        pytest.param("rules: [{from: 'a!=b, !has(a)'}]", set(), id="two ways to lack it"),
        pytest.param("rules: [{from: host, deny: true}]", {"denies-everything"}, id="only denies"),
        pytest.param("rules: [{from: host, deny: true}]\ningress: open", set(), id="open denies"),
        pytest.param("mode: stage", {"says-nothing"}, id="no rule"),
        pytest.param(
            "rules: [{from: host, exception: true, owner: me, expires: 2031-01-01}]",
            {"unjustified"},
            id="an exception without because",
        ),
        pytest.param("rules: [{to: host, ports: 80}]", {"no-dns"}, id="egress without DNS"),
        pytest.param("rules: [{to: host, ports: 53/udp}]", set(), id="egress with DNS"),
    ],
)
def test_remarks_on_a_segment(spec: str, codes: set[str]) -> None:
    """The codes of all remarks on one document."""
    assert {remark.code for remark in lint(segment(GOVERNS + spec), now=NOW)} == codes


def test_upstreams_idioms_are_warned_of_at_most() -> None:
    """A NetworkPolicy that allows everybody is an idiom: it is said, and nothing fails."""
    (remark,) = lint(network_policy("podSelector: {}\ningress: [{}]"), now=NOW)
    assert (remark.code, remark.severity) == ("too-wide", "warning")


def test_another_document_may_bring_dns() -> None:
    """The warning is about the namespace, not about one file."""
    dns = segment("governs: all\nrules: [{to: anyone, ports: dns}]", "dns")
    assert lint(segment("governs: all\nrules: [{to: host, ports: 80}]") + dns, now=NOW) == ()


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        pytest.param("policyTypes: [Ingress]\ningress: [{}]\negress: [{}]", 1, id="egress"),
        pytest.param("policyTypes: [Egress]\ningress: [{}, {}]\negress: []", 2, id="ingress"),
        pytest.param("policyTypes: [Ingress]\negress: []", 0, id="no rule"),
        pytest.param("ingress: [{}]\negress: [{}]", 0, id="nothing stated"),
        pytest.param(
            "policyTypes: [Ingress, Egress]\ningress: [{}]\negress: [{}]", 0, id="both stated"
        ),
    ],
)
def test_rules_outside_policy_types_are_found(spec: str, codes: int) -> None:
    """A rule whose direction is not listed is written and means nothing."""
    remarks = lint(network_policy(f"podSelector: {{}}\n{spec}"), now=NOW)
    found = [remark for remark in remarks if remark.code == "ignored"]
    assert [remark.severity for remark in found] == ["finding"] * codes


ANYONE = "from: [{namespaces: {}}]"
WEB = "from: [{namespaces: {matchLabels: {team: web}}}]"
PORT = "protocols: [{tcp: {destinationPort: {number: 80}}}]"


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        pytest.param(f"{{action: Deny, {ANYONE}}}", set(), id="a plain rule"),
        pytest.param(
            f"{{action: Deny, {WEB}}}, {{action: Accept, {WEB}}}",
            {"unreachable"},
            id="the same peer again, whatever the action",
        ),
        pytest.param(
            f"{{action: Pass, {WEB}}}, {{action: Deny, {WEB}, {PORT}}}",
            {"unreachable"},
            id="a port of all that was passed",
        ),
        pytest.param(
            f"{{action: Deny, {WEB}, {PORT}}}, {{action: Accept, {WEB}}}",
            set(),
            id="all after one port",
        ),
        pytest.param(
            f"{{action: Deny, {WEB}, {PORT}}}, {{action: Deny, {WEB}}}",
            set(),
            id="the narrow one first",
        ),
    ],
)
def test_remarks_on_the_order_of_a_tiers_rules(rules: str, codes: set[str]) -> None:
    """What comes first decides; what can never decide is found."""
    policies = cluster_network_policy(f"ingress: [{rules}]")
    assert {remark.code for remark in lint(policies, now=NOW)} == codes


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        pytest.param("{action: Accept, to: [{networks: [0.0.0.0/0]}]}", "too-wide", id="wide"),
        pytest.param(
            "{action: Accept, to: [{domainNames: [a.example]}]}", "needs-names", id="names"
        ),
    ],
)
def test_what_a_tier_may_say_is_warned_of(rules: str, code: str) -> None:
    """Idioms of upstream are said, and nothing fails."""
    (remark,) = lint(cluster_network_policy(f"egress: [{rules}]"), now=NOW)
    assert (remark.code, remark.severity) == (code, "warning")
