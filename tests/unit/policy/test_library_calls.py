"""What each policy of the library means: calls that it is about, and calls that it lets be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.walk import DENY, Walker
from netwatch.policy.document import check_together

from .shelf import FILES, HOST, NEEDED, NET, NET6, PRIVATE, answer, packet, turned_on


@dataclass(frozen=True)
class Row:
    """Calls that a policy is about (`hits`, answered with `answer`) and calls that it lets be."""

    name: str
    scope: str
    hits: tuple[str, ...]
    misses: tuple[str, ...]
    answer: str = "deny"
    otherwise: str = "allow"
    beside: str | None = None
    given: dict[str, str] = field(default_factory=dict)


def row(name: str, scope: str, hits: str, misses: str, **more: str) -> Row:
    """Calls are separated by commas: `shop/web > shop/db tcp/5432`."""
    parts = [tuple(call.strip() for call in calls.split(",")) for calls in (hits, misses)]
    return Row(name, scope, *parts, given=NEEDED.get(name, {}), **more)


ROWS = (
    row(
        "admin-ports-restricted",
        "all",
        f"shop/web > shop/db tcp/22, {NET} > shop/web tcp/3389, host > shop/web tcp/23,"
        " ops/bastion > shop/db tcp/23",
        "ops/bastion > shop/db tcp/22, shop/web > shop/db tcp/5432",
    ),
    row(
        "anonymiser-ports-deny",
        "all",
        f"shop/web > {NET} tcp/9050, shop/web > {NET6} tcp/9001",
        f"shop/web > {NET} tcp/443, shop/web > ops/proxy tcp/3128",
    ),
    row(
        "app-ringfence",
        "shop",
        f"test/web > shop/web tcp/80, shop/web > {NET} tcp/443, {NET} > shop/web tcp/80",
        f"shop/web > shop/db tcp/5432, {NET} > shop/web tcp/443, shop/web > host udp/53,"
        " test/web > pay/vault tcp/80",
    ),
    row(
        "ci-away-from-production",
        "all",
        "ci/runner > shop/db tcp/5432, shop/api > ci/runner tcp/80",
        f"ci/runner > test/web tcp/80, ci/runner > {NET} tcp/443",
    ),
    row(
        "cleartext-sensitive",
        "all",
        f"shop/web > {NET} tcp/21, shop/web > shop/db tcp/6379, {PRIVATE} > shop/web udp/69",
        f"shop/web > {NET} tcp/443, shop/web > shop/db tcp/5432",
    ),
    row(
        "cross-host-must-encrypt",
        "pay",
        "shop/web > pay/gate tcp/443, host > pay/vault tcp/80",
        "pay/gate > shop/web tcp/443",
        answer="encrypted",
    ),
    row(
        "crypto-mining-pools",
        "all",
        f"lab/scratch > {NET} tcp/3333, lab/scratch > {NET6} tcp/14444",
        f"lab/scratch > {NET} tcp/443, lab/scratch > shop/web tcp/3333",
    ),
    row(
        "data-tier-no-egress",
        "shop",
        f"shop/db > {NET} tcp/443, shop/db > shop/api tcp/80",
        f"shop/db > shop/replica tcp/5432, shop/db > host udp/53, shop/api > {NET} tcp/443",
    ),
    row(
        "db-tier-from-app-only",
        "shop",
        "shop/web > shop/db tcp/5432, test/web > shop/db tcp/5432, shop/api > shop/db tcp/22",
        "shop/api > shop/db tcp/5432, shop/web > shop/api tcp/5432",
    ),
    row(
        "dns-only-via-resolver",
        "all",
        f"shop/web > {NET} udp/53, shop/web > lab/scratch tcp/53, shop/web > {NET6} tcp/853",
        f"shop/web > 198.51.100.53 udp/53, shop/web > {NET} tcp/443",
    ),
    row(
        "docker-api-deny",
        "all",
        f"shop/web > host tcp/2375, shop/web > {PRIVATE} tcp/2376, {NET} > ci/runner tcp/2375",
        "shop/web > host tcp/443, shop/web > shop/db tcp/5432",
    ),
    row(
        "egress-default-deny",
        "shop",
        f"shop/web > {NET} tcp/443, shop/web > shop/db tcp/5432, shop/web > {NET} udp/53",
        "shop/web > host udp/53, test/web > shop/web tcp/80",
    ),
    row(
        "env-isolation",
        "all",
        "test/web > shop/db tcp/5432, shop/web > test/web tcp/80",
        "shop/web > shop/db tcp/5432, lab/scratch > shop/web tcp/80, test/web > pay/gate tcp/80",
    ),
    row(
        "external-http-deny",
        "all",
        f"shop/web > {NET} tcp/80, shop/web > {NET6} tcp/8080",
        f"shop/web > {NET} tcp/443, shop/web > shop/api tcp/80",
    ),
    row(
        "host-services-deny",
        "all",
        "shop/web > host tcp/22, shop/web > host udp/8125, shop/web > host tcp/65535",
        "shop/web > host udp/53, shop/web > host tcp/53, host > shop/web tcp/80",
    ),
    row(
        "image-without-source",
        "all",
        "lab/scratch > shop/db tcp/5432, shop/web > lab/scratch tcp/80",
        f"shop/web > shop/db tcp/5432, lab/scratch > {NET} tcp/443",
    ),
    row(
        "infrastructure-management-deny",
        "all",
        f"shop/web > {PRIVATE} udp/161, shop/web > {PRIVATE} udp/623, shop/web > host tcp/16509",
        f"shop/web > {PRIVATE} tcp/443, shop/web > {PRIVATE} tcp/161",
    ),
    row(
        "ingress-default-deny",
        "shop",
        f"shop/web > shop/db tcp/5432, {NET} > shop/web tcp/443, host > shop/web tcp/80",
        f"shop/web > {NET} tcp/443, shop/web > test/web tcp/80",
    ),
    row(
        "internet-egress-deny",
        "all",
        f"shop/web > {NET} tcp/443, shop/web > {NET6} icmp",
        f"ops/proxy > {NET} tcp/443, shop/web > {PRIVATE} tcp/443, shop/web > ops/proxy tcp/3128",
    ),
    row(
        "jobs-serve-nobody",
        "all",
        "shop/web > shop/job tcp/5005, host > shop/job tcp/80",
        f"shop/job > shop/db tcp/5432, shop/job > {NET} tcp/443, shop/web > shop/api tcp/80",
    ),
    row(
        "k8s-control-plane-deny",
        "all",
        f"shop/web > {PRIVATE} tcp/6443, shop/web > {PRIVATE} tcp/10250, shop/web > host tcp/2380",
        f"shop/web > {PRIVATE} tcp/443, shop/web > {PRIVATE} tcp/2381",
    ),
    row(
        "metadata-service-deny",
        "all",
        "shop/web > 169.254.169.254 tcp/80, shop/web > fd00:ec2::254 tcp/80,"
        " shop/web > 169.254.170.2 icmp",
        f"shop/web > 169.254.169.253 udp/53, shop/web > {NET} tcp/80",
    ),
    row(
        "monitoring-may-scrape",
        "all",
        "ops/monitor > shop/web tcp/9100, ops/monitor > pay/vault tcp/9187",
        "shop/api > shop/web tcp/9100, ops/monitor > shop/web tcp/22",
        answer="allow",
        otherwise="deny",
        beside="ingress-default-deny",
    ),
    row(
        "name-poisoning-deny",
        "all",
        "shop/web > 224.0.0.251 udp/5353, shop/web > ff02::1:3 udp/5355,"
        " test/web > shop/web udp/137",
        "shop/web > host udp/53, shop/web > 224.0.0.251 udp/5354",
    ),
    row(
        "namespace-isolation",
        "shop",
        f"test/web > shop/web tcp/80, {NET} > shop/web tcp/443",
        f"shop/web > shop/db tcp/5432, shop/web > test/web tcp/80, shop/web > {NET} tcp/443",
    ),
    row(
        "ntp-only-via-server",
        "all",
        f"shop/web > {NET} udp/123, shop/web > lab/scratch udp/123",
        f"shop/web > 198.51.100.123 udp/123, shop/web > {NET} tcp/443",
    ),
    row(
        "pci-cde-ringfence",
        "all",
        f"shop/web > pay/vault tcp/443, pay/vault > {NET} tcp/443, pay/gate > pay/vault tcp/22,"
        " pay/vault > pay/gate tcp/443",
        "pay/vault > cards/tokens tcp/5433, pay/gate > pay/vault tcp/443, pay/vault > host udp/53,"
        f" pay/gate > {NET} tcp/443",
    ),
    row(
        "published-on-all-interfaces",
        "all",
        f"{NET} > shop/db tcp/5432, {NET6} > lab/scratch tcp/80",
        f"{NET} > shop/web tcp/443, {PRIVATE} > shop/db tcp/5432, shop/db > {NET} tcp/443",
    ),
    row(
        "ransomware-ports-deny",
        "all",
        f"shop/web > {PRIVATE} tcp/445, {PRIVATE} > shop/web tcp/5985, shop/web > {NET} udp/138",
        f"shop/web > {PRIVATE} tcp/443, shop/web > shop/db tcp/140",
    ),
    row(
        "smtp-egress-deny",
        "all",
        f"shop/web > {NET} tcp/25, shop/web > {NET6} tcp/587",
        f"ops/relay > {NET} tcp/25, shop/web > ops/relay tcp/25, shop/web > {NET} tcp/443",
    ),
    row(
        "stored-data-not-from-internet",
        "all",
        f"{NET} > pay/vault tcp/443, pay/vault > {NET} tcp/443",
        f"{NET} > pay/gate tcp/443, pay/gate > pay/vault tcp/443",
    ),
    row(
        "tenant-isolation",
        "all/tenant=acme",
        "two/web > one/web tcp/80, one/web > two/web tcp/80",
        f"one/web > shop/db tcp/5432, two/web > shop/db tcp/5432, {NET} > one/web tcp/443",
    ),
    row(
        "tls-min-1.2",
        "all",
        f"{NET} > shop/web tcp/443, shop/api > shop/web tcp/8443",
        f"{NET} > shop/api tcp/443, shop/web > shop/api tcp/443",
        answer="tls>=1.2",
    ),
    row(
        "unowned-workload",
        "all",
        f"lab/scratch > shop/db tcp/5432, {NET} > lab/scratch tcp/80",
        "lab/scratch > host udp/53, shop/web > shop/db tcp/5432",
    ),
    row(
        "unsegmented-deny",
        "all",
        "test/web > shop/web tcp/80, shop/web > test/web tcp/80",
        f"{NET} > shop/web tcp/443, shop/web > {NET} tcp/443, host > shop/web tcp/80",
    ),
)


def test_every_policy_is_in_the_table_once() -> None:
    """And there are as many as the interface promises."""
    assert [each.name for each in ROWS] == list(FILES)
    assert len(FILES) >= 25


@pytest.mark.parametrize("case", ROWS, ids=[each.name for each in ROWS])
def test_a_policy_is_about_its_calls_and_about_no_others(case: Row) -> None:
    """Without it (and with what stands beside it) the answer to its calls is the other one."""
    before = turned_on(case.beside, case.scope) if case.beside else ()
    policies = (*before, *turned_on(case.name, case.scope, given=case.given))
    assert {call: answer(policies, call) for call in case.hits} == dict.fromkeys(
        case.hits, case.answer
    )
    assert {call: answer(policies, call) for call in case.misses} == dict.fromkeys(
        case.misses, case.otherwise
    )
    assert {answer(before, call) for call in case.hits} == {case.otherwise}


@pytest.mark.parametrize("case", ROWS, ids=[each.name for each in ROWS])
def test_the_rules_of_a_host_do_what_the_policy_says(case: Row) -> None:
    """A call is denied by the compiled rules exactly where `decide` denies it."""
    before = turned_on(case.beside, case.scope) if case.beside else ()
    named = {word for call in (*case.hits, *case.misses) for word in call.split()}
    small = replace(HOST, workloads=tuple(w for w in HOST.workloads if w.key in named))
    walker = Walker(compile((*before, *turned_on(case.name, case.scope)), small, now=0))
    for calls, said in ((case.hits, case.answer), (case.misses, case.otherwise)):
        denied = [walker.verdict(packet(call)) == DENY for call in calls]
        assert denied == [said == "deny"] * len(calls), calls


def test_all_of_it_can_be_turned_on_at_once() -> None:
    """No two documents of one priority disagree, and none hides another."""
    scopes = {each.name: each.scope for each in ROWS}
    check_together([p for name, scope in scopes.items() for p in turned_on(name, scope)])
