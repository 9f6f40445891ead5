"""Puts a program on an interface: tcx where the kernel has it (6.6), else a clsact filter.

Both act in the network namespace of the calling thread. A tcx link is gone with its descriptor,
also when the process is killed. A clsact filter stays: `remove_leftovers` looks for ours by
priority, handle and program name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from netwatch.capture.libbpf import BpfFailed, checked, library

INGRESS = 1  # BPF_TC_INGRESS; enum bpf_tc_attach_point
EGRESS = 2
GONE = (errno.ENODEV, errno.ENOENT, errno.ENXIO)  # the interface vanished meanwhile

_TCX = {INGRESS: 46, EGRESS: 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS; Debian 12's headers lack them
_REPLACE = 1  # BPF_TC_F_REPLACE
_PRIORITY = 28279  # "nw": ours among the filters of an interface
_HANDLE = 1
_NAME_AT = 64  # struct bpf_prog_info.name
_INTERFACE_AT = 16  # struct bpf_link_info.tcx.ifindex
_INFO_SIZE = 80


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program on one side of an interface; `detach` it once. `is_there` says whether it still
    is: another program may have taken it away.
    """

    detach: Callable[[], None]
    is_there: Callable[[], bool]


Attach = Callable[[int, int, int], Attachment]


class _Hook(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("program", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("program_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


def _hook(ifindex: int, point: int) -> _Hook:
    return _Hook(ctypes.sizeof(_Hook), ifindex, point, 0)


def _options(program: int = 0, flags: int = 0) -> _Options:
    return _Options(ctypes.sizeof(_Options), program, flags, 0, _HANDLE, _PRIORITY)


def attach_tcx(program: int, ifindex: int, point: int) -> Attachment:
    """Link a program to an interface. Raises BpfFailed: EINVAL where the kernel has no tcx."""
    link = library().bpf_link_create(program, ifindex, _TCX[point], None)
    checked("tcx is not available", link)
    return Attachment(lambda: os.close(link), lambda: _link_interface(link) != 0)


def _link_interface(link: int) -> int:
    """The interface of a tcx link; 0 once somebody detached it (tcx_link_fill_info, tcx.c)."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    size = ctypes.c_uint32(_INFO_SIZE)
    checked(
        "a link can not be read", library().bpf_obj_get_info_by_fd(link, info, ctypes.byref(size))
    )
    return int.from_bytes(info.raw[_INTERFACE_AT : _INTERFACE_AT + 4], sys.byteorder)


def attach_clsact(program: int, ifindex: int, point: int) -> Attachment:
    """Add a filter, and the clsact qdisc where there is none. Raises BpfFailed.

    To detach removes the filter, and the qdisc if this call made it; so the first one
    attached is to be detached last.
    """
    lib = library()
    both = _hook(ifindex, INGRESS | EGRESS)
    created = lib.bpf_tc_hook_create(ctypes.byref(both))
    if created != -errno.EEXIST:
        checked("a clsact qdisc can not be added", created)
    options = _options(program, _REPLACE)
    hook = _hook(ifindex, point)
    result = lib.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))

    def detach() -> None:
        _remove(ifindex, point)
        if created == 0:
            _accept_gone(lib.bpf_tc_hook_destroy(ctypes.byref(both)), "clsact can not be removed")

    if result < 0:
        failure = BpfFailed("a clsact filter can not be added", -result)
        detach()
        raise failure
    return Attachment(detach, lambda: _is_ours(ifindex, point))


def remove_leftovers() -> int:
    """Remove the clsact filters that a killed netwatch left here; returns how many.

    The qdisc stays: nothing tells whether it was ours. An empty one does nothing.
    """
    removed = 0
    for ifindex, _name in socket.if_nameindex():
        for point in (INGRESS, EGRESS):
            if _is_ours(ifindex, point):
                _remove(ifindex, point)
                removed += 1
    return removed


def _is_ours(ifindex: int, point: int) -> bool:
    """Whether the filter of our priority and handle is there, and a program of ours."""
    options = _options()
    hook = _hook(ifindex, point)
    result = library().bpf_tc_query(ctypes.byref(hook), ctypes.byref(options))
    return result == 0 and _name_of(options.program_id).startswith(b"netwatch_")


def _remove(ifindex: int, point: int) -> None:
    hook, options = _hook(ifindex, point), _options()
    result = library().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))
    _accept_gone(result, "a clsact filter can not be removed")


def _accept_gone(result: int, what: str) -> None:
    if -result not in (*GONE, errno.EINVAL):  # EINVAL: no such interface, parent or filter
        checked(what, result)


def _name_of(program_id: int) -> bytes:
    descriptor = library().bpf_prog_get_fd_by_id(program_id)
    if descriptor < 0:
        return b""
    try:
        info = ctypes.create_string_buffer(_INFO_SIZE)
        size = ctypes.c_uint32(_INFO_SIZE)
        result = library().bpf_obj_get_info_by_fd(descriptor, info, ctypes.byref(size))
        return b"" if result < 0 else info.raw[_NAME_AT:].split(b"\0")[0]
    finally:
        os.close(descriptor)
