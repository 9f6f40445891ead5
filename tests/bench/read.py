"""Reading a capture, against other tools: `python tests/bench/read.py [packets] [pairs]`.

A capture is generated (its truth is known), then netwatch and the other tool read it in turns,
each in a process of its own. What counts is CPU time, user and system: the machine is not ours
alone, and NFStream spreads over processes. Like is compared with like: flows alone against tools
that only count, and flows with what their first bytes say against tools that look at them too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ratios import HEADINGS, SEED, tell

# Packets that are made at a time: they are sorted in memory.
STRETCH = 1_000_000

Command = Callable[[Path], list[str]]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two commands that read the same file; `gate` is the least that theirs / ours must be.

    What lies near its gate is measured `more` times as often as the rest.
    """

    label: str
    ours: Command
    theirs: Command
    size: str
    gate: float | None
    more: int = 1


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
    flows = written = octets = encrypted = 0
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        while written < packets:
            made, more = _stretch(draw, pool, tls, flows, min(packets - written, STRETCH))
            second = 1_790_000_000 + 300 * (written // STRETCH)
            for when, frame in made:
                late, micros = divmod(when, 1_000_000)
                out.write(struct.pack("<IIII", second + late, micros, len(frame), len(frame)))
                out.write(frame)
            written += len(made)
            flows, octets, encrypted = flows + more[0], octets + more[1], encrypted + more[2]
    return flows, written, octets, encrypted


def _stretch(
    draw: random.Random, pool: bytes, tls: list[tuple[bytes, bytes]], number: int, packets: int
) -> tuple[list[tuple[int, bytes]], tuple[int, int, int]]:
    """Packets of 300 seconds, and their truth; its flows are numbered from `number` on."""
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
        octets += _flow(made, draw, number + flows, talk, protocol)
        flows += 1
    made.sort(key=lambda each: each[0])
    return made, (flows, octets, encrypted)


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


def netwatch(*, dissect: bool) -> Command:
    """Our reader, all counts compared with the truth."""
    program = NETWATCH.replace("DISSECT", str(dissect))
    return lambda path: [sys.executable, "-c", program, str(path)]


def nfstream(dissections: int) -> Command:
    """NFStream with one meter; dissections=0 looks at no payload, 20 is its default."""
    program = NFSTREAM.replace("DISSECT", str(dissections))
    return lambda path: [sys.executable, "-c", program, str(path)]


def pairings() -> list[Pairing]:
    """Like against like; those whose tool is not installed are named and left out."""
    flows, dissected = netwatch(dissect=False), netwatch(dissect=True)
    wanted = [
        Pairing("flows / NFStream, n_dissections=0", flows, nfstream(0), "big", 8.0),
        # The design's gate is for flows. Both say who, TLS names and fingerprints here.
        Pairing(
            "flows, dissected / NFStream's default (20)", dissected, nfstream(20), "big", None
        ),
        # A reader of gigabytes: a third of what we need for "big" is starting Python. Alone argus
        # writes several records a conversation, and racluster makes flows of them.
        Pairing("flows / argus", flows, _argus, "long", 1.25, more=3),
        Pairing("flows / argus | racluster", flows, _argus_flows, "long", 1.25),
        Pairing("flows / argus, start-up and all", flows, _argus, "big", None),
        Pairing("flows / softflowd", flows, _softflowd, "big", None),
        # A tenth of the packets: it takes more than a minute for all.
        Pairing("flows, dissected / tshark -z conv", dissected, _tshark, "small", None),
    ]
    there = {
        "NFStream": importlib.util.find_spec("nfstream"),
        **{tool: shutil.which(tool) for tool in ("argus", "softflowd", "tshark")},
    }
    missing = [tool for tool, found in there.items() if not found]
    if missing:
        print(f"not installed, so not compared: {', '.join(missing)} (make bench installs them)")
    return [pair for pair in wanted if not any(f"/ {tool}" in pair.label for tool in missing)]


def _argus(path: Path) -> list[str]:
    return ["argus", "-X", "-r", str(path), "-w", "/dev/null"]


def _argus_flows(path: Path) -> list[str]:
    script = 'argus -X -r "$1" -w - | racluster -n -r - -w /dev/null'
    return ["sh", "-c", script, "sh", str(path)]


def _softflowd(path: Path) -> list[str]:
    # Without -m it holds 8,192 flows, without version 9 it drops IPv6.
    collector = ["-n", "127.0.0.1:9", "-v", "9"]
    return ["softflowd", "-d", "-c", "none", "-m", "200000", *collector, "-r", str(path)]


def _tshark(path: Path) -> list[str]:
    return ["tshark", "-n", "-q", "-r", str(path), "-z", "conv,tcp", "-z", "conv,udp"]


def run(command: list[str]) -> tuple[float, str]:
    """CPU seconds of one reading, and what it printed."""
    before = os.times()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, done.stdout


def main(packets: int = 1_000_000, runs: int = 5) -> int:
    """Print the table; 1 if a gate is missed."""
    held = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truths, paths = {}, {}
        for size, count in (("long", 3 * packets), ("big", packets), ("small", packets // 10)):
            paths[size] = folder / f"{size}.pcap"
            truths[size] = generate(paths[size], count)
            flows, made = truths[size][:2]
            print(f"{size}: seed {SEED}, {flows} flows, {made} packets")
        print(f"\nCPU seconds of the other tool / ours, {runs} pairs or more, a process each")
        print(HEADINGS)
        for pair in pairings():
            ours, theirs = _measure(pair, paths[pair.size], truths[pair.size], runs * pair.more)
            ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
            held &= tell(pair.label, ratios, pair.gate)
            spent = f"{statistics.median(ours):.2f} s against {statistics.median(theirs):.2f} s"
            print(f"    {spent}, {truths[pair.size][1] / statistics.median(ours) / 1e6:.2f} Mpps")
        _shared(paths["long"], runs)
    return int(not held)


def _shared(path: Path, runs: int) -> None:
    """What a second process saves of the time of `netwatch read --json`, on a quiet machine."""
    print(f"\nwall seconds of one process / two, {runs} pairs, dissected and written as JSON")
    print(HEADINGS)
    ratios, spent = [], []
    for _ in range(runs):
        took = []
        for jobs in ("1", "2"):
            verb = ["-m", "netwatch", "read", "--json", "--jobs", jobs, str(path)]
            began = time.monotonic()
            subprocess.run([sys.executable, *verb], check=True, stdout=subprocess.DEVNULL)
            took.append(time.monotonic() - began)
        spent.append(took)
        ratios.append(took[0] / took[1])
    tell("--jobs 1 / --jobs 2", ratios)
    print(
        "    {:.2f} s against {:.2f} s".format(*map(statistics.median, zip(*spent, strict=True)))
    )


def _measure(
    pair: Pairing, path: Path, truth: tuple[int, ...], runs: int
) -> tuple[list[float], list[float]]:
    """CPU seconds of both, in turns; netwatch must count what was generated."""
    ours, theirs = [], []
    for _ in range(runs):
        cpu, said = run(pair.ours(path))
        counted = tuple(map(int, said.split()))
        if counted not in (truth, (*truth[:3], 0)):
            raise SystemExit(f"netwatch counted {counted}, the truth is {truth}")
        ours.append(cpu)
        theirs.append(run(pair.theirs(path))[0])
    return ours, theirs


if __name__ == "__main__":
    sys.exit(main(*(int(text) for text in sys.argv[1:])))
