"""Builds rows of ENTRY for the tests of this folder: who sent what, in words."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.sensor import ENTRY

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def packed(address: str) -> bytes:
    """16 bytes, IPv4 mapped."""
    ip = ipaddress.ip_address(address)
    return bytes(10) + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed


def row(
    client: tuple[str, int],
    server: tuple[str, int],
    *,
    protocol: int = 6,
    packets: tuple[int, int] = (5, 4),
    size: tuple[int, int] = (500, 400),
    payload: tuple[int, int] = (100, 80),
    flags: tuple[int, int] = (0x1A, 0x1A),
    opened: int = 1,
    refused: int = 0,
    seen: bool = True,
    first: tuple[int, int] | None = None,
    last: int = START,
    interfaces: tuple[int, int] = (0, 0),
    life: int = 1,
    connection: int = 1,
    crowded: bool = False,
) -> Any:
    """One row; pairs are (client, server), `seen` False hides who opened it."""
    ends = [(packed(client[0]), client[1]), (packed(server[0]), server[1])]
    swap = ends[0] > ends[1]
    born = first or (last, last)

    def pair(values: tuple[int, int]) -> tuple[int, int]:
        return values[::-1] if swap else values

    low, high = sorted(ends)
    hint = -1 if not seen else int(not swap)
    return (
        low[0], high[0], low[1], high[1], protocol, hint,
        pair(packets), pair(size), pair(payload), pair(born),
        pair((last if packets[0] else 0, last if packets[1] else 0)),
        pair(interfaces), pair(flags), crowded, opened, refused, life, connection,
    )  # fmt: skip


def entries(*rows: Any) -> npt.NDArray[Any]:
    """Rows as the sensor gives them."""
    return np.array(list(rows), dtype=ENTRY)
