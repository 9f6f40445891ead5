"""What other forms of a policy lack, and what all of them write alike.

A form that can not say something is refused by name, with the document and the place: what it left
out would be learned from an outage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netwatch.model.errors import NetwatchError
from netwatch.policy import networks
from netwatch.policy.ir import (
    Action,
    HostPeer,
    InternetPeer,
    NamePeer,
    NetworkPeer,
    PeerSpec,
    Policy,
    PortSpec,
    Rule,
    World,
)

_MAPPED = "::ffff:"
PROTOCOLS = ("tcp", "udp", "sctp")


def no_equal(policy: Policy, form: str, why: str) -> NetwatchError:
    """The error that this document can not be written in that form."""
    return NetwatchError(
        f"{policy.title} ({policy.place}) has no equal in {form}: {why}",
        "export it with --to netwatch",
        code="no-equal",
    )


def check_rule(policy: Policy, rule: Rule, form: str) -> None:
    """Raise NetwatchError for what no other form has: an end, or a demand for encryption."""
    if rule.exception or rule.expires is not None:
        raise no_equal(policy, form, f"the rule at {rule.place} ends, and a document there stays")
    if rule.obligation is not None:
        raise no_equal(policy, form, f"the rule at {rule.place} demands encryption")


def peers_there(
    policy: Policy, rule: Rule, world: World, form: str, *, ingress: bool, names: bool = False
) -> tuple[PeerSpec, ...] | None:
    """The peers that a form without hosts has; None if the rule is about the host alone.

    There the host may always in. The internet becomes the networks that it is in this world.
    Raises NetwatchError for a host as destination or denied, and for DNS names but with `names`.
    """
    peers: list[PeerSpec] = []
    for peer in rule.peers:
        if isinstance(peer, InternetPeer):
            peers.extend(map(_writable, networks.internet(world)))
        elif isinstance(peer, NamePeer) and not names:
            raise no_equal(policy, form, f"the rule at {rule.place} names {peer.name}")
        elif not isinstance(peer, HostPeer):
            peers.append(peer)
        elif not ingress:
            raise no_equal(policy, form, f"the rule at {rule.place} names the host as destination")
        elif rule.action is Action.DENY:
            raise no_equal(policy, form, f"the rule at {rule.place} denies the host")
    return tuple(peers) if peers or not rule.peers else None


def _writable(peer: NetworkPeer) -> NetworkPeer:
    """Without the mapped IPv4 addresses: no packet has one, and no document may name them."""
    return replace(peer, excepts=tuple(e for e in peer.excepts if not e.startswith(_MAPPED)))


def one_protocol_each(ports: Iterable[PortSpec]) -> Iterator[PortSpec]:
    """A port's name without a protocol is one for each protocol that has ports."""
    for spec in ports:
        if spec.protocol is not None:
            yield spec
        else:
            yield from (replace(spec, protocol=protocol) for protocol in PROTOCOLS)
