"""Every entry of the policy library explains itself, passes `check`, and takes a scope."""

from __future__ import annotations

import re

import pytest

from netwatch.model.errors import InvalidDocument, UsageError
from netwatch.policy.document import parse
from netwatch.policy.files import read_policies
from netwatch.policy.ir import Mode
from netwatch.policy.library import GOVERNS, instantiate, read_entry, read_scope
from netwatch.policy.lint import lint

from .shelf import FILES, FOLDER, NEEDED, answer, entry_of, turned_on

FRAMEWORKS = (
    "CIS Docker Benchmark 1.6.0",
    "MITRE ATT&CK",
    "NIST SP 800-190",
    "NIST SP 800-207",
    "NIST SP 800-53",
    "PCI DSS 4.0.1",
)
OTHER_BASTION = {"bastion": "{role: monitoring}"}


@pytest.mark.parametrize("name", FILES)
def test_a_policy_explains_itself(name: str) -> None:
    """Each text is a sentence or more, each standard has a name, a version and a place in it."""
    entry = entry_of(name)
    assert entry.name == name and len(entry.title) <= 90
    for part in ("what", "why", "fix"):
        assert len(entry.texts[part]) > 60 and entry.texts[part].endswith("."), part
    for standard in entry.standards:
        framework, _, places = standard.partition(": ")
        assert framework in FRAMEWORKS and re.search(r"[0-9]", places), standard
    for parameter in entry.parameters:
        assert parameter.meaning.endswith("."), parameter.name


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_library_decides_nothing_by_itself(name: str) -> None:
    """Its documents are of one name, govern the same, and are in mode observe."""
    entry = entry_of(name)
    assert {policy.mode for policy in entry.policies} == {Mode.OBSERVE}
    assert {policy.name for policy in entry.policies} == {entry.name}
    assert {policy.subject for policy in entry.policies} == {entry.subject}


@pytest.mark.parametrize("labels", ["", "/app=web, tier in (front, app)"], ids=["all", "labels"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_turned_on_passes_check(name: str, labels: str) -> None:
    """No finding and no warning, in one namespace and in all."""
    for where in ("shop", "all") if entry_of(name).anywhere else ("shop",):
        scope = read_scope(where + (labels or ("/x=y" if "tenant" in name else "")))
        text = instantiate(
            entry_of(name), scope, mode=Mode.STAGE, name="mine", given=NEEDED.get(name, {})
        )
        policies = parse(text, "mine.yaml")
        assert lint(policies, now=0) == ()
        assert {(p.name, p.mode) for p in policies} == {("mine", Mode.STAGE)}


def test_the_folder_enforces_what_the_shop_does() -> None:
    """Whoever loads all of policies/ gets the demo's policy and no denial more."""
    everything = read_policies([FOLDER])
    shop = read_policies([FOLDER / "shop.yaml"])
    assert len(everything) > len(shop)
    assert [p for p in everything if p.mode is not Mode.OBSERVE] == list(shop)


def test_the_readme_of_the_library_lists_it() -> None:
    """One row each, in order, with its first line and its standards."""
    rows = [f"| `{e.name}` | {e.title} | {'; '.join(e.standards)} |" for e in map(entry_of, FILES)]
    text = (FOLDER / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("| `")] == rows


@pytest.mark.parametrize(
    ("name", "scope", "given", "message"),
    [
        ("dns-only-via-resolver", "all", {}, "needs resolver"),
        ("tenant-isolation", "all", NEEDED["tenant-isolation"], "needs labels in its scope"),
        ("tenant-isolation", "all/tenant=acme", {}, "needs others"),
        ("app-ringfence", "all", {}, "about one namespace"),
        ("docker-api-deny", "all", {"port": "1"}, "has no parameter 'port'"),
        ("docker-api-deny", "all", {GOVERNS: "all"}, "has no parameter"),
        ("docker-api-deny", "all", {"ports": "99999"}, "is no policy: the port is 99999"),
        ("docker-api-deny", "all", {"ports": "[1"}, "this is not YAML"),
        ("docker-api-deny", "all", {"ports": "1" * 3000}, "more than 2000 characters"),
        ("docker-api-deny", "all", {"ports": "&ports 1"}, "has an anchor"),
        ("env-isolation", "all", {"others": "!!python/object:os.system {}"}, "tags such as"),
        ("docker-api-deny", "all", {"ports": "1\n---\n2"}, "this is not YAML"),
        ("env-isolation", "all", {"others": "a=b\n---\na=c"}, "is not one value"),
        ("db-tier-from-app-only", "shop", {"callers": "[" * 80}, "nested deeper"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, scope: str, given: dict[str, str], message: str
) -> None:
    """As wrong usage, and with a sentence about the value."""
    with pytest.raises(UsageError, match=re.escape(message)):
        turned_on(name, scope, given=given)


@pytest.mark.parametrize("scope", ["", "/app=web", "a b", "shop/", "shop/app", "shop/app=a,,b"])
def test_a_scope_that_names_nothing_is_refused(scope: str) -> None:
    with pytest.raises(UsageError, match="the scope is"):
        read_scope(scope)


def test_an_entry_without_a_text_is_no_entry() -> None:
    """And neither is one whose parameter has no anchor."""
    text = FILES["docker-api-deny"].read_text()
    with pytest.raises(InvalidDocument, match="does not tell its why"):
        read_entry(text.replace("library/why", "library/wy"), "f.yaml")
    with pytest.raises(InvalidDocument, match="anchor of the parameter port"):
        read_entry(text.replace("parameter-ports", "parameter-port"), "f.yaml")


@pytest.mark.parametrize(
    ("name", "scope", "call", "verdict"),
    [
        pytest.param("jobs-serve-nobody", "all", "shop/web > shop/job tcp/80", "deny", id="habit"),
        pytest.param(
            *("jobs-serve-nobody", "all/tier=db", "shop/web > shop/job tcp/80", "allow"),
            id="labels-stand-for-a-habit",
        ),
        pytest.param(
            *("jobs-serve-nobody", "all/tier=db", "shop/web > shop/db tcp/80", "deny"),
            id="and-govern-others",
        ),
        pytest.param(
            *("unowned-workload", "all/app=web", "shop/api > shop/web tcp/80", "allow"),
            id="labels-narrow-what-is-the-point",
        ),
        pytest.param(
            "jobs-serve-nobody", "pay", "shop/web > shop/job tcp/80", "allow", id="space"
        ),
        pytest.param(
            *("unsegmented-deny", "shop/tier=db", "test/web > shop/web tcp/80", "allow"),
            id="cluster-policy-by-labels",
        ),
        pytest.param(
            *("unsegmented-deny", "shop/tier=db", "test/web > shop/db tcp/80", "deny"),
            id="cluster-policy-governs-them",
        ),
    ],
)
def test_a_scope_is_where_and_who(name: str, scope: str, call: str, verdict: str) -> None:
    assert answer(turned_on(name, scope), call) == verdict


def test_an_exception_beats_a_denial_of_the_library() -> None:
    """What every text on how to fix promises."""
    head = "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: e, namespace: shop}\nspec:\n"
    rule = "{to: 169.254.169.254, exception: true, owner: shop, expires: 2030-01-31}"
    exception = parse(f"{head}  governs: {{app: web}}\n  egress: open\n  rules: [{rule}]\n", "e")
    policies = (*turned_on("metadata-service-deny", "all"), *exception)
    assert answer(policies, "shop/web > 169.254.169.254 tcp/80") == "allow"
    assert answer(policies, "shop/api > 169.254.169.254 tcp/80") == "deny"


def test_a_parameter_takes_the_place_of_its_default_everywhere() -> None:
    """Items do for a list, and an alias follows its anchor."""
    policies = turned_on("docker-api-deny", "all", given={"ports": "4243, 4244/udp"})
    calls = ("shop/web > host tcp/4243", "host > shop/web udp/4244", "shop/web > host tcp/2375")
    assert [answer(policies, call) for call in calls] == ["deny", "deny", "allow"]
    policies = turned_on("admin-ports-restricted", "all", given=OTHER_BASTION)
    assert answer(policies, "ops/monitor > shop/db tcp/22") == "allow"
    assert answer(policies, "ops/bastion > shop/db tcp/22") == "deny"
