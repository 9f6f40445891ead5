"""One connection, or many of one edge added up, in Python's own types: the increase to be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from netwatch.agent.conversations import Tuple5
from netwatch.agent.told import TOTALS, Changed, Rows
from netwatch.capture.sensor import ENTRY
from netwatch.model.times import SECOND

# What was told as unknown is judged again while more is said, and the store corrects
# what it has of that connection; a server on a busy machine has answered by then.
PATIENCE = 60 * SECOND
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}
SYN_ACK, RST, FIN = 0x12, 0x04, 0x01


class Totals(NamedTuple):
    """Counters by direction (low, high), as in TOTALS."""

    packets: tuple[int, int] = (0, 0)
    bytes: tuple[int, int] = (0, 0)
    payload: tuple[int, int] = (0, 0)
    opened: int = 0
    refused: int = 0
    life: int = 0
    encrypted: int = 0  # 1 if it was told so last


class Row(NamedTuple):
    """A changed row of ENTRY; `new`: how many of the rows in it nothing was told of before."""

    key: Tuple5
    totals: Totals
    told: Totals
    place: int
    new: int
    first: tuple[int, int]
    last: tuple[int, int]
    interfaces: tuple[int, int]
    flags: tuple[int, int]
    low_is_client: int
    crowded: bool
    connection: int
    born: int

    @property
    def ended(self) -> int:
        return max(self.last)

    @property
    def opened(self) -> int:
        """Connections that were opened since it was told last."""
        return self.totals.opened - self.told.opened


def is_new(changed: Changed) -> Rows:
    """A mask of the rows that nothing was told of before."""
    new: Rows = (changed.told["packets"] == 0).all(axis=1)
    return new


def rows_of(changed: Changed, new: Rows) -> Iterator[Row]:
    """Rows in Python's own types: `tolist` of the whole would leave numpy's in the pairs."""
    columns = [changed.rows[name].tolist() for name in ENTRY.names or ()]
    totals = [changed.told[name].tolist() for name in TOTALS.names or ()]
    before = zip(*totals, strict=True)
    places, counts = changed.places.tolist(), new.tolist()
    for told, place, fresh, *values in zip(before, places, counts, *columns, strict=True):
        yield _row(_totals(*told), place, int(fresh), values)


def _row(told: Totals, place: int, new: int, values: list[Any]) -> Row:
    """`values` in the order of ENTRY's fields."""
    hint, packets, size, payload, first, last, interfaces, flags, crowded = values[5:14]
    opened, refused, life, connection = values[14:]
    return Row(
        Tuple5(*values[:5]),
        _totals(packets, size, payload, opened, refused, life),
        told,
        place,
        new,
        tuple(first),
        tuple(last),
        tuple(interfaces),
        tuple(flags),
        hint,
        bool(crowded),
        connection,
        min(filter(None, first)),
    )


def _totals(packets: list[int], size: list[int], payload: list[int], *counts: int) -> Totals:
    return Totals(tuple(packets), tuple(size), tuple(payload), *counts)  # type: ignore[arg-type]


def ending(row: Row, now: int) -> tuple[bool, bool]:
    """(an end has said that it is done, no more is waited for).

    Flags and age are of all connections on these ports: of the second one they say nothing.
    """
    if row.totals.opened > 1:
        return False, False
    one, other = row.flags
    closed = (one | other) & RST or one & other & FIN or now - row.born >= PATIENCE
    return bool((one | other) & (RST | FIN)), bool(closed)


def state(row: Row, protocol: str, c: int, s: int) -> str:
    """How the conversation went so far; see `model.flow.Flow`. `c` and `s`: whose counter is
    the client's, and the server's."""
    if not row.totals.packets[s] or not row.totals.packets[c]:
        if row.totals.refused:
            return "refused"
        return "unanswered" if protocol == "tcp" and row.totals.packets[c] else "one-way"
    if protocol != "tcp":
        return "established"
    if row.flags[s] & SYN_ACK == SYN_ACK or row.totals.payload[c] or row.totals.payload[s]:
        return "reset" if (row.flags[0] | row.flags[1]) & RST else "established"
    return "refused" if row.totals.refused or row.flags[s] & RST else "established"
