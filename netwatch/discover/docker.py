"""Knows the containers of one Docker (or Podman) by its Engine API, before their first packet.

One thread opens the event stream, then reads everything, then follows the events; when the stream
ends or falls silent it starts over, so a lost event is repaired within ANEW_S. On `network
connect` the address comes from `GET /networks/{id}`: the container's process does not exist yet,
and `/containers/{id}/json` would wait until it does. Process ids, which only that call gives, are
read by a second thread, so that a container with a stuck lock delays nobody; a third one hears
from the kernel when the link is plugged in.

Containers that share another's network (`--network container:X`) have its addresses, networks and
interfaces: on the wire they can not be told apart. They stand behind their owner in the snapshot.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from netwatch.discover.census import Census
from netwatch.discover.container import LIVE, Container, Event, network_of
from netwatch.discover.engine import (
    CALL_S,
    FAILURES,
    Asking,
    EventLines,
    asking,
    connect,
    containers,
    event_lines,
    image_by_id,
    inspected,
    network_by_id,
    networks,
    reason_of,
)
from netwatch.discover.links import (
    await_change,
    default_uplinks,
    ends_of,
    host_addresses,
    link_changes,
)
from netwatch.model.snapshot import Snapshot
from netwatch.settings import Settings

FIRST_S, LOCATED_S = 4.0, 0.9  # `start` waits so long for the first reading, and for process ids
ANEW_S = 60.0  # everything is read again this often
COMPLETE = ""  # stands in the queue of process ids behind those of one reading
LOOK_S = 0.5  # between two looks of the thread of links at whether we close
RETRY_S, RETRY_MOST_S = 0.02, 2.0


class DockerSource:
    """A `Source` for the containers of the engine at the socket `path`, under the name `host`.

    `engine` is what people call it: Docker or Podman.
    """

    def __init__(
        self, path: str, host: str, *, uplinks: tuple[str, ...] = (), engine: str = "Docker"
    ) -> None:
        self._path = path
        self._host = host
        self._uplinks = uplinks
        self._out = uplinks
        self._addresses: tuple[str, ...] = ()
        self._engine = engine
        self._census = Census(runtime=engine.lower())
        self._lock = threading.Lock()  # guards the census and the order of snapshots
        self._problem: str | None = f"{engine} does not answer at {path}: not yet asked"
        self._snapshot = Snapshot(host, problem=self._problem)
        self._changed: Callable[[], None] = lambda: None
        self._closing = threading.Event()
        self._known = threading.Event()  # the first reading is complete, or failed
        self._located = threading.Event()  # the process ids of that reading too
        self._lines: EventLines | None = None
        self._unlocated: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = (
            threading.Thread(target=self._watch, name="docker events", daemon=True),
            threading.Thread(target=self._locate, name="docker process ids", daemon=True),
            threading.Thread(target=self._listen, name="docker links", daemon=True),
        )

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch; returns within 5 s, with everything read or with a problem."""
        self._changed = changed
        for thread in self._threads:
            thread.start()
        if not self._known.wait(FIRST_S):
            self._fail("no answer in time")
        self._located.wait(LOCATED_S)

    def snapshot(self) -> Snapshot:
        """What is known now; while the engine does not answer, what was known before."""
        return self._snapshot

    def close(self) -> None:
        """Stop watching; a call under way ends by its own time limit."""
        self._closing.set()
        self._unlocated.put(None)
        if self._lines is not None:
            self._lines.cut()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(CALL_S + 1)

    # the event thread

    def _watch(self) -> None:
        wait_s = RETRY_S
        while not self._closing.is_set():
            try:
                with (
                    closing(connect(self._path)) as engine,
                    closing(event_lines(engine)) as lines,
                    closing(Asking(self._path, engine.api_version)) as ask,
                ):
                    self._lines = lines
                    self._follow(ask, lines)
                wait_s = RETRY_S
            except FAILURES as error:
                self._fail(reason_of(error))
                wait_s = min(2 * wait_s, RETRY_MOST_S)
            self._closing.wait(wait_s)

    def _follow(self, ask: Asking, lines: EventLines) -> None:
        """One life of the event stream: opened first, so that nothing falls in between."""
        if self._closing.is_set():
            return
        until = time.monotonic() + ANEW_S
        self._read_all(ask)
        for line in lines:
            self._apply(ask, msgspec.json.decode(line, type=Event))
            if time.monotonic() > until:  # dockerd drops events of a slow reader without a word
                return

    def _read_all(self, ask: Asking) -> None:
        listed = containers(ask)
        plans = networks(ask)
        for container in listed:
            self._read_image(ask, container)
        with self._lock:
            self._census.containers = {container.id: container for container in listed}
            self._census.networks = {network.id: network for network in plans}
            self._census.ends.clear()
            if self._problem is not None:  # who knows how often they were started since
                self._census.pids.clear()
            self._census.forget_unused()
            running = [c.id for c in listed if c.state in LIVE and c.id not in self._census.pids]
        self._publish_host()
        self._known.set()
        for identity in running:
            self._unlocated.put(identity)
        self._unlocated.put(COMPLETE)

    def _apply(self, ask: Asking, event: Event) -> None:
        attributes = event.actor.attributes or {}
        match event.type, event.action:
            case "container", "create" | "rename" | "start":
                self._read_container(ask, event.actor.id, started=event.action == "start")
            case "container", "die":
                self._ended(event.actor.id, removed=False)
            case "container", "destroy":
                self._ended(event.actor.id, removed=True)
            case "network", "connect":
                self._connected(ask, attributes.get("container", ""), event.actor.id)
            case "network", "disconnect":
                with self._lock:
                    self._census.unplug(attributes.get("container", ""), event.actor.id)
                self._publish()
            case "network", "create" | "destroy" | "remove":
                self._read_network(ask, event.actor.id)
                self._publish_host()

    def _connected(self, ask: Asking, container: str, network: str) -> None:
        if container not in self._census.containers:
            self._read_container(ask, container, started=False)
        with self._lock:
            self._census.unplug(container, network)  # whatever was there before
        self._read_network(ask, network)
        self._publish(seek=False)  # rules wait for the address
        self._publish()

    def _ended(self, container: str, *, removed: bool) -> None:
        with self._lock:
            self._census.ended(container)
            if removed:
                self._census.containers.pop(container, None)
        self._publish()

    def _read_container(self, ask: Asking, container: str, *, started: bool) -> None:
        for found in containers(ask, identity=container):
            self._read_image(ask, found)
            with self._lock:
                self._census.containers[found.id] = found
            if started:
                for network in self._census.unread(found):
                    self._read_network(ask, network)
                self._unlocated.put(found.id)
        self._publish()

    def _read_image(self, ask: Asking, container: Container) -> None:
        """An image never changes under its id, so each is read once."""
        if container.image_id not in self._census.images:
            image = image_by_id(ask, container.image_id)
            with self._lock:
                self._census.images[container.image_id] = image

    def _read_network(self, ask: Asking, network: str) -> None:
        found = network_by_id(ask, network)
        with self._lock:
            if found is None:
                self._census.networks.pop(network, None)
            else:
                self._census.networks[found.id] = found

    # the thread of process ids

    def _locate(self) -> None:
        while (container := self._unlocated.get()) is not None:
            # the event thread meets and reports the same trouble, and then reads everything anew
            with suppress(*FAILURES), closing(asking(self._path)) as ask:
                while container:
                    self._read_pid(ask, container)
                    container = self._unlocated.get()
            if container is None:
                return
            self._located.set()

    def _read_pid(self, ask: Asking, container: str) -> None:
        found = inspected(ask, container)
        with self._lock:
            known = self._census.containers.get(container)
            if not found.state.pid or known is None or known.state not in LIVE:
                return
            self._census.pids[container] = found.state.pid
            self._census.modes[container] = found.host_config.network_mode
        self._publish()

    # the thread of links

    def _listen(self) -> None:
        """The engine plugs a link in after it told the address, and before the first packet."""
        with link_changes() as changes:
            while not self._closing.is_set():
                if await_change(changes, LOOK_S) and self._unfound():
                    self._publish()

    # what all of them may do

    def _unfound(self) -> bool:
        with self._lock:
            return bool(self._census.plugs() - self._census.ends.keys())

    def _publish_host(self) -> None:
        with suppress(OSError):  # a kernel that says nothing of its links leaves us the old ones
            self._addresses = host_addresses()
            self._out = self._uplinks or default_uplinks()
        self._problem = None
        self._publish()

    def _fail(self, reason: str) -> None:
        if not self._closing.is_set():
            self._problem = f"{self._engine} does not answer at {self._path}: {reason}"
            self._publish()
            self._known.set()
            self._located.set()

    def _publish(self, *, seek: bool = True) -> None:
        """Tell what is known; `seek`: the links of those who have none yet, too."""
        with self._lock:
            census = self._census
            missing = census.plugs() - census.ends.keys() if seek else None
            with suppress(OSError):
                census.ends.update(ends_of(missing) if missing else {})
            snapshot = Snapshot(
                self._host,
                workloads=census.workloads(self._host),
                networks=tuple(map(network_of, census.networks.values())),
                addresses=self._addresses,
                uplinks=self._out,
                problem=self._problem,
            )
            different = snapshot != self._snapshot
            self._snapshot = snapshot
        if different:
            self._changed()


def find_docker(settings: Settings) -> DockerSource | None:
    """The source for the engine of the settings, or None where its socket does not exist."""
    return _find(settings, settings.docker_socket, "Docker")


def find_podman(settings: Settings) -> DockerSource | None:
    """The same for Podman's Docker-compatible socket, unless it is the one that Docker's name
    leads to, as Debian's podman-docker arranges it.
    """
    docker, podman = Path(settings.docker_socket), Path(settings.podman_socket)
    with suppress(OSError):
        if docker.samefile(podman):
            return None
    return _find(settings, settings.podman_socket, "Podman")


def _find(settings: Settings, socket: str, engine: str) -> DockerSource | None:
    if not Path(socket).exists():
        return None
    uplinks = tuple(name.strip() for name in settings.uplinks.split(",") if name.strip())
    return DockerSource(socket, settings.host, uplinks=uplinks, engine=engine)
