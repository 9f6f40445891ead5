"""Gives a lab its addresses, interface names and published ports; decides, and does nothing.

Numbers: host H is 192.0.2.H on the underlay; its workloads lie in 198.18.H.0/24 and
2001:db8:H::/64 unless the file gives them addresses. Interface names come from numbers because
Linux limits them to 15 characters (IFNAMSIZ) and a workload's name may be longer.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from netwatch.lab.directory import Entry, family_of
from netwatch.lab.spec import INTERNET, Lab, Listen, WorkloadSpec
from netwatch.model.errors import InvalidDocument

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNDERLAY_NETNS = "nwx-underlay"
INTERNET_NETNS = f"nw-{INTERNET}"
BRIDGE = "br0"
UPLINK = "eth0"
FIRST_WORKLOAD = 10  # the last part of the first chosen address; below are gateways
FIRST_FREE_DOOR = 20000


@dataclass(frozen=True, slots=True)
class PlacedHost:
    """`subnets`, `gateways` and `uplink` hold one of each family, IPv4 first.

    `routed`: other hosts have routes to its subnets. A host that masquerades has none.
    """

    name: str
    number: int
    subnets: tuple[Network, ...]
    gateways: tuple[Address, ...]
    uplink: tuple[Address, ...]
    routed: bool

    @property
    def netns(self) -> str:
        """Its named network namespace."""
        return f"nwh-{self.name}"


@dataclass(frozen=True, slots=True)
class Door:
    """A published port: `port` of the host leads to `listen` of the workload."""

    port: int
    listen: Listen


@dataclass(frozen=True, slots=True)
class PlacedWorkload:
    """A workload with its addresses; `interface` is the host's end of its link."""

    spec: WorkloadSpec
    interface: str
    addresses: tuple[Address, ...]
    doors: tuple[Door, ...] = ()

    @property
    def netns(self) -> str:
        """Its named network namespace."""
        return f"nw-{self.spec.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab that can be built. `underlay` and `outside` are (IPv4, IPv6) networks."""

    lab: Lab
    hosts: tuple[PlacedHost, ...]
    workloads: tuple[PlacedWorkload, ...]
    underlay: tuple[Network, ...]
    outside: tuple[Network, ...]

    def on(self, host: str) -> tuple[PlacedWorkload, ...]:
        """The workloads of one host, in the file's order."""
        return tuple(w for w in self.workloads if w.spec.host == host)

    @property
    def router(self) -> tuple[Address, ...]:
        """Where the default routes of the hosts lead."""
        return tuple(network[254] for network in self.underlay)

    @property
    def internet(self) -> tuple[Address, ...]:
        """The addresses of `internet`."""
        return self.outside[0][10], self.outside[1][16]

    @property
    def netns(self) -> tuple[str, ...]:
        """Every namespace of the lab."""
        outside = (INTERNET_NETNS,) if self.lab.internet is not None else ()
        hosts = (host.netns for host in self.hosts)
        return (UNDERLAY_NETNS, *outside, *hosts, *(w.netns for w in self.workloads))


def place(lab: Lab, *, file: str | None = None) -> Plan:
    """The plan for a lab; raises InvalidDocument where addresses do not fit together."""
    given = {host: _given_subnets(lab, host, file) for host in lab.hosts}
    owners = Counter(subnet for subnets in given.values() for subnet in subnets.values())
    taken = set(owners)
    underlay = (
        _free(("192.0.2.0/24", "198.19.255.0/24"), taken),
        _free(("2001:db8:0:ffff::/64", "2001:db8:0:fffe::/64"), taken),
    )
    outside = (
        _free(("203.0.113.0/24", "198.19.254.0/24"), taken),
        _free(("2001:db8:ffff::/64", "2001:db8:fffe::/64"), taken),
    )
    taken.update(underlay, outside)
    hosts: list[PlacedHost] = []
    workloads: list[PlacedWorkload] = []
    for number, name in enumerate(lab.hosts, 1):
        subnets = tuple(given[name].get(v) or _chosen_subnet(number, v, taken) for v in (4, 6))
        shared = any(owners[subnet] > 1 for subnet in subnets)
        routed = lab.underlay == "routed" and not shared
        specs = [w for w in lab.workloads if w.host == name]
        host = PlacedHost(
            name=name,
            number=number,
            subnets=subnets,
            gateways=_gateways(subnets, specs),
            uplink=tuple(network[number] for network in underlay),
            routed=routed,
        )
        hosts.append(host)
        workloads += _placed(host, specs, first=len(workloads) + 1, file=file)
    order = {spec.name: index for index, spec in enumerate(lab.workloads)}
    workloads.sort(key=lambda w: order[w.spec.name])
    return Plan(lab, tuple(hosts), tuple(workloads), underlay, outside)


def directory(plan: Plan) -> dict[str, Entry]:
    """Every name of the lab."""
    hosts = {host.name: host for host in plan.hosts}
    entries = [Entry(h.name, h.netns, h.name, _texts(h.uplink)) for h in plan.hosts]
    if plan.lab.internet is not None:
        entries.append(Entry(INTERNET, INTERNET_NETNS, None, _texts(plan.internet)))
    for workload in plan.workloads:
        host = hosts[workload.spec.host]
        entries.append(
            Entry(
                workload.spec.name,
                workload.netns,
                host.name,
                _texts(workload.addresses),
                () if host.routed else _texts(host.uplink),
                {f"{d.listen.protocol}/{d.listen.port}": d.port for d in workload.doors},
            )
        )
    return {entry.name: entry for entry in entries}


def _texts(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(str(address) for address in addresses)


def _given_subnets(lab: Lab, host: str, file: str | None) -> dict[int, Network]:
    subnets: dict[int, Network] = {}
    for workload in lab.workloads:
        for text in workload.addresses if workload.host == host else ():
            version = family_of(text)
            subnet = ipaddress.ip_network(f"{text}/{24 if version == 4 else 64}", strict=False)
            known = subnets.setdefault(version, subnet)
            if subnet != known:
                raise _invalid(
                    f"{text} of {workload.name} lies outside {known}, the subnet of host {host}",
                    "all workloads of a host share one /24 and one /64",
                    spec=workload,
                    file=file,
                )
            if text in (str(subnet[0]), str(subnet.broadcast_address)):
                message = f"{text} of {workload.name} is the address of the network or broadcast"
                raise _invalid(message, spec=workload, file=file)
    return subnets


def _free(candidates: Iterable[str], taken: set[Network]) -> Network:
    networks = [ipaddress.ip_network(candidate) for candidate in candidates]
    return next((network for network in networks if network not in taken), networks[-1])


def _chosen_subnet(number: int, version: int, taken: set[Network]) -> Network:
    pattern = "198.18.{}.0/24" if version == 4 else "2001:db8:{:x}::/64"
    while (subnet := ipaddress.ip_network(pattern.format(number))) in taken:
        number += 1
    taken.add(subnet)
    return subnet


def _gateways(subnets: tuple[Network, ...], specs: list[WorkloadSpec]) -> tuple[Address, ...]:
    used = {ipaddress.ip_address(text) for spec in specs for text in spec.addresses}
    return tuple(
        next(subnet[n] for n in (1, *range(254, 1, -1)) if subnet[n] not in used)
        for subnet in subnets
    )


def _placed(
    host: PlacedHost, specs: list[WorkloadSpec], *, first: int, file: str | None
) -> Iterator[PlacedWorkload]:
    owners: dict[Address, str] = {}
    for spec in specs:
        for text in spec.addresses:
            other = owners.setdefault(ipaddress.ip_address(text), spec.name)
            if other != spec.name:
                message = f"{other} and {spec.name} both have {text}"
                raise _invalid(message, spec=spec, file=file)
    doors = _doors(host, specs, file)
    used = {*owners, *host.gateways}
    free = [n for n in range(FIRST_WORKLOAD, 255) if not used & {s[n] for s in host.subnets}]
    numbers = iter(free)
    for index, spec in enumerate(specs, first):
        if spec.addresses:
            addresses = tuple(ipaddress.ip_address(text) for text in spec.addresses)
        else:
            number = next(numbers, None)
            if number is None:
                raise _invalid(
                    f"host {host.name} has no address left for {spec.name}",
                    f"{len(free)} can be chosen on one host; spread the workloads",
                    spec=spec,
                    file=file,
                )
            addresses = tuple(subnet[number] for subnet in host.subnets)
        yield PlacedWorkload(spec, f"veth{index}", addresses, doors.get(spec.name, ()))


def _doors(
    host: PlacedHost, specs: list[WorkloadSpec], file: str | None
) -> dict[str, tuple[Door, ...]]:
    if host.routed:
        return {}
    wanted = [
        (spec, listen)
        for spec in specs
        for listen in spec.listen
        if listen.documented or listen.publish is not None  # to publish is to document
    ]
    taken: dict[tuple[str, int], tuple[str, Listen]] = {}
    for spec, listen in wanted:
        if listen.publish is not None:
            other, _ = taken.setdefault((listen.protocol, listen.publish), (spec.name, listen))
            if other != spec.name or taken[listen.protocol, listen.publish][1] is not listen:
                raise _invalid(
                    f"{other} and {spec.name} both publish {listen.protocol} port "
                    f"{listen.publish} of host {host.name}",
                    spec=spec,
                    file=file,
                )
    for spec, listen in wanted:
        if listen.publish is None:
            port = listen.port
            if (listen.protocol, port) in taken:
                port = FIRST_FREE_DOOR
                while (listen.protocol, port) in taken:
                    port += 1
            taken[listen.protocol, port] = spec.name, listen
    doors: dict[str, tuple[Door, ...]] = {}
    for (_, port), (name, listen) in taken.items():
        doors[name] = (*doors.get(name, ()), Door(port, listen))
    return doors


def _invalid(
    message: str, hint: str | None = None, *, spec: WorkloadSpec, file: str | None
) -> InvalidDocument:
    line, column = spec.place
    return InvalidDocument(message, hint, file=file, line=line, column=column)
