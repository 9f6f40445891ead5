"""Whether what leaves a host for an address is encrypted on the wire: pure, from what was read.

A tunnel protects only what goes into it, so the way out by the routes is asked first; where what
comes back is seen on another interface, nothing is proven. WireGuard sends nothing in the clear
through its interface; that the peer is who it claims to be, and hears us, its last handshake
proves: sessions end after 180 s without a new one. An IPsec policy blocks what it can not encrypt;
states in both directions prove that it can.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from netwatch.model.link import Link, Links, SecurityPolicy, Template, WireGuard, WireGuardPeer
from netwatch.model.times import SECOND

REJECT_AFTER = 180 * SECOND  # REJECT_AFTER_TIME, section 6.1 of the WireGuard paper
NOTHING = Link("none")


def link_of(
    links: Links,
    local: str,
    remote: str,
    *,
    out: str | None,
    now: int,
    back: str | None = None,
    fresh: int = REJECT_AFTER,
) -> Link:
    """What carries packets from `local` to `remote` and back.

    `out` is the interface that the routes choose for them (None: no route is known), `back` the
    one that packets of the remote end were seen on (None: none was). A handshake proves for
    `fresh` nanoseconds. Protocol and ports are not
    asked: an IPsec policy for some of them only is no more than a claim.
    """
    if not _some(links):
        return Link("unknown", reason=links.problem) if links.problem else NOTHING
    carried = _by_policy(links, local, remote, out)
    if carried is not None:
        return carried
    if out is None:
        return Link("unknown", reason="no route to this address is known")
    tunnel = next((each for each in links.wireguard if each.interface == out), None)
    if tunnel is not None:
        return _through(tunnel, remote, back, age=fresh, now=now)
    return Link("unknown", reason=links.problem) if links.problem else NOTHING


def peer_for(tunnel: WireGuard, remote: str) -> WireGuardPeer | None:
    """The peer that the smallest of the allowed networks gives this address to."""
    found: tuple[int, WireGuardPeer] | None = None
    for peer in tunnel.peers:
        for text in peer.allowed:
            length = _length(text, remote)
            if length is not None and (found is None or length > found[0]):
                found = length, peer
    return found[1] if found else None


def _some(links: Links) -> bool:
    return bool(links.wireguard or links.policies)


def _through(tunnel: WireGuard, remote: str, back: str | None, *, age: int, now: int) -> Link:
    name = tunnel.interface
    peer = peer_for(tunnel, remote)
    if peer is None:
        why = "no peer is allowed this address"
    elif peer.handshake is None:
        why = f"no handshake yet with peer {peer.key}"
    elif now - peer.handshake > age:
        old = (now - peer.handshake) // SECOND
        why = f"the last handshake with peer {peer.key} is {old} s old, above {age // SECOND}"
    elif back not in (None, name):
        why = f"what comes back was seen on {back}"
    else:
        return Link("proven", "wireguard", name, f"handshake with peer {peer.key}")
    return Link("claimed", "wireguard", name, why)


def _by_policy(links: Links, local: str, remote: str, out: str | None) -> Link | None:
    """What the IPsec policy for this pair says; None if there is none, or it lets pass."""
    chosen = _policy(links.policies, "out", local, remote)
    if chosen is None:
        return None
    if chosen.blocks:
        return Link("claimed", "ipsec", out, "a policy blocks this pair")
    if not chosen.templates:
        return None
    why = _doubt(links, chosen, local, remote)
    return Link("claimed" if why else "proven", "ipsec", out, why or "policy and states")


def _doubt(links: Links, chosen: SecurityPolicy, local: str, remote: str) -> str | None:
    """Why the policy is no proof, or None."""
    if chosen.protocol is not None or chosen.source_port or chosen.destination_port:
        return "the policy is for one protocol or port only"
    if chosen.mark[1] or chosen.interface_id:
        return "the policy is for packets with a mark or of one xfrm interface only"
    esp = [each for each in chosen.templates if each.protocol == "esp" and not each.optional]
    if not esp:
        return "the policy demands no ESP"
    # A tunnel's packets are forwarded to the workload; transport mode is the host's own.
    way = "fwd" if any(each.mode == "tunnel" for each in esp) else "in"
    inward = _policy(links.policies, way, remote, local)
    demanded = inward.templates if inward and not inward.blocks else ()
    backward = [each for each in demanded if each.protocol == "esp" and not each.optional]
    if not backward:
        return "no policy demands ESP of what comes back"
    if not any(_served(links, each, local, remote) for each in esp):
        return "no state encrypts what goes out"
    if not any(_served(links, each, remote, local) for each in backward):
        return "no state encrypts what comes back"
    return None


def _served(links: Links, template: Template, source: str, destination: str) -> bool:
    """Whether a state does what the template demands."""
    tunnel = template.mode == "tunnel"
    ends = (template.source, template.destination) if tunnel else (source, destination)
    return any(
        state.encrypts
        and state.mode == template.mode
        and (state.source, state.destination) == ends
        and template.request in (0, state.request)
        for state in links.associations
    )


def _policy(
    policies: Iterable[SecurityPolicy], direction: str, source: str, destination: str
) -> SecurityPolicy | None:
    """The one that the kernel would take: the lowest number of those that match."""
    fitting = [
        policy
        for policy in policies
        if policy.direction == direction
        and _length(policy.source, source) is not None
        and _length(policy.destination, destination) is not None
    ]
    return min(fitting, key=lambda policy: policy.priority, default=None)


def _length(network: str, address: str) -> int | None:
    """The prefix length of the network if it holds the address."""
    try:
        held, known = ip_network(network, strict=False), ip_address(address)
    except ValueError:
        return None
    return held.prefixlen if known.version == held.version and known in held else None
