"""Each sentence of the semantics, as a table of questions and answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.model.times import nanoseconds
from netwatch.policy.evaluate import STAGED, Judge, decide, isolation
from netwatch.policy.ir import Mode, Party, Policy, World
from netwatch.policy.judgement import Direction

from .worlds import (
    API,
    DB,
    HOST,
    OUTSIDE,
    PAY,
    ROGUE,
    WEB,
    WORLD,
    network_policy,
    segment,
    workload,
)

OPEN: tuple[Policy, ...] = ()
DB_FROM_API = segment("governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]", "db")
API_TO_DB = segment("governs: {app: api}\nrules: [{to: {app: db}, ports: 5432}]", "api")
K8S_DB = network_policy("podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]")
K8S_DB_FROM_API = network_policy(
    "podSelector: {matchLabels: {app: db}}\n"
    "ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]",
    "n2",
)
DENY_ROGUE = segment(
    "governs: {app: db}\nrules: [{from: {namespace: lab, labels: {app: rogue}}, deny: true}]",
    "deny",
)
ALLOW_ALL = segment("governs: {app: db}\nrules: [{from: anyone}]", "all")
EXCEPTION = segment(
    "governs: {app: db}\nrules:\n"
    "- {from: {namespace: lab}, ports: 5432, exception: true, owner: me, expires: 2030-01-31}",
    "exception",
)


@pytest.mark.parametrize(
    ("policies", "source", "destination", "port", "verdict"),
    [
        pytest.param(OPEN, WEB, DB, 5432, "allow", id="what nothing selects is allowed"),
        pytest.param(DB_FROM_API, API, DB, 5432, "allow", id="a rule allows its peer"),
        pytest.param(DB_FROM_API, WEB, DB, 5432, "deny", id="isolation denies everyone else"),
        pytest.param(DB_FROM_API, API, DB, 22, "deny", id="and every other port"),
        pytest.param(DB_FROM_API, DB, WEB, 80, "allow", id="ingress does not isolate egress"),
        pytest.param(DB_FROM_API, DB, DB, 22, "allow", id="a workload reaches itself"),
        pytest.param(API_TO_DB, API, DB, 5432, "allow", id="egress allows its peer"),
        pytest.param(API_TO_DB, API, WEB, 80, "deny", id="egress denies the rest"),
        pytest.param(API_TO_DB, WEB, API, 80, "allow", id="egress does not isolate ingress"),
        pytest.param(
            API_TO_DB + K8S_DB, API, DB, 5432, "deny", id="both ends must permit: destination"
        ),
        pytest.param(
            segment("governs: {app: api}\negress: isolated", "x") + DB_FROM_API,
            API,
            DB,
            5432,
            "deny",
            id="both ends must permit: source",
        ),
        pytest.param(
            K8S_DB + DB_FROM_API, API, DB, 5432, "allow", id="allows of both kinds are united"
        ),
        pytest.param(
            DENY_ROGUE + ALLOW_ALL, ROGUE, DB, 5432, "deny", id="a Segment deny beats every allow"
        ),
        pytest.param(
            DENY_ROGUE + ALLOW_ALL, WEB, DB, 5432, "allow", id="a deny is for its peers alone"
        ),
        pytest.param(
            DENY_ROGUE + EXCEPTION, ROGUE, DB, 5432, "allow", id="an exception beats a deny"
        ),
        pytest.param(
            DENY_ROGUE + EXCEPTION, ROGUE, DB, 22, "deny", id="an exception is for its ports alone"
        ),
        pytest.param(DENY_ROGUE, WEB, DB, 5432, "deny", id="a rule with from isolates, deny too"),
        pytest.param(
            segment(
                "governs: {app: db}\ningress: open\nrules: [{from: {namespace: lab}, deny: true}]"
            ),
            WEB,
            DB,
            5432,
            "allow",
            id="unless the Segment says ingress: open",
        ),
        pytest.param(
            segment("governs: {app: db}\ningress: isolated"),
            API,
            DB,
            5432,
            "deny",
            id="ingress: isolated needs no rules",
        ),
        pytest.param(
            segment("governs: {app: pay}\ningress: isolated"),
            WEB,
            PAY,
            80,
            "allow",
            id="a Segment governs one namespace",
        ),
        pytest.param(
            segment("governs: {app: pay}\nscope: all\ningress: isolated"),
            WEB,
            PAY,
            80,
            "deny",
            id="unless its scope is all",
        ),
        pytest.param(
            segment("governs: all\nrules: [{from: {app: rogue}}]"),
            ROGUE,
            DB,
            80,
            "deny",
            id="peer labels mean the Segment's own namespace",
        ),
        pytest.param(
            segment("governs: all\nscope: all\nrules: [{from: {app: web}}]"),
            WEB,
            PAY,
            80,
            "allow",
            id="its own namespace with scope: all too",
        ),
    ],
)
def test_the_order_of_judgement(policies, source, destination, port, verdict) -> None:
    """Exceptions, denies, allows, isolation, else allowed; each end on its own."""
    decision = decide(policies, WORLD, Party(source), Party(destination), "tcp", port)
    assert decision.verdict == verdict, decision.reason


def test_an_expired_rule_says_nothing() -> None:
    """A date holds until its end, in UTC; from then on the exception is gone."""
    judge = Judge(DENY_ROGUE + EXCEPTION, WORLD)
    question = (Party(ROGUE), Party(DB), "tcp", 5432)
    last = nanoseconds("2030-01-31T23:59:59.999999Z")
    assert judge.decide(*question, now=last).verdict == "allow"
    assert judge.decide(*question, now=last + 1000).verdict == "deny"


@pytest.mark.parametrize(
    ("policies", "verdict"),
    [
        pytest.param(K8S_DB, "allow", id="NetworkPolicy alone lets the host in"),
        pytest.param(DB_FROM_API, "deny", id="a Segment does not"),
        pytest.param(K8S_DB + DB_FROM_API, "deny", id="nor both together"),
        pytest.param(
            segment("governs: {app: db}\nrules: [{from: host}]"), "allow", id="unless it says host"
        ),
        pytest.param(
            K8S_DB
            + segment("governs: {app: db}\ningress: open\nrules: [{from: host, deny: true}]"),
            "deny",
            id="a deny holds for the host",
        ),
    ],
)
def test_the_host_is_let_in_where_only_network_policies_isolate(policies, verdict) -> None:
    """The host and what shares its network are one and the same."""
    shared_network = replace(ROGUE, host_network=True)
    for source in (HOST, Party(shared_network)):
        assert decide(policies, WORLD, source, Party(DB), "tcp", 5432).verdict == verdict


def test_a_container_in_the_hosts_network_can_not_be_segmented() -> None:
    """It is no workload to any selector, neither as subject nor as peer."""
    lent = replace(DB, host_network=True)
    policies = segment("governs: all\ningress: isolated")
    assert decide(policies, WORLD, Party(WEB), Party(lent), "tcp", 80).verdict == "allow"
    assert isolation(policies, WORLD, lent).ingress == ()


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        pytest.param("198.18.0.0/24", {"shop/web", "shop/api"}, id="a CIDR holds workloads"),
        pytest.param("198.18.0.1", {"shop/web"}, id="one address"),
        pytest.param(
            "{cidr: 198.18.0.0/15, except: [198.18.0.2/32]}",
            {"shop/web", "pay/pay", "lab/rogue"},
            id="less its exceptions",
        ),
        pytest.param("internet", {"203.0.113.9"}, id="internet is neither workload nor host"),
        pytest.param(
            "0.0.0.0/0",
            {"shop/web", "shop/api", "pay/pay", "lab/rogue", "203.0.113.9", "the host"},
            id="0.0.0.0/0 is every IPv4 address",
        ),
        pytest.param("'::/0'", set(), id="and no IPv4 address is IPv6"),
        pytest.param("host", {"the host"}, id="the host"),
        pytest.param(
            "{namespace: any}", {"shop/web", "shop/api", "pay/pay", "lab/rogue"}, id="any"
        ),
        pytest.param("{namespace: {team: money}}", {"pay/pay"}, id="labels of namespaces"),
        pytest.param(
            "{namespace: [pay, lab]}", {"pay/pay", "lab/rogue"}, id="names of namespaces"
        ),
        pytest.param("tier!=front", {"shop/api"}, id="own namespace, without the label too"),
        pytest.param("has(tier)", {"shop/web", "shop/api"}, id="has the label"),
        pytest.param(
            "{namespace: any, labels: '!has(tier)'}", {"pay/pay", "lab/rogue"}, id="lacks"
        ),
        pytest.param("'app in (web, api), tier=back'", {"shop/api"}, id="all terms hold"),
        pytest.param("[{app: web}, 198.18.0.2]", {"shop/web", "shop/api"}, id="a list is or"),
        pytest.param("{app: [web, api]}", {"shop/web", "shop/api"}, id="a list of values is or"),
        pytest.param(
            "anyone",
            {"shop/web", "shop/api", "pay/pay", "lab/rogue", "203.0.113.9", "the host"},
            id="anyone",
        ),
    ],
)
def test_peers(peer: str, allowed: set[str]) -> None:
    """Which of six callers each form of a peer means."""
    judge = Judge(segment(f"governs: {{app: db}}\nrules: [{{from: {peer}}}]"), WORLD)
    callers = {w.key: Party(w) for w in (WEB, API, PAY, ROGUE)}
    callers |= {"the host": HOST, "203.0.113.9": OUTSIDE}
    answers = {
        name
        for name, party in callers.items()
        if judge.decide(party, Party(DB), "tcp", 80).verdict == "allow"
    }
    assert answers == allowed


@pytest.mark.parametrize(
    ("ports", "allowed"),
    [
        pytest.param("443", {("tcp", 443)}, id="a number is TCP"),
        pytest.param("53/udp", {("udp", 53)}, id="a number with its protocol"),
        pytest.param("'80-443'", {("tcp", 80), ("tcp", 443)}, id="a range has both ends"),
        pytest.param("https", {("tcp", 443)}, id="a name is the destination's"),
        pytest.param("dns", {("tcp", 53), ("udp", 53)}, id="a name, of each protocol"),
        pytest.param("dns/udp", {("udp", 53)}, id="a name, of one protocol"),
        pytest.param("nothing", set(), id="a name that the destination lacks"),
        pytest.param("'*/udp'", {("udp", 53)}, id="all of one protocol"),
        pytest.param("[80, 53/udp]", {("tcp", 80), ("udp", 53)}, id="a list is or"),
    ],
)
def test_ports(ports: str, allowed: set[tuple[str, int | None]]) -> None:
    """Which questions each form of a port means; ICMP needs a rule without ports."""
    asked = [("tcp", 53), ("udp", 53), ("tcp", 80), ("tcp", 443), ("sctp", 80), ("icmp", None)]
    judge = Judge(
        segment(f"governs: {{app: db}}\nrules: [{{from: anyone, ports: {ports}}}]"), WORLD
    )
    answers = {
        (protocol, port)
        for protocol, port in asked
        if judge.decide(Party(WEB), Party(DB), protocol, port).verdict == "allow"
    }
    assert answers == allowed


def test_a_rule_without_ports_allows_echo_too() -> None:
    """Echo follows the pair, for both families."""
    judge = Judge(segment("governs: {app: db}\nrules: [{from: {app: web}}]"), WORLD)
    for protocol in ("icmp", "icmpv6"):
        assert judge.decide(Party(WEB), Party(DB), protocol, None).verdict == "allow"
        assert judge.decide(Party(API), Party(DB), protocol, None).verdict == "deny"


def test_a_named_port_resolves_at_the_destination_of_egress_too() -> None:
    """The source's egress rule names `https`; what that is, the destination says."""
    judge = Judge(segment("governs: {app: web}\nrules: [{to: anyone, ports: https}]"), WORLD)
    assert judge.decide(Party(WEB), Party(DB), "tcp", 443).verdict == "allow"
    assert judge.decide(Party(WEB), Party(DB), "tcp", 80).verdict == "deny"
    assert judge.decide(Party(WEB), OUTSIDE, "tcp", 443).verdict == "deny"


def test_modes_belong_to_documents() -> None:
    """Enforced verdicts know enforce documents alone; staged ones add stage; observe adds none."""
    for mode, enforced, staged in (
        (Mode.OBSERVE, "allow", "allow"),
        (Mode.STAGE, "allow", "deny"),
        (Mode.ENFORCE, "deny", "deny"),
    ):
        policies = segment(f"governs: {{app: db}}\nmode: {mode}\ningress: isolated")
        question = (Party(WEB), Party(DB), "tcp", 80)
        assert decide(policies, WORLD, *question).verdict == enforced
        assert decide(policies, WORLD, *question, modes=STAGED).verdict == staged


def test_the_mode_of_a_network_policy_is_an_annotation() -> None:
    """Without it the object is enforced."""
    spec = "podSelector: {}"
    assert network_policy(spec)[0].mode is Mode.ENFORCE
    assert network_policy(spec, annotations="{netwatch/mode: stage}")[0].mode is Mode.STAGE


def test_obligations_ride_on_the_rule_that_allows() -> None:
    """A rule without an obligation is preferred, whatever the order; else the weakest one."""
    strict = "{from: {app: api}, ports: 5432, require: tls>=1.3}"
    loose = "{from: {app: api}, ports: 5432, require: encrypted}"
    free = "{from: {app: api}, ports: 5432}"
    for rules, wanted in (
        ([strict], ("tls>=1.3",)),
        ([strict, loose], ("encrypted",)),
        ([strict, free], ()),
    ):
        for order in (rules, rules[::-1]):
            policies = segment(f"governs: {{app: db}}\nrules: [{', '.join(order)}]")
            decision = decide(policies, WORLD, Party(API), Party(DB), "tcp", 5432)
            assert (decision.verdict, decision.obligations) == ("allow", wanted)


def test_a_decision_names_who_decided_and_where() -> None:
    """An allow names its rule, a default deny the isolating document, both with their line."""
    allowed = decide(DB_FROM_API, WORLD, Party(API), Party(DB), "tcp", 5432)
    assert allowed.rule is not None and allowed.rule.place.line == 6
    assert (
        allowed.reason == "Segment shop/db allows shop/api to shop/db on tcp/5432 (db.yaml:6:11)"
    )
    denied = decide(DB_FROM_API, WORLD, Party(WEB), Party(DB), "tcp", 5432)
    assert (denied.side, denied.rule, denied.policy) == ("destination", None, DB_FROM_API[0])
    assert "isolates the ingress of shop/db" in denied.reason
    free = decide((), WORLD, Party(WEB), Party(DB), "tcp", 5432)
    assert (free.isolated, free.policy) == (False, None)


def test_the_compilers_questions_agree_with_decide() -> None:
    """`isolation` and `side` are the halves of which `decide` is made."""
    judge = Judge(API_TO_DB + DB_FROM_API, WORLD)
    assert judge.isolation(API).egress == API_TO_DB and judge.isolation(API).ingress == ()
    assert judge.isolation(DB).ingress == DB_FROM_API
    out = judge.side(Direction.EGRESS, Party(API), Party(DB), "tcp", 5432)
    into = judge.side(Direction.INGRESS, Party(DB), Party(WEB), "tcp", 5432)
    assert (out.permits, into.permits) == (True, False)


def test_internet_is_the_same_as_cidrs_and_as_a_question() -> None:
    """The finite networks that the compiler uses hold exactly the addresses that decide allows."""
    from netwatch.policy.networks import Outside, holds

    outside = Outside(WORLD)
    peers = outside.peers()
    for address, wanted in (
        ("203.0.113.9", True),
        ("203.0.113.1", False),
        ("198.18.0.1", False),
        ("198.18.77.7", False),
        ("198.19.0.1", True),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("2001:db8::9", True),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:203.0.113.9", False),
    ):
        assert outside.holds(address) is wanted, address
        assert any(holds(peer, address) for peer in peers) is wanted, address


def test_a_workload_of_two_families_is_isolated_in_both() -> None:
    """No IPv6 rule exists, and still IPv6 is denied: isolation knows no family."""
    twin = replace(workload("shop/db", app="db"), addresses=("198.18.0.3", "2001:db8::3"))
    world = World((WEB, twin))
    judge = Judge(segment("governs: {app: db}\nrules: [{from: 198.18.0.0/24}]"), world)
    v4 = judge.decide(Party(WEB, "198.18.0.1"), Party(twin, "198.18.0.3"), "tcp", 80)
    v6 = judge.decide(Party(WEB, "2001:db8::1"), Party(twin, "2001:db8::3"), "tcp", 80)
    assert (v4.verdict, v6.verdict) == ("allow", "deny")


@pytest.mark.parametrize(
    ("protected", "destination", "verdict"),
    [
        pytest.param((("198.18.9.1", "198.18.9.2"),), "b", "allow", id="a link that encrypts"),
        pytest.param((("198.18.9.2", "198.18.9.1"),), "b", "allow", id="told the other way round"),
        pytest.param((("198.18.9.1", "198.18.9.3"),), "b", "deny", id="to somewhere else"),
        pytest.param((), "b", "deny", id="no link"),
        pytest.param((), "a", "allow", id="on one host there is no wire"),
    ],
)
def test_a_rule_for_encrypted_links_is_decided_before_the_connection(
    protected: tuple[tuple[str, str], ...], destination: str, verdict: str
) -> None:
    """Without the link it is silent; with it, it is a rule like any, and demands nothing more."""
    policies = segment(
        "governs: {app: db}\nrules: [{from: {app: api}, ports: 5432, require: link-encrypted}]"
    )
    api = replace(API, host="a", addresses=("198.18.9.1",))
    db = replace(DB, host=destination, addresses=("198.18.9.2",))
    world = World(workloads=(api, db), protected=protected)
    found = decide(policies, world, Party(api), Party(db), "tcp", 5432)
    assert (found.verdict, found.obligations) == (verdict, ())
