"""IPsec as the kernel holds it: security associations (states) and policies, dumped by netlink.

The structures are those of linux/xfrm.h. Keys are part of a state: they are skipped unread.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from netwatch.discover.links import ask, attributes_of
from netwatch.model.link import SecurityAssociation, SecurityPolicy, Template

NETLINK_XFRM = 6
XFRM_MSG_NEWSA, XFRM_MSG_GETSA = 16, 18
XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY = 19, 21
XFRMA_ALG_CRYPT, XFRMA_TMPL, XFRMA_ALG_AEAD, XFRMA_MARK, XFRMA_IF_ID = 2, 5, 18, 21, 31
ANSWER_S = 1.0
MAX_ENTRIES = 20_000  # states and policies of a gateway with thousands of peers

DIRECTIONS = {0: "in", 1: "out", 2: "fwd"}
MODES = {0: "transport", 1: "tunnel", 2: "ro", 3: "in-trigger", 4: "beet"}
PROTOCOLS = {50: "esp", 51: "ah", 108: "comp"}
BLOCK = 1  # XFRM_POLICY_BLOCK

SELECTOR = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
ID = struct.Struct("=16s4sB3x")
STATE = struct.Struct("=56s24s16s64s32s12sIIHBBB7x")
POLICY = struct.Struct("=56s64s32sIIBBBB4x")
TEMPLATE = struct.Struct("=24sH2x16sIBBBxIII")
MARK = struct.Struct("=II")
NAME = 64
# ESP that authenticates and hides nothing: RFC 2410, and GMAC (RFC 4543).
OPEN_CIPHERS = frozenset({"ecb(cipher_null)", "cipher_null", "rfc4543(gcm(aes))"})


def xfrm() -> tuple[tuple[SecurityAssociation, ...], tuple[SecurityPolicy, ...]]:
    """All states and policies of this namespace; none where the kernel has no xfrm at all.

    Raises OSError where it has and does not tell.
    """
    try:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM
        )
    except OSError:  # EPROTONOSUPPORT
        return (), ()
    with opened as asked:
        asked.settimeout(ANSWER_S)
        states = tuple(map(association_of, _dump(asked, XFRM_MSG_GETSA, XFRM_MSG_NEWSA)))
        policies = map(policy_of, _dump(asked, XFRM_MSG_GETPOLICY, XFRM_MSG_NEWPOLICY))
        return states, tuple(policy for policy in policies if policy is not None)


def _dump(asked: socket.socket, kind: int, answer: int) -> Iterator[bytes]:
    for count, body in enumerate(ask(asked, kind, b"", answer)):
        if count >= MAX_ENTRIES:
            raise OSError(f"this host has more than {MAX_ENTRIES} IPsec states or policies")
        yield body


def association_of(body: bytes) -> SecurityAssociation:
    """struct xfrm_usersa_info and its attributes. Raises struct.error if it is cut off."""
    _, identity, source, _, _, _, _, request, family, mode, _, _ = STATE.unpack_from(body)
    attributes = attributes_of(body, STATE.size)
    destination, spi, protocol = ID.unpack(identity)
    cipher = attributes.get(XFRMA_ALG_AEAD) or attributes.get(XFRMA_ALG_CRYPT) or b""
    name = cipher[:NAME].partition(b"\0")[0].decode(errors="replace")
    return SecurityAssociation(
        source=_address(family, source),
        destination=_address(family, destination),
        spi=int.from_bytes(spi, "big"),
        protocol=PROTOCOLS.get(protocol, str(protocol)),
        mode=MODES.get(mode, str(mode)),
        request=request,
        mark=_mark(attributes),
        encrypts=protocol == 50 and spi != bytes(4) and bool(name) and name not in OPEN_CIPHERS,
    )


def policy_of(body: bytes) -> SecurityPolicy | None:
    """struct xfrm_userpolicy_info and its attributes; None for the policy of a single socket.

    Raises struct.error if it is cut off.
    """
    selector, _, _, priority, _, direction, action, _, _ = POLICY.unpack_from(body)
    if direction not in DIRECTIONS:
        return None
    (to, came, dport, dmask, sport, smask, family, to_bits, came_bits, protocol, _, _) = (
        SELECTOR.unpack(selector)
    )
    attributes = attributes_of(body, POLICY.size)
    templates = attributes.get(XFRMA_TMPL, b"")
    return SecurityPolicy(
        direction=DIRECTIONS[direction],
        source=f"{_address(family, came)}/{came_bits}",
        destination=f"{_address(family, to)}/{to_bits}",
        priority=priority,
        protocol=protocol or None,
        source_port=int.from_bytes(sport, "big") if any(smask) else None,
        destination_port=int.from_bytes(dport, "big") if any(dmask) else None,
        blocks=action == BLOCK,
        templates=tuple(
            _template(templates[at : at + TEMPLATE.size])
            for at in range(0, len(templates) - TEMPLATE.size + 1, TEMPLATE.size)
        ),
        mark=_mark(attributes),
        interface_id=int.from_bytes(attributes.get(XFRMA_IF_ID, b"")[:4], "little"),
    )


def _template(raw: bytes) -> Template:
    identity, family, source, request, mode, _, optional, _, _, _ = TEMPLATE.unpack(raw)
    destination, _, protocol = ID.unpack(identity)
    return Template(
        source=_address(family, source),
        destination=_address(family, destination),
        protocol=PROTOCOLS.get(protocol, str(protocol)),
        mode=MODES.get(mode, str(mode)),
        request=request,
        optional=bool(optional),
    )


def _mark(attributes: dict[int, bytes]) -> tuple[int, int]:
    raw = attributes.get(XFRMA_MARK, b"")
    value, mask = MARK.unpack_from(raw) if len(raw) >= MARK.size else (0, 0)
    return value, mask


def _address(family: int, raw: bytes) -> str:
    """Text of an xfrm_address_t; a family that is not said (0, in a selector for all) is IPv4."""
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, raw)
    return socket.inet_ntop(socket.AF_INET, raw[:4])
