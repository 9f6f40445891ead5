"""JA3 and JA3S: MD5 fingerprints of the two hellos, as published by Salesforce (BSD 3-clause).

MD5 identifies here, it protects nothing. A program says the same hello on every connection, so
the last fingerprints are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import md5

from netwatch.dissect.hello import GREASE, ClientHello, ServerHello


def ja3(hello: ClientHello) -> str:
    """`version,ciphers,extensions,groups,point formats` in decimal, GREASE left out; hex MD5."""
    return _ja3(hello.version, hello.ciphers, hello.extensions, hello.groups, hello.point_formats)


def ja3s(hello: ServerHello) -> str:
    """`version,cipher,extensions` in decimal; hex MD5."""
    return _ja3s(hello.version, hello.cipher, hello.extensions)


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
