"""Every packet of some links as pcap records: AF_PACKET with a ring that the kernel fills.

TPACKET_V3 (linux/if_packet.h, Documentation/networking/packet_mmap.rst): blocks of packets are
handed over, so user space pays per block and not per packet; what did not fit is counted by the
kernel. Sockets are filtered before they are bound, so no packet slips in unfiltered.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from netwatch.kernel.namespaces import socket_inside
from netwatch.model.errors import NetwatchError

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k: linux/filter.h
RETURN = 0x06  # BPF_RET | BPF_K: how many bytes to keep; 0 refuses the packet
# One record: seconds, nanoseconds, bytes captured, bytes on the wire (draft-ietf-opsawg-pcap).
RECORD = struct.Struct("<IIII")
LONGEST = 262_144  # libpcap's MAXIMUM_SNAPLEN; GSO makes packets of 64 kB

_ALL = 0x0003  # ETH_P_ALL
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER, which Python has no name for
_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION, _V3 = 263, 5, 6, 10, 2
_BLOCK, _BLOCKS = 1 << 19, 16  # 8 MiB a link: 60 ms at 130 MB/s
_RETIRE_MS = 40  # a block that is not full is handed over after this
_STATUS, _USER = 8, 1  # where a block says whose it is; TP_STATUS_USER
_HEAD = struct.Struct("=III")  # a block's: status, number of packets, where the first one is
# tpacket3_hdr: next, seconds, nanoseconds, captured, wire, status, where it starts, network
# header, hash, VLAN tag, its ethertype.
_PACKET = struct.Struct("=IIIIIIHHIIH")
_TAGGED, _TAG_TYPED = 0x10, 0x40  # TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID
_TAG = struct.Struct(">HH")
_MACS = 12
_ETHERNET = 1  # ARPHRD_ETHER
_LEFT = 100.0  # ms that the last blocks may take
_MOST_LINKS = 32  # each costs 8 MiB


class CaptureRefused(NetwatchError):
    """The packets of this link can not be captured."""

    code = "capture-refused"


def program_bytes(program: Sequence[Instruction]) -> bytes:
    """`struct sock_filter[]`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class Ring:
    """One link, both directions. Raises CaptureRefused, which names the link."""

    def __init__(
        self, link: str, program: Sequence[Instruction], *, namespace: Path | None = None
    ) -> None:
        self.link = link
        self._next = 0
        self._lost = 0
        try:
            self._socket = socket_inside(namespace, socket.AF_PACKET, socket.SOCK_RAW)
        except OSError as error:
            raise CaptureRefused(f"no packet socket: {error.strerror}", "run as root") from None
        try:
            self._filter(program)
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _V3)
            ring = struct.pack("=7I", _BLOCK, _BLOCKS, _BLOCK, _BLOCKS, _RETIRE_MS, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._memory = mmap.mmap(self._socket.fileno(), _BLOCK * _BLOCKS)
            self._socket.bind((link, _ALL))
        except OSError as error:
            self._socket.close()
            raise CaptureRefused(f"{link} can not be captured: {error.strerror}") from None

    def fileno(self) -> int:
        """For poll: readable when a block is ready."""
        return self._socket.fileno()

    @property
    def ethernet(self) -> bool:
        """Whether its packets are Ethernet frames; a tunnel's, for one, are not."""
        return bool(self._socket.getsockname()[3] == _ETHERNET)

    def gone(self) -> bool:
        """Whether the link went down or away since the last call."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENETDOWN

    def end(self) -> None:
        """Take no more packets; what was taken is still to be read."""
        self._filter([(RETURN, 0, 0, 0)])

    def records(self) -> Iterator[list[bytes]]:
        """The blocks that are ready, each as pcap records; once around the ring at most, so that
        no flood keeps the caller from looking at the clock.
        """
        for _ in range(_BLOCKS):
            start = self._next * _BLOCK
            status, count, first = _HEAD.unpack_from(self._memory, start + _STATUS)
            if not status & _USER:
                return
            yield self._block(start + first, count)
            # The kernel may write there from now on.
            struct.pack_into("=I", self._memory, start + _STATUS, 0)
            self._next = (self._next + 1) % _BLOCKS

    def _block(self, at: int, count: int) -> list[bytes]:
        memory, header, pack = self._memory, _PACKET.unpack_from, RECORD.pack
        found = []
        for _ in range(count):
            step, seconds, parts, size, wire, status, begin, _, _, tag, kind = header(memory, at)
            begin += at
            if status & _TAGGED:  # the kernel took it off the frame, and it belongs there
                typed = kind if status & _TAG_TYPED else 0x8100
                macs, rest = begin + _MACS, memory[begin + _MACS : begin + size]
                frame = memory[begin:macs] + _TAG.pack(typed, tag & 0xFFFF) + rest
                found.append(pack(seconds, parts, size + 4, wire + 4) + frame)
            else:
                found.append(pack(seconds, parts, size, wire) + memory[begin : begin + size])
            at += step
        return found

    def lost(self) -> int:
        """Packets that passed the filter and found no room, since the beginning."""
        found = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)  # reading resets them
        self._lost += struct.unpack_from("=II", found)[1]
        return self._lost

    def close(self) -> None:
        """Give the ring back."""
        self._memory.close()
        self._socket.close()

    def _filter(self, program: Sequence[Instruction]) -> None:
        code = ctypes.create_string_buffer(program_bytes(program))
        option = struct.pack("HL", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, option)


class Tap:
    """Some links of one namespace together; non-Ethernet ones are left out, by name in `skipped`.

    Packets come in order of time within a link; between links, within about 40 ms.
    """

    def __init__(
        self, links: Sequence[str], program: Sequence[Instruction], *, namespace: Path | None
    ) -> None:
        if len(links) > _MOST_LINKS:
            raise CaptureRefused(f"{len(links)} links are too many: {_MOST_LINKS} can be captured")
        self._rings: list[Ring] = []
        self._lost = 0
        self.skipped: list[str] = []
        self._poll = select.poll()
        try:
            for link in links:
                self._open(link, program, namespace)
        except CaptureRefused:
            self.close()
            raise
        if not self._rings:
            named = ", ".join(self.skipped) or "none"
            raise CaptureRefused(f"there is no Ethernet link to capture (links: {named})")
        self.links = tuple(ring.link for ring in self._rings)

    def _open(self, link: str, program: Sequence[Instruction], namespace: Path | None) -> None:
        ring = Ring(link, program, namespace=namespace)
        if not ring.ethernet:
            ring.close()
            self.skipped.append(link)
            return
        self._rings.append(ring)
        self._poll.register(ring, select.POLLIN | select.POLLERR)

    def batches(self, seconds: float, stop: Callable[[], bool]) -> Iterator[list[bytes]]:
        """pcap records as they come, at least an empty list every 0.1 s, until time is over,
        `stop` says so, or every link is gone; then whatever was captured before that.
        """
        until = time.monotonic() + seconds
        while self._rings and not stop() and (left := until - time.monotonic()) > 0:
            self._poll.poll(min(left, 0.1) * 1000)
            yield from self._ready()
            yield []
            self._drop_gone()
        for ring in self._rings:
            ring.end()
        until = time.monotonic() + _LEFT / 1000
        while self._rings and (left := until - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            yield from self._ready()

    @property
    def gone(self) -> bool:
        """Whether no link is left."""
        return not self._rings

    def lost(self) -> int:
        """Packets that found no room, since the beginning."""
        return self._lost + sum(ring.lost() for ring in self._rings)

    def close(self) -> None:
        """Stop capturing."""
        while self._rings:
            self._close(self._rings[-1])

    def _ready(self) -> Iterator[list[bytes]]:
        for ring in self._rings:
            yield from ring.records()

    def _drop_gone(self) -> None:
        for ring in [ring for ring in self._rings if ring.gone()]:
            self._close(ring)

    def _close(self, ring: Ring) -> None:
        self._rings.remove(ring)
        with suppress(KeyError):
            self._poll.unregister(ring)
        self._lost += ring.lost()
        ring.close()
