"""What the kernel should hold, as values: sets with members, and chains of typed rules.

Rules stay typed until `render`, so that a test can walk them, a hostile name can never be part of
one, and the number of rules is visibly constant: what grows is membership.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from netwatch.enforce.portguard import NO_GUARD, PortGuard

IPV4, IPV6 = 4, 6
FAMILIES = (IPV4, IPV6)
HOOKS = {"FORWARD": "NW-FWD", "INPUT": "NW-IN", "OUTPUT": "NW-OUT"}
NAME_LIMIT = 31  # IPSET_MAXNAMELEN 32 with its NUL; chain names may have 28


@dataclass(frozen=True, slots=True)
class State:
    """conntrack's state of the packet is `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """The packet's protocol, by a name of `PROTOCOLS`."""

    name: str


@dataclass(frozen=True, slots=True)
class DestinationPorts:
    """The destination port lies within both ends; follows a Protocol with ports."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NotSyn:
    """A TCP packet that does not begin a connection; follows Protocol("tcp")."""


@dataclass(frozen=True, slots=True)
class Through:
    """The packet came in by (`way` "in") or leaves by ("out") this interface of the host."""

    way: str
    interface: str


@dataclass(frozen=True, slots=True)
class Entered:
    """The packet came in by this port of a bridge, even if it is routed since."""

    port: str


@dataclass(frozen=True, slots=True)
class IcmpType:
    """An ICMPv6 type; follows Protocol("icmpv6")."""

    number: int


@dataclass(frozen=True, slots=True)
class InSet:
    """The packet's `directions` (src or dst for each field) are a member of the set.

    `name` is without the family's digit, which rendering adds.
    """

    name: str
    directions: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Sampled:
    """At most 10 a second for one (source, destination, port), and 1,000 in all: for logging."""

    name: str


Match = (
    State | Protocol | DestinationPorts | NotSyn | Through | Entered | IcmpType | InSet | Sampled
)


@dataclass(frozen=True, slots=True)
class Return:
    """Done here: the packet goes on to whatever rules others have."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The packet is gone; the sender hears nothing and will try again."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The packet is gone; the sender is told at once that this is prohibited (not: refused)."""


@dataclass(frozen=True, slots=True)
class Log:
    """A copy goes to NFLOG group 100 with this prefix; the packet goes on."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Jump:
    """On in another chain; `back` False means that its end is the end of this one too."""

    chain: str
    back: bool = True


Target = Return | Drop | Reject | Log | Jump


@dataclass(frozen=True, slots=True)
class Rule:
    """All matches must hold for the target to be taken."""

    target: Target
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of the filter table."""

    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class MemberSet:
    """An ipset: `name` without and `title` with the family's digit.

    `phase` orders its changes (see `plan`): allow, bar, block, egress, anyone, ingress, known,
    guard.
    """

    name: str
    family: int
    kind: str
    phase: str
    members: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """The name in the kernel."""
        return f"{self.name}{self.family}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What `plan` tells people beside rules and members, in sentences and names."""

    documents: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    fail_closed: tuple[str, ...] = ()
    host_granular: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    """Edges of every port or a long range, which are rules and not members."""
    notes: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    """(address, workload): to read members as edges."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything that one host should hold for both families."""

    chains: tuple[tuple[int, tuple[Chain, ...]], ...]
    sets: tuple[MemberSet, ...]
    enforcing: bool
    facts: Facts = field(default_factory=Facts, compare=False)
    guard: PortGuard = NO_GUARD

    def of_family(self, family: int) -> tuple[Chain, ...]:
        """The chains of IPv4 (4) or IPv6 (6)."""
        return dict(self.chains).get(family, ())

    @property
    def digest(self) -> str:
        """SHA-256 over chains and members, in hex: equal means equal in the kernel."""
        told = hashlib.sha256(repr(self.chains).encode())
        for each in sorted(self.sets, key=lambda each: each.title):
            told.update(f"\n{each.title} {each.kind}\n".encode())
            told.update("\n".join(sorted(each.members)).encode())
        told.update(self.guard.told().encode())
        return told.hexdigest()
