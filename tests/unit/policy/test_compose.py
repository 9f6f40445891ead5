"""Compose files before deployment: who calls whom, what policies say to it, what labels wish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.policy.compose import Link, read_compose
from netwatch.policy.compose_check import check_links
from netwatch.policy.document import parse
from netwatch.policy.fields import InvalidPolicies

SHOP = """
x-common: &common {restart: always}
services:
  web:
    <<: *common
    ports: ["8080:80"]
    depends_on: [api]
    environment: {API_URL: "http://api:8000/v1", CACHE: "${CACHE_URL:-redis://cache}"}
  api:
    expose: [8000]
    depends_on: {db: {condition: service_healthy}}
    environment: [DB_HOST=db, DB_PORT=5432, MODE=db]
    labels: {netwatch.allow: "db:5432, cache"}
  db: {expose: ["5432", "9187"], networks: [default, back]}
  cache: {}
  job:
    networks: [back]
    environment: {DATABASE_URL: "postgres://u:p@db/orders", API_URL: "http://api:8000"}
networks: {back: {}}
"""
POLICY = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  governs: com.docker.compose.service=db
  rules:
  - {from: com.docker.compose.service=api, ports: 5432}
  - {from: com.docker.compose.service=web, ports: 9187}
"""


def test_what_a_file_declares() -> None:
    """Start order, links and addresses of services that share a network; a bare word is none."""
    project = read_compose(SHOP, "c.yaml", folder="Shop!")
    assert project.name == "shop"
    found = {(x.source, x.destination, x.port, x.how) for x in project.links}
    assert found == {
        ("web", "api", None, "depends_on"),
        ("web", "api", 8000, "environment API_URL"),
        ("web", "cache", 6379, "environment CACHE"),
        ("api", "db", None, "depends_on"),
        ("api", "db", 5432, "environment DB_HOST"),
        ("job", "db", 5432, "environment DATABASE_URL"),
    }
    assert Link("web", "api", None, "depends_on", project.links[0].place) in project.links
    assert project.links[0].place.line == 7


def test_services_become_workloads_as_docker_names_them() -> None:
    """Namespace, name, labels and ports are those that discovery will find."""
    web = read_compose(SHOP, "c.yaml", folder="shop").services["web"].workload
    assert web.key == "shop/shop-web-1"
    assert web.label_values()["com.docker.compose.service"] == "web"
    assert [(p.number, p.protocol, p.source) for p in web.ports] == [(80, "tcp", "published")]
    host = read_compose("services: {a: {network_mode: host}}", "c", folder="x").services["a"]
    assert host.workload.host_network and not host.networks


def test_a_denied_link_is_a_finding_and_an_undeclared_permission_a_warning() -> None:
    """Each at the place in the Compose file; a staged denial only warns."""
    project = read_compose(SHOP, "c.yaml", folder="shop")
    remarks = check_links(parse(POLICY, "p.yaml"), [project], now=0)
    told = {(r.code, r.severity, r.place.line) for r in remarks}
    assert told == {
        ("declared-denied", "finding", 18),
        ("allowed-undeclared", "warning", 4),
    }
    staged = parse(POLICY.replace("spec:\n", "spec:\n  mode: stage\n"), "p.yaml")
    codes = {(r.code, r.severity) for r in check_links(staged, [project], now=0)}
    assert codes == {("declared-staged-denied", "warning")}
    assert check_links((), [project], now=0) == ()


def test_check_ends_with_3_and_writes_reports(tmp_path: Path) -> None:
    """JSON, JUnit and SARIF tell the same finding; without policies nothing is denied."""
    compose, policies = tmp_path / "compose.yaml", tmp_path / "p.yaml"
    compose.write_text("name: shop\n" + SHOP)
    policies.write_text(POLICY)
    reports = ["--junit", str(tmp_path / "j.xml"), "--sarif", str(tmp_path / "s.json")]
    arguments = ["check", "--policies", str(policies), "--compose", str(compose), "--json"]
    result = CliRunner().invoke(command, [*arguments, *reports])
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    (denied,) = (f for f in answer["findings"] if f["code"] == "declared-denied")
    assert (denied["file"], denied["line"]) == (str(compose), 19)
    assert "declared-denied" in (tmp_path / "j.xml").read_text()
    assert "declared-denied" in (tmp_path / "s.json").read_text()
    alone = CliRunner().invoke(command, ["check", "--compose", str(compose)])
    assert alone.exit_code == 0
    assert CliRunner().invoke(command, ["check"]).exit_code == 2


def test_a_label_proposes_and_never_allows(tmp_path: Path) -> None:
    """`--propose` prints staged Segments; the label alone changes no verdict."""
    compose = tmp_path / "compose.yaml"
    compose.write_text("name: shop\n" + SHOP)
    result = CliRunner().invoke(command, ["check", "--compose", str(compose), "--propose"])
    proposals = parse(result.stdout, "proposed.yaml")
    assert [(p.name, str(p.mode), len(p.ingress)) for p in proposals] == [
        ("cache", "stage", 1),
        ("db", "stage", 1),
    ]
    assert proposals[1].ingress[0].ports[0].first == 5432
    nobody = POLICY.replace("service=api", "service=none")
    project = read_compose(SHOP, "c.yaml", folder="shop")
    codes = [r.code for r in check_links(parse(nobody, "p.yaml"), [project], now=0)]
    assert codes.count("declared-denied") == 3


@pytest.mark.parametrize("text", ["a: b", "services: {web: {depends_on: [web]}}", "", "- 1"])
def test_a_broken_file_loads_nothing(text: str) -> None:
    """Every problem has its place."""
    with pytest.raises(InvalidPolicies) as caught:
        read_compose(text, "c.yaml", folder="x")
    assert all(problem.line and problem.column for problem in caught.value.problems)
