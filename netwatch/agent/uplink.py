"""Carries reports to the controller: spooled to disk first, sent in order, kept until accepted.

The controller proves itself by the pinned SHA-256 of its certificate, the agent by its token; the
token is not sent before the pin was checked. A sequence number in each report makes a retry
harmless. The spool is bounded: when it is full the oldest report goes, and that is counted. While
the disk takes nothing, reports wait in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import logging
import os
import ssl
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from netwatch import wire
from netwatch.model.errors import NetwatchError
from netwatch.model.policy_version import Wanted
from netwatch.model.report import Report

log = logging.getLogger("netwatch.agent")

TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HELD_BYTES = 32 * 1024 * 1024  # of reports in memory while the disk takes none: some 10,000
HELD = 600  # reports in memory of a controller in this process that can not keep them: ten minutes
NO_ROOM = ("history-failed", "state-failed")  # of a controller whose disk is full
REFUSED = (400, 401, 403, 413)  # sending the same again would be refused again


class Refused(NetwatchError):
    """The controller answered, and will not take this report."""

    code = "report-refused"


Post = Callable[[bytes], None]


def poster(
    url: str,
    *,
    pin: str,
    token: str,
    holds: Callable[[], str] = lambda: "",
    told: Callable[[Wanted | None], None] = lambda wanted: None,
) -> Post:
    """A function that posts one packed report to the controller at `url` (https).

    `holds` gives the hash of the documents that the agent has; `told` hears what is wanted.
    It raises OSError or http.client.HTTPException when the controller can not be reached, and
    Refused when it does not want the report or is not the one whose certificate was pinned.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise NetwatchError(f"{url!r} is not an https:// URL of a controller")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin below is stricter than any authority
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def post(data: bytes) -> None:
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=TIMEOUT_S, context=context
        )
        try:
            connection.connect()
            _check_pin(connection, pin)
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/vnd.netwatch.report",
                wire.HOLDS: holds(),
            }
            connection.request("POST", "/agent/v1/reports", body=data, headers=headers)
            answer = connection.getresponse()
            said = answer.read(wire.MAX_ANSWER)
        finally:
            connection.close()
        if answer.status in REFUSED:
            why = said[:200].decode(errors="replace")
            raise Refused(f"the controller refused a report ({answer.status}): {why}")
        if answer.status != 200:
            raise http.client.HTTPException(f"the controller answered {answer.status}")
        told(_wanted(said))

    return post


def _wanted(said: bytes) -> Wanted | None:
    """What an answer wants; the report was taken, whatever else it says."""
    try:
        return wire.unpack_answer(said).policies
    except wire.BadReport as error:
        log.warning("%s", error)
        return None


def _check_pin(connection: http.client.HTTPSConnection, pin: str) -> None:
    certificate = connection.sock.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(certificate).hexdigest()
    if not hmac.compare_digest(found, pin.lower().replace(":", "")):
        raise Refused(
            f"the controller showed a certificate with SHA-256 {found}, not the pinned one",
            "set controller_pin (NETWATCH_CONTROLLER_PIN) to what the controller prints",
        )


class Spool:
    """Reports on disk, oldest first; a file appears whole or not at all."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self.dropped = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob("*.part"):
            half.unlink()
        self._files = {f.name: f.stat().st_size for f in sorted(folder.glob("*.report"))}
        self._held: dict[str, bytes] = {}
        self._next = 1 + max((int(name.split(".")[0]) for name in self._files), default=0)

    def put(self, data: bytes) -> None:
        """Keep a packed report; drops the oldest where there is no room for it."""
        with self._lock:
            while self._files and sum(self._files.values()) + len(data) > self._limit:
                self._remove(next(iter(self._files)))
                self.dropped += 1
            name = f"{self._next:012d}.report"
            part = self._folder / f"{name}.part"
            try:
                part.write_bytes(data)
                os.replace(part, self._folder / name)
            except OSError as error:
                self._hold(name, data, error)
            self._files[name] = len(data)
            self._next += 1

    def _hold(self, name: str, data: bytes, error: OSError) -> None:
        """In memory, as the disk takes nothing; beyond HELD_BYTES the oldest goes."""
        if not self._held:
            log.error("reports wait in memory: %s", error)
        with contextlib.suppress(OSError):
            (self._folder / f"{name}.part").unlink(missing_ok=True)
        self._held[name] = data
        while sum(map(len, self._held.values())) > HELD_BYTES and len(self._held) > 1:
            self._remove(next(iter(self._held)))
            self.dropped += 1

    def oldest(self) -> tuple[str, bytes] | None:
        """The name and bytes of the report that waits longest."""
        with self._lock:
            name = next(iter(self._files), None)
            if name is None:
                return None
            return name, self._held.get(name) or (self._folder / name).read_bytes()

    def remove(self, name: str) -> None:
        """The controller has it."""
        with self._lock:
            if name in self._files:
                self._remove(name)

    def __len__(self) -> int:
        return len(self._files)

    def _remove(self, name: str) -> None:
        if self._held.pop(name, None) is None:
            (self._folder / name).unlink(missing_ok=True)
        del self._files[name]


class Uplink:
    """Takes reports at once and sends them from a thread of its own."""

    def __init__(self, post: Post, spool: Spool, *, pause_s: float = FIRST_PAUSE_S) -> None:
        """`pause_s` follows the first failure; each one more doubles it."""
        self._pause_s = pause_s
        self._post = post
        self._spool = spool
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.problem: str | None = None
        self.refused = 0
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def __call__(self, report: Report) -> None:
        """Keep the report; it is sent as soon as the controller takes it."""
        self._spool.put(wire.pack(report))
        self._wake.set()

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        return (
            ("spool full, reports dropped", self._spool.dropped),
            ("reports refused", self.refused),
        )

    def close(self, *, deadline_s: float = 2.0) -> None:
        """Send what waits while that works, at most for the deadline; the rest stays on disk."""
        self._stop.set()
        self._wake.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        pause = self._pause_s
        while True:
            waiting = self._spool.oldest()
            if waiting is None:
                if self._stop.is_set():
                    return
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            if self._send(*waiting):
                pause = self._pause_s
                continue
            if self._stop.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _send(self, name: str, data: bytes) -> bool:
        """Whether this report is done with."""
        try:
            self._post(data)
        except Refused as error:
            self.problem = str(error)
            self.refused += 1
        except (OSError, http.client.HTTPException) as error:
            self.problem = f"the controller can not be reached: {error}"
            return False
        else:
            self.problem = None
        self._spool.remove(name)
        return True


class Direct:
    """Hands reports to a controller of this process, in order; keeps them while it has no room."""

    def __init__(self, take: Callable[[Report], object]) -> None:
        self._take = take
        self._waiting: deque[Report] = deque()
        self._dropped = 0

    def __call__(self, report: Report) -> None:
        """Raises NetwatchError where the controller does not want it."""
        if len(self._waiting) >= HELD:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(report)
        while self._waiting:
            try:
                self._take(self._waiting[0])
            except NetwatchError as error:
                if error.code in NO_ROOM:
                    if len(self._waiting) == 1:
                        log.error("reports wait in memory: %s", error)
                    return
                self._waiting.popleft()
                raise
            self._waiting.popleft()

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        return (("no room, reports dropped", self._dropped),)
