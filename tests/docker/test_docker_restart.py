"""dockerd is restarted or killed and rewrites its rules: ours stand again by themselves (F12)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from private_dockerd import Engine, eventually
from program import Netwatch

pytestmark = pytest.mark.docker
MENDED_S = 3.0  # by event within a second; three times that (semantics, section 8)
POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  mode: enforce
  governs: {app: db}
  rules:
    - {from: {app: api}, ports: 80, because: orders are read by the api}
"""
ALWAYS = {"Name": "always"}
# Calls for ever, and writes down those that got through.
DIAL = "while :; do nc -w 1 {address} 80 </dev/null && date >> /tmp/through; sleep 0.05; done"


def labels(app: str) -> dict[str, str]:
    return {"app": app, "com.docker.compose.project": "shop"}


def through(engine: Engine, name: str) -> int:
    """How many calls of this container got through in its life."""
    return len(engine.sh(name, "cat /tmp/through 2>/dev/null || true")[1].splitlines())


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "crash"])
def test_after_a_restart_of_dockerd_policies_hold_again(
    engine: Engine, netwatch: Netwatch, tmp_path: Path, sign: signal.Signals
) -> None:
    """Its containers come back with each other's addresses and dial at once: no denied call, ever.

    The network opened while the governed workload was away, and the denied one had the address of
    the permitted one: three to six calls got through before the agent knew.
    """
    pool = {"Subnet": "198.18.200.0/24"}
    engine.client.create_network("back", driver="bridge", ipam={"Config": [pool]})
    db = engine.client.create_networking_config(
        {"back": engine.client.create_endpoint_config(ipv4_address="198.18.200.80")}
    )
    made = engine.client.create_container(
        "box",
        ["httpd", "-f", "-p", "80"],
        name="db",
        labels=labels("db"),
        stop_signal="SIGKILL",  # as in Engine.run
        networking_config=db,
        host_config=engine.client.create_host_config(network_mode="back", restart_policy=ALWAYS),
    )
    engine.client.start(made["Id"])
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    netwatch.ok("host", "apply", "--policies", str(file))
    netwatch.up()
    dial = ["sh", "-c", DIAL.format(address="198.18.200.80")]
    for app in ("rogue", "api"):
        engine.run(app, dial, network="back", labels=labels(app), restart_policy=ALWAYS)
    eventually(lambda: through(engine, "api"), what="the api calls")
    engine.stop(sign)
    engine.start()
    for app in ("rogue", "api", "db"):
        eventually(
            lambda app=app: engine.client.inspect_container(app)["State"]["Running"],
            within=20,
            what=f"{app} is back",
        )
    eventually(
        lambda: netwatch.call("host", "verify")[0] == 0, within=10 * MENDED_S, what="no drift"
    )
    before = through(engine, "api")
    eventually(lambda: through(engine, "api") > before + 5, what="the api calls again")
    assert through(engine, "rogue") == 0
