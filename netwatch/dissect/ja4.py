"""JA4: the client fingerprint by FoxIO (BSD 3-clause; the rest of the JA4+ family is not).

Source: technical_details/JA4.md of FoxIO-LLC/ja4.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from netwatch.dissect.hello import ALPN, GREASE, SERVER_NAME, ClientHello
from netwatch.dissect.ja3 import MANY

_VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}
_NOTHING = "000000000000"


def ja4(hello: ClientHello, *, transport: str = "t") -> str:
    """The fingerprint; `transport` is t (TCP), q (QUIC) or d (DTLS)."""
    versions = [number for number in hello.versions if number not in GREASE]
    version = _VERSIONS.get(max(versions) if versions else hello.version, "00")
    name = "d" if SERVER_NAME in hello.extensions else "i"
    numbers = len(hello.ciphers) + len(hello.extensions) + len(hello.signature_algorithms)
    reckon = _parts if numbers < MANY else _parts.__wrapped__
    head, tail = reckon(hello.ciphers, hello.extensions, hello.signature_algorithms)
    return f"{transport}{version}{name}{head}{_alpn(hello.alpn)}_{tail}"


@lru_cache(maxsize=4096)
def _parts(
    offered: tuple[int, ...], types: tuple[int, ...], algorithms: tuple[int, ...]
) -> tuple[str, str]:
    """The two counts, and the two hashes. A program says the same on every connection."""
    ciphers = [number for number in offered if number not in GREASE]
    extensions = [number for number in types if number not in GREASE]
    signatures = [number for number in algorithms if number not in GREASE]
    hashed = [number for number in extensions if number not in (SERVER_NAME, ALPN)]
    joined = _joined(sorted(hashed))
    if signatures:
        joined += f"_{_joined(signatures)}"
    last = _hash(joined) if extensions else _NOTHING
    counts = f"{min(len(ciphers), 99):02d}{min(len(extensions), 99):02d}"
    return counts, f"{_hash(_joined(sorted(ciphers)))}_{last}"


def _alpn(names: tuple[bytes, ...]) -> str:
    """First and last character of the first name.

    For bytes beyond ASCII the published text and both reference implementations differ: a 9 for
    each is what the implementations and their test vectors say. Other characters that are neither
    letter nor digit are taken from the name's hexadecimal form, as the text says.
    """
    first = names[0] if names else b""
    if not first:
        return "00"
    ends = bytes((first[0], first[-1]))
    if ends.isalnum():
        return ends.decode("ascii")
    if not ends.isascii():
        return "".join(chr(end) if end < 128 else "9" for end in ends)
    return first.hex()[0] + first.hex()[-1]


def _joined(numbers: Iterable[int]) -> str:
    return ",".join([f"{number:04x}" for number in numbers])


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12] if text else _NOTHING
