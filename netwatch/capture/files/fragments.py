"""Datagrams that came in pieces: whose they are, and what they say once they are whole."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# Source, target, identification, protocol (RFC 791 section 3.2, RFC 8200 section 4.5).
Key = tuple[bytes, bytes, int, int]

_LONGEST = 65_535


@dataclass(slots=True)
class _Datagram:
    """`ports` are None until the first fragment came; `pieces` are by offset."""

    ports: tuple[int, int] | None = None
    tunnelled: bool = False
    end: int | None = None
    size: int = 0
    pieces: dict[int, bytes] = field(default_factory=dict)


class Fragments:
    """Datagrams of which at least one fragment was seen; the oldest ones are forgotten."""

    # Reassembly on Linux holds about as much at a time (ipfrag_high_thresh, 4 MB).
    LIMIT, BYTES = 4096, 4 << 20

    def __init__(self) -> None:
        self._of: OrderedDict[Key, _Datagram] = OrderedDict()
        self._held = 0

    def first(self, key: Key, ports: tuple[int, int], *, tunnelled: bool) -> None:
        """Remember what the first fragment said; `tunnelled`: it was counted as another packet."""
        datagram = self._open(key)
        datagram.ports, datagram.tunnelled = ports, tunnelled

    def ports(self, key: Key) -> tuple[int, int] | None:
        """The ports of a datagram's first fragment, or None if it was not seen."""
        datagram = self._of.get(key)
        return datagram.ports if datagram else None

    def tunnelled(self, key: Key) -> bool:
        """Whether the first fragment was counted as the packet inside it."""
        datagram = self._of.get(key)
        return datagram is not None and datagram.tunnelled

    def add(self, key: Key, offset: int, data: bytes, *, last: bool) -> bytes | None:
        """Take a fragment's data at `offset` bytes; returns the datagram when it is whole."""
        datagram = self._open(key)
        end = offset + len(data)
        if end > _LONGEST or offset in datagram.pieces or not data:
            return None
        datagram.pieces[offset] = data
        datagram.size += len(data)
        self._held += len(data)
        if last:
            datagram.end = end
        while self._held > self.BYTES:
            self._forget()
        if datagram.end is None or datagram.size < datagram.end:
            return None
        return self._whole(datagram)

    def _whole(self, datagram: _Datagram) -> bytes | None:
        whole = bytearray()
        for offset in sorted(datagram.pieces):
            if offset > len(whole):
                return None
            # RFC 5722: pieces that overlap are an attack; what came first in order stands.
            whole += datagram.pieces[offset][len(whole) - offset :]
        self._held -= datagram.size
        datagram.pieces, datagram.size = {}, 0
        return bytes(whole)

    def _open(self, key: Key) -> _Datagram:
        datagram = self._of.get(key)
        if datagram is None:
            datagram = self._of[key] = _Datagram()
            if len(self._of) > self.LIMIT:
                self._forget()
        return datagram

    def _forget(self) -> None:
        _, oldest = self._of.popitem(last=False)
        self._held -= oldest.size
        oldest.pieces, oldest.size = {}, 0
