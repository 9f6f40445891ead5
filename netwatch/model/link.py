"""What carries packets between hosts: tunnels that encrypt, as the host's kernel tells of them.

Times are nanoseconds since the epoch. Keys are not kept: of a peer's public key only the first
characters, so that a person can find it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339

STATUSES = ("proven", "claimed", "unknown", "none")  # the better first
KINDS = ("wireguard", "ipsec", "overlay")


@dataclass(frozen=True, slots=True)
class Link:
    """What a conversation leaves its host through.

    `status`: proven (the kernel holds fresh keys and sends nothing past them), claimed (it is
    configured, and something of the proof is missing: see `reason`), none, unknown (the host could
    not be asked). `kind` is wireguard, ipsec or overlay; `through` the interface or network.
    """

    status: str
    kind: str | None = None
    through: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WireGuardPeer:
    """`key` begins the public key. `handshake` is None before the first one."""

    key: str
    allowed: tuple[str, ...] = ()
    endpoint: str | None = None
    handshake: int | None = None


@dataclass(frozen=True, slots=True)
class WireGuard:
    """One interface. `source` says who told: the kernel, or the socket of a user-space one."""

    interface: str
    peers: tuple[WireGuardPeer, ...] = ()
    source: str = "kernel"


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """One xfrm state (linux/xfrm.h). `encrypts` is False for AH and for ESP with no cipher."""

    source: str
    destination: str
    spi: int
    protocol: str
    mode: str
    request: int = 0
    mark: tuple[int, int] = (0, 0)
    encrypts: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """What a policy demands of packets; without addresses (transport) those of the packet."""

    source: str
    destination: str
    protocol: str
    mode: str
    request: int = 0
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """One xfrm policy: packets between the networks must pass its templates, or are blocked.

    `direction` is in, out or fwd. A port of None and a protocol of None mean any. `mark` is value
    and mask: the policy is only for packets that a rule marked so. `interface_id`, where it is not
    0: only for packets through the xfrm interface of that number.
    """

    direction: str
    source: str
    destination: str
    priority: int = 0
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    blocks: bool = False
    templates: tuple[Template, ...] = ()
    mark: tuple[int, int] = (0, 0)
    interface_id: int = 0


@dataclass(frozen=True, slots=True)
class Links:
    """Everything that encrypts on a host, read at `read` (ns); `problem`: what can not be told."""

    wireguard: tuple[WireGuard, ...] = ()
    associations: tuple[SecurityAssociation, ...] = ()
    policies: tuple[SecurityPolicy, ...] = ()
    read: int = 0
    problem: str | None = None


def protection_of(encryption: str, link: str | None) -> str:
    """Who protects a conversation on the wire: tls, link, both, neither or unknown.

    `encryption` is the status of the conversation itself (TLS, SSH or whatever it is), `link` that
    of the Link. Only what is proven protects; neither is said only if the rest is proven too.
    """
    if link == "proven":
        return "both" if encryption == "encrypted" else "link"
    if encryption == "encrypted":
        return "tls"
    return "neither" if encryption == "plaintext" and link == "none" else "unknown"


def link_as_json(link: Link | None) -> dict[str, Any] | None:
    """The `link` object of a flow, or None."""
    if link is None:
        return None
    return {
        "status": link.status,
        "kind": link.kind,
        "through": link.through,
        "reason": link.reason,
    }


def links_as_json(links: Links) -> dict[str, Any]:
    """The `links` object of a host."""
    return {
        "read": rfc3339(links.read) if links.read else None,
        "problem": links.problem,
        "wireguard": [
            {
                "interface": each.interface,
                "source": each.source,
                "peers": [
                    {
                        "key": peer.key,
                        "endpoint": peer.endpoint,
                        "allowed": list(peer.allowed),
                        "handshake": rfc3339(peer.handshake),
                    }
                    for peer in each.peers
                ],
            }
            for each in links.wireguard
        ],
        "xfrm": {
            "policies": len(links.policies),
            "associations": [
                {
                    "source": each.source,
                    "destination": each.destination,
                    "protocol": each.protocol,
                    "mode": each.mode,
                    "encrypts": each.encrypts,
                }
                for each in links.associations
            ],
        },
    }
