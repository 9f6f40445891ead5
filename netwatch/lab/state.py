"""What is known of the running lab, in /run/netwatch: written before anything is made.

`lab.json` says who is where (or only that a lab is being made); `lab/HOST.json` is what a host's
own discovery may know: a model.Snapshot as JSON, in which no call of the lab file appears.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from netwatch.lab.directory import Entry
from netwatch.model.errors import NetwatchError

FOLDER = Path("/run/netwatch")
DIRECTORY = FOLDER / "lab.json"
HOSTS = FOLDER / "lab"
NO_LAB_HINT = "start one: netwatch lab up FILE"


class NoLab(NetwatchError):
    """No lab is up."""

    code = "no-lab"


class LabBusy(NetwatchError):
    """A lab is up already, or being made or removed."""

    code = "lab-up"


@contextlib.contextmanager
def alone(*, wait: bool) -> Iterator[None]:
    """Only one process makes or removes a lab. A killed one holds the lock no longer.

    Raises LabBusy at once unless `wait`.
    """
    descriptor = _locked_folder(wait=wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: others keep their files there too
            FOLDER.rmdir()
        os.close(descriptor)


def _locked_folder(*, wait: bool) -> int:
    while True:
        try:
            FOLDER.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            message = f"{FOLDER} can not be made: {error.strerror}"
            raise NetwatchError(message, "run as root") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if FOLDER.exists() and FOLDER.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise LabBusy("another process is making or removing a lab", "wait for it") from None
        os.close(descriptor)  # who held it removed the folder: lock the new one


def present() -> bool:
    """Whether a lab is up or was begun."""
    return DIRECTORY.exists()


def write_intent() -> None:
    """Say that a lab is being made."""
    _replace(DIRECTORY, b"{}")


def write_directory(entries: Mapping[str, Entry]) -> None:
    """Say who is where: the lab is up."""
    rows = {name: asdict(entry) for name, entry in entries.items()}
    _replace(DIRECTORY, json.dumps(rows).encode())


def read_directory() -> dict[str, Entry]:
    """Who is where in the running lab; raises NoLab."""
    try:
        rows = json.loads(DIRECTORY.read_bytes())
    except FileNotFoundError:
        raise NoLab("no lab is up", NO_LAB_HINT) from None
    except ValueError:
        raise NoLab(f"{DIRECTORY} is damaged", "netwatch lab down, then lab up FILE") from None
    if not rows:
        raise NoLab("the lab is not up: it is being made, or was broken off", "netwatch lab down")
    return {
        name: Entry(
            name=name,
            netns=row["netns"],
            host=row["host"],
            addresses=tuple(row["addresses"]),
            doors=tuple(row["doors"]),
            published=row["published"],
        )
        for name, row in rows.items()
    }


def write_host(name: str, snapshot: bytes) -> None:
    """Give a host's discovery what it may know."""
    HOSTS.mkdir(parents=True, exist_ok=True)
    _replace(HOSTS / f"{name}.json", snapshot)


def forget(inode: int | None) -> None:
    """Remove what others keep here for a namespace that goes: `*.INODE` and `*.INODE.*`.

    The kernel gives the number to another namespace later, which would inherit it.
    """
    for pattern in (f"*.{inode}", f"*.{inode}.*") if inode else ():
        for path in FOLDER.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def erase() -> None:
    """Remove every file; the directory last, so that a killed `lab down` can be repeated."""
    shutil.rmtree(HOSTS, ignore_errors=True)
    _new(DIRECTORY).unlink(missing_ok=True)
    DIRECTORY.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    new = _new(path)
    new.write_bytes(content)
    new.replace(path)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
