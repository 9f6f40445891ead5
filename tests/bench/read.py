"""Reading a capture, against NFStream: `python tests/bench/read.py [packets] [runs]`.

One capture is generated (its truth is known), then both tools read it in turns, each in a process
of its own. What counts is CPU time, user and system: the machine is not ours alone. Like is
compared with like: flows alone (NFStream with n_dissections=0 and one meter, its fastest way), and
flows with what their first bytes say (n_dissections=20, its default).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SEED = 7
GATE = 8.0

# The verb runs without garbage collection, so both do.
NETWATCH = """
import gc, sys
gc.disable()
from netwatch.capture.files.reading import read
with open(sys.argv[1], "rb") as stream:
    flows = packets = octets = encrypted = 0
    for flow in read(stream, sys.argv[1], dissect=DISSECT).flows():
        flows += 1
        packets += flow.client_packets + flow.server_packets
        octets += flow.client_bytes + flow.server_bytes
        encrypted += flow.encryption.status == "encrypted"
print(flows, packets, octets, encrypted)
"""
NFSTREAM = """
import gc, sys
gc.disable()
from nfstream import NFStreamer
flows = packets = octets = 0
for flow in NFStreamer(sys.argv[1], n_dissections=DISSECT, n_meters=1, statistical_analysis=False):
    flows += 1
    packets += flow.bidirectional_packets
    octets += flow.bidirectional_bytes - 14 * flow.bidirectional_packets
print(flows, packets, octets, 0)
"""


def handshakes(folder: Path, count: int) -> list[tuple[bytes, bytes]]:
    """What both ends of real handshakes said, half TLS 1.2 and half TLS 1.3."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "bench.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    return [_handshake(pem, versions[n % 2], f"s{n}.example") for n in range(count)]


def _handshake(pem: Path, version: ssl.TLSVersion, name: str) -> tuple[bytes, bytes]:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.check_hostname, calling.verify_mode = False, ssl.CERT_NONE
    calling.set_alpn_protocols(["h2", "http/1.1"])
    calling.minimum_version = calling.maximum_version = version
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = calling.wrap_bio(to_client, from_client, server_hostname=name)
    server = serving.wrap_bio(to_server, from_server, server_side=True)
    said = [b"", b""]
    for _ in range(4):
        for side, end, out, into in (
            (0, client, from_client, to_server),
            (1, server, from_server, to_client),
        ):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            data = out.read()
            said[side] += data
            into.write(data)
    return said[0], said[1]


def generate(path: Path, packets: int) -> tuple[int, int, int, int]:
    """Write a capture; returns its truth: flows, packets, IP bytes, encrypted flows."""
    draw = random.Random(SEED)
    pool = draw.randbytes(1 << 20)
    tls = handshakes(path.parent, 64)
    made: list[tuple[int, bytes]] = []
    flows = octets = encrypted = 0
    while len(made) < packets:
        kind = draw.random()
        protocol, wrapped, talk = 6, False, list[tuple[int, bytes]]()
        if kind < 0.35:
            client, server = draw.choice(tls)
            talk, wrapped, encrypted = [(0, client), (1, server)], True, encrypted + 1
        elif kind < 0.6:
            talk = [(0, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), (1, b"HTTP/1.1 200 OK\r\n\r\n")]
        elif kind < 0.8:
            talk = [(0, pool[:200])]
        else:
            protocol = 17
        for _ in range(min(int(draw.paretovariate(1.15) * 4), 20_000)):
            at = draw.randrange(1 << 19)
            data = pool[at : at + draw.choice((60, 200, 1395))]
            if wrapped:
                data = struct.pack(">BHH", 23, 0x0303, len(data)) + data
            talk.append((int(draw.random() < 0.7), data))
        octets += _flow(made, draw, flows, talk, protocol)
        flows += 1
    made.sort(key=lambda each: each[0])
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for when, frame in made:
            seconds, micros = divmod(when, 1_000_000)
            out.write(
                struct.pack("<IIII", 1_790_000_000 + seconds, micros, len(frame), len(frame))
            )
            out.write(frame)
    return flows, len(made), octets, encrypted


def _flow(
    made: list[tuple[int, bytes]],
    draw: random.Random,
    number: int,
    talk: list[tuple[int, bytes]],
    protocol: int,
) -> int:
    six = number % 20 == 0
    ends = [
        ((10 << 24) + 0x10000 + number % 50_000, 1024 + number // 50_000 * 7 + number % 60_000),
        ((10 << 24) + 0x20000 + number % 300, 443 if protocol == 6 else 5353),
    ]
    when, octets = draw.randrange(300_000_000), 0
    seq = [draw.getrandbits(32), draw.getrandbits(32)]
    steps = [
        (side, data[at : at + 1400], 0x18)
        for side, data in talk
        for at in range(0, len(data), 1400)
    ]
    if protocol == 6:
        opening = [(0, b"", 0x02), (1, b"", 0x12), (0, b"", 0x10)]
        steps = opening + steps + [(0, b"", 0x11), (1, b"", 0x11)]
    for side, data, flag in steps:
        (source, sport), (target, dport) = ends[side], ends[1 - side]
        if protocol == 6:
            body = struct.pack(">HHIIBBHHH", sport, dport, seq[side], 0, 0x50, flag, 1000, 0, 0)
            seq[side] = (seq[side] + len(data) + (flag & 3 != 0)) & 0xFFFFFFFF
        else:
            body = struct.pack(">HHHH", sport, dport, len(data) + 8, 0)
        length = len(body) + len(data)
        if six:
            prefix = 0x20010DB8 << 96
            ip = struct.pack(">IHBB", 6 << 28, length, protocol, 64)
            ip += (prefix | source).to_bytes(16, "big") + (prefix | target).to_bytes(16, "big")
        else:
            ip = struct.pack(
                ">BBHHHBBHII", 0x45, 0, length + 20, 0, 0, 64, protocol, 0, source, target
            )
        ether = bytes(12) + (b"\x86\xdd" if six else b"\x08\x00")
        octets += len(ip) + length
        made.append((when, ether + ip + body + data))
        when += draw.randrange(50, 20_000)
    return octets


def run(program: str, path: Path) -> tuple[float, tuple[int, ...]]:
    """CPU seconds of one reading, and what it counted."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return cpu, tuple(map(int, done.stdout.split()))


def main(packets: int = 1_000_000, runs: int = 3) -> int:
    """Print the table; 1 if the counts are wrong or the gate is missed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.pcap"
        truth = generate(path, packets)
        print(
            f"seed {SEED}: {truth[0]} flows, {truth[1]} packets, {path.stat().st_size >> 20} MiB"
        )
        tools = {"netwatch": NETWATCH}
        if importlib.util.find_spec("nfstream"):
            tools["nfstream"] = NFSTREAM
        else:
            print("nfstream is not installed (pip install netwatch[bench]): no comparison")
        print(f"{'':24} {'CPU s':>8} {'range':>15} {'Mpps':>6}")
        failed = False
        for label, flags in (("flows", ("False", "0")), ("flows, dissected", ("True", "20"))):
            times = measure(tools, flags, path, truth, runs)
            for name, each in times.items():
                middle, span = statistics.median(each), f"{min(each):.2f}..{max(each):.2f}"
                rate = truth[1] / middle / 1e6
                print(f"{label:16} {name:8} {middle:7.2f} {span:>15} {rate:6.2f}")
            if "nfstream" in times:
                failed |= not verdict(label, times["netwatch"], times["nfstream"])
    return int(failed)


def measure(
    tools: dict[str, str],
    flags: tuple[str, str],
    path: Path,
    truth: tuple[int, ...],
    runs: int,
) -> dict[str, list[float]]:
    """CPU seconds of each tool, run in turns; netwatch must count what was generated."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(runs):
        for (name, program), flag in zip(tools.items(), flags, strict=False):
            cpu, counted = run(program.replace("DISSECT", flag), path)
            times[name].append(cpu)
            expected = truth if flag != "False" else (*truth[:3], 0)
            if name == "netwatch" and counted != expected:
                raise SystemExit(f"netwatch counted {counted}, the truth is {expected}")
    return times


def verdict(label: str, ours: list[float], theirs: list[float]) -> bool:
    """Print the paired ratio; False if even its best run misses the gate."""
    ratios = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    word = "pass" if ratios[0] >= GATE else "FAIL" if ratios[-1] < GATE else "inconclusive"
    middle = statistics.median(ratios)
    print(f"{label}: {middle:.1f}x ({ratios[0]:.1f}..{ratios[-1]:.1f}), gate {GATE:.0f}x: {word}")
    return word != "FAIL"


if __name__ == "__main__":
    sys.exit(main(*(int(text) for text in sys.argv[1:])))
