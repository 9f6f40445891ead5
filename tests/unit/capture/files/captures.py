"""Captures made by hand: frames, and files of both formats around them."""

from __future__ import annotations

import io
import struct
from ipaddress import ip_address

from netwatch.capture.files.reading import Reading, read

SYN, ACK, RST, FIN, PUSH = 2, 16, 4, 1, 8


def ip(source: str, target: str, protocol: int, body: bytes, *, options: bytes = b"") -> bytes:
    one, other = ip_address(source), ip_address(target)
    if one.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
        return head + one.packed + other.packed + body
    length = 20 + len(options) + len(body)
    first = 0x45 + len(options) // 4
    head = struct.pack(">BBHHHBBH", first, 0, length, 1, 0, 64, protocol, 0)
    return head + one.packed + other.packed + options + body


def tcp(sport: int, dport: int, flags: int, data: bytes = b"", *, seq: int = 0) -> bytes:
    return struct.pack(">HHIIBBHHH", sport, dport, seq, 0, 0x50, flags, 100, 0, 0) + data


def udp(sport: int, dport: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data


def ethernet(packet: bytes, *tags: int) -> bytes:
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return (
        bytes(12) + b"".join(b"\x81\x00" + struct.pack(">H", tag) for tag in tags) + kind + packet
    )


def pcap(frames: list[bytes], *, link: int = 1, order: str = "<", nano: bool = False) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for number, frame in enumerate(frames):
        out += struct.pack(f"{order}IIII", 1_700_000_000, number + 1, len(frame), len(frame))
        out += frame
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(
    frames: list[bytes], *, link: int = 1, order: str = "<", unit: int | None = None
) -> bytes:
    out = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = b""
    if unit is not None:
        options = struct.pack(f"{order}HHB3xHH", 9, 1, unit, 0, 0)
    out += block(1, struct.pack(f"{order}HHI", link, 0, 65535) + options, order)
    ticks = 10**unit if unit is not None else 10**6
    for number, frame in enumerate(frames):
        when = 1_700_000_000 * ticks + number + 1
        head = struct.pack(f"{order}5I", 0, when >> 32, when & 0xFFFFFFFF, len(frame), len(frame))
        out += block(6, head + frame, order)
    return out


def reading(data: bytes) -> Reading:
    return read(io.BytesIO(data), "test.pcap")


def flows(*packets: bytes):
    """The flows of a capture of these IP packets on Ethernet."""
    return list(reading(pcap([ethernet(packet) for packet in packets])).flows())
