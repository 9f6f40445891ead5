"""The eBPF sensor: attaches the program, drains its ring every 30 ms, reads its map when asked."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from netwatch.capture.attach import (
    EGRESS,
    GONE,
    INGRESS,
    Attachment,
    attach_clsact,
    attach_tcx,
    remove_leftovers,
)
from netwatch.capture.conntrack import Translations
from netwatch.capture.flowmap import FlowMap
from netwatch.capture.libbpf import BpfFailed, Object, Ring, update
from netwatch.capture.sensor import Batch, Payload
from netwatch.capture.torn import Torn
from netwatch.kernel.namespaces import inside
from netwatch.model.report import Capture

ENTRIES = 131_072  # connections in the kernel at once: twice what 10,000 a second leave, 41 MB
RING_BYTES = 8 * 1024 * 1024
LOOK_S = 5.0  # seconds between two looks whether programs are attached still: 1 us (tcx) or 40 us
DRAIN_S = 0.03  # a timer costs a fifth of waking up for every piece
QUEUE_BYTES = 64 * 1024 * 1024  # payload that waits for read()
# New connections that are looked at one by one, 40 us each: a burst of so many, in the long run
# so many in about a second, and beyond that so many of every edge. The rest is told as sums.
BURST, RATE, EACH = 8_000, 300, 4
STEP_NS = 1_000_000  # a clock that differs by more was set; less is measuring noise
LOOPBACK = 1  # its index, in every network namespace
ATTACH = {"tcx": attach_tcx, "clsact": attach_clsact}

_PIECE = struct.Struct("<16s16sHHB3xQIHBx")  # struct piece of flow.bpf.c, before its data
_KEY = struct.Struct("<16s16sHHB3x")
_BUDGET = struct.Struct("<QIIII")  # struct budget


class EbpfSensor:
    """Counts in the kernel. One per network namespace."""

    def __init__(
        self,
        method: str,
        *,
        namespace: Path | None = None,
        entries: int = ENTRIES,
        ring_bytes: int = RING_BYTES,
        burst: int = BURST,
        rate: int = RATE,
        each: int = EACH,
        look_s: float = LOOK_S,
        problem: str | None = None,
    ) -> None:
        """`method` is tcx or clsact. The first bytes are had of as many new connections at once
        as `burst` says, of `rate` in about a second, and of `each` of every edge beyond that.
        Raises BpfFailed where this kernel or user can not do it.
        """
        self._method, self._namespace, self._problem = method, namespace, problem
        self._attached: dict[int, tuple[str, list[Attachment]]] = {}
        self._torn = Torn(look_s)
        self._refused: dict[str, str] = {}
        self._queue: list[bytes] = []
        self._queued = 0
        self._overflowed = 0
        self._offset = 0
        self._draining = threading.Lock()
        self._closing = threading.Event()
        with as_file(files("netwatch.capture").joinpath("flow.bpf.o")) as file:
            self._object = Object(file, {"flows": entries, "pieces": ring_bytes})
        try:
            self._programs = (
                (INGRESS, self._object.program("netwatch_in")),
                (EGRESS, self._object.program("netwatch_out")),
            )
            self._classified = self._object.map("classified")
            most = max(burst, rate)
            budget = _BUDGET.pack(0, most, rate, most, each)
            update(self._object.map("budget"), bytes(4), budget)
            self.flows = FlowMap(
                self._object.map("flows"), self._object.map("statistics"), entries
            )
            inside(namespace, self._prepare)
            self._ring = Ring(self._object.map("pieces"), self._take)
        except BpfFailed:
            self._object.close()
            raise
        self._translations = Translations(namespace)
        self._timer = threading.Thread(target=self._drain_always, name="capture", daemon=True)
        self._timer.start()

    def watch(self, workloads: Sequence[int], uplinks: Sequence[int]) -> None:
        """Attach to exactly these interface indexes; what vanished meanwhile is not an error."""
        inside(self._namespace, lambda: self._attach_exactly({*workloads, *uplinks}))

    def read(self) -> Batch:
        """What was seen until now. Connections that ended or fell idle are forgotten after."""
        monotonic = time.monotonic_ns()
        offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - monotonic
        if abs(offset - self._offset) > STEP_NS:
            self._offset = offset
        entries = self.flows.read(monotonic, self._offset)
        self._drain()
        with self._draining:
            pieces, self._queue, self._queued = self._queue, [], 0
        translations = self._translations.take()
        losses = {**self.flows.losses(), "queue-full": self._overflowed}
        losses |= self._translations.losses()
        losses["capture detached"] = self._torn.count
        return Batch(
            entries,
            [_payload(piece) for piece in pieces],
            translations,
            tuple(sorted(losses.items())),
            moment=monotonic,
            clock=self._offset,
        )

    def classified(self, payload: Payload) -> None:
        """No more payload of this connection is needed."""
        key = _KEY.pack(
            payload.low, payload.high, payload.low_port, payload.high_port, payload.protocol
        )
        update(self._classified, key, payload.connection.to_bytes(8, "little"))

    def state(self) -> Capture:
        """How it sees, and what it is attached to; `problem` names interfaces that refused."""
        names = tuple(sorted(name for name, _ in self._attached.values()))
        refused = (f"{name}: {why}" for name, why in sorted(self._refused.items()))
        torn = self._torn.said(time.monotonic())
        problems = [text for text in (self._problem, *refused, torn) if text]
        return Capture(self._method, names, "; ".join(problems) or None)

    def close(self) -> None:
        """Detach from everything and free the maps."""
        self._closing.set()
        self._timer.join()
        inside(self._namespace, lambda: self._attach_exactly(set()))
        self._translations.close()
        self._ring.close()
        self._object.close()

    def _prepare(self) -> None:
        """Clear what a killed run left, then see that attaching works: `netwatch_out` counts
        nothing on an ingress, so nothing is seen by it."""
        remove_leftovers()
        ATTACH[self._method](self._programs[1][1], LOOPBACK, INGRESS).detach()

    def _attach_exactly(self, wanted: set[int]) -> None:
        there = {index: name for index, name in socket.if_nameindex() if index in wanted}
        self._refused = {}
        for index in self._attached.keys() - there.keys():
            _detach_all(self._attached.pop(index)[1])
        for index in self._torn.look(self._attached, time.monotonic()):  # attached again below
            _detach_all(self._attached.pop(index)[1])
        for index in there.keys() - self._attached.keys():
            attachments: list[Attachment] = []
            try:
                for point, program in self._programs:
                    attachments.append(ATTACH[self._method](program, index, point))
            except BpfFailed as failure:
                _detach_all(attachments)
                if failure.number not in GONE:
                    self._refused[there[index]] = failure.message
            else:
                self._attached[index] = there[index], attachments

    def _take(self, piece: bytes) -> None:
        if self._queued + len(piece) > QUEUE_BYTES:
            self._overflowed += 1
            return
        self._queued += len(piece)
        self._queue.append(piece)

    def _drain(self) -> None:
        with self._draining:
            self._ring.consume()
            self._translations.drain()

    def _drain_always(self) -> None:
        while not self._closing.is_set():
            time.sleep(DRAIN_S)  # Event.wait costs twice as much
            self._drain()


def _detach_all(attachments: list[Attachment]) -> None:
    for attachment in reversed(attachments):
        attachment.detach()


def _payload(piece: bytes) -> Payload:
    low, high, low_port, high_port, protocol, connection, offset, length, direction = (
        _PIECE.unpack_from(piece)
    )
    data = piece[_PIECE.size : _PIECE.size + length]
    return Payload(
        low, high, low_port, high_port, protocol, direction == 0, offset, connection, data
    )
