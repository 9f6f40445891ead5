"""Every host and workload as last reported, and who an address is: the far end of a flow.

One host can name its own workloads only. Who stands behind an address elsewhere is decided here,
and only where one answer is possible; otherwise the peer stays external under its address.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from netwatch.controller.columns import Named
from netwatch.controller.denials import Denials
from netwatch.model.edge import Peer
from netwatch.model.errors import UsageError
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.host import HostState
from netwatch.model.learned import LearnedName
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import PublishedPort, Workload
from netwatch.wire import BadReport

HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?", re.ASCII)
FLOWS_LIMIT = 200_000
WORKLOADS_LIMIT = 10_000
LOSSES_LIMIT = 100
KNOWN_LIMIT = 100_000
REPORTED_NAMES_LIMIT = 10_000
NAMES_LIMIT = 200_000
TUNNELS_LIMIT = 50_000
SKEW = 30 * SECOND  # further than that a clock is not followed but wrong (reliability F8)
STEADY = 5  # reports in a row
BOOTS_KEPT = 8  # of a host: agents whose spools may still come in
_ANY = ("", "0.0.0.0", "::")


def check(report: Report) -> None:
    """Raises BadReport for what no agent of ours sends; nothing unbounded is believed."""
    if not HOST_NAME.fullmatch(report.host):
        raise BadReport("the report's host is no host name", "letters, digits, dots and dashes")
    if not 0 <= report.sequence < 2**62 or len(report.boot) > 64:
        raise BadReport("the report has no usable boot and sequence number")
    sizes = (
        ("flows", len(report.flows), FLOWS_LIMIT),
        ("workloads", len(report.workloads), WORKLOADS_LIMIT),
        ("losses", len(report.losses), LOSSES_LIMIT),
        ("names", len(report.names), REPORTED_NAMES_LIMIT),
        ("WireGuard interfaces", len(report.links.wireguard), TUNNELS_LIMIT),
        ("IPsec states", len(report.links.associations), TUNNELS_LIMIT),
        ("IPsec policies", len(report.links.policies), TUNNELS_LIMIT),
    )
    for what, size, limit in sizes:
        if size > limit:
            raise BadReport(f"the report has {size} {what}; at most {limit} are taken")
    if any(workload.host != report.host for workload in report.workloads):
        raise BadReport("the report has workloads of another host")
    if any(not 0 <= count < 2**62 or len(reason) > 64 for reason, count in report.losses):
        raise BadReport("the report has a loss that is no count")


@dataclass(frozen=True, slots=True)
class Learned:
    """What a report changed: are workloads to be saved, and which external peers have a name."""

    workloads: bool
    names: dict[str, str]


@dataclass(slots=True)
class Fleet:
    """`known` workloads include those that went; `present` are those of the last reports."""

    hosts: dict[str, HostState] = field(default_factory=dict)
    known: dict[str, Workload] = field(default_factory=dict)
    present: dict[str, tuple[Workload, ...]] = field(default_factory=dict)
    denials: Denials = field(default_factory=Denials)
    names: dict[tuple[str, str | None, str, str], LearnedName] = field(default_factory=dict)
    _newest: dict[str, dict[str, int]] = field(default_factory=dict)  # number by boot by host
    _steady: dict[str, int] = field(default_factory=dict)
    _index: _Index = field(default_factory=lambda: _Index())

    def load(self, hosts: Iterable[HostState], workloads: Iterable[tuple[Workload, bool]]) -> None:
        """Takes over what a store kept."""
        present: dict[str, list[Workload]] = defaultdict(list)
        self.hosts = {host.host: host for host in hosts}
        for workload, there in workloads:
            self.known[workload.identity] = workload
            if there:
                present[workload.host].append(workload)
        self.present = {host: tuple(mine) for host, mine in present.items()}
        self._index = _Index.of(self.present, self.hosts.values())

    def enrol(self, host: str, now: int) -> HostState:
        """The host, known from now on even if it never reports; UsageError if it is no name."""
        if not HOST_NAME.fullmatch(host):
            raise UsageError(f"{host!r} is no host name", "use letters, digits, dots and dashes")
        state = self.hosts.get(host) or HostState(host=host)
        self.hosts[host] = replace(state, enrolled=now)
        return self.hosts[host]

    def learn(self, report: Report, now: int) -> Learned:
        """Takes a report's state, unless a later one of the same agent was here.

        Later by number: a clock that was set back makes nobody old.
        """
        self.denials.learn(report)
        self._learn_names(report)
        host = self.hosts.get(report.host, HostState(host=report.host))
        first = host.first_report if host.first_report is not None else now
        if not self._is_newest(report):
            self.hosts[report.host] = replace(host, first_report=first, last_report=now)
            return Learned(False, {})
        before = self.present.get(report.host, ())
        changed = before != report.workloads
        moved = host.addresses != report.addresses
        self.hosts[report.host] = replace(
            host,
            version=report.version,
            first_report=first,
            last_report=now,
            capture=report.capture,
            enforcement=report.enforcement,
            clock_skew=report.ended - now,
            skewed=self._skewed(report, now, before=host),
            interval=max(0, report.ended - report.started),
            workloads=len(report.workloads),
            addresses=report.addresses,
            links=report.links,
        )
        if not (changed or moved):
            return Learned(False, {})
        self.present[report.host] = report.workloads
        if len(self.known) > KNOWN_LIMIT:  # names without end: only what is there is remembered
            self.known = {w.identity: w for mine in self.present.values() for w in mine}
        self.known.update({workload.identity: workload for workload in report.workloads})
        old, self._index = self._index, _Index.of(self.present, self.hosts.values())
        new = {a for w in report.workloads for a in w.addresses} | set(report.addresses)
        return Learned(changed, self._index.names(new, before=old))

    def _is_newest(self, report: Report) -> bool:
        """Whether nothing newer of its host was here: of its boot, or of a later one."""
        boots = self._newest.setdefault(report.host, {})
        if report.boot in boots and report.boot != next(reversed(boots)):
            return False
        newest = report.sequence >= boots.get(report.boot, 0)
        boots[report.boot] = max(report.sequence, boots.get(report.boot, 0))
        while len(boots) > BOOTS_KEPT:
            del boots[next(iter(boots))]
        return newest

    def _skewed(self, report: Report, now: int, *, before: HostState) -> bool:
        """Whether its clock is SKEW away from ours, and was in the STEADY reports before.

        A spool that is emptied looks like it, but catches up by most of an interval each time.
        """
        skew, interval = report.ended - now, report.ended - report.started
        steady = abs(skew - before.clock_skew) * 2 < max(interval, SECOND)
        count = self._steady.get(report.host, 0) + 1 if steady and abs(skew) > SKEW else 0
        self._steady[report.host] = count
        return count >= STEADY

    def heard_by(self, now: int) -> None:
        """The clock shows `now`: nobody was heard later."""
        for name, host in self.hosts.items():
            if (host.last_report or 0) > now:
                self.hosts[name] = replace(host, last_report=now)

    def _learn_names(self, report: Report) -> None:
        """The oldest of the fleet go first; what expired is left until there is no room."""
        for each in report.names:
            key = (report.host, each.workload, each.name, each.address)
            self.names.pop(key, None)
            while len(self.names) >= NAMES_LIMIT:
                del self.names[next(iter(self.names))]
            self.names[key] = each

    def named(self, flows: Iterable[Flow], reporter: str) -> list[Named]:
        """The flows with the ids of both ends and the port behind a published one."""
        cache: dict[tuple[str, str | None, int | None, str], tuple[str, int | None]] = {}
        result = []
        for flow in flows:
            source = self._name(flow.client, reporter)
            key = (flow.server.address, flow.server.workload, flow.server.port, flow.protocol)
            if key not in cache:
                cache[key] = self._served(flow.server, flow.protocol, reporter)
            destination, port = cache[key]
            original = flow.original.port if flow.original else None
            if port != flow.server.port:
                original = original or flow.server.port
            result.append(Named(flow, source, destination, port, original))
        return result

    def _name(self, end: Endpoint, reporter: str) -> str:
        claimed = end.workload
        if claimed and (claimed in self.known or claimed.startswith(f"{reporter}/")):
            return claimed
        return self._index.resolve(end.address, reporter)

    def _served(self, end: Endpoint, protocol: str, reporter: str) -> tuple[str, int | None]:
        """Who serves there, and on which port of its own (semantics section 3)."""
        id = self._name(end, reporter)
        if id.startswith("host:") and end.port is not None:
            behind = self._index.behind(id.removeprefix("host:"), end, protocol)
            if behind is not None:
                return behind
        return id, end.port


@dataclass(slots=True)
class _Index:
    """Address to who has it. Built anew when a report changes a host, which is seldom."""

    workloads: dict[str, list[Workload]] = field(default_factory=lambda: defaultdict(list))
    hosts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    subnets: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    published: dict[tuple[str, str, int], list[tuple[PublishedPort, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @classmethod
    def of(cls, present: Mapping[str, tuple[Workload, ...]], hosts: Iterable[HostState]) -> _Index:
        index = cls()
        for host in hosts:
            for address in host.addresses:
                index.hosts[address].add(host.host)
        for workloads in present.values():
            for workload in workloads:
                index._add(workload)
        return index

    def _add(self, workload: Workload) -> None:
        for published in workload.published:
            key = (workload.host, published.protocol, published.host_port)
            self.published[key].append((published, workload.identity))
        if workload.host_network:
            return  # its addresses are the host's, and so is its identity on the wire
        for address in workload.addresses:
            self.workloads[address].append(workload)
            self.subnets[_subnet(address)].add(workload.host)

    def resolve(self, address: str, reporter: str) -> str:
        """The Peer.id of an address as one host sees it; its own things come first."""
        here = [w for w in self.workloads.get(address, ()) if w.host == reporter]
        if len(here) == 1:
            return here[0].identity
        if reporter in self.hosts.get(address, ()) or _is_loopback(address):
            return f"host:{reporter}"
        if here or reporter in self.subnets.get(_subnet(address), ()):
            return f"external:{address}"  # nobody else can be reached under a local address
        return self._elsewhere(address)

    def _elsewhere(self, address: str) -> str:
        workloads = self.workloads.get(address, ())
        if len(workloads) == 1:
            return workloads[0].identity
        hosts = self.hosts.get(address, ())
        if len(hosts) == 1 and not workloads:
            return f"host:{next(iter(hosts))}"
        return f"external:{address}"

    def names(self, addresses: Iterable[str], *, before: _Index) -> dict[str, str]:
        """Old id to new id of the addresses that are known since, and the same to every host."""
        result = {}
        for address in addresses:
            new = self._elsewhere(address)
            shared = len(self.subnets.get(_subnet(address), ())) > 1
            if not shared and new != before._elsewhere(address) and not new.startswith("external"):
                result[f"external:{address}"] = new
        return result

    def behind(self, host: str, end: Endpoint, protocol: str) -> tuple[str, int] | None:
        """The workload and port behind a door of a host, if exactly one."""
        doors = self.published.get((host, protocol, end.port or 0), ())
        fitting = [
            (identity, door.port)
            for door, identity in doors
            if door.host_address in _ANY or door.host_address == end.address
        ]
        return fitting[0] if len(set(fitting)) == 1 else None


def _subnet(address: str) -> str:
    """The /24 or /64 around it. Reports carry no prefix lengths; runtimes fill networks from the
    low end, so this is where a local neighbour is found.
    """
    if ":" not in address:
        return address.rpartition(".")[0]
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def peer_of(id: str, known: Mapping[str, Workload]) -> Peer:
    """The Peer with that id; the inverse of `Peer.id`."""
    for kind in ("host", "external"):
        if id.startswith(f"{kind}:"):
            name = id.removeprefix(f"{kind}:")
            return Peer(kind, name, host=name if kind == "host" else None)
    workload = known.get(id)
    if workload is not None:
        return Peer(
            "workload",
            workload.name,
            workload.namespace,
            workload.host,
            image=workload.image,
            image_digest=workload.image_digest,
            project=workload.project,
            service=workload.service,
        )
    host, _, rest = id.partition("/")
    namespace, _, name = rest.partition("/")
    return Peer("workload", name, namespace, host)
