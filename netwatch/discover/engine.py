"""The few calls of the Docker Engine API that we make, each with a time limit, each typed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
from docker import APIClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import APIError, DockerException
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
OK, GONE = 200, 404
T = TypeVar("T")
FAILURES = (
    DockerException,
    requests.RequestException,
    HTTPError,
    HTTPException,
    OSError,
    ValueError,  # no JSON
    msgspec.MsgspecError,  # JSON of another shape: something else listens there
)


class _Connection(UnixHTTPConnection):  # type: ignore[misc]
    """The SDK's, but closes its socket where nobody listens: an engine may be away for hours."""

    def connect(self) -> None:
        self.sock = _socket_to(self.unix_socket, self.timeout)


def _socket_to(path: str, timeout_s: float) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(timeout_s)
        link.connect(path)
    except OSError:
        link.close()
        raise
    return link


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


class Answered(DockerException):  # type: ignore[misc]
    """The engine answered, with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class _Line(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CALL_S)
        self._path = path

    def connect(self) -> None:
        self.sock = _socket_to(self._path, CALL_S)


class Asking:
    """Asks the engine by one connection that stays open, for one thread.

    The SDK computes for a millisecond at each answer, this for a fifth of it, and a container's
    start waits for them.
    """

    def __init__(self, path: str, version: str) -> None:
        self._line = _Line(path)
        self._version = version

    def __call__(self, path: str, shape: type[T], query: dict[str, str] | None = None) -> T:
        """What `GET path` says; raises Answered, or another one of FAILURES."""
        target = f"/v{self._version}{path}?{urlencode(query or {})}"
        for fresh in (self._line.sock is None, True):
            try:
                self._line.request("GET", target)
                answer = self._line.getresponse()
                body = answer.read()
                break
            except (OSError, HTTPException) as error:
                self._line.close()
                if fresh or not isinstance(error, ConnectionError):
                    raise  # else the engine closed what lay idle
        if answer.status != OK:
            raise Answered(answer.status)
        return msgspec.json.decode(body, type=shape)

    def close(self) -> None:
        """Give the connection back."""
        self._line.close()


def asking(path: str) -> Asking:
    """A connection of its own, in the engine's version; raises one of FAILURES."""
    with closing(connect(path)) as engine:
        return Asking(path, engine.api_version)


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


def containers(ask: Asking, *, identity: str | None = None) -> list[Container]:
    """All containers, or the one with that id; the list waits for no container's lock."""
    filters = {"id": [identity]} if identity else {}
    query = {"all": "1", "filters": msgspec.json.encode(filters).decode()}
    return ask("/containers/json", list[Container], query)


def networks(ask: Asking) -> list[EngineNetwork]:
    """All networks with their members, which only the single answers hold."""
    listed = ask("/networks", list[EngineNetwork])
    found = (network_by_id(ask, network.id) for network in listed)
    return [network for network in found if network is not None]


def network_by_id(ask: Asking, network: str) -> EngineNetwork | None:
    """The network, or None: it was removed meanwhile."""
    try:
        return _with_bridge(ask(f"/networks/{quote(network)}", EngineNetwork))
    except Answered as error:
        if error.status == GONE:
            return None
        raise


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


def image_by_id(ask: Asking, image: str) -> Image:
    """What the builder wrote; nothing, if it was removed by force or has a strange shape."""
    try:
        return ask(f"/images/{quote(image)}/json", Image)
    except msgspec.ValidationError:
        return Image()
    except Answered as error:
        if error.status == GONE:
            return Image()
        raise


def inspected(ask: Asking, container: str) -> Inspected:
    """Its first process and its network's mode; nothing of both where it was removed meanwhile.

    Waits for the container's lock, so never ask on the event path.
    """
    try:
        return ask(f"/containers/{quote(container)}/json", Inspected)
    except Answered as error:
        if error.status == GONE:
            return Inspected()
        raise


def reason_of(error: Exception) -> str:
    """Why it failed, in words of our own: what an unknown server says is not repeated."""
    cause = error.__cause__ if type(error) is DockerException else error  # how the SDK wraps
    if isinstance(cause, Answered):
        return f"it answers with HTTP {cause.status}"
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
