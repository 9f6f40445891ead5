"""Hears within milliseconds when somebody changes nftables here, iptables-nft included.

linux/netfilter/nf_tables.h: after each transaction the kernel tells all who listen its number, and
which process made it (NFT_MSG_NEWGEN). Nothing tells of legacy tables, sets and sysctls: those are
read again and again. What is heard is a reason to look, never a fact: what is lost costs nothing
but a look.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from netwatch.enforce import netlink

SOL_NETLINK, ADD_MEMBERSHIP, GROUP = 270, 1, 7  # linux/netlink.h; NFNLGRP_NFTABLES
NEW_GENERATION = netlink.NFTABLES << 8 | 15
PROCESS, NAME = 2, 3
LOST = "events were lost"
PAUSE_S = 0.1  # a runtime writes dozens of transactions in a row: one look for all of them
MAX_NAMES = 8
READ = 1 << 16
MAX_TAKEN = 10_000  # at once; a flood is looked at meanwhile


class Alarm:
    """Listens in the network namespace of the thread that makes it, until `close`."""

    def __init__(self, wake: Callable[[], None], *, room: int | None = None) -> None:
        """`wake` is called from a thread of its own; `room`: bytes the kernel keeps for us.

        Raises OSError where the kernel has no nftables.
        """
        self._wake = wake
        self._heard: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._link = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_NETFILTER
        )
        try:
            if room is not None:
                self._link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            self._link.bind((0, 0))
            self._link.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP)
            self._link.settimeout(0.5)
        except OSError:
            self._link.close()
            raise
        self._thread = threading.Thread(target=self._listen, name="rule events", daemon=True)
        self._thread.start()

    def heard(self) -> tuple[str, ...]:
        """Which programs changed something since this was asked last; empty: nobody."""
        with self._lock:
            told = self._heard
            self._heard = Counter()
        return tuple(sorted(told))

    def close(self) -> None:
        """Listen no more."""
        self._closing.set()
        self._thread.join()
        self._link.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                names = self._next()
            except TimeoutError:
                continue
            except OSError:
                return
            if not names:
                continue
            with self._lock:
                first = not self._heard
                for name in names:
                    if name in self._heard or len(self._heard) < MAX_NAMES:
                        self._heard[name] += 1
            if first:
                self._wake()
                self._closing.wait(PAUSE_S)

    def _next(self) -> list[str]:
        """Waits for the first event, and takes all that are there.

        Once events were lost the kernel tells of no more losses until the queue is empty
        (netlink_overrun, net/netlink/af_netlink.c): taken one by one, some would never be heard.
        """
        found: list[str] = []
        for _ in range(MAX_TAKEN):
            try:
                found += changed_by(self._link.recv(READ))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(LOST)
            if not select.select([self._link], [], [], 0)[0]:
                break
        return found


def changed_by(data: bytes) -> tuple[str, ...]:
    """The programs that made the transactions in this datagram, our own process left out."""
    found = []
    at = 0
    while at + 20 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 20:
            break
        if kind == NEW_GENERATION:
            told = netlink.attributes(data[at + 20 : at + size])
            maker = struct.unpack("!I", told[PROCESS])[0] if PROCESS in told else 0
            if maker != os.getpid():
                name = told.get(NAME, b"").rstrip(b"\0").decode(errors="replace")
                found.append("".join(c for c in name if c.isprintable())[:16] or "somebody")
        at += (size + 3) & ~3
    return tuple(found)


def listen(wake: Callable[[], None]) -> Alarm | None:
    """An alarm for this network namespace; None where the kernel can not tell."""
    with suppress(OSError):
        return Alarm(wake)
    return None
