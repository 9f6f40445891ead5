"""Hears the answers of name servers as they reach workloads, so that rules by name open at once.

Heard only while a document in force speaks of a DNS name: a packet socket costs every packet that
leaves an interface a little. A question counts where it comes out of a workload, an answer where
it goes into one: what the rules refused is neither. Questions and answers over TCP count if each
is in one segment. From before, and for the host's own resolver, there is what capture learned.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from netwatch.agent.addresses import MAPPED
from netwatch.agent.learned import PORT, UDP, LearnedNames
from netwatch.agent.namebook import NameBook
from netwatch.agent.names import Names
from netwatch.capture.packets import RETURN, Instruction, program_bytes
from netwatch.capture.sensor import Payload
from netwatch.enforce.conditions import names_of
from netwatch.model.learned import LearnedName
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload
from netwatch.policy.ir import NamePeer, Policy

log = logging.getLogger("netwatch.agent")

PATIENCE = 3 * SECOND  # a workload may ask before anybody told us that it is there
MAX_WAITING = 1_024
MAX_AT_ONCE = 256
MOST = 4_200  # bytes: EDNS allows 4,096
TCP = 6
_ALL, _DGRAM_OUTGOING, _ATTACH_FILTER = 3, 4, 26  # ETH_P_ALL, PACKET_OUTGOING, SO_ATTACH_FILTER
_SOL_PACKET, _STATISTICS = 263, 6
_LOAD_B, _LOAD_H, _INDEX, _LOAD_HX = 0x30, 0x28, 0xB1, 0x48
_AND, _EQUAL, _SET = 0x54, 0x15, 0x45
# From the network header on: TCP or UDP of port 53, first fragments only (linux/filter.h).
PROGRAM: tuple[Instruction, ...] = (
    (_LOAD_B, 0, 0, 0),
    (_AND, 0, 0, 0xF0),
    (_EQUAL, 0, 10, 0x40),
    (_LOAD_H, 0, 0, 6),
    (_SET, 17, 0, 0x1FFF),
    (_LOAD_B, 0, 0, 9),
    (_EQUAL, 1, 0, UDP),
    (_EQUAL, 0, 14, TCP),
    (_INDEX, 0, 0, 0),
    (_LOAD_HX, 0, 0, 0),
    (_EQUAL, 10, 0, PORT),
    (_LOAD_HX, 0, 0, 2),
    (_EQUAL, 8, 9, PORT),
    (_EQUAL, 0, 8, 0x60),
    (_LOAD_B, 0, 0, 6),
    (_EQUAL, 1, 0, UDP),
    (_EQUAL, 0, 5, TCP),
    (_LOAD_H, 0, 0, 40),
    (_EQUAL, 2, 0, PORT),
    (_LOAD_H, 0, 0, 42),
    (_EQUAL, 0, 1, PORT),
    (RETURN, 0, 0, MOST),
    (RETURN, 0, 0, 0),
)


class Seen(NamedTuple):
    """A packet at an interface of this host; `leaving`: towards whoever is behind it."""

    moment: int
    interface: str
    leaving: bool
    packet: bytes


Known = dict[str, tuple[Workload, ...]]


class Replies:
    """`know` in the agent's rounds; a thread does the rest while documents speak of names."""

    def __init__(
        self, book: NameBook, documents: Callable[[], Sequence[Policy]], clock: Callable[[], int]
    ) -> None:
        self._book = book
        self._documents = documents
        self._clock = clock
        self._wake: Callable[[], None] = lambda: None
        self._spoken: tuple[Sequence[Policy], tuple[NamePeer, ...]] = ((), ())
        self._known: Known = {}
        self._lock = threading.Lock()
        self._link: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._learned = LearnedNames()
        self._unheard = 0

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from another thread, as soon as an answer opens something."""
        self._wake = wake

    def know(self, snapshot: Snapshot) -> None:
        """Who is behind which interface; hears only while the documents speak of names."""
        found: dict[str, list[Workload]] = {}
        for workload in snapshot.workloads:
            for interface in workload.interfaces:
                found.setdefault(interface.name, []).append(workload)
        self._known = {name: tuple(workloads) for name, workloads in found.items()}
        documents = self._documents()
        if documents is not self._spoken[0]:
            self._spoken = documents, names_of(documents)
        if self._spoken[1] and self._link is None:
            self._open()
        elif not self._spoken[1] and self._link is not None:
            self.close()

    def take(self, learned: Iterable[LearnedName], now: int) -> None:
        """What capture learned: of the host's own resolver, and of all while nobody hears."""
        with self._lock:
            heard = self._link is not None
            mine = [each for each in learned if each.workload is None or not heard]
            news = self._book.add(mine, self._spoken[1], now)
            self._book.write(now, at_once=news)
        if news:
            self._wake()

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        link = self._link
        if link is not None:
            with suppress(OSError):  # reading resets the kernel's count
                data = link.getsockopt(_SOL_PACKET, _STATISTICS, 8)
                self._unheard += struct.unpack("=II", data)[1]
        return (
            ("answers of name servers not heard", self._unheard),
            ("names not kept for rules", self._book.dropped + self._learned.dropped),
        )

    def close(self) -> None:
        """Hear no more; what is known stays known."""
        link, self._link = self._link, None
        if link is not None:
            os.write(self._tell, b"x")
            assert self._thread is not None
            self._thread.join()
            link.close()
            os.close(self._tell)
            os.close(self._told)

    def _open(self) -> None:
        code = ctypes.create_string_buffer(program_bytes(PROGRAM))
        option = struct.pack("HL", len(PROGRAM), ctypes.addressof(code))
        try:
            # What comes before the filter is there is looked at like all else, and left out.
            link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
            link.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, option)
        except OSError as error:
            log.error("answers of name servers can not be heard: %s", error.strerror)
            return
        link.setblocking(False)
        self._told, self._tell = os.pipe()
        self._link = link
        self._thread = threading.Thread(
            target=self._hear, args=(link, self._told), name="replies", daemon=True
        )
        self._thread.start()

    def _hear(self, link: socket.socket, told: int) -> None:
        waiting: deque[Seen] = deque(maxlen=MAX_WAITING)
        poll = select.poll()
        poll.register(link, select.POLLIN)
        poll.register(told, select.POLLIN)
        while not any(descriptor == told for descriptor, _ in poll.poll(50 if waiting else None)):
            now = self._clock()
            known, early = self._known, list(waiting)
            waiting.clear()
            payloads = []
            for seen in (*early, *_received(link, now)):
                if seen.interface in known:
                    payload = payload_of(seen, known[seen.interface])
                    if payload is not None:
                        payloads.append(payload)
                elif now - seen.moment < PATIENCE:
                    waiting.append(seen)
            self._learn(payloads, known, now)

    def _learn(self, payloads: Sequence[Payload], known: Known, now: int) -> None:
        by_address = {a: w for mine in known.values() for w in mine for a in w.addresses}
        self._learned.learn(payloads, Names({}, by_address, frozenset()), now)
        with self._lock:
            news = self._book.add(self._learned.news(), self._spoken[1], now)
            self._book.write(now, at_once=news)
        if news:
            self._wake()


def _received(link: socket.socket, now: int) -> list[Seen]:
    found = []
    for _ in range(MAX_AT_ONCE):
        try:
            packet, (interface, _, kind, *_rest) = link.recvfrom(MOST)
        except OSError:  # no more, or an interface went down
            break
        found.append(Seen(now, interface, kind == _DGRAM_OUTGOING, packet))
    return found


def payload_of(seen: Seen, workloads: Sequence[Workload]) -> Payload | None:
    """A question of these workloads or an answer to one; None for whatever else it may be."""
    try:
        protocol, source, destination, at = _ends(seen.packet)
        ports = struct.unpack_from("!HH", seen.packet, at)
        data = _said(seen.packet, protocol, at)
    except (struct.error, IndexError, ValueError):
        return None
    own, server = (1, 0) if seen.leaving else (0, 1)
    address = (source, destination)[own]
    mine = {a for workload in workloads for a in workload.addresses}
    if ports[server] != PORT or _text(address) not in mine:
        return None
    ends = [(_packed(source), ports[0]), (_packed(destination), ports[1])]
    (low, low_port), (high, high_port) = sorted(ends)
    return Payload(low, high, low_port, high_port, UDP, ends[0] == (low, low_port), 0, 0, data)


def _ends(packet: bytes) -> tuple[int, bytes, bytes, int]:
    """(protocol, source, destination, where the transport header begins) of an IP packet."""
    if packet[0] >> 4 == 4:
        return packet[9], packet[12:16], packet[16:20], (packet[0] & 15) * 4
    return packet[6], packet[8:24], packet[24:40], 40


def _said(packet: bytes, protocol: int, at: int) -> bytes:
    """The message. Over TCP two bytes with its length go before it (RFC 1035, 4.2.2)."""
    if protocol == UDP:
        return packet[at + 8 :]
    data = packet[at + (packet[at + 12] >> 4) * 4 :]
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(data) - 2:
        raise ValueError("no message, or not all of it")
    return data[2:]


def _packed(address: bytes) -> bytes:
    return MAPPED + address if len(address) == 4 else address


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
