"""One file read by several processes: each finds all packets, and judges its share of connections.

Finding the packets is a small part of the work, and what follows needs nothing of other
connections; so the answer is the same, line for line, however many processes there are. Threads
would not help, because most of what is shared out is Python. The processes are forked: what was
imported, opened and named is theirs at once, where spawned ones would import for as long as a
file of 100 MB takes to read, and nothing here has threads that a fork would lose.
"""

from __future__ import annotations

import heapq
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from netwatch.capture.files import packed
from netwatch.capture.files.reading import Reading, read
from netwatch.capture.files.rows import SHARES
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MOST = SHARES
# Below this a second process costs more time than it saves.
WORTH = 32 << 20
# Lines that are handed over at a time: some hundred kilobytes each.
_BATCH = 1 << 10

Encode = Callable[[Flow], Any]
_Lines = Iterator[tuple[int, Any]]


class Part:
    """A regular file, to its present end, with a place of its own in it; the two ways in which
    captures are read tell `moved` how many bytes they took.
    """

    def __init__(self, descriptor: int, size: int, moved: Callable[[int], object]) -> None:
        self._descriptor, self._size, self._moved = descriptor, size, moved
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        data = os.pread(self._descriptor, min(size, self._size - self._at), self._at)
        self._step(len(data))
        return data

    def readinto(self, space: memoryview) -> int:
        """Fill what there is to fill with; returns how many bytes that was."""
        room = space[: self._size - self._at]
        count = os.preadv(self._descriptor, [room], self._at)
        self._step(count)
        return count

    def _step(self, count: int) -> None:
        self._at += count
        self._moved(count)


@dataclass(slots=True)
class Lines:
    """What `encode` made of each flow, in the order of their first packets; to be taken once.

    `losses` are complete when all lines were taken; `damage` is that of the reading.
    """

    damage: str | None
    losses: dict[str, int]
    _own: _Lines
    _others: list[_Worker] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        """Raises NetwatchError if another process did not come to its end."""
        if not self._others:
            return (line for _, line in self._own)
        streams = [self._own, *(each.lines(self.losses) for each in self._others)]
        return (line for _, line in heapq.merge(*streams))


@contextmanager
def lines(
    stream: BinaryIO,
    name: str,
    encode: Encode,
    *,
    jobs: int,
    moved: Callable[[int], object] = lambda count: None,
    worth: int = WORTH,
) -> Iterator[Lines]:
    """Read a capture with at most `jobs` processes, with one if it has less than `worth` bytes.

    Raises NetwatchError as `read` does. At the end of the block no other process is left, however
    it ends; one that lost its parent ends by itself.
    """
    size = _size(stream)
    jobs = min(jobs, MOST) if size >= max(worth, 1) and not _packed(stream) else 1
    shares = [range(number, SHARES, jobs) for number in range(jobs)]
    others: list[_Worker] = []
    try:
        # A large file is read while the other processes read it too.
        others += [_Worker(stream, size, name, encode, mine) for mine in shares[1:]]
        part = cast(BinaryIO, Part(stream.fileno(), size, moved)) if size else stream
        reading = read(part, name, mine=shares[0])
        yield Lines(reading.damage, reading.losses(), _encoded(reading, encode), others)
    finally:
        for each in others:
            each.stop()


def _size(stream: BinaryIO) -> int:
    """Of a regular file; 0: it can only be read from its beginning to its end."""
    found = os.fstat(stream.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _packed(stream: BinaryIO) -> bool:
    """Unpacking takes longer than all else, and can not be shared."""
    return os.pread(stream.fileno(), len(packed.MAGIC), 0) == packed.MAGIC


def _encoded(reading: Reading, encode: Encode) -> _Lines:
    return zip(reading.ordinals(), map(encode, reading.flows()), strict=True)


class _Worker:
    """Another process, and the end of the pipe that its lines come out of."""

    def __init__(
        self, stream: BinaryIO, size: int, name: str, encode: Encode, mine: range
    ) -> None:
        # Takes 10 ms to import, which small files need not pay.
        from multiprocessing import get_context

        fork = get_context("fork")
        self._name = name
        self._pipe, far = fork.Pipe(duplex=False)
        part = Part(stream.fileno(), size, _Orphan(os.getpid()))
        self._process = fork.Process(
            target=_work, args=(self._pipe, far, part, name, encode, mine), daemon=True
        )
        self._process.start()
        far.close()

    def lines(self, losses: dict[str, int]) -> _Lines:
        """What it has to say. Conversations that it lost are added to `losses`: what else is lost,
        every process sees alike.
        """
        while True:
            try:
                said = self._pipe.recv()
            except (EOFError, OSError):
                # Between two messages, or within one.
                self._fail()
            if isinstance(said, int):
                break
            yield from said
        if said:
            losses["conversations"] = losses.get("conversations", 0) + said

    def _fail(self) -> NoReturn:
        self._process.join()
        raise NetwatchError(
            f"a process that read a share of {self._name} ended with {self._process.exitcode}",
            "was there enough memory? --jobs 1 reads with one process",
        )

    def stop(self) -> None:
        """End it, whatever it does, and wait until it is gone."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


@dataclass(frozen=True, slots=True)
class _Orphan:
    """Ends a process whose parent is gone, so that nobody reads on for nobody."""

    parent: int

    def __call__(self, count: int) -> None:
        if os.getppid() != self.parent:
            os._exit(1)


def _work(
    theirs: Connection, pipe: Connection, part: Part, name: str, encode: Encode, mine: range
) -> None:
    # While anybody holds it open, writing waits for a reader.
    theirs.close()
    # ^C reaches every process of the terminal; the parent is the one that says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        reading = read(cast(BinaryIO, part), name, mine=mine)
        found = _encoded(reading, encode)
        while batch := list(islice(found, _BATCH)):
            pipe.send(batch)
        pipe.send(reading.conversations.refused)
    except (NetwatchError, OSError):
        # The parent reads the same, and tells it; or it finds this end closed.
        return
