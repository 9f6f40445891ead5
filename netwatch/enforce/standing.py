"""What of this host is to stand after a reboot: documents, quarantine, bridges that were closed.

/run is empty then. One file in the state folder (the setting `state`), whole or not at all, with
its own hash, and beside it the one before: a file that does not hold what was written is never
read as "nothing is to be enforced". A change that waits for its confirmation is not kept. The
file is named by the network namespace: `host`, or as `ip netns` calls it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import structs

from netwatch.enforce.kernel import RUN, namespace_inode
from netwatch.kernel.namespaces import NAMED
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Quarantine
from netwatch.settings import load

HASH = 64  # hex digits of SHA-256, at the head of the file


class Damaged(NetwatchError):
    """Neither the file nor the one before holds what was written."""

    code = "standing-damaged"


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`documents`: (suffix, text) in order, None if they were taken away. `closed`: bridges whose
    workloads nobody can tell apart before the runtime answers; `at` in ns since the epoch.
    """

    backend: str = "auto"
    at: int = 0
    documents: tuple[tuple[str, str], ...] | None = None
    quarantined: tuple[Quarantine, ...] = ()
    closed: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether a reboot has nothing to bring back."""
        return self.documents is None and not self.quarantined


def place() -> Path:
    """The file of the network namespace of the calling thread."""
    return Path(load().state) / "standing" / f"{_name()}.json"


def is_host() -> bool:
    """Whether this is the network namespace of the first process: one that a boot brings back."""
    with suppress(OSError):  # a container without the host's processes has no right to look
        return os.stat("/proc/1/ns/net").st_ino == namespace_inode()
    return False


def _name() -> str:
    own = namespace_inode()
    if is_host():
        return "host"
    for path in NAMED.glob("*"):
        with suppress(OSError):
            if path.stat().st_ino == own:
                return path.name
    return f"netns.{own}"


def read() -> tuple[Standing, str | None]:
    """What is to stand, and a sentence if the last file is damaged and the one before was taken.

    Raises Damaged if neither can be read.
    """
    file = place()
    found = _read(file)
    if isinstance(found, Standing):
        return found, None
    before = _read(_before(file))
    if found is None and before is None:
        return Standing(), None
    if isinstance(before, Standing):
        return before, f"{file} is {found or 'gone'}: the one before it was taken"
    raise Damaged(
        f"{file} is {found or 'gone'}, and the one before it {before or 'too'}",
        "netwatch host apply writes a new one; netwatch off opens what is closed",
    )


def _before(file: Path) -> Path:
    return file.with_suffix(".before")


def _read(file: Path) -> Standing | str | None:
    """What is kept; None if there is no such file, or what is wrong with it."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"not readable ({error.strerror})"
    if hashlib.sha256(data[HASH:]).hexdigest().encode() != data[:HASH]:
        return "damaged"
    try:
        return msgspec.json.decode(data[HASH:], type=Standing)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "of another version"


def keep(
    *,
    documents: tuple[Sequence[tuple[str, bytes]], str, int] | None = None,
    quarantined: Sequence[Quarantine] | None = None,
    closed: Sequence[str] | None = None,
) -> str | None:
    """Put what is told in place of what stood; a sentence if the disk did not take it.

    `documents`: with the backend and the time of the apply.
    """
    try:
        now = read()[0]
    except Damaged:
        now = Standing()
    told = now
    if documents is not None:
        texts = tuple((suffix, text.decode("utf-8-sig")) for suffix, text in documents[0])
        told = structs.replace(told, documents=texts, backend=documents[1], at=documents[2])
    if quarantined is not None:
        told = structs.replace(told, quarantined=tuple(quarantined))
    if closed is not None:
        told = structs.replace(told, closed=tuple(sorted(closed)))
    return _put(told) if told != now and not told.nothing else None


def forget(*, documents: bool = True, quarantined: bool = False) -> str | None:
    """What was taken away on purpose does not come back; a sentence if the disk did not hear."""
    try:
        now = read()[0]
    except Damaged:
        now = Standing()
    told = structs.replace(
        now,
        documents=None if documents else now.documents,
        quarantined=() if quarantined else now.quarantined,
    )
    if told.nothing:
        try:
            for file in (place(), _before(place())):
                file.unlink(missing_ok=True)
        except OSError as error:
            return f"{place()} can not be taken away: {error.strerror}"
        return None
    return _put(told) if told != now else None


def _put(told: Standing) -> str | None:
    file = place()
    body = msgspec.json.encode(told)
    fresh = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(hashlib.sha256(body).hexdigest().encode() + body)
            out.flush()
            os.fsync(out.fileno())
        if isinstance(_read(file), Standing):
            file.replace(_before(file))
        fresh.replace(file)
    except OSError as error:
        return f"what is applied would not come back after a reboot: {file}: {error.strerror}"
    return None


def switch_off() -> tuple[str, ...]:
    """Leave the word that nothing is to be enforced; where it could not be left, in sentences.

    Twice: the state folder outlives a reboot, and /run works where that folder is broken.
    """
    said = []
    for file in _off():
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
        except OSError as error:
            said.append(f"{file} can not be written: {error.strerror}")
    return tuple(said)


def switch_on() -> bool:
    """Take the word away; whether it was there."""
    there = is_off()
    for file in _off():
        file.unlink(missing_ok=True)
    return there


def is_off() -> bool:
    """Whether `netwatch off` was the last word."""
    return any(file.exists() for file in _off())


def refuse_off() -> None:
    """Raise NetwatchError while this host is switched off."""
    if is_off():
        raise NetwatchError(
            "netwatch is switched off on this host",
            "netwatch on puts back what was in force",
            code="off",
        )


def _off() -> tuple[Path, Path]:
    return place().with_suffix(".off"), RUN / f"off.{namespace_inode()}"
