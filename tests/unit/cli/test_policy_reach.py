"""`netwatch policy reach`: three answers side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.model.errors import UsageError
from tests.fakes import TOKEN, serve, shop
from tests.unit.cli.test_policy_tools import DB


@pytest.fixture
def world(tmp_path: Path) -> Path:
    workloads = [
        {
            "namespace": "shop",
            "name": name,
            "labels": {"app": name},
            "addresses": [f"198.18.0.{number}"],
            "ports": [{"port": 5432, "protocol": "TCP"}],
        }
        for number, name in enumerate(("web", "api", "db"), 1)
    ]
    file = tmp_path / "world.json"
    file.write_text(json.dumps({"workloads": workloads}))
    (tmp_path / "db.yaml").write_text(DB.replace("rules:", "mode: enforce, rules:"))
    return file


def test_what_a_policy_leaves_of_what_is_possible(world: Path) -> None:
    """`web` gets to `db` only through `api`; without a controller nothing is known of use."""
    policies = str(world.with_name("db.yaml"))
    arguments = ["reach", "shop/db", "--world", str(world), "--policies", policies, "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exception is None
    found = json.loads(result.stdout)
    assert (found["workload"], found["used"]) == ("shop/db", None)
    assert [caller["steps"] for caller in found["possible"]["callers"]] == [1, 1]
    callers = [(caller["name"], caller["steps"]) for caller in found["allowed"]["callers"]]
    assert callers == [("shop/api", 1), ("shop/web", 2)]
    assert found["allowed"]["internet"] == {
        "direct": True,
        "shortest": ["shop/db", "internet"],
        "exits": ["shop/api", "shop/db", "shop/web"],
        "independent_ways": 3,
    }


def test_what_was_used_comes_from_the_controller() -> None:
    listener = serve(shop())
    try:
        env = {"NETWATCH_URL": listener.url, "NETWATCH_TOKEN": TOKEN}
        result = CliRunner().invoke(command, ["reach", "shop/db", "--json"], env=env)
    finally:
        listener.stop()
    assert result.exception is None
    found = json.loads(result.stdout)
    used = {caller["name"]: caller["steps"] for caller in found["used"]["callers"]}
    assert used["shop/api"] == 1
    assert used["shop/web"] == 2
    assert used.keys() < {caller["name"] for caller in found["possible"]["callers"]}


def test_an_address_is_no_workload(world: Path) -> None:
    result = CliRunner().invoke(command, ["reach", "192.0.2.1", "--world", str(world)])
    assert isinstance(result.exception, UsageError)
