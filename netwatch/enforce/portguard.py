"""What each port of a bridge may send, as values: a workload its own addresses and nothing else.

Identity is an address, so an address must not be anybody's for the taking. On networks that fail
closed a port passes IPv4, IPv6 and ARP that name an address of its owner as their sender, in
frames of its owner's hardware address, and nobody else's frames may name one. A raw socket, which
Docker permits by default, could otherwise speak as its neighbour. No frame with a VLAN tag passes
there: br_netfilter shows it to no rule, and whoever gets a tag of VLAN 0 takes it off and forgets
it. And whose ingress is isolated hears no broadcast or multicast, whoever sent it (DHCP, neighbour
discovery and MLD excepted): rules know it by its own addresses, and who answers one is reached.

The rules are constant; ports and addresses are members of sets.
This is a table of the bridge family: it sees frames before the host routes or bridges them, needs
no br_netfilter, and shows nothing of ours to iptables. The quarantine stands in it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network

from netwatch.enforce.regions import ALWAYS, family_of
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.networks import span

TABLE = "netwatch"
MAX_PORTS = 65_536  # of one host: a bridge has at most 1,024 (BR_MAX_PORTS)
IP, ARP, IP6 = 0x0800, 0x0806, 0x86DD
_UDP, _ICMPV6, _ADVERTISEMENT = 17, 58, 136  # RFC 4861: it names its target in bytes 8 to 23
_SERVER = 67  # DHCP: asked from 0.0.0.0, as RFC 2131 says


@dataclass(frozen=True, slots=True)
class Protocol:
    """The frame has this ethertype; with a VLAN tag, that of the tag."""

    number: int


@dataclass(frozen=True, slots=True)
class Carried:
    """The frame carries this protocol, behind whatever tag."""

    number: int


@dataclass(frozen=True, slots=True)
class Transport:
    """The packet's layer 4 is this protocol, behind whatever IPv6 extension headers."""

    number: int


@dataclass(frozen=True, slots=True)
class Field:
    """The bytes at `offset` of a header (link, network or transport) are `value`; of them only the
    bits of `mask`, where there is one."""

    header: str
    offset: int
    value: bytes
    mask: bytes = b""


@dataclass(frozen=True, slots=True)
class Among:
    """Port, address, or both are a member of the set.

    `way` is in or out for the port, "" for none; `field` (header, offset, size) is the address.
    """

    name: str
    way: str = ""
    field: tuple[str, int, int] | None = None
    negated: bool = False


BridgeMatch = Protocol | Carried | Transport | Field | Among


@dataclass(frozen=True, slots=True)
class BridgeRule:
    """All matches must hold for the verdict: accept, drop, log (and on), or `goto CHAIN`."""

    verdict: str
    matches: tuple[BridgeMatch, ...] = ()

    @property
    def mark(self) -> str:
        """The comment that names the rule when it is read back."""
        return "nw:" + hashlib.sha256(repr(self).encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class BridgeChain:
    """A chain; with a `hook` and its priority it is where frames come in."""

    name: str
    rules: tuple[BridgeRule, ...]
    hook: str | None = None
    priority: int = 0


_SOURCE4, _SOURCE6 = ("network", 12, 4), ("network", 8, 16)
_SENDER = ("network", 14, 4)  # ARP for IPv4 over Ethernet, RFC 826
_TARGET = ("transport", 8, 16)
_FACE = ("link", 6, 6)
_DHCP = (67, 68, 546, 547)
_ADVERTISED = (Carried(IP6), Transport(_ICMPV6), Field("transport", 0, bytes([_ADVERTISEMENT])))
# to many at once: 224.0.0.0/4 and 255.255.255.255, what ends a subnet, ff00::/8
_GROUPS: tuple[tuple[BridgeMatch, ...], ...] = (
    (Carried(IP), Field("network", 16, b"\xe0", b"\xe0")),
    (
        Carried(IP),
        Field("network", 19, b"\x03", b"\x03"),
        Among("directed", "", ("network", 16, 4)),
    ),
    (Carried(IP6), Field("network", 24, b"\xff")),
)
# 0x8100 and 0x88a8 (IEEE 802.1Q and 802.1ad), and neither IP (0x0800, 0x86dd) nor ARP: one
# comparison, for it costs each frame
_TAGGED = Field("link", 12, b"\x80", b"\x82")
# what each ethertype names as its sender, and the families' sets
_SENDERS = ((IP, _SOURCE4, 4), (IP6, _SOURCE6, 6), (ARP, _SENDER, 4))

CHAINS = (
    BridgeChain("foreign", (
        *(BridgeRule("log", (Carried(kind),)) for kind in (IP, IP6)),
        BridgeRule("drop"),
    )),
    BridgeChain("own", (
        BridgeRule("accept", (
            Protocol(IP), Field("network", 12, bytes(4)), Transport(_UDP),
            Field("transport", 2, _SERVER.to_bytes(2, "big")),
        )),
        BridgeRule("accept", (Protocol(ARP), Field("network", 14, bytes(4)))),  # RFC 5227: a probe
        BridgeRule("accept", (
            Protocol(IP6), Field("network", 8, bytes(16)), Transport(_ICMPV6),
        )),  # RFC 4862: duplicate address detection, and MLD
        BridgeRule("goto foreign"),
    )),
    BridgeChain("enter", (
        BridgeRule("goto foreign", (
            Among("macs", "in", _FACE, negated=True), Among("faces", "in"),
        )),
        BridgeRule("goto foreign", (
            *_ADVERTISED, Among("ports", "in"), Among("own6", "in", _TARGET, negated=True),
        )),
        BridgeRule("goto foreign", (
            *_ADVERTISED, Among("claimed6", "", _TARGET),
            Among("own6", "in", _TARGET, negated=True),
        )),
        *(
            BridgeRule("accept", (Protocol(kind), Among(f"own{family}", "in", sender)))
            for kind, sender, family in _SENDERS
        ),
        BridgeRule("goto own", (Among("ports", "in"),)),
        *(
            BridgeRule("goto foreign", (Protocol(kind), Among(f"claimed{family}", "", sender)))
            for kind, sender, family in _SENDERS
        ),
    ), hook="prerouting", priority=-200),
    BridgeChain("group", (
        *(
            BridgeRule("accept", (Transport(_UDP), Field("transport", 2, port.to_bytes(2, "big"))))
            for port in _DHCP
        ),
        *(
            BridgeRule("accept", (
                Protocol(IP6), Transport(_ICMPV6), Field("transport", 0, bytes([kind])),
            ))
            for kind in ALWAYS
        ),
        BridgeRule("drop"),
    )),
    BridgeChain("caged", (
        BridgeRule("accept", (Protocol(ARP),)),
        BridgeRule("drop"),
    )),
    BridgeChain("between", (
        BridgeRule("goto foreign", (_TAGGED, Among("ports", "out"))),
        BridgeRule("goto caged", (Among("cages", "in"),)),
        BridgeRule("goto caged", (Among("cages", "out"),)),
        *(BridgeRule("goto group", (*each, Among("deaf", "out"))) for each in _GROUPS),
    ), hook="forward", priority=100),  # behind br_netfilter (-1), so that iptables logs first
)  # fmt: skip

SETS = {
    "ports": ("port",),
    "own4": ("port", "address4"),
    "own6": ("port", "address6"),
    "claimed4": ("address4",),
    "claimed6": ("address6",),
    "macs": ("port", "mac"),
    "faces": ("port",),  # those whose hardware address is known
    "deaf": ("port",),  # those whose owner's ingress is isolated
    "directed": ("address4",),  # broadcast addresses
    "cages": ("port",),
}
Member = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortGuard:
    """The members of the table's sets; without any there is no table."""

    sets: Mapping[str, frozenset[Member]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.sets.values())

    def of(self, name: str) -> frozenset[Member]:
        """The members of one set."""
        return self.sets.get(name, frozenset())

    def told(self) -> str:
        """One text for equal guards; empty for none."""
        return repr(sorted((name, sorted(m)) for name, m in self.sets.items() if m))


NO_GUARD = PortGuard()


@dataclass(frozen=True, slots=True)
class GuardState:
    """What was read from the kernel: the marks of each chain, the members of each set.

    `able` False: this kernel has no nftables for bridges.
    """

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, frozenset[Member]] = field(default_factory=dict)
    there: bool = False
    able: bool = True


NO_STATE = GuardState()


@dataclass(frozen=True, slots=True)
class GuardChange:
    """One transaction that leads to a guard: the table anew (`whole`) or gone, or members."""

    whole: PortGuard | None = None
    gone: bool = False
    add: tuple[tuple[str, tuple[Member, ...]], ...] = ()
    delete: tuple[tuple[str, tuple[Member, ...]], ...] = ()


def guard_of(
    snapshot: Snapshot, closed: Iterable[Network], isolated: Set[str] = frozenset()
) -> PortGuard:
    """The guard of the ports of these networks, and of whoever is quarantined.

    `isolated`: addresses of workloads whose ingress is isolated.
    """
    networks = {network.name: network for network in closed if network.bridge}
    bridges = {network.bridge for network in networks.values()}
    held = {entry.workload: entry for entry in snapshot.quarantined}
    found: dict[str, set[Member]] = {name: set() for name in SETS}
    for workload in snapshot.workloads:
        inmate = held.get(workload.key) if not workload.host_network else None
        guarded = {
            (link.name,)
            for link in workload.interfaces
            if link.bridge and (link.network in networks or link.bridge in bridges or inmate)
        }
        if inmate and not inmate.allow:  # with a forensic network iptables has to judge
            found["cages"] |= guarded
        found["ports"] |= guarded
        if not isolated.isdisjoint(workload.addresses):
            found["deaf"] |= guarded
        if networks or guarded:
            _own(found, workload)
    _claimed(found, tuple(networks.values()), snapshot)
    if not found["ports"] and not networks:
        return NO_GUARD
    return PortGuard({name: frozenset(members) for name, members in found.items()})


def _claimed(
    found: dict[str, set[Member]], networks: tuple[Network, ...], snapshot: Snapshot
) -> None:
    """Addresses of these networks that somebody has, and those that mean everybody there."""
    subnets = [ip_network(text, strict=False) for network in networks for text in network.subnets]
    spans = [span(text) for network in networks for text in network.subnets]
    found["directed"] = {(str(each.broadcast_address),) for each in subnets if each.version == 4}
    for workload in snapshot.workloads:
        for address in workload.addresses:
            family, number, _ = span(address)
            if any(v == family and low <= number <= high for v, low, high in spans):
                found[f"claimed{family_of(address)}"].add((address,))
    for network in networks:
        for gateway in network.gateways:
            if gateway in snapshot.addresses:  # else a router beyond the bridge has it
                found[f"claimed{family_of(gateway)}"].add((gateway,))


def _own(found: dict[str, set[Member]], workload: Workload) -> None:
    for link in workload.interfaces:
        if link.bridge:
            if link.mac and (link.name,) in found["ports"]:
                found["macs"].add((link.name, link.mac))
                found["faces"].add((link.name,))
            for address in (*workload.addresses, *workload.link_local):
                found[f"own{family_of(address)}"].add((link.name, address))


@cache
def guard_marks() -> dict[str, tuple[str, ...]]:
    """The marks of all chains of the table as it should be."""
    return {chain.name: tuple(rule.mark for rule in chain.rules) for chain in CHAINS}


def guard_change(desired: PortGuard, actual: GuardState, drift: list[str]) -> GuardChange | None:
    """What is to be done; None if nothing is. Adds sentences to `drift`."""
    if not actual.able:
        return None
    if not desired:
        if actual.there:
            drift.append("bridges: the table netwatch should not be there")
        return GuardChange(gone=True) if actual.there else None
    if dict(actual.chains) != guard_marks() or set(actual.sets) != set(SETS):
        drift.append(
            f"bridges: the table netwatch {'was changed' if actual.there else 'is missing'}"
        )
        return GuardChange(whole=desired, gone=actual.there)
    more = {name: desired.of(name) - actual.sets[name] for name in SETS}
    less = {name: actual.sets[name] - desired.of(name) for name in SETS}
    drift += [
        f"bridges: the set {name} lacks {len(more[name])} members,"
        f" and has {len(less[name])} too many"
        for name in SETS
        if more[name] or less[name]
    ]
    if not any(more.values()) and not any(less.values()):
        return None
    return GuardChange(add=_listed(more), delete=_listed(less))


def _listed(sets: Mapping[str, frozenset[Member]]) -> tuple[tuple[str, tuple[Member, ...]], ...]:
    return tuple((name, tuple(sorted(members))) for name, members in sets.items() if members)


def guard_state(desired: PortGuard) -> GuardState:
    """The kernel once `desired` holds: for tests and for previews."""
    if not desired:
        return NO_STATE
    return GuardState(guard_marks(), {name: desired.of(name) for name in SETS}, there=True)
