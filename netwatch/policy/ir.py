"""What every policy document becomes: one form for Segment, NetworkPolicy and the tiers.

`evaluate.decide` gives this form its meaning; the compiler, the linter and the explainer read the
same form. Nothing here knows YAML, and nothing here knows iptables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from netwatch.model.workload import Workload


class Mode(StrEnum):
    """A document's mode: replay only, log only, or kernel."""

    OBSERVE = "observe"
    STAGE = "stage"
    ENFORCE = "enforce"


class Operator(StrEnum):
    """The four operators of a Kubernetes label selector requirement."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file something was said; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `NotIn` holds for objects that lack the key, as upstream."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy the condition."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)


EVERYTHING = Selector()


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """Workloads by labels; `namespaces` None means the namespace of the policy itself."""

    workloads: Selector = EVERYTHING
    namespaces: Selector | None = None


@dataclass(frozen=True, slots=True)
class NetworkPeer:
    """A CIDR less its exceptions, workloads' addresses included. 0.0.0.0/0 holds no IPv6."""

    cidr: str
    excepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostPeer:
    """The host itself: its processes and its host-network containers."""


@dataclass(frozen=True, slots=True)
class InternetPeer:
    """Every address outside: no workload's, not the host's, in no private or managed network.

    `networks.internet` gives it for one world as finite NetworkPeers.
    """


@dataclass(frozen=True, slots=True)
class NamePeer:
    """The addresses that the world knows for a DNS name: lower case, without the last dot.

    `*.example.com` stands for every name below example.com, and not for example.com itself.
    """

    name: str


PeerSpec = WorkloadPeer | NetworkPeer | HostPeer | InternetPeer | NamePeer


@dataclass(frozen=True, slots=True)
class PortSpec:
    """`first` to `last` of `protocol`, or the port called `name` at the destination.

    Without `first` and `name`: every port of the protocol; without `protocol`: every protocol.
    """

    protocol: str | None = None
    first: int | None = None
    last: int | None = None
    name: str | None = None


class Tier(StrEnum):
    """Where a document judges: before, among or after what namespaces say of themselves.

    NetworkPolicy and Segment are the middle, where order never matters. In the other two the
    first rule that matches decides, by priority and then by order in the document.
    """

    ADMIN = "admin"
    MIDDLE = "middle"
    BASELINE = "baseline"


class Action(StrEnum):
    """What a rule says; Pass, in the tiers around the middle: the next tier decides."""

    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"


LINK_ENCRYPTED = "link-encrypted"
"""The one `Rule.obligation` that is decided before a connection: the rule is silent without it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence of a policy. No peers means anyone, no ports means any port and protocol.

    `strict`: an obligation that nothing proves to be met counts as broken.
    """

    place: Place
    peers: tuple[PeerSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    action: Action = Action.ALLOW
    name: str | None = None
    exception: bool = False
    because: str | None = None
    owner: str | None = None
    ticket: str | None = None
    expires: int | None = None
    obligation: str | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """One document. `namespace` None means it governs every namespace (`scope: all`).

    `isolates_ingress` and `isolates_egress`: a workload that it selects is isolated in that
    direction, so that what no rule allows is denied. `kind` is the document's own. `namespaces`
    narrows a document of every namespace to those with such labels; `priority`, 0 first, orders
    the documents of one tier. `ignored` are rules that are written and mean nothing: those of a
    direction that policyTypes leaves out.
    """

    kind: str
    name: str
    namespace: str | None
    subject: Selector
    mode: Mode
    place: Place
    isolates_ingress: bool = False
    isolates_egress: bool = False
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    tier: Tier = Tier.MIDDLE
    priority: int = 0
    namespaces: Selector = EVERYTHING
    ignored: tuple[Rule, ...] = ()

    @property
    def title(self) -> str:
        """`Segment shop/web`, `ClusterNetworkPolicy web`: how messages name the document."""
        if self.tier is not Tier.MIDDLE:
            return f"{self.kind} {self.name}"
        return f"{self.kind} {self.namespace or '*'}/{self.name}"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a question to `decide`.

    A workload (with the address it uses, where several matter), the host (`workload` None, `host`
    True), or an external address.
    """

    workload: Workload | None = None
    address: str | None = None
    host: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything a policy can select: workloads, and the labels of their namespaces.

    `networks` (CIDRs that this fleet manages) and `host_addresses` are not the internet. `names`
    gives the addresses that DNS names are known to have; a name that is not there matches nobody.
    `protected` are pairs of addresses between which nothing goes unencrypted over a wire.
    """

    workloads: tuple[Workload, ...] = ()
    namespaces: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    networks: tuple[str, ...] = ()
    host_addresses: tuple[str, ...] = ()
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    protected: tuple[tuple[str, str], ...] = ()

    def namespace_labels(self, name: str) -> dict[str, str]:
        """The labels of a namespace; `kubernetes.io/metadata.name` is always among them."""
        for known, labels in self.namespaces:
            if known == name:
                return {"kubernetes.io/metadata.name": name, **dict(labels)}
        return {"kubernetes.io/metadata.name": name}


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one question: allow, deny or unknown, and who said so.

    `side` is "source" or "destination": whose direction denied (egress or ingress). `isolated`
    tells whether any policy isolates either end in its direction: if not, the pair is unsegmented.
    """

    verdict: str
    reason: str
    policy: Policy | None = None
    rule: Rule | None = None
    side: str | None = None
    isolated: bool = False
    obligations: tuple[str, ...] = ()
    strict: bool = False
