"""Reading a ClientHello, against scapy: `python tests/bench/tls.py [pairs]`.

Both get the record of a real hello as bytes and give its version, suites, extensions, names and
groups as numbers and text; both have their imports behind them. CPU time, in turns.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ratios import HEADINGS, tell
from read import handshakes

from netwatch.dissect import records
from netwatch.dissect.conversation import classify
from netwatch.dissect.hello import ClientHello, client_hello

PAIRS = 15
OURS, THEIRS = 2000, 64  # hellos a window: about as long for each


def lean(record: bytes) -> ClientHello:
    """Our reading of the record."""
    body = records.direction(record).message(records.CLIENT_HELLO)
    assert body is not None
    return client_hello(body)


def each_us(read: Callable[[bytes], object], hellos: Sequence[bytes], count: int) -> float:
    """CPU microseconds a hello."""
    began = time.process_time()
    for n in range(count):
        read(hellos[n % len(hellos)])
    return (time.process_time() - began) / count * 1e6


def main(pairs: int = PAIRS) -> int:
    """Print the table; 1 if the gate is missed."""
    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.layers.tls.handshake import TLSClientHello
    from scapy.layers.tls.record import TLS

    with tempfile.TemporaryDirectory() as folder:
        said = [client for client, _ in handshakes(Path(folder), 64)]
    hellos = [each[: 5 + int.from_bytes(each[3:5], "big")] for each in said]
    for hello in hellos:
        theirs = TLS(hello).msg[0]
        assert isinstance(theirs, TLSClientHello), "scapy did not understand the hello"
        assert tuple(theirs.ciphers) == lean(hello).ciphers
    whole = lambda hello: classify(hello, b"", protocol="tcp")  # noqa: E731
    ratios: dict[str, list[float]] = {"parsed": [], "judged, with JA3 and JA4": []}
    spent = []
    for _ in range(pairs):
        scapy = each_us(TLS, hellos, THEIRS)
        parsed, judged = each_us(lean, hellos, OURS), each_us(whole, hellos, OURS)
        spent.append((parsed, judged, scapy))
        for values, ours in zip(ratios.values(), (parsed, judged), strict=True):
            values.append(scapy / ours)
    print(f"\nTLS ClientHello, CPU of scapy / ours, {pairs} pairs")
    print(HEADINGS)
    # What scapy gives is the parsed hello; the gate is about that.
    held = tell("parsed", ratios["parsed"], 80.0)
    tell("judged, with JA3 and JA4", ratios["judged, with JA3 and JA4"])
    middle = [sorted(column)[pairs // 2] for column in zip(*spent, strict=True)]
    print("    {:.1f} us parsed, {:.1f} us judged, scapy {:.0f} us".format(*middle))
    return int(not held)


if __name__ == "__main__":
    sys.exit(main(*(int(text) for text in sys.argv[1:])))
