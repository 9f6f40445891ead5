"""The few calls of libbpf that capture needs, by ctypes: no compiler and no binding on a host.

Debian 12 ships libbpf 1.1. Every call returns a negative errno or NULL on failure (libbpf 1.0's
strict mode); the messages that libbpf would print are kept for the error instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.model.errors import NetwatchError

Bytes = npt.NDArray[np.uint8]
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_messages: deque[str] = deque(maxlen=20)
_POINTERS = (
    "bpf_object__open_file",
    "bpf_object__find_map_by_name",
    "bpf_object__find_program_by_name",
    "ring_buffer__new",
)
_WITH_POINTER = (
    "bpf_object__load",
    "bpf_object__close",
    "bpf_map__fd",
    "bpf_program__fd",
    "ring_buffer__consume",
    "ring_buffer__free",
)


class BpfFailed(NetwatchError):
    """The kernel or libbpf refused something that eBPF capture needs; `number` is the errno."""

    code = "bpf-failed"

    def __init__(self, what: str, number: int, hint: str | None = None) -> None:
        # the first message tells the cause; for a lacking right the hint is better
        said = f" ({_messages[0][:200]})" if _messages and number != errno.EPERM else ""
        _messages.clear()
        if hint is None and number in (errno.EPERM, errno.EACCES):
            hint = "run as root, or with CAP_BPF and CAP_NET_ADMIN"
        super().__init__(f"{what}: {os.strerror(number)}{said}", hint)
        self.number = number


def _keep(level: int, form: bytes, arguments: int) -> int:
    if level == 0:  # warnings; the rest is progress
        text = ctypes.create_string_buffer(512)
        ctypes.CDLL(None).vsnprintf(text, 512, form, ctypes.c_void_p(arguments))
        _messages.append(" ".join(text.value.decode(errors="replace").split()))
    return 0


_keep_message = _PRINT(_keep)  # libbpf holds on to it: it must outlive every call


@cache
def library() -> ctypes.CDLL:
    """libbpf.so.1, its log kept quiet. Raises BpfFailed if it is not installed."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise BpfFailed(
            "libbpf.so.1 is not installed", errno.ENOENT, "install it: apt-get install libbpf1"
        ) from None
    for name in _POINTERS:
        getattr(lib, name).restype = ctypes.c_void_p
    for name in _WITH_POINTER:
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    lib.bpf_object__find_map_by_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.bpf_object__find_program_by_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.bpf_map__set_max_entries.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.ring_buffer__new.argtypes = [ctypes.c_int, _SAMPLE, ctypes.c_void_p, ctypes.c_void_p]
    lib.libbpf_set_print.restype = ctypes.c_void_p
    lib.libbpf_set_print(_keep_message)
    return lib


def checked(what: str, result: int) -> int:
    """The result, or BpfFailed if it is a negative errno."""
    if result < 0:
        raise BpfFailed(what, -result)
    return result


class Object:
    """A loaded object file: its maps and programs by name, as file descriptors."""

    def __init__(self, file: Path, sizes: Mapping[str, int]) -> None:
        """Load `file` with the entries (or bytes, for a ring) of `sizes`. Raises BpfFailed."""
        self._lib = library()
        self._object = self._lib.bpf_object__open_file(os.fsencode(file), None)
        if not self._object:
            raise BpfFailed(f"{file.name} can not be opened", ctypes.get_errno())
        try:
            for name, entries in sizes.items():
                found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
                self._lib.bpf_map__set_max_entries(found, entries)
            checked("the kernel does not load it", self._lib.bpf_object__load(self._object))
        except BpfFailed:
            self.close()
            raise

    def map(self, name: str) -> int:
        """The descriptor of a map."""
        found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        return checked(name, self._lib.bpf_map__fd(found))

    def program(self, name: str) -> int:
        """The descriptor of a program."""
        found = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
        return checked(name, self._lib.bpf_program__fd(found))

    def close(self) -> None:
        """Give the object back; the kernel frees what nothing holds any longer."""
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = None


class Ring:
    """Takes samples out of a ring buffer map."""

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        """`take` gets every sample, in the thread that calls consume()."""

        def sample(_context: int, data: int, size: int) -> int:
            take(ctypes.string_at(data, size))
            return 0

        self._lib = library()
        self._callback = _SAMPLE(sample)
        self._ring = self._lib.ring_buffer__new(descriptor, self._callback, None, None)
        if not self._ring:
            raise BpfFailed("the ring buffer can not be mapped", ctypes.get_errno())

    def consume(self) -> None:
        """Hand over what is there now; never waits."""
        self._lib.ring_buffer__consume(self._ring)

    def close(self) -> None:
        """Unmap it."""
        if self._ring:
            self._lib.ring_buffer__free(self._ring)
            self._ring = None


def processors() -> int:
    """How many slots a per-CPU map has."""
    return checked("the processors can not be counted", library().libbpf_num_possible_cpus())


def lookup(descriptor: int, key: bytes, value: npt.NDArray[Any]) -> None:
    """Read one value into `value`. Raises BpfFailed."""
    pointer = ctypes.c_void_p(value.ctypes.data)
    checked("the map can not be read", library().bpf_map_lookup_elem(descriptor, key, pointer))


def update(descriptor: int, key: bytes, value: bytes) -> None:
    """Write one value. Raises BpfFailed."""
    result = library().bpf_map_update_elem(descriptor, key, value, ctypes.c_uint64(0))
    checked("the map can not be written", result)


def lookup_batch(descriptor: int, keys: Bytes, values: Bytes) -> int:
    """Read a whole map into the rows of both arrays; returns how many rows were filled.

    The arrays must have room for every entry. BPF_MAP_LOOKUP_BATCH (kernel/bpf/hashtab.c) takes
    one bucket after the other, each under its lock: an entry that stays is seen once.
    """
    lib, filled = library(), 0
    token = ctypes.c_uint32()
    start = None
    while filled < len(keys):
        count = ctypes.c_uint32(len(keys) - filled)
        result = lib.bpf_map_lookup_batch(
            descriptor,
            start,
            ctypes.byref(token),
            ctypes.c_void_p(keys[filled:].ctypes.data),
            ctypes.c_void_p(values[filled:].ctypes.data),
            ctypes.byref(count),
            None,
        )
        if result < 0 and result not in (-errno.ENOENT, -errno.EINTR):
            raise BpfFailed("the map can not be read", -result)
        filled += count.value
        if result == -errno.ENOENT:
            break
        start = ctypes.byref(token)
    return filled


def delete_batch(descriptor: int, keys: Bytes) -> int:
    """Delete these keys (rows); those gone already are skipped. Returns how many were there."""
    lib, at, deleted = library(), 0, 0
    keys = np.ascontiguousarray(keys)
    while at < len(keys):
        count = ctypes.c_uint32(len(keys) - at)
        pointer = ctypes.c_void_p(keys[at:].ctypes.data)
        result = lib.bpf_map_delete_batch(descriptor, pointer, ctypes.byref(count), None)
        if result < 0 and result != -errno.ENOENT:
            raise BpfFailed("the map can not be written", -result)
        deleted += count.value
        at += count.value + (result < 0)
    return deleted
