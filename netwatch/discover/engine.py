"""The few calls of the Docker Engine API that we make, each with a time limit, each typed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any

import msgspec
import requests
from docker import APIClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import APIError, DockerException, NotFound
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection
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


class _Connection(UnixHTTPConnection):  # type: ignore[misc]
    """The SDK's, but closes its socket where nobody listens: an engine may be away for hours."""

    def connect(self) -> None:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.settimeout(self.timeout)
            link.connect(self.unix_socket)
        except OSError:
            link.close()
            raise
        self.sock = link


class _Transport(UnixHTTPAdapter):  # type: ignore[misc]
    """The SDK's way to a Unix socket, over connections of the kind above."""

    def get_connection(self, url: str, proxies: Any = None) -> Any:
        pool = super().get_connection(url, proxies)
        pool._new_conn = partial(_Connection, pool.base_url, pool.socket_path, pool.timeout)
        return pool


class _Version(msgspec.Struct, rename="pascal"):
    """What `GET /version` says of the newest API that the engine speaks."""

    api_version: str


def _client(path: str, version: str, *, timeout_s: float) -> APIClient:
    engine = APIClient(base_url=f"unix://{path}", version=version, timeout=timeout_s)
    engine.trust_env = False  # no proxy and no password file stands before a local socket
    engine.mount("http+docker://", _Transport(path, timeout=timeout_s))
    return engine


def connect(path: str, *, timeout_s: float = CALL_S) -> APIClient:
    """A client of the engine at that socket, in the engine's version; raises one of FAILURES."""
    with closing(_client(path, MINIMUM_DOCKER_API_VERSION, timeout_s=timeout_s)) as asked:
        spoken = msgspec.convert(asked.version(api_version=False), _Version)
    return _client(path, spoken.api_version, timeout_s=timeout_s)


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


def inspected(engine: APIClient, container: str) -> Inspected:
    """Its first process and its network's mode; nothing of both where it was removed meanwhile.

    Waits for the container's lock, so never ask on the event path.
    """
    try:
        return msgspec.convert(engine.inspect_container(container), Inspected)
    except NotFound:
        return Inspected()


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
    refused = next((cause.errno for cause in _causes(error) if cause.errno in words), None)
    if refused is not None:
        return words[refused]
    if "timed out" in str(error):
        return f"no answer within {CALL_S:g} s"
    return "it can not be spoken to"


def _causes(error: BaseException | None) -> Iterator[OSError]:
    """The system's own errors under those of the libraries, outermost first."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__context__
