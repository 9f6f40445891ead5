"""What a cluster has is read with the meaning it had there, or refused by name and place."""

from __future__ import annotations

import pytest

from netwatch.policy.document import parse
from netwatch.policy.evaluate import STAGED, Judge
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.importing import read_foreign
from netwatch.policy.ir import Party, World
from netwatch.policy.writing import as_text

from .worlds import API, DB, HOST, OUTSIDE, PAY, WEB, WORLD

EMPTY = World()
CALICO = "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: p{space}}}\nspec:\n"
CILIUM = "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: p{space}}}\nspec:\n"
TIER = (
    "---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: early}\n"
    "spec: {order: 10, defaultAction: Pass}\n"
)


def _text(head: str, spec: str, *, kind: str, everywhere: bool = False) -> str:
    space = "" if everywhere else ", namespace: shop"
    return head.format(kind=kind, space=space) + "\n".join(f"  {x}" for x in spec.split("\n"))


def calico(spec: str, kind: str = "NetworkPolicy") -> str:
    return _text(CALICO, spec, kind=kind, everywhere=kind.startswith("Global"))


def cilium(spec: str, kind: str = "CiliumNetworkPolicy") -> str:
    return _text(CILIUM, spec, kind=kind, everywhere="wide" in kind)


def _verdicts(text: str, *questions: tuple[Party, Party, int]) -> str:
    """`a` or `d` for each, of what is read, written as ours and read again."""
    policies = read_foreign([(text, "c.yaml")], WORLD)
    judge = Judge(parse(as_text(policies), "again.yaml"), WORLD, STAGED)
    return "".join(judge.decide(a, b, "tcp", port).verdict[0] for a, b, port in questions)


web, api, db, pay = map(Party, (WEB, API, DB, PAY))
ASKED = [(web, db, 5432), (api, db, 5432), (api, db, 80), (pay, db, 5432)]
ASKED += [(HOST, db, 5432), (OUTSIDE, db, 5432)]


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        pytest.param(
            calico(
                "selector: app == 'db'\ningress:\n- {action: Allow, protocol: TCP, source:"
                " {selector: app == 'api'}, destination: {ports: [5432]}}"
            ),
            "daddad",
            id="the host may always in",
        ),
        pytest.param(
            calico(
                "selector: app == 'db'\ningress:\n- {action: Deny, source: {selector: app =="
                " 'web'}}\n- {action: Allow}"
            ),
            "daaaaa",
            id="a deny before an allow",
        ),
        pytest.param(
            calico(
                "selector: app == 'db'\ningress:\n- {action: Allow, source: {selector: app =="
                " 'web'}}\n- {action: Deny}"
            ),
            "adddad",
            id="a deny behind the last allow is what isolation says",
        ),
        pytest.param(
            calico(
                "namespaceSelector: all()\nselector: app in {'db', 'x'}\ntypes: [Ingress]\n"
                "ingress:\n- {action: Allow, source: {selector: tier != 'front' && has(app),"
                " namespaceSelector: projectcalico.org/name == 'shop'}}",
                "GlobalNetworkPolicy",
            ),
            "daadad",
            id="a global policy and its expressions",
        ),
        pytest.param(
            calico(
                "tier: early\norder: 5\nselector: app == 'db'\nnamespaceSelector: all()\n"
                "ingress:\n"
                "- {action: Deny, source: {namespaceSelector: team == 'money'}}\n- {action: Pass}",
                "GlobalNetworkPolicy",
            ).replace("- {action: Pass}", "- {action: Pass, source: {selector: all()}}")
            + "\n"
            + TIER,
            "aaadaa",
            id="a tier that passes on",
        ),
        pytest.param(
            calico("selector: app == 'db'", "StagedNetworkPolicy"), "ddddad", id="staged"
        ),
        pytest.param(
            cilium(
                "endpointSelector: {matchLabels: {app: db}}\ningress:\n- fromEndpoints: [{"
                "matchLabels: {'k8s:app': api}}]\n  toPorts: [{ports: [{port: '5432', protocol:"
                " TCP}]}]\ningressDeny:\n- fromEndpoints: [{matchLabels: {tier: front}}]"
            ),
            "daddad",
            id="allow and deny of Cilium",
        ),
        pytest.param(
            cilium("endpointSelector: {matchLabels: {app: db}}\ningress:\n- {}"),
            "ddddad",
            id="an empty rule of Cilium lets nobody in",
        ),
        pytest.param(
            cilium(
                "endpointSelector: {matchLabels: {app: db}}\ningress:\n- fromCIDR: [0.0.0.0/0]"
            ),
            "ddddaa",
            id="a CIDR of Cilium is no pod",
        ),
        pytest.param(
            cilium(
                "endpointSelector: {matchLabels: {app: db, io.kubernetes.pod.namespace: shop}}\n"
                "ingress:\n- fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: pay}}]",
                "CiliumClusterwideNetworkPolicy",
            ),
            "dddaad",
            id="another namespace",
        ),
    ],
)
def test_what_is_read_means_what_it_meant(text: str, verdicts: str) -> None:
    """Verdicts for web, api twice, pay, the host and the outside; written by Calico's rules."""
    assert _verdicts(text, *ASKED) == verdicts


@pytest.mark.parametrize(
    ("text", "line", "what", "right"),
    [
        pytest.param(
            calico(
                "selector: all()\ningress:\n"
                "- {action: Allow, http: {methods: [GET]}, protocol: TCP}"
            ),
            7,
            "http",
            "paths and methods",
            id="layer 7",
        ),
        pytest.param(
            calico("selector: all()\negress:\n- {action: Allow, destination: {domains: [a.b]}}"),
            7,
            "domains",
            "a Segment with to",
            id="domains",
        ),
        pytest.param(
            calico("selector: app == 'a' || app == 'b'"), 5, "||", "joined by &&", id="or"
        ),
        pytest.param(
            calico(
                "selector: all()\ningress:\n- {action: Allow, source: {selector: has(a)}}\n"
                "- {action: Deny, source: {selector: has(b)}}\n- {action: Allow}"
            ),
            8,
            "between two Allows",
            "before every Allow",
            id="order that matters",
        ),
        pytest.param(
            calico("tier: early\nselector: all()"), 5, "tier early", "kind: Tier", id="no tier"
        ),
        pytest.param(
            calico("preDNAT: true\nselector: all()", "GlobalNetworkPolicy"),
            5,
            "preDNAT",
            "host endpoints",
            id="host endpoints",
        ),
        pytest.param(
            calico("nets: [198.18.0.0/24]", "GlobalNetworkSet"),
            1,
            "GlobalNetworkSet",
            "leave it",
            id="sets",
        ),
        pytest.param(
            cilium(
                "endpointSelector: {}\negress:\n- toPorts: [{ports: [{port: '80', protocol: TCP}],"
                " rules: {http: [{}]}}]"
            ),
            7,
            "rules",
            "not judged",
            id="layer 7 of Cilium",
        ),
        pytest.param(
            cilium("endpointSelector: {}\negress:\n- toFQDNs: [{matchPattern: '*.example.com'}]"),
            7,
            "matchPattern",
            "to: '*.example.com'",
            id="patterns",
        ),
        pytest.param(
            cilium("endpointSelector: {}\negress:\n- toServices: [{k8sService: {}}]"),
            7,
            "toServices",
            "select the workloads",
            id="services",
        ),
        pytest.param(
            cilium("endpointSelector: {}\ningress:\n- fromEntities: [world]"),
            7,
            "world",
            "0.0.0.0/0",
            id="entities",
        ),
        pytest.param(
            cilium("endpointSelector: {}\nnodeSelector: {}"),
            6,
            "nodeSelector",
            "hosts",
            id="nodes",
        ),
    ],
)
def test_what_has_no_equal_is_refused_where_it_stands(
    text: str, line: int, what: str, right: str
) -> None:
    """File, line and column, what is wrong, and what would be right; nothing is read by half."""
    with pytest.raises(InvalidPolicies) as raised:
        read_foreign([(text, "c.yaml")], EMPTY)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == ("c.yaml", line) and problem.column
    assert what in problem.message and right in (problem.hint or ""), str(problem)
