"""The tools of `netwatch policy` as programs see them: shapes, exit codes, worlds."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.model.errors import NetwatchError
from tests.fakes import TOKEN, serve, shop

DB = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: {app: db}, rules: [{from: {app: api}, ports: 5432}]} # the only caller
"""


def _run(*arguments: object, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    given = {"NETWATCH_URL": "", **(env or {})}
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], env=given)
    if isinstance(result.exception, NetwatchError):
        return result.exception.exit_code, result.exception.as_json()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A world of three, one policy, and two conversations: one of api, one of web, to db."""
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
    flows = [
        {
            "client": {"address": f"198.18.0.{number}", "port": 40000},
            "server": {"address": "198.18.0.3", "port": 5432},
            "protocol": "tcp",
            "first_seen": "2026-11-20T10:00:00.000000Z",
            "last_seen": "2026-11-20T11:00:00.000000Z",
            "state": "established",
            "direction": "seen",
        }
        for number in (1, 2)
    ]
    found = {name: tmp_path / name for name in ("world", "db.yaml", "flows", "none.yaml", "tests")}
    found["world"].write_text(json.dumps({"workloads": workloads}))
    found["db.yaml"].write_text(DB)
    found["flows"].write_text("".join(json.dumps(flow) + "\n" for flow in flows))
    found["none.yaml"].write_text("[]\n")
    return found


def test_explain_tells_steps_the_nearest_rule_and_a_document_that_allows(files) -> None:
    given = ("explain", "--world", files["world"], "--from", "shop/web", "--to", "shop/db")
    code, answer = _run(*given, "--port", 5432, "--policies", files["db.yaml"])
    assert (code, answer["verdict"], answer["side"]) == (0, "deny", "destination")
    assert [step["outcome"] for step in answer["steps"]][-2:] == ["misses", "denies"]
    assert answer["nearest"][0]["rule"]["line"] == 4
    fix = files["world"].with_name("fix.yaml")
    fix.write_text(answer["fix"]["document"])
    both = ("--policies", files["db.yaml"], "--policies", fix)
    code, answer = _run(*given, "--port", 5432, *both)
    assert (answer["verdict"], answer["nearest"], answer["fix"]) == ("allow", [], None)


def test_diff_ends_with_3_where_reachability_differs_and_0_where_not(files) -> None:
    ends = files["db.yaml"], files["none.yaml"]
    code, answer = _run("diff", *ends, "--world", files["world"])
    assert (code, answer["ok"]) == (3, False)
    assert {change["kind"] for change in answer["changes"]} == {"gained"}
    assert answer["changes"][0].keys() == {
        *("kind", "source", "destination", "ports", "sources", "destinations")
    }
    assert _run("diff", ends[0], ends[0], "--world", files["world"]) == (
        0,
        {"ok": True, "changes": []},
    )


def test_test_ends_with_3_and_writes_junit(files) -> None:
    report = files["world"].with_name("report.xml")
    files["tests"].write_text("- api must reach db:5432\n- web must reach db:5432\n")
    given = ("--world", files["world"], "--policies", files["db.yaml"])
    code, answer = _run("test", files["tests"], *given, "--junit", report)
    assert (code, answer["failed"]) == (3, 1)
    assert [(test["passed"], test["line"]) for test in answer["tests"]] == [(True, 1), (False, 2)]
    suite = xml.parse(report).getroot()
    assert suite.attrib == {"tests": "2", "failures": "1", "errors": "0"}
    files["tests"].write_text("- api must reach db:5432\n")
    assert _run("test", files["tests"], *given)[0] == 0


def test_replay_tells_who_breaks_and_is_reproducible(files) -> None:
    given = ("replay", files["db.yaml"], "--world", files["world"], "--flows", files["flows"])
    code, answer = _run(*given)
    assert (code, answer["counts"]["escaped"], answer["counts"]["permitted"]) == (3, 1, 1)
    assert [call["outcome"] for call in answer["calls"]] == ["escaped"]
    assert {b["workload"] for b in answer["breaks"]} == {"shop/web", "shop/db"}
    assert _run(*given)[1]["id"] == answer["id"]
    assert len(_run(*given, "--all")[1]["calls"]) == 2


def test_learned_documents_pass_check_and_replay_without_a_break(files) -> None:
    output = files["world"].with_name("learned.yaml")
    given = ("--world", files["world"], "--flows", files["flows"])
    code, answer = _run("learn", *given, "--project", "shop", "-o", output)
    assert (code, answer["ratio"], len(answer["rules"])) == (0, 1.0, 4)
    assert _run("check", output)[0] == 0
    assert _run("replay", output, *given)[0] == 0
    code, answer = _run("learn", *given, "--project", "shopp")
    assert (code, answer["error"]["hint"]) == (2, "did you mean shop?")


def test_fmt_says_what_would_change_and_changes_it_once(files) -> None:
    before = files["db.yaml"].read_text()
    files["db.yaml"].write_text(before.replace("spec: {", "spec:    {"))
    assert _run("fmt", files["db.yaml"], "--check")[0] == 3
    assert _run("fmt", files["db.yaml"]) == (
        0,
        {"ok": True, "files": 1, "changed": [str(files["db.yaml"])]},
    )
    assert files["db.yaml"].read_text() == before
    assert _run("fmt", files["db.yaml"], "--check")[0] == 0


@pytest.mark.parametrize("form", ["kubernetes", "calico", "cilium"])
def test_what_another_form_decides_otherwise_is_listed(files, tmp_path, form) -> None:
    """There the host may always in: told, exit 3; what comes back by import is what was told."""
    output = tmp_path / "other.yaml"
    given = ("--world", files["world"], "--format", form, "-o", output)
    code, answer = _run("export", files["db.yaml"], *given)
    assert (code, answer["ok"]) == (3, False)
    assert [line.split(" on ")[0] for line in answer["differences"]] == ["host reaches shop/db"]
    code, answer = _run("import", output, "--world", files["world"])
    assert (code, answer["documents"]) == (0, 1) and "netwatch/mode: stage" in answer["text"]


def test_an_nft_script_is_written_for_a_world(files) -> None:
    code, answer = _run("export", files["db.yaml"], "--world", files["world"], "--format", "nft")
    assert (code, answer["differences"]) == (0, [])
    assert "198.18.0.2 . tcp . 5432 . 198.18.0.3," in answer["text"]


def test_export_and_import_give_back_what_was_exported(files) -> None:
    output = files["world"].with_name("k8s.yaml")
    given = ("--world", files["world"], "--to", "kubernetes", "-o", output)
    code, answer = _run("export", files["db.yaml"], *given)
    assert (code, len(answer["differences"])) == (3, 1)
    code, answer = _run("import", output, "--mode", "enforce", "-o", files["none.yaml"])
    assert (code, answer["text"]) == (0, output.read_text())


def test_without_a_world_the_running_controller_is_asked(files) -> None:
    """Workloads of its API are the world, its edges the evidence, its alerts what is set aside."""
    listener = serve(shop())
    env = {"NETWATCH_URL": listener.url, "NETWATCH_TOKEN": TOKEN}
    try:
        code, answer = _run("matrix", "--probe", "tcp/5432", env=env)
        assert code == 0 and "shop/db" in answer["order"]
        code, answer = _run("learn", "--project", "shop", env=env)
        assert code == 0 and answer["rules"]
        code, answer = _run("replay", files["none.yaml"], "--all", env=env)
        assert code == 0 and len(answer["calls"]) == 21
    finally:
        listener.stop()


def test_a_controller_that_was_named_and_does_not_answer_is_an_error() -> None:
    env = {"NETWATCH_URL": "http://127.0.0.1:9", "NETWATCH_TOKEN": "t"}
    assert _run("matrix", "--probe", "tcp/80", env=env)[0] == 4


def test_every_verb_has_a_module_that_has_it() -> None:
    """Lazily named verbs exist, and `--help` lists them."""
    text = CliRunner().invoke(command, ["--help"]).stdout
    for verb in ("check", "diff", "explain", "fmt", "import", "learn", "replay", "test"):
        assert f"  {verb} " in text


@pytest.mark.parametrize(
    ("spec", "code", "level"),
    [
        ("governs: {app: db}, ingress: isolated", 0, None),
        ("governs: {app: db}, rules: [{from: anyone}]", 3, "error"),
        ("governs: {app: db}, rule: []", 1, "error"),
    ],
)
def test_check_writes_sarif_and_junit(files, spec: str, code: int, level: str | None) -> None:
    """Findings and mistakes are errors at their line; a file without any is a passed case."""
    files["db.yaml"].write_text(DB.replace(DB.split("spec: ")[1], f"{{{spec}}}\n"))
    sarif, junit = files["world"].with_name("s.json"), files["world"].with_name("j.xml")
    assert _run("check", files["db.yaml"], "--sarif", sarif, "--junit", junit)[0] == code
    log = json.loads(sarif.read_text())
    results = log["runs"][0]["results"]
    assert log["version"] == "2.1.0" and [r["level"] for r in results] == [level] * bool(level)
    for result in results:
        location = result["locations"][0]["physicalLocation"]
        assert location["artifactLocation"]["uri"] == str(files["db.yaml"])
        assert location["region"]["startLine"] == 4
    assert xml.parse(junit).getroot().attrib["failures"] == str(int(bool(level)))
