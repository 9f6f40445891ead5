"""The audit trail of this host: who did what, when, to whom; each line holds the line before it.

`audit.jsonl` in the state folder is only ever appended to. A line's `hash` covers the line and the
hash of the line before, so an edited, removed or inserted line breaks the chain from there on, and
`audit.head` tells whether the end was cut off. Whoever is root can write a whole new chain; that
shows only to somebody who noted an older head: `netwatch audit verify --head HASH`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from netwatch.model.errors import NetwatchError
from netwatch.model.times import rfc3339

FILE, HEAD = "audit.jsonl", "audit.head"
START = "0" * 64  # what the first line holds in place of the line before it
MAX_TEXT, MAX_DETAILS = 512, 24
MAX_LINE = 131_072  # bytes; above what that many texts take, each character written as \u001b
_NOBODY = 0xFFFFFFFF  # /proc/self/loginuid of what no login started


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who did it. `login_uid` is the kernel's word and survives sudo; `sudo_user` is a claim."""

    uid: int
    login_uid: int | None
    sudo_user: str | None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line; `number` counts from 1, `time` is RFC 3339, `hash` covers all the rest."""

    number: int
    time: str
    action: str
    subject: str
    actor: Actor
    details: dict[str, str | int | bool | None]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain holds: `broken` is None, or says in which line and why it does not."""

    entries: int
    head: str
    line: int | None = None
    broken: str | None = None


class Damaged(NetwatchError):
    """The audit trail can not be continued; what must be audited is not done then."""

    code = "audit-damaged"


def this_actor(environment: Mapping[str, str]) -> Actor:
    """The user behind this process."""
    try:
        login = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):  # a kernel without audit has no such file
        login = _NOBODY
    sudo = environment.get("SUDO_USER")
    return Actor(os.getuid(), None if login == _NOBODY else login, _cut(sudo) if sudo else None)


def append(
    folder: Path,
    action: str,
    *,
    subject: str,
    actor: Actor,
    details: Mapping[str, str | int | bool | None],
    now: int,
) -> Entry:
    """Add one line, on disk when this returns. `now` is nanoseconds since the epoch.

    Raises NetwatchError if it can not be written, Damaged if there is no whole last line to
    continue; then what is to be audited must not happen.
    """
    kept = {
        key[:64]: _cut(value) if isinstance(value, str) else value
        for key, value in list(details.items())[:MAX_DETAILS]
    }
    try:
        with _alone(folder) as stream:
            last = _last(stream)
            if last is None:
                _write_head(folder, 0, START)
            draft = Entry(
                number=last.number + 1 if last else 1,
                time=str(rfc3339(now)),
                action=_cut(action),
                subject=_cut(subject),
                actor=actor,
                details=kept,
                previous=last.hash if last else START,
                hash="",
            )
            entry = msgspec.structs.replace(draft, hash=_hash(draft))
            _write(stream, entry)
            _write_head(folder, entry.number, entry.hash)
    except OSError as error:
        raise NetwatchError(
            f"{folder / FILE} can not be written: {error.strerror}",
            "run as root; make room, or name another folder by NETWATCH_STATE",
            code="not-audited",
        ) from None
    return entry


Record = Callable[[str, str, Mapping[str, str | int | bool | None]], object]
"""Takes action, subject and details of what is about to happen; raises NetwatchError."""


def recorder(folder: Path, actor: Actor, clock: Callable[[], int]) -> Record:
    """`append` for whoever always is the same actor and writes to the same folder."""

    def record(
        action: str, subject: str, details: Mapping[str, str | int | bool | None]
    ) -> object:
        return append(folder, action, subject=subject, actor=actor, details=details, now=clock())

    return record


def read(folder: Path, *, last: int) -> tuple[Entry, ...]:
    """The last so many entries, oldest first; lines that are no entry are left to `verify`."""
    found: deque[Entry] = deque(maxlen=last)
    for line in _lines(folder):
        entry = _decoded(line)
        if entry is not None:
            found.append(entry)
    return tuple(found)


def verify(folder: Path, *, head: str | None = None) -> Verdict:
    """Follow the whole chain. `head` is a hash that somebody noted: it must be part of it."""
    number, previous = 0, START
    known_number, known = _head(folder)
    passed, noted = known_number == 0, head is None
    for number, line in enumerate(_lines(folder), start=1):
        why = _broken(line, number, previous)
        if why:
            return Verdict(number - 1, previous, number, why)
        previous = msgspec.json.decode(line, type=Entry).hash
        noted = noted or previous == head
        if number == known_number:
            if previous != known:
                return Verdict(number, previous, number, f"it is not the line that {HEAD} names")
            passed = True
    if known_number is None and number:
        return Verdict(number, previous, None, f"{HEAD} is gone: the end may have been cut off")
    if known_number is not None and not passed:
        why = f"lines are missing at the end: {HEAD} names line {known_number}"
        return Verdict(number, previous, number + 1, why)
    if not noted:
        return Verdict(number, previous, None, "no line has the hash that was noted")
    return Verdict(number, previous)


def _broken(line: bytes, number: int, previous: str) -> str | None:
    if not line.endswith(b"\n"):
        return "it is not whole"
    entry = _decoded(line)
    if entry is None:
        return "it is no entry"
    if _line(entry) != line or _hash(entry) != entry.hash:
        return "it was changed: its hash is not that of what it says"
    if entry.previous != previous or entry.number != number:
        return "it does not follow the line before it"
    return None


def _decoded(line: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def _hash(entry: Entry) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(entry, hash=""))).hexdigest()


def _cut(text: str) -> str:
    """Bounded, and such as UTF-8 can carry."""
    return text[:MAX_TEXT].encode(errors="replace").decode()


def _lines(folder: Path) -> Iterator[bytes]:
    try:
        with (folder / FILE).open("rb") as stream:
            while line := stream.readline(MAX_LINE + 1):
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise NetwatchError(
            f"{folder / FILE} can not be read: {error.strerror}", "run as root"
        ) from None


@contextmanager
def _alone(folder: Path) -> Iterator[BinaryIO]:
    """The file, open for reading and appending; a second writer waits."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(folder / FILE, flags, 0o600), "r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _last(stream: BinaryIO) -> Entry | None:
    """The entry to continue. What a power cut left of a line was never promised: it goes."""
    size = stream.seek(0, os.SEEK_END)
    start = stream.seek(max(0, size - 2 * MAX_LINE))
    tail = stream.read(size - start)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        if not whole and start:
            raise Damaged("the audit trail does not end with a line", "netwatch audit verify")
        os.truncate(stream.fileno(), start + whole)
    if not whole:
        return None
    entry = _decoded(tail[tail.rfind(b"\n", 0, whole - 1) + 1 : whole])
    if entry is None:
        raise Damaged(
            "the last line of the audit trail is no entry",
            "netwatch audit verify says more; move the file away, and keep it",
        )
    return entry


def _write(stream: BinaryIO, entry: Entry) -> None:
    """The whole line or nothing of it."""
    size = stream.seek(0, os.SEEK_END)
    line = _line(entry)
    try:
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())
    except OSError:
        os.truncate(stream.fileno(), size)
        raise


def _write_head(folder: Path, number: int, known: str) -> None:
    fresh = folder / f"{HEAD}.new"
    fresh.write_bytes(f"{number} {known}\n".encode())
    fresh.replace(folder / HEAD)


def _head(folder: Path) -> tuple[int | None, str]:
    """Number and hash of the last line that was written; None where nothing says so."""
    try:
        number, _, known = (folder / HEAD).read_text().strip().partition(" ")
        return int(number), known
    except (OSError, ValueError):
        return None, ""
