"""Entering network namespaces: of the calling thread only, and always back again.

A thread carries its own network namespace (setns(2) with CLONE_NEWNET is per thread), so work in
another namespace runs in a thread of its own and can not leak. Only the network namespace is
entered: the mount namespace stays, so /proc and /run mean what they meant before.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from netwatch.model.errors import NetwatchError

NAMED = Path("/run/netns")  # where `ip netns` keeps the named ones
CLONE_NEWNET = 0x40000000
T = TypeVar("T")
_libc = ctypes.CDLL("libc.so.6", use_errno=True)


class NamespaceMissing(NetwatchError):
    """A network namespace that is needed is not there."""

    code = "namespace-missing"


def path_of_name(name: str) -> Path:
    """The file of a named namespace (`ip netns`)."""
    return NAMED / name


def path_of_pid(pid: int) -> Path:
    """The file of the namespace that a process lives in."""
    return Path(f"/proc/{pid}/ns/net")


def enter(path: Path) -> None:
    """Move the calling thread into a namespace for good. Raises NamespaceMissing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceMissing(
            f"there is no network namespace at {path}: {error.strerror}"
        ) from None
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise NamespaceMissing(f"can not enter {path}: {os.strerror(code)}", "run as root")
    finally:
        os.close(descriptor)


def inside(path: Path | None, work: Callable[[], T]) -> T:
    """Run `work` in a thread inside the namespace at `path` and return what it returns.

    None means the namespace of the caller: no thread, no change. An exception of `work` is raised
    here.
    """
    if path is None:
        return work()
    results: list[T] = []
    failures: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            enter(path)
            results.append(work())
        except BaseException as error:  # carried to the caller's thread, where it is raised
            failures.append(error)

    thread = threading.Thread(target=enter_and_work, name=f"inside {path.name}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def socket_inside(path: Path | None, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to that namespace and may be used from any thread."""
    return inside(path, lambda: socket.socket(family, kind, protocol))
