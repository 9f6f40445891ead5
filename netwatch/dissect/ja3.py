"""JA3 and JA3S: MD5 fingerprints of the two hellos, as published by Salesforce (BSD 3-clause).

MD5 identifies here, it protects nothing. A program says the same hello on every connection, so
the last fingerprints are remembered; those of hellos that no program says are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import md5

from netwatch.dissect.hello import GREASE, ClientHello, ServerHello

# Numbers in a hello. Real ones have about 150; a hostile one has 4,000, and remembering thousands
# of those would take hundreds of megabytes.
MANY = 400


def ja3(hello: ClientHello) -> str:
    """`version,ciphers,extensions,groups,point formats` in decimal, GREASE left out; hex MD5."""
    numbers = len(hello.ciphers) + len(hello.extensions) + len(hello.groups)
    reckon = _ja3 if numbers < MANY else _ja3.__wrapped__
    return reckon(
        hello.version, hello.ciphers, hello.extensions, hello.groups, hello.point_formats
    )


def ja3s(hello: ServerHello) -> str:
    """`version,cipher,extensions` in decimal; hex MD5."""
    reckon = _ja3s if len(hello.extensions) < MANY else _ja3s.__wrapped__
    return reckon(hello.version, hello.cipher, hello.extensions)


@lru_cache(maxsize=4096)
def _ja3s(version: int, cipher: int, extensions: tuple[int, ...]) -> str:
    return _digest(version, cipher, "-".join(map(str, extensions)))


@lru_cache(maxsize=4096)
def _ja3(
    version: int,
    ciphers: tuple[int, ...],
    extensions: tuple[int, ...],
    groups: tuple[int, ...],
    formats: bytes,
) -> str:
    parts = (_dashed(ciphers), _dashed(extensions), _dashed(groups), "-".join(map(str, formats)))
    return _digest(version, *parts)


def _dashed(numbers: Iterable[int]) -> str:
    return "-".join([str(number) for number in numbers if number not in GREASE])


def _digest(*parts: object) -> str:
    return md5(",".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
