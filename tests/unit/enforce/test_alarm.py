"""Events of nftables, from their bytes."""

from __future__ import annotations

import os
import struct

import pytest

from netwatch.enforce.alarm import NAME, NEW_GENERATION, PROCESS, changed_by
from netwatch.enforce.netlink import attribute, message


def event(*, pid: int, name: bytes, kind: int = NEW_GENERATION) -> bytes:
    parts = attribute(1, struct.pack("!I", 5)), attribute(PROCESS, struct.pack("!I", pid))
    return message(kind, 0, 0, b"".join((*parts, attribute(NAME, name + b"\0"))))


@pytest.mark.parametrize(
    ("data", "names"),
    [
        pytest.param(event(pid=7, name=b"nft"), ("nft",), id="somebody"),
        pytest.param(event(pid=os.getpid(), name=b"python"), (), id="this process"),
        pytest.param(event(pid=7, name=b"nft", kind=NEW_GENERATION - 1), (), id="another message"),
        pytest.param(event(pid=7, name=b"a") + event(pid=8, name=b"b"), ("a", "b"), id="two"),
        pytest.param(event(pid=7, name=b"\x1b[2J\n"), ("[2J",), id="a hostile name"),
        pytest.param(event(pid=7, name=b""), ("somebody",), id="no name"),
        pytest.param(event(pid=7, name=b"nft")[:30], ("somebody",), id="cut off"),
        pytest.param(bytes(64), (), id="nonsense"),
    ],
)
def test_who_changed_it(data: bytes, names: tuple[str, ...]) -> None:
    assert changed_by(data) == names
