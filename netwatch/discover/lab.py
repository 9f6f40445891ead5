"""The workloads of a lab host, from the file that `lab up` wrote for exactly that host.

Which host this is follows from the network namespace we are in, as it would on a real machine; the
file knows addresses, labels and documented ports, and nothing about who calls whom.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from netwatch.kernel.namespaces import NAMED
from netwatch.model.snapshot import Snapshot

FOLDER = Path("/run/netwatch/lab")
PREFIX = "nwh-"
OWN = Path("/proc/self/ns/net")
POLL_S = 0.2


class LabSource:
    """Reads a host's file again whenever it changes; a vanished file leaves the last snapshot."""

    def __init__(self, file: Path, host: str, *, poll_s: float = POLL_S) -> None:
        self._file = file
        self._poll_s = poll_s
        self._snapshot = Snapshot(host=host)
        self._seen: tuple[int, int] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, changed: Callable[[], None]) -> None:
        """Read the file, then watch it; `changed` is called from the watching thread."""
        self._read()
        self._thread = threading.Thread(
            target=self._watch, args=(changed,), name="lab discovery", daemon=True
        )
        self._thread.start()

    def snapshot(self) -> Snapshot:
        """What the file said last."""
        return self._snapshot

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, changed: Callable[[], None]) -> None:
        while not self._closed.wait(self._poll_s):
            if self._read():
                changed()

    def _read(self) -> bool:
        before = self._snapshot
        try:
            found = self._file.stat()
            version = found.st_mtime_ns, found.st_ino
            if version == self._seen:
                return False
            self._snapshot = msgspec.json.decode(self._file.read_bytes(), type=Snapshot)
            self._seen = version
        except OSError as error:
            self._seen = None
            problem = f"the lab's file {self._file} can not be read: {error.strerror}"
            self._snapshot = replace(before, problem=problem)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._seen = None
            self._snapshot = replace(before, problem=f"{self._file} is damaged: {error}")
        return self._snapshot != before


def find_lab(
    namespace: Path | None = None, *, named: Path = NAMED, folder: Path = FOLDER
) -> LabSource | None:
    """The source for the lab host that `namespace` is (None: our own), or None: no lab host."""
    try:
        ours = os.stat(namespace or OWN)
        names = sorted(os.listdir(named))
    except OSError:
        return None
    for name in names:
        file = folder / f"{name.removeprefix(PREFIX)}.json"
        if not name.startswith(PREFIX) or not file.exists():
            continue
        try:
            theirs = os.stat(named / name)
        except OSError:  # removed between listing and looking
            continue
        if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
            return LabSource(file, name.removeprefix(PREFIX))
    return None
