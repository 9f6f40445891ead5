"""Raw frames from inside a workload's namespace, and which of them arrive at another one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from netwatch.kernel.namespaces import inside, path_of_name

TAG = 8  # bytes that end a frame, and know it again


def link(name: str) -> socket.socket:
    """A socket on the wire of a workload, for all frames."""
    place = path_of_name(f"nw-{name}")
    opened = inside(place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    opened.bind(("eth0", 3))
    return opened


def mac(name: str) -> str:
    """The hardware address of a workload."""
    with link(name) as opened:
        return str(opened.getsockname()[4].hex(":"))


def tags(names: Iterable[str]) -> dict[str, bytes]:
    """A tag of its own for each name."""
    return {name: os.urandom(TAG) for name in names}


def arrived(
    frames: Mapping[str, Packet | list[Packet]],
    sender: str,
    receiver: str,
    *,
    known: Mapping[str, bytes] | None = None,
) -> set[str]:
    """The names of the frames that get through, all sent at once, known by a tag.

    `known`: the tags that the frames hold already; without it each frame gets one at its end.
    What always may pass follows them: where that has come, no other is under way any more.
    """
    known = known or {}
    wanted = tags(frames) | dict(known)
    last = os.urandom(TAG)
    probe = ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="0.0.0.0", pdst="192.0.2.1")
    follower = Ether(src=mac(sender), dst=mac(receiver)) / probe / Raw(last)
    found: set[str] = set()
    with link(sender) as out, link(receiver) as into:
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        into.settimeout(3)
        for name, given in frames.items():
            for frame in given if isinstance(given, list) else [given]:
                out.send(bytes(frame if name in known else frame / Raw(wanted[name])))
        out.send(bytes(follower))
        deadline = time.monotonic() + 5
        while last not in (data := into.recv(65536)):
            found |= {name for name, tag in wanted.items() if tag in data}
            assert time.monotonic() < deadline, "what always may pass does not arrive"
    return found


@contextmanager
def connected(name: str, address: str, port: int) -> Iterator[tuple[int, Callable[[], bool]]]:
    """A TCP session with an echo server: the workload's port, and whether it still talks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = inside(path_of_name(f"nw-{name}"), lambda: socket.socket(family))

    def talks() -> bool:
        try:
            opened.sendall(b"x")
            return opened.recv(1) == b"x"
        except OSError:
            return False

    with opened:
        opened.settimeout(2)
        opened.connect((address, port))
        assert talks()
        opened.settimeout(0.5)
        yield opened.getsockname()[1], talks
