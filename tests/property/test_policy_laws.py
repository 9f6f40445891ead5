"""Laws of policy that hold for any documents, not only for the ones in tables."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netwatch.model.errors import InvalidDocument
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy.document import parse
from netwatch.policy.evaluate import Judge
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.ir import Party, Policy, World
from netwatch.policy.lint import lint
from netwatch.policy.match import peer_matches
from netwatch.policy.networks import Outside, holds
from netwatch.policy.peers import Peers
from netwatch.policy.world import parse_world
from tests.property.plain_judgement import plainly

KEYS = st.sampled_from(["app", "tier"])
VALUES = st.sampled_from(["a", "b", "c"])
SPACES = ["x", "y"]
LABELS = st.dictionaries(KEYS, VALUES, max_size=2)
CIDRS = st.sampled_from(["198.18.0.0/30", "198.18.0.2/32", "0.0.0.0/0", "::/0"])
EXPRESSIONS = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1, max_size=2),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        KEYS,
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
)
SELECTORS = st.fixed_dictionaries(
    {}, optional={"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}
)
PEERS = st.one_of(
    st.builds(lambda selector: {"podSelector": selector}, SELECTORS),
    st.builds(
        lambda pods, spaces: {"podSelector": pods, "namespaceSelector": spaces},
        SELECTORS,
        SELECTORS,
    ),
    st.builds(lambda cidr: {"ipBlock": {"cidr": cidr}}, CIDRS),
)
PORTS = st.sampled_from(
    [{"port": 80}, {"port": "http"}, {"port": 70, "endPort": 90}, {"protocol": "UDP"}]
)


def _rules(peers: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    optional = {peers: st.lists(PEERS, max_size=2), "ports": st.lists(PORTS, max_size=2)}
    return st.lists(st.fixed_dictionaries({}, optional=optional), max_size=3)


SPECS = st.fixed_dictionaries(
    {"podSelector": SELECTORS},
    optional={
        "ingress": _rules("from"),
        "egress": _rules("to"),
        "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
    },
)
SHORT_PEERS = st.one_of(
    LABELS,
    st.sampled_from(["host", "internet", "198.18.0.0/30", "has(app)", "app!=a"]),
    st.builds(lambda space: {"namespace": space}, st.sampled_from([*SPACES, "any"])),
)
SHORT_RULES = st.builds(
    lambda end, peer, extra, more: {end: peer, **extra, **more},
    st.sampled_from(["from", "to"]),
    SHORT_PEERS,
    st.sampled_from([{}, {"ports": 80}, {"ports": "http"}, {"ports": ["80-90", "53/udp"]}]),
    st.sampled_from(
        [{}, {"deny": True}, {"exception": True, "owner": "me", "expires": "2030-01-31"}]
    ),
)
SEGMENTS = st.fixed_dictionaries(
    {"governs": LABELS, "rules": st.lists(SHORT_RULES, max_size=4)},
    optional={"ingress": st.just("isolated"), "egress": st.sampled_from(["open", "isolated"])},
)


INSIDE = st.one_of(
    st.builds(lambda spaces: {"namespaces": spaces}, SELECTORS),
    st.builds(
        lambda spaces, pods: {"pods": {"namespaceSelector": spaces, "podSelector": pods}},
        SELECTORS,
        SELECTORS,
    ),
)
TIER_PEERS = {
    "from": INSIDE,
    "to": st.one_of(INSIDE, st.builds(lambda cidr: {"networks": [cidr]}, CIDRS)),
}
TIER_PORTS = st.sampled_from(
    [{"tcp": {"destinationPort": {"number": 80}}}]
    + [{"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}}]
)


def _tier_rules(end: str, actions: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = {
        "action": st.sampled_from(actions),
        end: st.lists(TIER_PEERS[end], min_size=1, max_size=2),
    }
    ports = {"protocols": st.lists(TIER_PORTS, min_size=1, max_size=2)}
    return st.lists(st.fixed_dictionaries(rule, optional=ports), max_size=3)


def _tiers(names: list[str], actions: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """ClusterNetworkPolicy documents of these tiers, each with a priority of its own."""
    spec = {
        "tier": st.sampled_from(names),
        "subject": INSIDE,
        "ingress": _tier_rules("from", actions),
        "egress": _tier_rules("to", actions),
    }
    return st.lists(st.fixed_dictionaries(spec), max_size=3).map(
        lambda specs: [
            _document(50 + i, "ClusterNetworkPolicy", None, {**spec, "priority": i})
            for i, spec in enumerate(specs)
        ]
    )


TIERS = _tiers(["Admin", "Baseline"], ["Accept", "Deny", "Pass"])
VERSIONS = {
    "Segment": "netwatch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
}


def _document(number: int, kind: str, space: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    version = VERSIONS[kind]
    metadata = {"name": f"d{number}", **({"namespace": space} if space else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


DOCUMENTS = st.lists(
    st.one_of(
        st.tuples(st.just("NetworkPolicy"), st.sampled_from(SPACES), SPECS),
        st.tuples(st.just("Segment"), st.sampled_from(SPACES), SEGMENTS),
    ),
    max_size=4,
).map(lambda docs: [_document(i, *doc) for i, doc in enumerate(docs)])


def _workload(number: int, space: str, labels: dict[str, str]) -> Workload:
    return Workload(
        "h",
        space,
        f"w{number}",
        "test",
        labels=tuple(Label(key, value, "own") for key, value in sorted(labels.items())),
        addresses=(f"198.18.0.{number + 1}",),
        ports=(DocumentedPort(80, "tcp", "own", "http"), DocumentedPort(53, "udp", "own")),
    )


WORKLOADS = [
    _workload(0, "x", {"app": "a"}),
    _workload(1, "x", {"app": "b", "tier": "a"}),
    _workload(2, "y", {"tier": "b"}),
    _workload(3, "y", {}),
]
WORLD = World(tuple(WORKLOADS), (("x", (("app", "a"),)),), networks=("198.18.0.0/24",))
PARTIES = [*map(Party, WORKLOADS), Party(host=True), Party(address="203.0.113.7")]
QUESTIONS = list(product(PARTIES, PARTIES, [("tcp", 80), ("udp", 53), ("icmp", None)]))


def _load(documents: list[dict[str, Any]]) -> tuple[Policy, ...]:
    return parse(json.dumps(documents), "drawn.json")


def _reached(policies: tuple[Policy, ...]) -> list[str]:
    judge = Judge(policies, WORLD)
    return [judge.decide(a, b, *what).verdict for a, b, what in QUESTIONS]


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, tiers=TIERS, data=st.data())
def test_the_order_of_documents_and_rules_changes_nothing(documents, tiers, data) -> None:
    """Any permutation gives the same verdicts; only within a document of a tier order counts."""
    documents = [*documents, *tiers]
    shuffled = []
    for document in data.draw(st.permutations(documents)):
        spec = dict(document["spec"])
        for key in ("ingress", "egress", "rules"):
            if document["kind"] != "ClusterNetworkPolicy" and isinstance(spec.get(key), list):
                spec[key] = data.draw(st.permutations(spec[key]))
        shuffled.append({**document, "spec": spec})
    assert _reached(_load(documents)) == _reached(_load(shuffled))


@settings(max_examples=60, deadline=None)
@given(
    documents=DOCUMENTS, tiers=_tiers(["Baseline"], ["Deny"]), passes=_tiers(["Admin"], ["Pass"])
)
def test_an_admin_tier_that_only_passes_is_none(documents, tiers, passes) -> None:
    """Pass everywhere in Admin equals no Admin tier, with any middle and any Baseline."""
    passes = [{**each, "metadata": {"name": f"p{i}"}} for i, each in enumerate(passes)]
    without = _load([*documents, *tiers])
    assert _reached(_load([*documents, *tiers, *passes])) == _reached(without)


@settings(max_examples=100, deadline=None)
@given(tiers=_tiers(["Admin"], ["Accept", "Deny", "Pass"]))
def test_what_may_have_one_priority_needs_no_other(tiers) -> None:
    """Documents that load with equal priorities say the same whichever of them comes first."""
    equal = [{**each, "spec": {**each["spec"], "priority": 7}} for each in tiers]
    try:
        policies = _load(equal)
    except InvalidPolicies as error:
        assert all("priority 7" in problem.message for problem in error.problems)
        return
    assert _reached(policies) == _reached(_load(tiers)) == _reached(_load(_turned(tiers)))


def _turned(tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**t, "spec": {**t["spec"], "priority": 9 - t["spec"]["priority"]}} for t in tiers]


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, tiers=TIERS)
def test_the_tiers_are_judged_as_semantics_say(documents, tiers) -> None:
    """The quick judge equals the order of judgement written out rule by rule."""
    policies = _load([*documents, *tiers])
    for (source, destination, what), said in zip(QUESTIONS, _reached(policies), strict=True):
        assert said == plainly(policies, WORLD, source, destination, *what), (source, destination)


@settings(max_examples=60, deadline=None)
@given(
    specs=st.lists(SPECS, min_size=1, max_size=3),
    peer=PEERS,
    tiers=_tiers(["Admin"], ["Accept", "Deny", "Pass"]),
)
def test_an_added_allow_never_removes_reachability(specs, peer, tiers) -> None:
    """One more rule in a direction that its NetworkPolicy isolates only ever permits more."""
    tiers = [{**each, "metadata": {"name": f"t{i}"}} for i, each in enumerate(tiers)]
    documents = [_document(i, "NetworkPolicy", "x", spec) for i, spec in enumerate(specs)]
    types = {"policyTypes": ["Ingress", "Egress"]}
    documents[0]["spec"] = {**documents[0]["spec"], **types}
    before = _reached(_load([*documents, *tiers]))
    for key, end in (("ingress", "from"), ("egress", "to")):
        rules = documents[0]["spec"].get(key, [])
        documents[0]["spec"] = {**documents[0]["spec"], key: [*rules, {end: [peer]}]}
    after = _reached(_load([*documents, *tiers]))
    assert all(new == "allow" for old, new in zip(before, after, strict=True) if old == "allow")


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS)
def test_a_deny_never_adds_reachability(documents) -> None:
    """One more Segment that denies, isolating nothing, only ever takes away."""
    before = _reached(_load(documents))
    spec = {"governs": {}, "ingress": "open", "rules": [{"from": "host", "deny": True}]}
    after = _reached(_load([*documents, _document(99, "Segment", "x", spec)]))
    assert all(new == "deny" for old, new in zip(before, after, strict=True) if old == "deny")


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, tiers=TIERS)
def test_the_index_of_peers_means_what_matching_means(documents, tiers) -> None:
    """The quick look-up gives the same peers as asking each of them."""
    documents = [*documents, *tiers]
    index = Peers(WORLD)
    numbers = {
        (policy.namespace, peer): index.number(policy.namespace, peer)
        for policy in _load(documents)
        for rule in (*policy.ingress, *policy.egress)
        for peer in rule.peers
    }
    for party in PARTIES:
        wanted = {n for (space, p), n in numbers.items() if peer_matches(p, space, WORLD, party)}
        assert index.of(party) == wanted


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, tiers=TIERS)
def test_lint_takes_any_valid_document(documents, tiers) -> None:
    """Remarks are made, never exceptions, and each has a place in the file."""
    for remark in lint(_load([*documents, *tiers]), now=0):
        assert remark.place.file == "drawn.json" and remark.place.line >= 1


WORDS = st.sampled_from(
    ["apiVersion: netwatch/v1\n", "kind: Segment\n", "kind: NetworkPolicy\n", "spec:\n"]
    + ["kind: ClusterNetworkPolicy\n", "  tier: Admin\n", "  subject: {namespaces: {}}\n"]
    + ["metadata: {name: a}\n", "  governs: all\n", "  rules:\n", "    - from: ", "host"]
    + ["&a ", "*a", "!!x ", "{", "[", "]", "}", ":", "- ", "\n", "\t", "'", '"', "|", ">"]
    + ["\\U0011ffff", "%YAML 1.1\n", "---\n"]
)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), st.lists(WORDS, max_size=20).map("".join)))
@example('a: "\\UFFFFFFFF"')
@example("a: 1e999999999")
@example("- " * 5000)
@example("? " * 500)
@example("\ud800")
@example("? a\n: &a *a\n")
def test_any_text_is_read_or_refused_as_a_document(text: str) -> None:
    """parse raises InvalidPolicies and nothing else, and says at least one place."""
    try:
        parse(text, "drawn.yaml")
    except InvalidPolicies as error:
        assert error.problems and all(problem.line for problem in error.problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
KINDS = st.sampled_from(["Segment", "NetworkPolicy"])
FIELDS = ["apiVersion", "kind", "metadata", "spec", "governs", "rules", "from", "ports", "ingress"]


@settings(max_examples=200, deadline=None)
@given(
    field=st.sampled_from(FIELDS), value=JSON, kind=st.sampled_from(["Segment", "NetworkPolicy"])
)
def test_any_value_in_any_field_is_read_or_refused(field: str, value: Any, kind: str) -> None:
    """A document that is right but for one field ends in policies or in InvalidPolicies."""
    rule = {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}] if kind == "NetworkPolicy" else "anyone"}
    spec: dict[str, Any] = {"governs": "all", "rules": [rule]}
    if kind == "NetworkPolicy":
        spec = {"podSelector": {}, "ingress": [rule]}
    document = _document(0, kind, "x", spec)
    place = document if field in document else spec if field in spec else rule
    place[field] = value
    try:
        assert len(parse(json.dumps(document), "drawn.json")) <= 1
    except InvalidPolicies as error:
        assert error.problems


@settings(max_examples=100, deadline=None)
@given(value=JSON)
def test_any_world_is_read_or_refused(value: Any) -> None:
    """parse_world raises InvalidDocument and nothing else."""
    for data in (
        value,
        {"workloads": value},
        {"workloads": [value]},
        {"workloads": [], "namespaces": value},
    ):
        try:
            parse_world(json.dumps(data), "world.json")
        except InvalidDocument as error:
            assert error.file == "world.json"


@settings(max_examples=100, deadline=None)
@given(address=st.ip_addresses().map(str))
def test_the_internet_as_cidrs_is_the_internet_as_a_question(address: str) -> None:
    """The compiler's finite networks and the judge's question never differ."""
    outside = Outside(WORLD)
    assert outside.holds(address) == any(holds(peer, address) for peer in outside.peers())


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[*100000" * 10, " " * (1 << 20 | 1), "a: " * 50_000]
)
def test_a_hostile_size_ends_at_once(text: str) -> None:
    """Depth and size are bounded before anything is built."""
    with pytest.raises(InvalidPolicies):
        parse(text, "big.yaml")
