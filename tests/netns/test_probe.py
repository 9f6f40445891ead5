"""Proof from inside: probes, canaries and exact totals, on a lab host with policies in force."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Said, run_in
from tests.netns.running import Up
from tests.netns.test_denials import knock
from tests.netns.test_enforce import (
    API_FROM_WEB,
    backend,
    call,
    estate,
    host,
    inside,
    network_policy,
    put,
)

pytestmark = pytest.mark.netns
__all__ = ["backend", "estate", "put"]  # fixtures

ONLY_NFT = pytest.mark.parametrize("backend", ["nft"], indirect=True)
MEMBER = "198.18.1.10,tcp:80,198.18.1.11"  # web to api
PERIOD_S = 2.0


def probe(*arguments: str, code: int) -> dict[str, Any]:
    """`netwatch probe --json` on the lab host."""
    program = (sys.executable, "-m", "netwatch", "probe", "--json")
    said = run_in("a", *program, *arguments)
    assert said.code == code, said
    return dict(said.json)


def wrong(answer: dict[str, Any], kind: str) -> set[tuple[str, str, str, int]]:
    """Source, destination, protocol and port of what was found wrong in this way."""
    return {
        (p["source"], p["destination"], p["protocol"], p["port"])
        for p in answer["probes"]
        if p["verdict"] == kind
    }


def test_a_probe_agrees_until_the_kernel_is_broken_by_hand(
    put: Callable[..., Said], backend: str
) -> None:
    """0 while kernel and documents agree; a lost member is a false deny, an ACCEPT in front of
    our rules a false allow, each by name; on nft and on legacy."""
    put(API_FROM_WEB)
    fine = probe(code=0)
    assert fine["counts"] == {"agree": 48, "false-allow": 0, "false-deny": 0, "unproven": 0}
    assert {p["result"] for p in fine["probes"]} == {"open", "refused", "filtered"}

    inside("ipset", "del", "nw-edge4", MEMBER)
    missing = probe(code=3)
    assert wrong(missing, "false-deny") == {("a/shop/web", "a/shop/api", "tcp", 80)}
    assert not wrong(missing, "false-allow")
    inside("ipset", "add", "nw-edge4", MEMBER)

    inside(f"iptables-{backend}", "-I", "FORWARD", "1", "-j", "ACCEPT")
    hole = probe("--from", "app=rogue", "--to", "api", "--family", "4", "--port", "80", code=3)
    assert wrong(hole, "false-allow") == {("a/lab/rogue", "a/shop/api", "tcp", 80)}
    assert hole["probes"][0]["document"] == "NetworkPolicy shop/p-api"
    assert not wrong(probe("--family", "4", code=3), "false-deny")
    inside(f"iptables-{backend}", "-D", "FORWARD", "-j", "ACCEPT")
    assert probe(code=0)["counts"]["agree"] == 48


@ONLY_NFT
def test_a_probe_can_ask_about_policies_that_are_not_in_force(
    put: Callable[..., Said], tmp_path: Path
) -> None:
    """The kernel is held to --policies then: what they deny and it permits is a false allow."""
    put(API_FROM_WEB)
    file = tmp_path / "stricter.yaml"
    file.write_text(network_policy("api", "Ingress", "ingress: []"))
    arguments = ("--policies", str(file), "--from", "web", "--to", "shop/api", "--family", "4")
    answer = probe(*arguments, code=3)
    assert wrong(answer, "false-allow") == {
        ("a/shop/web", "a/shop/api", "tcp", 80),
        ("a/shop/web", "a/shop/api", "udp", 53),
    }
    empty = run_in("a", sys.executable, "-m", "netwatch", "probe", "--from", "app=nobody")
    assert empty.code == 2 and "no workload of this host" in empty.err


@ONLY_NFT
def test_verify_compares_intention_files_and_kernel(
    put: Callable[..., Said], tmp_path: Path
) -> None:
    """Each of the three is told apart; all the same is 0, and totals come with it."""
    put(API_FROM_WEB)
    said = host("verify", "--json")
    assert said.code == 0, said
    assert said.json["drift"] == [] and said.json["totals"]["denied"] == 0

    file = tmp_path / "wanted.yaml"
    file.write_text(network_policy("web", "Ingress", "ingress: []"))
    other = host("verify", "--policies", str(file), "--json")
    assert other.code == 3
    assert other.json["intention"] == [
        "NetworkPolicy shop/p-api is applied and not wanted",
        "NetworkPolicy shop/p-web is wanted and was not applied",
    ]
    assert other.json["kernel"] and not other.json["files"]

    (kept,) = Path("/run/netwatch").glob("enforce.*/policies/*.yaml")
    kept.write_text(kept.read_text() + "\n# meddled with\n")
    meddled = host("verify", "--json")
    assert meddled.code == 3 and not meddled.json["kernel"]
    assert "are not those that were applied" in meddled.json["files"][0]


def totals(state: Path) -> dict[str, int]:
    """`host denials --totals` on the lab host."""
    program = (sys.executable, "-m", "netwatch", "host", "denials", "--totals", "--json")
    said = run_in("a", *program, NETWATCH_STATE=str(state))
    assert said.code == 0, said
    return dict(said.json["totals"])


@ONLY_NFT
def test_totals_are_exact_and_survive_policies_resets_and_the_agent(
    put: Callable[..., Said], tmp_path: Path
) -> None:
    """As many as were sent, over a new policy, an agent that stops, and zeroed counters."""
    put(API_FROM_WEB)
    state = tmp_path / "kept"
    mine = state / "agents" / "a"  # where the lab host keeps its own
    knock("rogue", 30, pace_s=0)
    assert totals(mine)["denied"] == 30
    put(API_FROM_WEB, network_policy("web", "Ingress", "ingress: []", mode="stage"))
    knock("rogue", 10, pace_s=0)
    assert totals(mine)["denied"] == 40

    def denied(running: Up) -> int:
        (one,) = running.get("hosts")["hosts"]
        return int(one["enforcement"]["totals"].get("denied", 0))

    for sent in (50, 80):  # the second one is the agent after its restart
        running = Up(state, NETWATCH_CANARY="0")
        try:
            knock("rogue", 10, pace_s=0)
            running.wait(lambda one=running, n=sent: denied(one) == n, f"not {sent} denied")
            inside("iptables-nft", "-Z")
            knock("rogue", 2, pace_s=0)
            running.wait(lambda one=running, n=sent: denied(one) == n + 2, "zeroed, and lost")
            knock("rogue", 18, pace_s=0)
        finally:
            running.close()
    knock("rogue", 5, pace_s=0)
    found = totals(mine)
    assert found["denied"] == 105

    put(network_policy("api", "Ingress", "ingress: []", mode="stage"))
    knock("rogue", 7, pace_s=0)
    after = totals(mine)
    assert (after["denied"], after["would-deny"]) == (105, found["would-deny"] + 7)


@ONLY_NFT
def test_a_canary_finds_what_the_rules_do_not_show(
    put: Callable[..., Said], up: Callable[..., Up]
) -> None:
    """Bridged packets pass by the rules, and the rules are as they should be: an alert within
    three periods, and its end after the repair; no probe ever becomes an edge or a denial."""
    put(API_FROM_WEB)
    running = up(NETWATCH_CANARY=str(PERIOD_S))
    running.ready()

    def state() -> dict[str, Any]:
        (one,) = running.get("hosts")["hosts"]
        return dict(one["enforcement"])

    def switch(value: str) -> bool:
        for family in ("", "6"):
            inside("sysctl", "-qw", f"net.bridge.bridge-nf-call-ip{family}tables={value}")
        return True

    def open_alerts() -> list[dict[str, Any]]:
        alerts = running.get("alerts")["alerts"]
        return [
            a
            for a in alerts
            if a["detector"] == "enforcement-unproven" and a["state"] != "resolved"
        ]

    running.wait(lambda: state()["proven"] == 2, "no canary came back")
    assert not state()["unproven"] and not open_alerts()
    # Again and again: the agent turns them on within 5 s, and a canary needs about three.
    running.wait(
        lambda: switch("0") and bool(open_alerts()), "no alert", deadline_s=3 * 3 * PERIOD_S
    )
    (alert,) = open_alerts()
    assert alert["severity"] == "critical" and "a/shop/api" in alert["workloads"]
    assert alert["evidence"][0]["kind"] == "false-allow"
    assert alert["evidence"][0]["segment"] == "NetworkPolicy shop/p-api"
    switch("1")
    running.wait(lambda: not open_alerts(), "it stays", deadline_s=3 * 3 * PERIOD_S)

    probe("--to", "api", code=0)
    assert call("web", "api", 80)
    running.wait(lambda: bool(running.get("edges")["edges"]), "the real call is not seen")
    edges = {
        (e["source"]["id"], e["port"], e["connections"]) for e in running.get("edges")["edges"]
    }
    assert edges == {("a/shop/web", 80, 1)}
    assert running.get("losses")["losses"]["own probes set aside"] >= 6
    told = json.dumps(running.get("alerts"))
    assert "denied-burst" not in told and "undocumented-port" not in told

    running.close()
    program = (sys.executable, "-m", "netwatch", "host", "verify", "--json")
    kept = str(running.state / "agents" / "a")
    said = run_in("a", *program, NETWATCH_STATE=kept)
    assert said.code == 0, said
    (rule,) = said.json["rules"]
    assert (rule["document"], rule["hits"]) == ("NetworkPolicy shop/p-api", 1)
    assert rule["last_hit"] >= rule["since"]
