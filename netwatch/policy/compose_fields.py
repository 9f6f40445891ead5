"""Reads the fields of a Compose file that matter for the network, each with what would be right.

The forms are those of the compose-spec (github.com/compose-spec/compose-spec): short and long
ports, lists and mappings of pairs, `${NAME:-default}`, `<<`. As in `fields`, a mistake is raised
at its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from netwatch.model.errors import InvalidDocument
from netwatch.policy import fields
from netwatch.policy.edits import instead, plain
from netwatch.policy.ir import Place
from netwatch.policy.nodes import Kind, Node, invalid
from netwatch.policy.port_fields import LAST_PORT, near_port

PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
TOP_KEYS = ("name", "services", "networks", "volumes", "configs", "secrets", "models", "include",
            "version")  # fmt: skip
# fmt: off
SERVICE_KEYS = (
    "annotations", "attach", "build", "blkio_config", "cap_add", "cap_drop", "cgroup",
    "cgroup_parent", "command", "configs", "container_name", "cpu_count", "cpu_percent",
    "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpus", "cpuset",
    "credential_spec", "depends_on", "deploy", "develop", "device_cgroup_rules", "devices",
    "dns", "dns_opt", "dns_search", "domainname", "driver_opts", "entrypoint", "env_file",
    "environment", "expose", "extends", "external_links", "extra_hosts", "gpus", "group_add",
    "healthcheck", "hostname", "image", "init", "ipc", "isolation", "label_file", "labels",
    "links", "logging", "mac_address", "mem_limit", "mem_reservation", "mem_swappiness",
    "memswap_limit", "models", "network_mode", "networks", "oom_kill_disable", "oom_score_adj",
    "pid", "pids_limit", "platform", "ports", "post_start", "pre_stop", "privileged", "profiles",
    "provider", "pull_policy", "read_only", "restart", "runtime", "scale", "secrets",
    "security_opt", "shm_size", "stdin_open", "stop_grace_period", "stop_signal", "storage_opt",
    "sysctls", "tmpfs", "tty", "ulimits", "use_api_socket", "user", "userns_mode", "uts",
    "volumes", "volumes_from", "working_dir",
)
# fmt: on
MAX_RANGE = 1000
"""Ports in one range; a service that opens more than that names none of them."""

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}]*))?[^{}]*\}|[A-Za-z_]\w*)")
_PORT = re.compile(
    r"(?:(?:(?P<address>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?P<published>[0-9]*(?:-[0-9]+)?):)?"
    r"(?P<first>[0-9]+)(?:-(?P<last>[0-9]+))?(?:/(?P<protocol>[a-z]+))?\Z"
)
_PROTOCOLS = ("tcp", "udp", "sctp")


def resolved(text: str) -> str:
    """The text with `${NAME:-default}` as its default, and `$$` as a dollar."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return match[2] if match[2] is not None else match[0]

    return _VARIABLE.sub(value, text)


def entries(
    node: Node,
    what: str,
    known: Sequence[str] | None = None,
    *,
    needed: Sequence[str] = (),
    example: str = "{}",
) -> dict[str, Node]:
    """The entries of a mapping, those of its merge keys included; its own win."""
    own = [pair for pair in node.entries if pair[0].text != "<<"]
    merged: dict[str, Node] = {}
    for key, value in node.entries:
        if key.text == "<<":
            for source in value.items or (value,):
                merged = {**entries(source, "the merged mapping"), **merged}
    bare = Node(node.kind, node.place, node.text, node.items, tuple(own), node.size, node.end,
                node.flow)  # fmt: skip
    return {**merged, **fields.mapping(bare, what, known, needed=needed, example=example)}


def services(node: Node) -> dict[str, tuple[Place, Node]]:
    """Each service with the place of its name."""
    entries(node, "services", example=_WEB)
    found = {}
    for key, value in node.entries:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", key.text):
            right = fields.cleaned(key.text)
            raise invalid(
                key.place,
                f"the service's name {key.shown} holds other than letters, digits, '.', '_', '-'",
                f"for example {right}",
                instead(key, plain(right)),
            )
        found[key.text] = (key.place, value)
    if not found:
        raise lacks_services(node)
    return found


def lacks_services(node: Node) -> InvalidDocument:
    """The error of a file in which nothing runs."""
    if not any(key.text == "services" for key, _ in node.entries) and node.entries:
        return fields.lacks(node, "the Compose file has no services", "services", _WEB)
    right = _WEB if node.entries or node.place.column > 1 else f"{{services: {_WEB}}}"
    return invalid(node.place, "there is no service", f"write {right}", instead(node, right))


_WEB = "{web: {image: nginx}}"


def project_name(node: Node | None, folder: str) -> str:
    """`name`, else the folder's name as Compose writes it: lower case, of [a-z0-9_-]."""
    near = re.sub(r"[^a-z0-9_-]", "", (node.text if node else folder).lower()).lstrip("_-")
    if node is None:
        return near or "default"
    text = resolved(fields.string(node, "name", "shop"))
    if not PROJECT.match(text):
        raise invalid(
            node.place,
            f"name is {node.shown}, but may hold only lower-case letters, digits, '-' and '_'",
            f"for example {near or 'shop'}",
            instead(node, plain(near or "shop")),
        )
    return text


def network_mode(node: Node | None) -> str | None:
    """`host`, `none`, or whose network it takes; None: networks of its own."""
    if node is None or node.text in ("bridge", "default"):
        return None
    return fields.string(node, "network_mode", "host")


def joined(node: Node | None, known: Sequence[str]) -> Iterator[str]:
    """The networks that a service joins, which the file must know; `default` always exists."""
    if node is None:
        yield "default"
    for name in names(node, "networks"):
        choices = [*known, "default"]
        if name.text not in choices:
            near = fields.nearest(name.text, choices) or choices[0]
            raise invalid(
                name.place,
                f"there is no network {name.shown} at the top of the file",
                f"did you mean {near}?",
                instead(name, plain(near)),
            )
        yield name.text


def names(node: Node | None, what: str) -> tuple[Node, ...]:
    """The items of a list, or the keys of a mapping: both forms say names."""
    if node is None:
        return ()
    if node.kind is Kind.MAPPING:
        return tuple(key for key, _ in node.entries if key.text != "<<")
    items = fields.sequence(node, what, "[]")
    for item in items:
        fields.string(item, f"an item of {what}", "web")
    return items


def unknown_service(node: Node, name: str, what: str, known: Sequence[str]) -> InvalidDocument:
    """The error that names nobody of this file."""
    near = fields.nearest(name, known) or next(iter(known), None)
    message = f"{what} names {node.shown}, which is no other service of this file"
    if near is None:
        return invalid(node.place, message, "there is no other service: leave it out", None)
    right = node.text.replace(name, near, 1)
    return invalid(node.place, message, f"did you mean {right}?", instead(node, plain(right)))


def pairs(node: Node | None, what: str) -> dict[str, Node]:
    """`{key: value}` or `[key=value]`, the values as text nodes; a value may be missing."""
    if node is None:
        return {}
    if node.kind is Kind.MAPPING:
        found = entries(node, what)
        for key, value in found.items():
            if value.kind in (Kind.MAPPING, Kind.LIST):
                raise invalid(
                    value.place,
                    f"{key[:60]} in {what} is {value.shown}, but must be text",
                    'in quotes it may be empty: ""',
                    instead(value, '""'),
                )
        return found
    result = {}
    for item in fields.sequence(node, what, "[]"):
        if item.kind in (Kind.MAPPING, Kind.LIST):
            raise invalid(
                item.place,
                f"an item of {what} is {item.shown}, but must be KEY=value",
                "for example KEY=value",
                instead(item, "KEY=value"),
            )
        key, _, text = item.text.partition("=")
        result[key] = Node(Kind.TEXT, item.place, text, end=item.end)
    return result


def exposed(node: Node | None) -> Iterator[tuple[int, str]]:
    """`expose`: ports of the container, as number and protocol."""
    for item in fields.sequence(node, "expose", '["80"]'):
        yield from _short(item, "expose", "80")


def published(node: Node | None) -> Iterator[tuple[int, str]]:
    """`ports`: the container's side of each, as number and protocol."""
    for item in fields.sequence(node, "ports", '["8080:80"]'):
        if item.kind is not Kind.MAPPING:
            yield from _short(item, "ports", "8080:80")
            continue
        found = entries(item, "the port", _PORT_KEYS, needed=("target",))
        if "target" not in found:
            raise fields.lacks(item, "the port has no target", "target", "80")
        protocol = found.get("protocol")
        word = "tcp" if protocol is None else fields.choice(protocol, "protocol", _PROTOCOLS)
        for number, _ in _short(found["target"], "target", "80"):
            yield number, word


_PORT_KEYS = ("target", "published", "host_ip", "protocol", "mode", "app_protocol", "name")


def _short(node: Node, what: str, example: str) -> Iterable[tuple[int, str]]:
    """`80`, `8080:80/udp`, `127.0.0.1:8000-8010:8000-8010`: what stands behind the last colon."""
    text = resolved(node.text)
    if "$" in text:
        return ()
    match = _PORT.match(text) if node.kind in (Kind.TEXT, Kind.NUMBER) else None
    protocol = match["protocol"] or "tcp" if match else "tcp"
    if match and protocol in _PROTOCOLS:
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if 1 <= first <= last <= LAST_PORT:
            return [(n, protocol) for n in range(first, min(last, first + MAX_RANGE) + 1)]
    right = _near(match, protocol) if match else example
    raise invalid(
        node.place,
        f"{what} is {node.shown}, which names no port of 1 to 65535, tcp, udp or sctp",
        f"for example {right}",
        instead(node, f'"{right}"'),
    )


def _near(match: re.Match[str], protocol: str) -> str:
    """The same with a port that exists, and a protocol that does."""
    ends = sorted(int(near_port(match[key])) for key in ("first", "last") if match[key])
    ports = "-".join(map(str, ends))
    before = match[0][: match.start("first")]
    word = fields.nearest(protocol, _PROTOCOLS) or "tcp"
    return f"{before}{ports}{f'/{word}' if match['protocol'] else ''}"
