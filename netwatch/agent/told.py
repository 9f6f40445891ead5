"""What was told of each connection, in columns: thousands of rows are compared at once."""

from __future__ import annotations

import struct
from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netwatch.capture.sensor import ENTRY

Rows = npt.NDArray[Any]
KEY = struct.Struct("<16s16sHHB")  # what identifies a row of ENTRY: its first bytes
COUNTED = ("packets", "bytes", "payload_bytes", "opened", "refused")
TOTALS = np.dtype([*((name, ENTRY[name]) for name in (*COUNTED, "life")), ("encrypted", "u1")])
_HEAD = np.dtype(
    {"names": ["key"], "formats": [f"V{KEY.size}"], "itemsize": ENTRY.itemsize},
)


class Changed(NamedTuple):
    """Rows of ENTRY, what was told of each (TOTALS), and the place where that is kept.

    `encrypted` of TOTALS says whether it was told so last.
    """

    rows: Rows
    told: Rows
    places: npt.NDArray[np.int64]

    def part(self, chosen: Rows) -> Changed:
        """Those rows that a mask chooses."""
        if chosen.all():
            return self  # the usual case of a crowd: nothing is copied
        return Changed(self.rows[chosen], self.told[chosen], self.places[chosen])


class Told:
    """Remembers each connection that it was asked about, until it is to forget it."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._free: list[int] = []  # places of those who were forgotten
        self._totals = {name: np.zeros(1024, TOTALS)[name].copy() for name in TOTALS.names or ()}

    def __len__(self) -> int:
        return len(self._places)

    def compare(self, rows: Rows, looked: Rows) -> Changed:
        """Those of the rows (a mask) of which more packets are known than were told."""
        chosen = np.flatnonzero(looked)
        places = self._places_of(rows.view(_HEAD)["key"][chosen].tolist())
        told, lives = self._totals["packets"][places], rows["life"][chosen]
        anew = self._totals["life"][places] != lives
        changed = anew | (told != rows["packets"][chosen]).any(axis=1)
        chosen, places, anew = chosen[changed], places[changed], anew[changed]
        before = np.zeros(len(chosen), TOTALS)
        for name, column in self._totals.items():
            before[name] = column[places]
        before[anew] = np.zeros(1, TOTALS)  # the totals began anew
        return Changed(rows[chosen], before, places)

    def keep(self, places: Sequence[int] | Rows, totals: Sequence[Any]) -> None:
        """These totals have been told: a column for each field of TOTALS."""
        if len(places):
            for column, values in zip(self._totals.values(), totals, strict=True):
                column[places] = values

    def forget_all_but(self, rows: Rows, kept: Set[int]) -> list[bytes]:
        """The keys of which nothing is remembered any more; those at `kept` places stay."""
        live = set(keys_of(rows))
        gone = [k for k, place in self._places.items() if k not in live and place not in kept]
        places = [self._places.pop(key) for key in gone]
        self._totals["life"][places] = 0
        self._free += places
        return gone

    def _places_of(self, keys: list[bytes]) -> npt.NDArray[np.int64]:
        places = list(map(self._places.get, keys))
        if None in places:
            for key in keys:
                if key not in self._places:
                    new = self._free.pop() if self._free else len(self._places)
                    self._places[key] = new
            self._make_room()
            places = list(map(self._places.get, keys))
        return np.array(places, np.int64)

    def _make_room(self) -> None:
        while len(self._places) + len(self._free) > len(self._totals["life"]):
            for name, column in self._totals.items():
                self._totals[name] = np.concatenate([column, np.zeros_like(column)])


def keys_of(rows: Rows) -> list[bytes]:
    """The KEY of each row of ENTRY."""
    keys: list[bytes] = np.ascontiguousarray(rows).view(_HEAD)["key"].tolist()
    return keys
