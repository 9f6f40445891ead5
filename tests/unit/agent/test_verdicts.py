"""Every flow carries two verdicts: of what is in force, and of that plus what is staged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.agent.verdicts import judge_of
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Label, Workload
from netwatch.policy.document import parse

WEB, DB, HOST = "198.18.0.2", "198.18.0.3", "192.0.2.1"


def workload(name: str, address: str) -> Workload:
    labels = (Label("app", name, "lab"),)
    return Workload("a", "shop", name, "lab", labels=labels, addresses=(address,))


HERE = Snapshot("a", (workload("web", WEB), workload("db", DB)), addresses=(HOST,))
POLICY = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  governs: app=db
  mode: MODE
  rules: [{from: app=web, ports: 5432}]
"""


def flow(client: str, port: int) -> Flow:
    names = {WEB: "a/shop/web", DB: "a/shop/db"}
    ends = Endpoint(client, 40000, names.get(client)), Endpoint(DB, port, "a/shop/db")
    return Flow(*ends, "tcp", 0, 0)


@pytest.mark.parametrize(
    ("mode", "client", "port", "verdicts"),
    [
        pytest.param("enforce", WEB, 5432, ("allow", "allow"), id="what is allowed"),
        pytest.param("enforce", WEB, 22, ("deny", "deny"), id="another port"),
        pytest.param("enforce", HOST, 5432, ("deny", "deny"), id="the host is not listed"),
        pytest.param("stage", WEB, 22, ("allow", "deny"), id="staged only logs"),
        pytest.param("observe", WEB, 22, ("allow", "allow"), id="observed does nothing"),
    ],
)
def test_verdicts(mode: str, client: str, port: int, verdicts: tuple[str, str]) -> None:
    """decide() with the enforcing documents, and with the staged ones too."""
    judge = judge_of(parse(POLICY.replace("MODE", mode), "db.yaml"), HERE, 0)

    assert judge(flow(client, port)) == verdicts


@pytest.mark.parametrize(
    ("status", "verdicts"),
    [
        pytest.param("plaintext", ("violated", "violated"), id="proven"),
        pytest.param("unknown", ("allow", "allow"), id="not known"),
        pytest.param("encrypted", ("allow", "allow"), id="kept"),
    ],
)
def test_a_broken_obligation_is_a_verdict(status: str, verdicts: tuple[str, str]) -> None:
    """Of the very conversation: another one of the same two may have kept it."""
    text = POLICY.replace("MODE", "enforce").replace("ports: 5432", "require: encrypted")
    judge = judge_of(parse(text, "db.yaml"), HERE, 0)
    assert judge(flow(WEB, 5432)) == ("allow", "allow")
    seen = replace(flow(WEB, 5432), encryption=Encryption(status, "content"))
    assert judge(seen) == verdicts


@pytest.mark.parametrize(("payload", "verdict"), [(0, "allow"), (1, "violated")])
def test_a_strict_rule_waits_for_the_first_byte(payload: int, verdict: str) -> None:
    """What is unknown breaks it, but not before anything could be known."""
    demand = "5432, require: encrypted, strict: true"
    text = POLICY.replace("MODE", "enforce").replace("5432", demand)
    judge = judge_of(parse(text, "db.yaml"), HERE, 0)
    assert judge(replace(flow(WEB, 5432), client_payload_bytes=payload))[0] == verdict


def test_a_crowd_breaks_no_strict_rule() -> None:
    """Nobody kept its first bytes; else a busy service would be refused for being busy."""
    demand = "5432, require: encrypted, strict: true"
    text = POLICY.replace("MODE", "enforce").replace("5432", demand)
    judge = judge_of(parse(text, "db.yaml"), HERE, 0)
    seen = replace(flow(WEB, 5432), client_payload_bytes=1)
    assert judge(replace(seen, client=replace(seen.client, port=None)))[0] == "allow"


def test_an_answer_is_remembered_for_its_question_only() -> None:
    """The port is part of the question."""
    judge = judge_of(parse(POLICY.replace("MODE", "enforce"), "db.yaml"), HERE, 0)
    asked = [judge(flow(WEB, port))[0] for port in (5432, 22, 5432)]

    assert asked == ["allow", "deny", "allow"]
