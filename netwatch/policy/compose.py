"""Reads a Compose file (compose-spec) as far as the network goes: who runs and who calls whom.

Nothing is merged, included or looked up in an environment: what a file leaves to those is taken by
its default, and `docker compose config` writes a file that leaves nothing. Declared links are:

- `links`, and `depends_on` where both services share a network: to every port that the other
  documents (`expose`, the container's side of `ports`), or to any port where it documents none;
- a value in `environment` that names a service that shares a network: `db:5432`, a URL such as
  `postgres://user@db/orders` (with the port of its scheme), or a name beside a port, as in
  `DB_HOST: db` with `DB_PORT: 5432`.

A published port, a shared network and a health check declare nothing: they say that a call is
possible, or stay inside of the container.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from netwatch.model.errors import InvalidDocument, Replacement
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy import compose_fields as fields
from netwatch.policy.fields import MAX_PROBLEMS, InvalidPolicies, Problems
from netwatch.policy.ir import Place
from netwatch.policy.mending import mended
from netwatch.policy.nodes import Kind, Node, invalid, read_nodes

COMPOSE = "com.docker.compose."
SCHEMES = {
    "amqp": 5672,
    "amqps": 5671,
    "http": 80,
    "https": 443,
    "mongodb": 27017,
    "mysql": 3306,
    "nats": 4222,
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
}
"""The ports that clients take where a URL has none: IANA's, or the program's own default."""
TEMPLATE = "services: {web: {image: nginx}}"
_ENDPOINT = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]{0,30})://(?:[^/@\s]{0,200}@)?)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]{0,100})(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?\Z"
)
_HOST_KEY = re.compile(r"(.*?)_?(HOST|HOSTNAME|ADDR|ADDRESS|SERVER)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Service:
    """One service as the workload that it will be, and where the file says so."""

    name: str
    workload: Workload
    place: Place
    networks: frozenset[str]
    allow: Node | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """`source` says that it calls `destination`; `port` None: every port that this documents."""

    source: str
    destination: str
    port: int | None
    how: str
    place: Place


@dataclass(frozen=True, slots=True)
class Project:
    """One file: its namespace, its services by name, and the links that they declare."""

    name: str
    services: Mapping[str, Service]
    links: tuple[Link, ...]


def read_compose(text: str, file: str, *, folder: str) -> Project:
    """The project that the file describes; `folder` is where it lies, for want of a `name`.

    Raises InvalidPolicies, which holds every problem found.
    """
    try:
        return _project(text, file, folder)
    except InvalidPolicies:
        raise
    except InvalidDocument as error:
        better = mended(error, text, _is_right, template=TEMPLATE, word="services")
        raise InvalidPolicies([better]) from None


def _project(text: str, file: str, folder: str) -> Project:
    """As `read_compose`; what is no YAML raises InvalidDocument alone."""
    roots = read_nodes(text, file, merges=True)
    roots = tuple(root for root in roots if root.kind is not Kind.NULL)
    if not roots:
        right = Replacement(1, 1, 1, 1, f"{TEMPLATE}\n")
        empty = "the Compose file is empty"
        raise InvalidPolicies([invalid(Place(file, 1, 1), empty, f"write {TEMPLATE}", right)])
    if len(roots) > 1:
        message = "the Compose file is more than one document"
        raise InvalidPolicies([invalid(roots[1].place, message, "make two files of it")])
    try:
        return _Reader(roots[0], folder, Problems()).project()
    except InvalidPolicies:
        raise
    except InvalidDocument as error:
        raise InvalidPolicies([error]) from None


def _is_right(text: str) -> bool:
    try:
        _project(text, "", "compose")
    except InvalidDocument:
        return False
    return True


class _Reader:
    """Reads one file; problems are collected, so that one reading tells all of them."""

    def __init__(self, root: Node, folder: str, problems: Problems) -> None:
        self._root = root
        self._folder = folder
        self._problems = problems

    def project(self) -> Project:
        known = (*fields.TOP_KEYS, *_extensions(self._root))
        entries = fields.entries(self._root, "the Compose file", known, needed=("services",))
        if "services" not in entries:
            raise fields.lacks_services(self._root)
        name = fields.project_name(entries.get("name"), self._folder)
        networks = fields.entries(entries["networks"], "networks") if "networks" in entries else {}
        nodes = fields.services(entries["services"])
        services: dict[str, Service] = {}
        links: list[Link] = []
        found: dict[str, dict[str, Node]] = {}
        for key, (place, node) in nodes.items():
            with self._problems.collected():
                known = (*fields.SERVICE_KEYS, *_extensions(node))
                found[key] = fields.entries(
                    node, f"the service {key}", known, example="{image: nginx}"
                )
                services[key] = _service(key, found[key], place, name, tuple(networks))
        for key in services:
            with self._problems.collected():
                links.extend(_declared(key, found[key], nodes, services))
            with self._problems.collected():
                links.extend(_referred(key, found[key].get("environment"), services))
        self._problems.found[MAX_PROBLEMS:] = []
        self._problems.raise_any()
        return Project(name, services, tuple(dict.fromkeys(links)))


def _extensions(node: Node) -> Iterator[str]:
    return (key.text for key, _ in node.entries if key.text.startswith("x-"))


def _service(
    name: str, entries: Mapping[str, Node], place: Place, project: str, networks: Iterable[str]
) -> Service:
    own = fields.pairs(entries.get("labels"), "labels")
    mode = fields.network_mode(entries.get("network_mode"))
    joined = frozenset[str]()
    if mode is None:
        joined = frozenset(fields.joined(entries.get("networks"), tuple(networks)))
    labels = {key: fields.resolved(value.text) for key, value in own.items()}
    labels |= {COMPOSE + "project": project, COMPOSE + "service": name}
    ports = {
        *(DocumentedPort(n, p, "compose") for n, p in fields.exposed(entries.get("expose"))),
        *(DocumentedPort(n, p, "published") for n, p in fields.published(entries.get("ports"))),
    }
    container = entries.get("container_name")
    workload = Workload(
        host="compose",
        namespace=project,
        name=fields.resolved(container.text) if container else f"{project}-{name}-1",
        runtime="compose",
        labels=tuple(
            Label(k, v, "compose" if k.startswith(COMPOSE) else "runtime")
            for k, v in sorted(labels.items())
        ),
        ports=tuple(sorted(ports, key=lambda port: (port.number, port.protocol, port.source))),
        networks=tuple(sorted(joined)),
        project=project,
        service=name,
        image=entries["image"].text if "image" in entries else None,
        host_network=mode == "host",
    )
    return Service(name, workload, place, joined, own.get("netwatch.allow"))


def _declared(
    name: str,
    entries: Mapping[str, Node],
    nodes: Mapping[str, object],
    services: Mapping[str, Service],
) -> Iterator[Link]:
    """What `links` and `depends_on` say; they may name services of this file only."""
    for what in ("links", "depends_on"):
        for node in fields.names(entries.get(what), what):
            other = node.text.partition(":")[0] if what == "links" else node.text
            if other not in nodes or other == name:
                raise fields.unknown_service(
                    node, other, what, [key for key in nodes if key != name]
                )
            if what == "links" or _meet(services, name, other):
                yield Link(name, other, None, what, node.place)


def _meet(services: Mapping[str, Service], one: str, other: str) -> bool:
    return (
        one != other
        and one in services
        and other in services
        and bool(services[one].networks & services[other].networks)
    )


def _referred(name: str, node: Node | None, services: Mapping[str, Service]) -> Iterator[Link]:
    """What values of `environment` say."""
    variables = fields.pairs(node, "environment")
    values = {key: fields.resolved(value.text) for key, value in variables.items()}
    for key, value in values.items():
        for part in value.split(",")[:100]:
            match = _ENDPOINT.match(part.strip())
            if match is None or not _meet(services, name, match["host"]):
                continue
            port = _port(match["port"])
            if port is None and match["scheme"]:
                port = SCHEMES.get(match["scheme"].partition("+")[0])
            beside = _HOST_KEY.match(key)
            if port is None and beside:
                port = _port(values.get(f"{beside[1]}_PORT", values.get(f"{beside[1]}PORT")))
            elif port is None and not match["scheme"]:
                continue  # a word that happens to be a service's name is no address
            yield Link(name, match["host"], port, f"environment {key}", variables[key].place)


def _port(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        return None
    return int(text)
