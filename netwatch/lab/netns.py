"""Named network namespaces, made and removed exactly as `ip netns` does, so that it sees them.

iproute2, ip/ipnetns.c: a namespace lives as a bind mount of its nsfs file under /run/netns, which
is a shared mount, so that removing it there removes it in every mount namespace. It is made in a
thread, because unshare(2) with CLONE_NEWNET is per thread; nothing is forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from netwatch.kernel.namespaces import CLONE_NEWNET, NAMED, path_of_name
from netwatch.model.errors import NetwatchError

PREFIXES = ("nw-", "nwh-", "nwx-")
MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 0x100000, 2
_libc = ctypes.CDLL("libc.so.6", use_errno=True)


class NamespaceFailed(NetwatchError):
    """A network namespace could not be made."""

    code = "namespace-failed"


def create(name: str) -> None:
    """Make a namespace and its name. Raises NamespaceFailed."""
    _share_folder()
    path = path_of_name(name)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    except FileExistsError:
        raise NamespaceFailed(
            f"the network namespace {name} exists already", "netwatch lab down removes it"
        ) from None
    failures: list[NamespaceFailed] = []

    def unshare_and_bind() -> None:
        try:
            _call("unshare", _libc.unshare(CLONE_NEWNET))
            _mount("/proc/thread-self/ns/net", path, MS_BIND)
        except NamespaceFailed as error:
            failures.append(error)

    thread = threading.Thread(target=unshare_and_bind, name=f"create {name}")
    thread.start()
    thread.join()
    if failures:
        path.unlink(missing_ok=True)
        raise failures[0]


def existing() -> list[str]:
    """The names of every lab's namespaces, of a broken one too."""
    try:
        names = os.listdir(NAMED)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.startswith(PREFIXES))


def remove(name: str) -> None:
    """Remove a name and, with its last process, the namespace; it may be gone already."""
    path = path_of_name(name)
    _libc.umount2(os.fsencode(path), MNT_DETACH)  # EINVAL: the mount was never made
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def inode(name: str) -> int | None:
    """What names the namespace to the kernel; None if nothing is mounted there."""
    place = _place(path_of_name(name))
    return place[1] if place else None


def residents(names: Iterable[str]) -> list[int]:
    """The processes whose main thread lives in one of these namespaces, this one excepted."""
    places = {place for name in names if (place := _place(path_of_name(name)))}
    places -= {_place(Path("/proc/self/ns/net")), _place(Path("/proc/1/ns/net"))}
    return [
        pid
        for pid in _pids()
        if pid != os.getpid() and _place(Path(f"/proc/{pid}/ns/net")) in places
    ]


def kill(pids: Iterable[int]) -> None:
    """SIGKILL; one that ended meanwhile is fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # the process ended, or is a kernel thread's zombie
        return None
    return found.st_dev, found.st_ino


def _share_folder() -> None:
    NAMED.mkdir(parents=True, exist_ok=True)
    try:
        _mount("", NAMED, MS_SHARED | MS_REC)
    except NamespaceFailed:  # EINVAL: not a mount point yet
        _mount(NAMED, NAMED, MS_BIND | MS_REC)
        _mount("", NAMED, MS_SHARED | MS_REC)


def _mount(source: str | Path, target: Path, flags: int) -> None:
    code = _libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None)
    _call(f"mount at {target}", code)


def _call(what: str, code: int) -> None:
    if code != 0:
        raise NamespaceFailed(f"{what} failed: {os.strerror(ctypes.get_errno())}", "run as root")
