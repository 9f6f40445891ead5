"""Every module has its test, where its name says or where this table does; none is too long."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES_LIMIT = 400
MODULES = {
    str(file.relative_to(ROOT / "netwatch").with_suffix(""))
    for file in (ROOT / "netwatch").rglob("*.py")
    if not file.name.startswith("__")
}
# Long for a reason: one table, which cutting in two would only make harder to find.
TABLES = {"netwatch/dissect/ciphers.py"}

# A test of another name that holds these modules (patterns): each is reached through the one that
# is its public face, or it needs a kernel. A module with a mind of its own gets its own test.
TESTED_IN = {
    "docker/test_docker_leaks.py": "enforce/escapes",
    "docker/test_docker_discovery.py": "discover/docker",
    "golden/test_policy_errors.py": (
        "policy/edits policy/fields policy/mending policy/nodes policy/port_fields"
    ),
    "netns/test_bad_input.py": "cli/doctor enforce/survey",
    "netns/test_capture_file.py": "cli/signals",
    "netns/test_capture_counts.py": "capture/flowmap capture/sensor",
    "netns/test_capture_life.py": "capture/attach capture/libbpf capture/torn",
    "netns/test_capture_nat.py": "capture/ctnetlink",
    "netns/test_conditions.py": "agent/conditions",
    "netns/test_denials.py": "cli/denials",
    "netns/test_enforce.py": (
        "cli/host enforce/confirm enforce/host enforce/kernel enforce/netlink enforce/sessions "
        "enforce/ipset enforce/sockets enforce/sockdiag enforce/bridging"
    ),
    "netns/test_enforce_inside.py": "enforce/indoors",
    "netns/test_draining.py": "enforce/draining",
    "netns/test_faults.py": "enforce/upkeep agent/watchman",
    "netns/test_reboot.py": "cli/off cli/trail enforce/gate enforce/reboot enforce/switch",
    "netns/test_enforce_spoofing.py": "enforce/linklocal enforce/nftables",
    "netns/test_enforce_writers.py": "enforce/iptc_restore enforce/writers",
    "netns/test_lab.py": (
        "cli/lab lab/certificate lab/clients lab/connect lab/lifecycle lab/netns "
        "lab/orders lab/serve lab/servers lab/state lab/wiring"
    ),
    "netns/test_probe.py": "cli/probe cli/verified enforce/trial agent/proof",
    "netns/test_quarantine.py": "cli/quarantine enforce/quarantine",
    "netns/test_service.py": "cli/serve",
    "netns/test_spine.py": "cli/demo cli/fleet_lab cli/station agent/addresses",
    "golden/test_wheel.py": "resources",
    "unit/agent/test_flowtable.py": "agent/row agent/sums",
    "unit/api/test_guard.py": "api/access api/app api/pages",
    "unit/api/test_rest.py": "api/answers api/metrics api/openapi api/routes api/schemas",
    "unit/capture/files/test_reading.py": "capture/files/*",
    "unit/cli/test_fleet.py": "cli/flows",
    "unit/cli/test_policy.py": "cli/policy_*",
    "unit/cli/test_policy_tools.py": "policy/sarif",
    "unit/cli/test_read.py": "cli/read_*",
    "unit/controller/test_policies.py": "model/policy_version controller/policy_documents",
    "unit/api/test_questions.py": "controller/judging policy/questions",
    "unit/api/test_traffic.py": "controller/exporting cli/compared",
    "stores/test_history.py": (
        "controller/columns controller/history controller/ledger controller/statements "
        "controller/upkeep"
    ),
    "stores/test_observed.py": "controller/observed",
    "stores/test_replays.py": "controller/replays",
    "stores/test_search.py": "controller/search",
    "stores/test_service.py": (
        "controller/folder controller/records controller/service controller/store"
    ),
    "unit/detect/test_detectors.py": (
        "detect/denied detect/forged detect/obligation detect/plaintext detect/ports "
        "detect/repaired detect/silence detect/skew detect/state"
    ),
    "unit/dissect/test_conversation.py": "dissect/*",
    "unit/discover/test_lab.py": "discover/source lab/facts",
    "unit/discover/test_tunnels.py": "discover/wireguard discover/xfrm",
    "unit/enforce/test_agreement.py": (
        "enforce/compile enforce/ends enforce/layout enforce/reach enforce/regions enforce/sides "
        "enforce/walk enforce/beyond enforce/laying enforce/pairs enforce/grades"
    ),
    "unit/agent/test_processes.py": "agent/tables",
    "unit/agent/test_breaches.py": "enforce/refused",
    "unit/agent/test_namebook.py": "enforce/named",
    "unit/enforce/test_conditions.py": "enforce/begun",
    "unit/enforce/test_render.py": "enforce/chains enforce/ruleset",
    "unit/graph/test_views.py": "graph/grouping",
    "unit/lab/test_document.py": "lab/node lab/spec",
    "unit/policy/test_assertions.py": "policy/junit policy/words",
    "unit/policy/test_compose.py": (
        "policy/allow_labels policy/compose_check policy/compose_fields"
    ),
    "unit/policy/test_document.py": (
        "policy/admin_network_policy policy/clauses policy/cluster_network_policy policy/naming "
        "policy/network_policy policy/parts policy/segment policy/short policy/writing"
    ),
    "unit/policy/test_evaluate.py": "policy/ir policy/judgement policy/match policy/peers",
    "unit/policy/test_importing.py": (
        "policy/calico_reading policy/calico_selectors policy/calico_tiers policy/cilium_reading "
        "policy/foreign"
    ),
    "property/test_policy_exchange.py": "policy/calico policy/cilium policy/upstream",
    "unit/policy/test_export.py": "policy/unequal",
    "unit/policy/test_learn.py": "policy/coverage policy/evidence policy/sifting",
    "unit/policy/test_truth_tables.py": "policy/networks policy/world",
    "golden/test_published_tables.py": "policy/matrix",
    "unit/policy/test_replay.py": "policy/answers",
    "unit/test_wire.py": "model/*",
}
PATTERNS = [pattern for patterns in TESTED_IN.values() for pattern in patterns.split()]


def own_tests(module: str) -> list[Path]:
    """test_NAME.py and test_NAME_SUBJECT.py in the folder of tests/unit that mirrors its own."""
    folder, name = (ROOT / "tests" / "unit" / module).parent, Path(module).name
    return [*folder.glob(f"test_{name}.py"), *folder.glob(f"test_{name}_*.py")]


def test_every_module_has_a_test() -> None:
    """Write tests/unit/…/test_NAME.py, or name in TESTED_IN the test that holds it."""
    alone = {module for module in MODULES if not own_tests(module)}
    assert sorted(m for m in alone if not any(fnmatch(m, p) for p in PATTERNS)) == []


def test_the_table_says_what_is_so() -> None:
    """Its tests exist, and each entry stands for a module that has no test of its own name."""
    assert [test for test in TESTED_IN if not (ROOT / "tests" / test).exists()] == []
    alone = [module for module in MODULES if not own_tests(module)]
    assert [p for p in PATTERNS if not any(fnmatch(module, p) for module in alone)] == []


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    """Sizes of CONTRIBUTING.md: a module has at most 400 lines, and so has a test."""
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for top in ("netwatch", "tests")
        for file in (ROOT / top).rglob("*.py")
    }
    long = {name: n for name, n in lengths.items() if n > LINES_LIMIT and name not in TABLES}
    assert long == {}
