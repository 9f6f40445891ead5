"""JA3 and JA3S: MD5 fingerprints of the two hellos, as published by Salesforce (BSD 3-clause).

MD5 identifies here, it protects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5

from netwatch.dissect.hello import GREASE, ClientHello, ServerHello


def ja3(hello: ClientHello) -> str:
    """`version,ciphers,extensions,groups,point formats` in decimal, GREASE left out; hex MD5."""
    return _digest(
        hello.version,
        _dashed(hello.ciphers),
        _dashed(hello.extensions),
        _dashed(hello.groups),
        "-".join(map(str, hello.point_formats)),
    )


def ja3s(hello: ServerHello) -> str:
    """`version,cipher,extensions` in decimal; hex MD5."""
    return _digest(hello.version, hello.cipher, "-".join(map(str, hello.extensions)))


def _dashed(numbers: Iterable[int]) -> str:
    return "-".join([str(number) for number in numbers if number not in GREASE])


def _digest(*parts: object) -> str:
    return md5(",".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
