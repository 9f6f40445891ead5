"""`netwatch policy`: the shapes that programs rely on, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from netwatch.cli.policy import policy as command
from netwatch.model.errors import NetwatchError

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "policies" / "shop.yaml"
LAB = ROOT / "netwatch" / "lab" / "shop.yaml"
SEGMENT = "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: a}\nspec: {governs: all%s}\n"


def _run(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    if isinstance(result.exception, NetwatchError):
        return result.exception.exit_code, result.exception.as_json()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def estate(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The demo lab's workloads as a WORLD file of two families, and its workloads' specs."""
    lab = YAML(typ="safe").load(LAB.read_text())
    workloads = [
        {
            "namespace": spec["namespace"],
            "name": spec["name"],
            "labels": spec["labels"],
            "addresses": [f"198.18.0.{number}", f"2001:db8::{number:x}"],
            "ports": [
                {"port": port["port"], "protocol": port.get("protocol", "tcp")}
                for port in spec.get("listen", [])
            ],
        }
        for number, spec in enumerate(lab["workloads"], 2)
    ]
    world = tmp_path / "world.json"
    networks = ["198.18.0.0/24", "2001:db8::/112"]
    namespaces = lab["namespaces"]
    world.write_text(
        json.dumps({"namespaces": namespaces, "workloads": workloads, "networks": networks})
    )
    return world, lab["workloads"]


def test_the_shop_policy_allows_every_legitimate_call_and_stops_the_rogue(estate) -> None:
    """Each call of the demo lab is asked; the rogue's are denied, and all others allowed."""
    world, specs = estate
    keys = {spec["name"]: f"{spec['namespace']}/{spec['name']}" for spec in specs}
    asked = 0
    for spec in specs:
        for call in spec.get("calls", []):
            target = keys.get(call["to"], "203.0.113.80")
            protocol = "udp" if call.get("with") == "udp" else "tcp"
            code, answer = _run(
                *("decide", "--world", world, "--policies", SHOP, "--protocol", protocol),
                *("--from", keys[spec["name"]], "--to", target, "--port", call["port"]),
            )
            wanted = "deny" if spec["name"] == "rogue" else "allow"
            assert (code, answer["verdict"]) == (0, wanted), answer["reason"]
            asked += 1
    assert asked >= 15


def test_the_shop_policy_lets_the_rogue_reach_nobody(estate) -> None:
    """On no port that anybody documents; the row of the rogue has no 1 but its own."""
    world, specs = estate
    ports = {(p.get("protocol", "tcp"), p["port"]) for s in specs for p in s.get("listen", [])}
    probes = [part for proto, port in sorted(ports) for part in ("--probe", f"{proto}/{port}")]
    code, answer = _run("matrix", "--world", world, "--policies", SHOP, *probes)
    row = answer["order"].index("lab/rogue")
    assert code == 0 and len(answer["probes"]) == len(ports)
    assert all(set(table["rows"][row]) <= {"0", "-"} for table in answer["probes"])


def test_the_shipped_policies_have_no_finding() -> None:
    """What ships passes its own check."""
    code, answer = _run("check", ROOT / "policies")
    assert (code, answer["ok"], answer["findings"]) == (0, True, [])
    assert len(answer["documents"]) >= 10


def test_check_ends_with_3_on_a_finding_and_1_on_a_mistake(tmp_path: Path) -> None:
    """Findings stand in the answer with their place; a mistake has the shape of an error."""
    file = tmp_path / "a.yaml"
    file.write_text(SEGMENT % ", rules: [{from: anyone}]")
    code, answer = _run("check", file)
    assert (code, answer["ok"]) == (3, False)
    assert [(f["code"], f["line"]) for f in answer["findings"]] == [("too-wide", 4)]
    file.write_text(SEGMENT % ", rule: []")
    code, answer = _run("check", file)
    assert (code, answer["ok"], answer["error"]["line"]) == (1, False, 4)
    assert answer["error"]["hint"] == "did you mean rules?"


def test_decide_names_policy_rule_and_place(tmp_path: Path) -> None:
    """For a program: verdict, side, the deciding rule with its line, the staged verdict."""
    world = tmp_path / "world.json"
    world.write_text(json.dumps({"workloads": [{"namespace": "default", "name": "a"}]}))
    file = tmp_path / "a.yaml"
    file.write_text(SEGMENT % ", rules: [{from: host, ports: 80}]")
    arguments = ("decide", "--world", world, "--policies", file, "--to", "default/a")
    code, answer = _run(*arguments, "--from", "host", "--port", 80)
    assert (code, answer["verdict"], answer["rule"]["line"]) == (0, "allow", 4)
    code, answer = _run(*arguments, "--from", "203.0.113.5", "--port", 80)
    assert (answer["verdict"], answer["side"], answer["staged"]) == ("deny", "destination", "deny")
    code, answer = _run(*arguments, "--from", "default/b", "--port", 80)
    assert (code, answer["error"]["hint"]) == (2, "did you mean default/a?")


def test_a_port_that_nobody_lists_is_a_dash_even_where_denied(tmp_path: Path) -> None:
    """`-` wins over 0 and 1, and without a policy all the rest is 1."""
    workloads = [
        {
            "namespace": "x",
            "name": "a",
            "ports": [{"port": 80, "protocol": "TCP", "name": "http"}],
        },
        {"namespace": "x", "name": "b", "ports": [{"port": 80, "protocol": "UDP", "name": None}]},
    ]
    world = tmp_path / "world.json"
    world.write_text(json.dumps({"namespaces": {"x": {}}, "workloads": workloads}))
    code, answer = _run("matrix", "--world", world, "--probe", "tcp/80", "--probe", "udp/80")
    assert (code, answer) == (
        0,
        {
            "ok": True,
            "order": ["x/a", "x/b"],
            "probes": [
                {"probe": "tcp/80", "rows": ["1-", "1-"]},
                {"probe": "udp/80", "rows": ["-1", "-1"]},
            ],
        },
    )


@pytest.mark.parametrize("probe", ["tcp", "tcp/0", "tcp/65536", "icmp/1", "tcp/x", "tcp/80/1"])
def test_a_wrong_probe_is_wrong_usage(probe: str, tmp_path: Path) -> None:
    """Exit code 2, before any file is read."""
    code, answer = _run("matrix", "--world", tmp_path / "none", "--probe", probe)
    assert (code, answer["error"]["code"]) == (2, "usage")
