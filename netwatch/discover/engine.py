"""The few calls of the Docker Engine API that we make, each with a time limit, each typed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import requests
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream
from urllib3.exceptions import HTTPError

from netwatch.discover.container import (
    BRIDGE_NAME,
    Container,
    EngineNetwork,
    Image,
    Inspected,
    bridge_of,
    network_of,
)
from netwatch.discover.links import interface_with

CALL_S = 3.5  # for one answer of the API
CHUNK = 65536  # at most; an event is given on as soon as it is here
IDLE_S = 30.0  # silence on the event stream after which we ask whether the engine lives
FAILURES = (
    DockerException,
    requests.RequestException,
    HTTPError,
    OSError,
    ValueError,  # no JSON
    msgspec.MsgspecError,  # JSON of another shape: something else listens there
)


def connect(path: str) -> APIClient:
    """A client of the engine at that socket; raises one of FAILURES."""
    with socket.socket(socket.AF_UNIX) as probe:  # fails with a plain errno, and leaks nothing
        probe.settimeout(CALL_S)
        probe.connect(path)
    engine = APIClient(base_url=f"unix://{path}", version="auto", timeout=CALL_S)
    engine.trust_env = False  # no proxy and no password file stands before a local socket
    return engine


class EventLines:
    """The lines of `GET /events` from now on; ends when the engine does, or is silent IDLE_S."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._stream = CancellableStream(response.iter_lines(chunk_size=CHUNK), response)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def cut(self) -> None:
        """End the iteration, from any thread."""
        with suppress(OSError, AttributeError):  # it may end by itself at the same moment
            self._stream.close()

    def close(self) -> None:
        """Give the connection back, by the thread that reads."""
        self._response.close()


def event_lines(engine: APIClient) -> EventLines:
    """Open the stream of events of containers and networks."""
    url = f"{engine.base_url}/v{engine.api_version}/events"
    wanted = {"filters": '{"type":["container","network"]}'}
    response = engine.get(url, params=wanted, stream=True, timeout=(CALL_S, IDLE_S))
    if response.status_code != requests.codes.ok:
        response.close()
        raise APIError("the events are refused", response)
    return EventLines(response)


def containers(engine: APIClient, *, identity: str | None = None) -> list[Container]:
    """All containers, or the one with that id; the list waits for no container's lock."""
    filters = {"id": [identity]} if identity else {}
    return msgspec.convert(engine.containers(all=True, filters=filters), list[Container])


def networks(engine: APIClient) -> list[EngineNetwork]:
    """All networks with their members, which only the single answers hold."""
    listed = msgspec.convert(engine.networks(), list[EngineNetwork])
    found = (network_by_id(engine, network.id) for network in listed)
    return [network for network in found if network is not None]


def network_by_id(engine: APIClient, network: str) -> EngineNetwork | None:
    """The network, or None: it was removed meanwhile."""
    try:
        return _with_bridge(msgspec.convert(engine.inspect_network(network), EngineNetwork))
    except NotFound:
        return None


def _with_bridge(network: EngineNetwork) -> EngineNetwork:
    """Podman does not tell its bridge's name: it is the interface with the gateway's address."""
    bridge = bridge_of(network)
    with suppress(OSError):
        if bridge is None or socket.if_nametoindex(bridge):
            return network
    for gateway in network_of(network).gateways:
        found = interface_with(gateway)
        if found is not None:
            options = (network.options or {}) | {BRIDGE_NAME: found}
            return msgspec.structs.replace(network, options=options)
    return network


def image_by_id(engine: APIClient, image: str) -> Image:
    """What the builder wrote; nothing, if it was removed by force or has a strange shape."""
    try:
        return msgspec.convert(engine.inspect_image(image), Image)
    except (NotFound, msgspec.ValidationError):
        return Image()


def pid_of(engine: APIClient, container: str) -> int:
    """Its first process, or 0. Waits for the container's lock, so never ask on the event path."""
    try:
        return msgspec.convert(engine.inspect_container(container), Inspected).state.pid
    except NotFound:
        return 0


def reason_of(error: Exception) -> str:
    """Why it failed, in words of our own: what an unknown server says is not repeated."""
    cause = error.__cause__ if type(error) is DockerException else error  # how the SDK wraps
    if isinstance(cause, APIError):
        return f"it answers with HTTP {cause.status_code}"
    if isinstance(cause, msgspec.MsgspecError | ValueError | TypeError | KeyError):
        return "what listens there is no container engine"
    words = {
        errno.EACCES: "permission denied; run as root",
        errno.ECONNREFUSED: "nobody listens; is dockerd running?",
        errno.ENOENT: "the socket is gone; is dockerd running?",
    }
    if isinstance(error, OSError) and error.errno in words:
        return words[error.errno]
    if "timed out" in str(error):
        return f"no answer within {CALL_S:g} s"
    return "it can not be spoken to"
