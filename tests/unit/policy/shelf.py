"""The policy library as it ships, a world for it, and short questions about what it means."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from netwatch.enforce.ends import world_of
from netwatch.enforce.walk import Packet
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Interface
from netwatch.policy.document import parse
from netwatch.policy.evaluate import decide
from netwatch.policy.ir import Mode, Party, Policy
from netwatch.policy.library import Entry, instantiate, read_entry, read_scope

from .worlds import workload

FOLDER = Path(__file__).parents[3] / "policies"
FILES = {file.stem: file for file in sorted((FOLDER / "library").glob("*.yaml"))}
NEEDED = {
    "dns-only-via-resolver": {"resolver": "198.51.100.53/32"},
    "ntp-only-via-server": {"server": "198.51.100.123/32"},
    "tenant-isolation": {"others": '"has(tenant), tenant!=acme"'},
}
KNOWN = {"owner": "shop", "org.opencontainers.image.source": "https://git.example/shop"}
WORKLOADS = {
    made.key: replace(
        made,
        addresses=(*made.addresses, f"2001:db8:1::{number:x}"),
        interfaces=(Interface(f"v{number}", number, "br0", "lab"),),
        networks=("lab",),
    )
    for number, made in enumerate(
        (
            workload("shop/web", "198.18.0.1", tier="front", env="prod", app="web", **KNOWN),
            workload("shop/api", "198.18.0.2", tier="app", env="prod", app="api", **KNOWN),
            workload("shop/db", "198.18.0.3", tier="db", env="prod", **KNOWN),
            workload("shop/replica", "198.18.0.4", tier="db", env="prod", **KNOWN),
            workload("shop/job", "198.18.0.5", kind="job", **KNOWN),
            workload("lab/scratch", "198.18.1.1"),
            workload("test/web", "198.18.2.1", env="test", tier="app", **KNOWN),
            workload("pay/vault", "198.18.3.1", data="pci", **KNOWN),
            workload("cards/tokens", "198.18.3.2", data="pci", **KNOWN),
            workload("pay/gate", "198.18.3.3", pci="connected", **KNOWN),
            workload("ops/bastion", "198.18.4.1", role="bastion", **KNOWN),
            workload("ops/monitor", "198.18.4.2", role="monitoring", **KNOWN),
            workload("ops/proxy", "198.18.4.3", role="proxy", **KNOWN),
            workload("ops/relay", "198.18.4.4", role="mail-relay", **KNOWN),
            workload("ci/runner", "198.18.5.1", role="ci", **KNOWN),
            workload("one/web", "198.18.6.1", tenant="acme", **KNOWN),
            workload("two/web", "198.18.6.2", tenant="zeta", **KNOWN),
        ),
        16,
    )
}
HOST = Snapshot(
    "h1",
    tuple(WORKLOADS.values()),
    (Network("lab", "bridge", "br0", ("198.18.0.0/16", "2001:db8:1::/64"), ("198.18.0.254",)),),
    addresses=("198.18.0.254", "2001:db8:1::ff"),
)
WORLD = world_of(HOST)
NET, NET6, PRIVATE = "203.0.113.9", "2001:db8::9", "10.9.9.9"


@cache
def entry_of(name: str) -> Entry:
    """The entry of this name, read once."""
    return read_entry(FILES[name].read_text(), FILES[name].name)


def party(name: str) -> Party:
    """The workload of this key, the host, or an address outside."""
    if name == "host":
        return Party(address="198.18.0.254", host=True)
    return Party(WORKLOADS[name]) if name in WORKLOADS else Party(address=name)


def turned_on(name: str, scope: str, *, given: dict[str, str] | None = None) -> tuple[Policy, ...]:
    """The documents of the entry, enforced in this scope."""
    values = NEEDED.get(name, {}) if given is None else given
    return _turned_on(name, scope, tuple(values.items()))


@cache
def _turned_on(name: str, scope: str, given: tuple[tuple[str, str], ...]) -> tuple[Policy, ...]:
    where, file = read_scope(scope), f"{name}.yaml"
    text = instantiate(entry_of(name), where, mode=Mode.ENFORCE, name=name, given=dict(given))
    return parse(text, file)


def answer(policies: tuple[Policy, ...], call: str) -> str:
    """What `decide` says of `source > destination protocol/port`; its condition if it has one."""
    source, _, destination, what = call.split()
    protocol, _, port = what.partition("/")
    decision = decide(
        policies, WORLD, party(source), party(destination), protocol, int(port) if port else None
    )
    return ", ".join(decision.obligations) or decision.verdict


def packet(call: str) -> Packet:
    """The first packet of this call as the rules of HOST meet it."""
    source, _, destination, what = call.split()
    protocol, _, port = what.partition("/")
    six = ":" in source + destination
    if six and protocol == "icmp":
        protocol = "icmpv6"
    start, end = (_address(name, six=six) for name in (source, destination))
    hook = "NW-OUT" if source == "host" else "NW-IN" if destination == "host" else "NW-FWD"
    return Packet(hook, start, end, protocol, int(port) if port else None)


def _address(name: str, *, six: bool) -> str:
    known = HOST.addresses if name == "host" else (name, name)
    return WORKLOADS[name].addresses[six] if name in WORKLOADS else known[six]
