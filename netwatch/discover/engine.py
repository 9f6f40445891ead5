"""The few calls of the Docker Engine API that we make, each with a time limit, each typed."""

from __future__ import annotations

import errno
import socket

import msgspec
import requests
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream
from urllib3.exceptions import HTTPError

from netwatch.discover.container import Container, EngineNetwork, Image, Inspected

CALL_S = 3.5  # for one answer of the API
FAILURES = (
    DockerException,
    requests.RequestException,
    HTTPError,
    OSError,
    ValueError,  # no JSON
    msgspec.MsgspecError,  # JSON of another shape: something else listens there
)


def connect(path: str) -> APIClient:
    with socket.socket(socket.AF_UNIX) as probe:  # fails with a plain errno, and leaks nothing
        probe.settimeout(CALL_S)
        probe.connect(path)
    engine = APIClient(base_url=f"unix://{path}", version="auto", timeout=CALL_S)
    engine.trust_env = False  # no proxy and no password file stands before a local socket
    return engine


def containers(engine: APIClient, filters: dict[str, list[str]]) -> list[Container]:
    return msgspec.convert(engine.containers(all=True, filters=filters), list[Container])


def network_by_id(engine: APIClient, network: str) -> EngineNetwork | None:
    """The network, or None: it was removed meanwhile."""
    try:
        return msgspec.convert(engine.inspect_network(network), EngineNetwork)
    except NotFound:
        return None


def reason_of(error: Exception) -> str:
    """Why, in words of our own: what an unknown server says is not repeated."""
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
