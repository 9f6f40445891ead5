"""A small shop on one host, and policies for it: what the enforcement tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netwatch.discover.lab import find_lab
from netwatch.kernel.namespaces import path_of_name
from netwatch.model.snapshot import Snapshot
from tests.netns.conftest import run_netwatch

HOST = "nwh-a"
SILENCE_S = 0.4  # between namespaces an answer takes a millisecond; what came not by then is lost
LISTEN = """[{port: 80, name: http, serve: echo}, {port: 81, serve: echo},
             {port: 53, protocol: udp, serve: echo}]"""
LAB = f"""
hosts: [a]
namespaces: {{shop: {{team: shop}}, lab: {{team: unknown}}}}
workloads:
  - {{name: web, host: a, namespace: shop, labels: {{app: web}}, listen: {LISTEN},
     addresses: [198.18.1.10, "2001:db8:1::10"]}}
  - {{name: api, host: a, namespace: shop, labels: {{app: api}}, listen: {LISTEN},
     addresses: [198.18.1.11, "2001:db8:1::11"]}}
  - {{name: rogue, host: a, namespace: lab, labels: {{app: rogue}}, listen: {LISTEN},
     addresses: [198.18.1.12, "2001:db8:1::12"]}}
"""


@contextmanager
def opened(folder: Path) -> Iterator[Snapshot]:
    """The shop as a lab; what its host knows of it."""
    (folder / "lab.yaml").write_text(LAB)
    assert run_netwatch("lab", "up", str(folder / "lab.yaml")).code == 0
    source = find_lab(path_of_name(HOST))
    assert source is not None
    source.start(lambda: None)
    yield source.snapshot()
    source.close()
    assert run_netwatch("lab", "down").code == 0


def network_policy(selected: str, kinds: str, rules: str, *, mode: str = "enforce") -> str:
    """One NetworkPolicy of the namespace shop, in YAML; `rules` are the directions' keys."""
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p-{selected}, namespace: shop, annotations: {{netwatch/mode: {mode}}}}}
spec:
  podSelector: {{matchLabels: {{app: {selected}}}}}
  policyTypes: [{kinds}]
  {rules}
"""


# There may be no ping: one echo request by a raw socket; checksum of type 8, all else zero.
PING = f"""
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
link.settimeout({SILENCE_S})
link.bind((sys.argv[2], 0))
try:
    link.sendto(bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), (sys.argv[1], 0))
    while link.recv(99)[20] != 0:
        pass
except OSError:
    sys.exit(1)
"""

FROM_WEB = "{podSelector: {matchLabels: {app: web}}}"
API_FROM_WEB = network_policy(
    "api",
    "Ingress",
    f"ingress: [{{from: [{FROM_WEB}], ports: [{{port: 80}}, {{port: 53, protocol: UDP}}]}}]",
)
