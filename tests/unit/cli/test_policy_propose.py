"""Labels of running containers become proposals: staged, held by `check`, and never a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.policy.document import parse
from netwatch.policy.ir import Mode


def workload(name: str, number: int, **labels: str) -> dict[str, Any]:
    service = name.rstrip("0123456789-")
    return {
        "namespace": "shop",
        "name": name,
        "labels": {"app": service, "com.docker.compose.service": service} | labels,
        "addresses": [f"198.18.0.{number}"],
        "ports": [{"port": 5432, "protocol": "TCP"}],
    }


def asked(tmp_path: Path, *workloads: dict[str, Any]) -> dict[str, Any]:
    file = tmp_path / "world.json"
    file.write_text(json.dumps({"workloads": workloads}))
    result = CliRunner().invoke(command, ["propose", "--world", str(file), "--json"])
    assert result.exception is None, result.output
    return dict(json.loads(result.stdout))


def test_replicas_propose_one_staged_rule(tmp_path: Path) -> None:
    """Two webs and one db: one Segment that governs the db, for the label of the web."""
    wish = {"netwatch.allow": "db:5432"}
    answer = asked(
        tmp_path, workload("web-1", 1, **wish), workload("web-2", 2, **wish), workload("db", 3)
    )
    (segment,) = parse(answer["proposals"], "p.yaml")
    assert (segment.namespace, segment.mode, len(segment.ingress)) == ("shop", Mode.STAGE, 1)
    assert segment.ingress[0].ports[0].first == 5432
    assert (answer["wishes"], answer["refused"]) == (1, [])


def test_a_label_that_says_nothing_keeps_nobody_elses_out(tmp_path: Path) -> None:
    """Anybody may write a label: a hostile one is told, with whose it is, and left out."""
    answer = asked(
        tmp_path,
        workload("web", 1, **{"netwatch.allow": "db:5432"}),
        workload("rogue", 2, **{"netwatch.allow": "'; drop\ntable: [*"}),
        workload("db", 3),
    )
    assert len(parse(answer["proposals"], "p.yaml")) == 1
    (refused,) = answer["refused"]
    assert refused["file"] == "shop/rogue"
    assert "names no other service" in refused["message"]


def test_without_labels_nothing_is_proposed(tmp_path: Path) -> None:
    answer = asked(tmp_path, workload("web", 1), workload("db", 2))
    assert (answer["proposals"].strip(), answer["wishes"]) == ("", 0)
