"""What a packet carries that is itself a packet, and where it starts.

Only what names itself is looked into: a header that does not add up is payload, and the packet
around it is shown as what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

IP4, IP6 = 0x0800, 0x86DD
MPLS, MPLS_MULTICAST, PPPOE, BRIDGED, PPP = 0x8847, 0x8848, 0x8864, 0x6558, 0x880B
VLAN_TYPES = (0x8100, 0x88A8, 0x9100)
_ERSPAN_2, _ERSPAN_3 = 0x88BE, 0x22EB

# Destination ports by IANA; 8472 is what the Linux kernel took for VXLAN before there was one.
VXLAN, VXLAN_LINUX, VXLAN_GPE, GENEVE, GTP, MPLS_UDP = 4789, 8472, 4790, 6081, 2152, 6635
PORTS = (VXLAN, VXLAN_LINUX, VXLAN_GPE, GENEVE, GTP, MPLS_UDP)
_UDP, _IPIP, _IPV6, _GRE, _MPLS_IP = 17, 4, 41, 47, 137

# Tags, labels and sessions in front of one network header: more are damage.
_LAYERS = 8
_GPE = {1: IP4, 2: IP6, 3: BRIDGED, 5: MPLS}
# PPP's protocol field, also compressed to one byte (RFC 1661 section 6.5).
_PPP = {0x0021: IP4, 0x0057: IP6, 0x0281: MPLS}


@dataclass(frozen=True, slots=True)
class Inside:
    """A network header of ethertype `kind` starts at `start`; `wraps`: (type, id) before it."""

    kind: int
    start: int
    vlan: tuple[int, ...] = ()
    wraps: tuple[tuple[str, int | None], ...] = ()


def network(data: bytes, kind: int, at: int = 0) -> Inside | None:
    """Behind tags, labels and sessions: the network header, if that is IP. `kind` is at `at`."""
    vlan: list[int] = []
    wraps: list[tuple[str, int | None]] = []
    for _ in range(_LAYERS):
        if kind in (IP4, IP6):
            return Inside(kind, at, tuple(vlan), tuple(wraps))
        if at + 8 > len(data):
            return None
        if kind in VLAN_TYPES:
            vlan.append(_number(data, at, 2) & 0xFFF)
            kind, at = _number(data, at + 2, 2), at + 4
        elif kind in (MPLS, MPLS_MULTICAST):
            label, kind, at = _labels(data, at)
            wraps.append(("mpls", label))
        elif kind == PPPOE:
            wraps.append(("pppoe", _number(data, at + 2, 2)))
            kind, at = _ppp(data, at + 6) if data[at] == 0x11 and not data[at + 1] else (0, at)
        elif kind == PPP:
            kind, at = _ppp(data, at)
        elif kind == BRIDGED:
            kind, at = _number(data, at + 12, 2), at + 14
        else:
            return None
    return None


def inside(protocol: int, body: bytes, ports: tuple[int, int]) -> Inside | None:
    """What a transport of IP carries; `body` starts with the transport's header."""
    if protocol == _UDP:
        return _datagram(body, ports) if len(body) > 16 else None
    if protocol == _IPIP:
        return Inside(IP4, 0, (), (("ipip", None),))
    if protocol == _IPV6:
        return Inside(IP6, 0, (), (("ipip", None),))
    if protocol == _GRE and len(body) > 8:
        return _gre(body)
    return network(body, MPLS) if protocol == _MPLS_IP else None


def _datagram(body: bytes, ports: tuple[int, int]) -> Inside | None:
    target = ports[1]
    if target in (VXLAN, VXLAN_LINUX) and body[8] & 0x08 and not body[8] & 0x04:
        return _wrapped(body, BRIDGED, 16, ("vxlan", _number(body, 12, 3)))
    if target == VXLAN_GPE and body[8] & 0x0C == 0x0C:
        return _wrapped(body, _GPE.get(body[11], 0), 16, ("vxlan-gpe", _number(body, 12, 3)))
    if target == GENEVE and not body[8] >> 6:
        start = 16 + (body[8] & 0x3F) * 4
        return _wrapped(body, _number(body, 10, 2), start, ("geneve", _number(body, 12, 3)))
    if GTP in ports and body[8] >> 4 == 3 and body[9] == 0xFF:
        return _gtp(body)
    return network(body, MPLS, 8) if target == MPLS_UDP else None


def _wrapped(body: bytes, kind: int, at: int, wrap: tuple[str, int | None]) -> Inside | None:
    found = network(body, kind, at)
    if found is None:
        return None
    return Inside(found.kind, found.start, found.vlan, (wrap, *found.wraps))


def _gtp(body: bytes) -> Inside | None:
    """G-PDUs of GTP-U (3GPP TS 29.281 section 5)."""
    at, extension = 16, 0
    if body[8] & 7:
        at, extension = 20, body[19] if len(body) > 19 else 0
    while extension:
        if at >= len(body) or not body[at]:
            return None
        at += body[at] * 4
        extension = body[at - 1] if at <= len(body) else 0
    kind = {4: IP4, 6: IP6}.get(body[at] >> 4, 0) if at < len(body) else 0
    return _wrapped(body, kind, at, ("gtp", _number(body, 12, 4)))


def _gre(body: bytes) -> Inside | None:
    """RFC 2784 and 2890; version 1 is PPTP's (RFC 2637); ERSPAN mirrors whole frames."""
    bits, kind = _number(body, 0, 2), _number(body, 2, 2)
    if bits & 0x4000 or bits & 7 > 1:
        return None
    at = 8 if bits & 0x8000 else 4
    key = None
    if bits & 0x2000:
        # PPTP's key is the payload's length and the call; only the call names the tunnel.
        key = _number(body, at + 2, 2) if bits & 7 else _number(body, at, 4)
        at += 4
    for bit in (0x1000, 0x80) if bits & 7 else (0x1000,):
        at += 4 if bits & bit else 0
    if kind == _ERSPAN_2:
        # Without sequence numbers it is type I, which has no header of its own.
        if not bits & 0x1000:
            return _wrapped(body, BRIDGED, at, ("erspan", None))
        return _wrapped(body, BRIDGED, at + 8, ("erspan", _number(body, at + 2, 2) & 0x3FF))
    if kind == _ERSPAN_3:
        more = 8 if at + 12 <= len(body) and body[at + 11] & 1 else 0
        session = _number(body, at + 2, 2) & 0x3FF
        return _wrapped(body, BRIDGED, at + 12 + more, ("erspan", session))
    return _wrapped(body, kind, at, ("gre", key))


def _labels(data: bytes, at: int) -> tuple[int, int, int]:
    """The innermost label (RFC 3032); what follows is told by its first nibble."""
    label = 0
    for _ in range(_LAYERS):
        if at + 5 > len(data):
            break
        label, bottom = _number(data, at, 3) >> 4, data[at + 2] & 1
        at += 4
        if bottom:
            nibble = data[at] >> 4
            if nibble == 0 and not data[at] & 0x0F:
                # The control word of a pseudowire (RFC 4448) in front of an Ethernet frame.
                return label, BRIDGED, at + 4
            return label, {4: IP4, 6: IP6}.get(nibble, 0), at
    return label, 0, at


def _ppp(data: bytes, at: int) -> tuple[int, int]:
    if data[at : at + 2] == b"\xff\x03":
        at += 2
    size = 1 if at < len(data) and data[at] & 1 else 2
    return _PPP.get(_number(data, at, size), 0), at + size


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
