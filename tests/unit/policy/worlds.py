"""Small worlds and documents for the tests of policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy.document import parse
from netwatch.policy.ir import Party, Policy, World

SHARED = Path(__file__).parents[4] / "shared" / "data"


def shared(name: str) -> Any:
    """A JSON file of the shared test data, or the test is skipped."""
    file = SHARED / name
    if not file.exists():
        pytest.skip(f"the test data {name} is not beside the checkout", allow_module_level=True)
    return json.loads(file.read_text())


def workload(key: str, address: str | None = None, **labels: str) -> Workload:
    """`ns/name` with labels; it serves http on 80, https on 443 and dns on 53 of both kinds."""
    namespace, name = key.split("/")
    return Workload(
        "h1",
        namespace,
        name,
        "test",
        labels=tuple(Label(label, value, "own") for label, value in labels.items()),
        addresses=(address,) if address else (),
        ports=(
            DocumentedPort(80, "tcp", "own", "http"),
            DocumentedPort(443, "tcp", "own", "https"),
            DocumentedPort(53, "tcp", "own", "dns"),
            DocumentedPort(53, "udp", "own", "dns"),
        ),
    )


WEB = workload("shop/web", "198.18.0.1", app="web", tier="front")
API = workload("shop/api", "198.18.0.2", app="api", tier="back")
DB = workload("shop/db", "198.18.0.3", app="db", tier="data")
PAY = workload("pay/pay", "198.18.1.1", app="pay", data="pci")
ROGUE = workload("lab/rogue", "198.18.2.1", app="rogue")
WORLD = World(
    (WEB, API, DB, PAY, ROGUE),
    (("shop", (("team", "shop"),)), ("pay", (("team", "money"),)), ("lab", ())),
    networks=("198.18.0.0/16",),
    host_addresses=("203.0.113.1",),
)
HOST = Party(host=True, address="203.0.113.1")
OUTSIDE = Party(address="203.0.113.9")


def segment(spec: str, name: str = "s", namespace: str = "shop") -> tuple[Policy, ...]:
    """A Segment whose spec is this YAML, as a flow mapping or indented by two."""
    head = (
        "apiVersion: netwatch/v1\nkind: Segment\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}"
    )
    return parse(f"{head}\nspec:\n{_indented(spec)}", f"{name}.yaml")


def network_policy(
    spec: str, name: str = "n", namespace: str = "shop", annotations: str = "{}"
) -> tuple[Policy, ...]:
    """A NetworkPolicy whose spec is this YAML."""
    head = (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}"
    )
    return parse(f"{head}\nspec:\n{_indented(spec)}", f"{name}.yaml")


def cluster_network_policy(spec: str, name: str = "c") -> tuple[Policy, ...]:
    """An Admin ClusterNetworkPolicy for everybody, of priority 10, with these rules."""
    head = (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n"
        f"metadata: {{name: {name}}}\nspec:\n"
        "  tier: Admin\n  priority: 10\n  subject: {namespaces: {}}\n"
    )
    return parse(f"{head}{_indented(spec)}", f"{name}.yaml")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip("\n").split("\n")) + "\n"
