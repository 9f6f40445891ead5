"""How long after dockerd's event a new container's policy is in the kernel, beside a real agent.

Run it apart, as root: `tests/apart .venv/bin/python tests/bench/start.py [STARTS]`. `netwatch up`
watches a private dockerd with an isolated server on its network. Each container has an address
that is known beforehand: from the `network connect` event, by dockerd's own clock, to its address
being a member of the set that comes last. A process of its own asks the kernel for that, ten
times a millisecond and before all others: what counts is when it was there.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "docker"))
from private_dockerd import Engine
from program import Netwatch

SUBNET, NETWORK = "198.18.200", "bench"
POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: default}
spec:
  mode: enforce
  governs: {app: db}
  rules:
    - {from: {app: web}, ports: 5432, because: orders}
"""
GATE_MS = {"p50": 5.0, "p99": 50.0}
DEADLINE_S = 10.0
# linux/netfilter/ipset/ip_set.h: IPSET_CMD_TEST is 11; the answer's error is 0 for a member.
WATCHER = """
import os, socket, struct, sys, time
from netwatch.enforce import ipset, netlink
os.nice(-15)
with netlink.connect() as link:
    for address in sys.stdin:
        end = time.monotonic() + DEADLINE_S
        place = netlink.attribute(1 | 0x4000, socket.inet_aton(address.strip()))
        asks = ipset.request(
            11, "nw-known4", netlink.nested(ipset.DATA, netlink.nested(1, place))
        )
        error = None
        while error != 0 and time.monotonic() < end:
            time.sleep(0.0001)
            link.send(asks)
            (error,) = struct.unpack_from("=i", link.recv(4096), 16)
        print(0 if error else time.time_ns(), flush=True)
""".replace("DEADLINE_S", str(DEADLINE_S))


def began(events: object, found: dict[str, int]) -> None:
    """Remember when each container was connected, in ns of dockerd's clock."""
    for event in events:  # type: ignore[attr-defined]
        if event.get("Action") == "connect":
            found[event["Actor"]["Attributes"]["container"]] = event["timeNano"]


def measured(engine: Engine, starts: int) -> list[float]:
    """ms from the event to the member, for containers that are started one after the other."""
    events = engine.client.events(decode=True, filters={"type": "network"})
    connected: dict[str, int] = {}
    threading.Thread(target=began, args=(events, connected), daemon=True).start()
    found = []
    asks = [sys.executable, "-c", WATCHER]
    pipe = subprocess.PIPE
    with subprocess.Popen(asks, stdin=pipe, stdout=pipe, text=True) as watcher:
        assert watcher.stdin and watcher.stdout
        for number in range(starts):
            address = f"{SUBNET}.{20 + number % 200}"
            fixed = engine.client.create_endpoint_config(ipv4_address=address)
            made = engine.client.create_container(
                "box",
                "sleep 1000",
                labels={"app": "web"},
                stop_signal="SIGKILL",
                host_config=engine.client.create_host_config(network_mode=NETWORK),
                networking_config=engine.client.create_networking_config({NETWORK: fixed}),
            )
            print(address, file=watcher.stdin, flush=True)
            engine.client.start(made["Id"])
            known = int(watcher.stdout.readline())
            assert known, "the agent does not follow"
            found.append((made["Id"], known))
            engine.client.remove_container(made["Id"], force=True)
    events.close()
    return [(known - connected[container]) / 1e6 for container, known in found]


def main(starts: int) -> None:
    """Print the quantiles; exit code 1 if one misses its gate."""
    folder = Path(tempfile.mkdtemp(prefix="netwatch-start-"))
    runtime = Path("/run/netwatch-dockerd")
    runtime.mkdir(exist_ok=True)
    engine = Engine(folder, runtime)
    engine.start()
    netwatch = Netwatch(engine, folder)
    try:
        engine.load("box")
        pool = {"Driver": "default", "Config": [{"Subnet": f"{SUBNET}.0/24"}]}
        engine.client.create_network(NETWORK, driver="bridge", ipam=pool)
        engine.run("db", network=NETWORK, labels={"app": "db"})
        netwatch.up()
        (folder / "policy.yaml").write_text(POLICY)
        netwatch.ok("host", "apply", "--policies", str(folder / "policy.yaml"))
        found = sorted(measured(engine, starts))
    finally:
        netwatch.close()
        engine.clean()
        engine.stop()
    told = {
        "p50": statistics.median(found),
        "p99": found[min(len(found) - 1, round(0.99 * len(found)))],
    }
    held = all(told[name] <= gate for name, gate in GATE_MS.items())
    quantiles = ", ".join(f"{n} {told[n]:.1f} ms (gate {GATE_MS[n]:g})" for n in told)
    print(
        f"container event to policy in the kernel, {len(found)} starts: {quantiles},"
        f" least {found[0]:.1f}, most {found[-1]:.1f}: {'pass' if held else 'MISSED'}"
    )
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
