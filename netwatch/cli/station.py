"""Puts the two halves together: a controller with its listeners, and an agent with its sources.

The composition root: here, and only here, clocks, sockets and kernels are chosen and handed in.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netwatch.agent.attribution import Attribution
from netwatch.agent.breaches import Breaches
from netwatch.agent.conditions import Conditions
from netwatch.agent.denials import Ear
from netwatch.agent.handout import Handout
from netwatch.agent.learned import LearnedNames
from netwatch.agent.loop import Agent, Uplink
from netwatch.agent.namebook import NameBook
from netwatch.agent.processes import Processes
from netwatch.agent.proof import Prover
from netwatch.agent.replies import Replies
from netwatch.agent.uplink import Direct
from netwatch.agent.watchman import Watchman
from netwatch.agent.ways import Ways
from netwatch.api.agents import MAX_REPORT, create_agents_app
from netwatch.api.app import create_app
from netwatch.api.certificate import identity
from netwatch.api.server import AGENT_THREADS, Listener, listen_on, names_for
from netwatch.capture.open import open_sensor
from netwatch.controller.service import Controller
from netwatch.discover.links import name_of_link
from netwatch.discover.sources import find_source
from netwatch.discover.tunnels import by_routes, read_links
from netwatch.enforce import named, probed
from netwatch.enforce.probed import Record
from netwatch.kernel.namespaces import inside
from netwatch.kernel.notify import Pulse
from netwatch.model.errors import NetwatchError
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.settings import Settings

TICK_S = 1.0
log = logging.getLogger("netwatch.controller")


@dataclass(frozen=True, slots=True)
class Doors:
    """Where agents are let in: an address of a network namespace (None: this one)."""

    listen: str
    namespace: Path | None = None


class Station:
    """A running controller: stores, pages and API, and, with `doors`, a listener for agents.

    `url` and `token` are written to the state folder (0600), where the reading verbs find them.
    """

    def __init__(self, settings: Settings, *, doors: Doors | None = None) -> None:
        bound = listen_on(settings.listen)  # first: a taken port must leave nothing behind
        try:
            folder = state_folder(settings)
            self.controller = Controller(folder, settings=settings, clock=time.time_ns)
        except BaseException:
            bound.close()
            raise
        stopping = threading.Event()
        app = create_app(
            self.controller, clock=time.monotonic_ns, names=names_for(bound), stopping=stopping
        )
        self._listeners = [Listener(app, bound, stopping=stopping).start()]
        self.url = self._listeners[0].url
        self.token = self.controller.person_token()
        self.pin = ""
        self.agents_url = ""
        if doors is not None:
            self._open(doors, folder)
        self._url_file = folder / "url"
        write_private(self._url_file, self.url + "\n")
        self.pulse = Pulse()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="controller")
        self._thread.start()

    def close(self) -> None:
        """Stop listening, then the detectors, then the stores."""
        for listener in self._listeners:
            listener.stop()
        self._stopping.set()
        self._thread.join()
        self.controller.close()
        self._url_file.unlink(missing_ok=True)

    def agent(self, settings: Settings) -> Agent:
        """An agent of this host that reports straight into this controller."""
        handout = Handout(state_folder(settings), enforce=settings.enforce, drain=settings.drain)

        direct = Direct(self.controller.ingest)

        def uplink(report: Report) -> None:
            direct(report)
            handout.take(self.controller.policies.wanted(handout.holds()))

        return open_agent(settings, uplink, handout, direct.losses)

    def _open(self, doors: Doors, folder: Path) -> None:
        own = identity(folder, now=time.time_ns())
        bound = inside(doors.namespace, lambda: listen_on(doors.listen))
        listener = Listener(
            create_agents_app(self.controller),
            bound,
            identity=own,
            threads=AGENT_THREADS,
            max_body=MAX_REPORT,
        )
        self._listeners.append(listener.start())
        self.pin, self.agents_url = own.pin, listener.url

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_S):
            try:
                self.controller.tick(time.time_ns())
            except NetwatchError as error:  # a full disk, say: it may have room again
                log.error("the controller could not do its round: %s", error)
            self.pulse.beat()


def open_agent(
    settings: Settings, uplink: Uplink, handout: Handout, losses: Losses = lambda: ()
) -> Agent:
    """An agent of this network namespace, started: it has found its workloads and attached."""
    source = find_source(settings)
    sensor = open_sensor(
        method=settings.capture, entries=settings.capture_entries, rate=settings.judge_rate
    )
    watchman = Watchman(handout)
    record = Record(probed.place())
    name = source.snapshot().host
    prover = Prover(
        watchman.documents, state_folder(settings), name, record, canary_s=settings.canary
    )
    book = NameBook(named.place(), named.read(), grace=round(settings.name_grace * SECOND))
    conditions = Conditions(Replies(book, watchman.documents, time.time_ns), Breaches())
    agent = Agent(
        source,
        sensor,
        uplink,
        watchman,
        interval_s=settings.interval,
        more_losses=losses,
        ear=Ear(watchman.documents, record),
        attribution=Attribution(Processes(), LearnedNames(), own=os.getpid()),
        ways=Ways(read_links, by_routes, name_of_link),
        prover=prover,
        closing=watchman.close,
        conditions=conditions,
        at_once=watchman.at_once,
    )
    try:
        watchman.listen(agent.wake)
        conditions.listen(agent.wake)
        agent.start(time.time_ns())
    except BaseException:
        agent.close()
        raise
    return agent


Losses = Callable[[], tuple[tuple[str, int], ...]]


def state_folder(settings: Settings) -> Path:
    """The state folder, made with mode 0700; raises NetwatchError where it can not be."""
    folder = Path(settings.state)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NetwatchError(
            f"the state folder {folder} can not be made: {error.strerror}",
            "run as root, or choose another: --state DIR",
        ) from None
    return folder


def write_private(file: Path, text: str) -> None:
    """A file that only its owner reads, whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    part.replace(file)
