"""What a packet was wrapped in: VLAN tags and tunnels, each combination once, by number."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from netwatch.model.flow import Tunnel

# The number has 16 bits beside the tags of a plain packet (`packets.Packets.key`).
LIMIT = 1 << 16
_SHIFT = 32


@dataclass(frozen=True, slots=True)
class Layer:
    """One encapsulation: its type, its id, and both outer addresses (16 bytes; b"": none)."""

    type: str
    id: int | None
    source: bytes = b""
    target: bytes = b""

    def turned(self) -> Layer:
        """As a packet of the other direction has it."""
        return Layer(self.type, self.id, self.target, self.source)

    def key(self) -> tuple[object, ...]:
        """What tells tunnels apart. Labels, TEIDs and GRE's keys differ by direction."""
        return self.type, None if self.type in _ONE_WAY else self.id, self.source, self.target


# The two directions are told apart by these ids, or may be.
_ONE_WAY = frozenset({"mpls", "gtp", "gre", "erspan"})


class Paths:
    """The combinations seen so far. A packet from the high end of its flow has them turned."""

    def __init__(self) -> None:
        self._number: dict[object, int] = {}
        self._of: list[tuple[tuple[int, ...], tuple[Layer, ...]]] = [((), ())]
        self.refused = 0

    def number(self, vlan: tuple[int, ...], layers: tuple[Layer, ...], *, from_low: bool) -> int:
        """The bits that stand for it in a key; when there are too many, 0, counted."""
        if not from_low:
            layers = tuple(layer.turned() for layer in layers)
        key = vlan, tuple(layer.key() for layer in layers)
        known = self._number.get(key)
        if known is None:
            if len(self._of) >= LIMIT:
                self.refused += 1
                return 0
            known = self._number[key] = len(self._of)
            self._of.append((vlan, layers))
        return known << _SHIFT

    def vlan(self, meta: int) -> tuple[int, ...]:
        """The VLAN tags of a key, outermost first."""
        number = meta >> _SHIFT & 0xFFFF
        if number:
            return self._of[number][0]
        tags = meta >> 24 & 0xFF
        if not tags:
            return ()
        return (meta & 0xFFF,) if tags == 1 else (meta >> 12 & 0xFFF, meta & 0xFFF)

    def tunnel(self, meta: int, *, client_is_low: bool) -> tuple[Tunnel, ...]:
        """The tunnels of a key, outermost first, seen from the client."""
        layers = self._of[meta >> _SHIFT & 0xFFFF][1]
        if not client_is_low:
            layers = tuple(layer.turned() for layer in layers)
        return tuple(
            Tunnel(layer.type, layer.id, _text(layer.source), _text(layer.target))
            for layer in layers
        )


def _text(address: bytes) -> str | None:
    if not address:
        return None
    short = address[12:] if address.startswith(bytes(10) + b"\xff\xff") else address
    return str(ip_address(short))
