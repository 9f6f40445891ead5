"""Reads a lab file (YAML or JSON) completely, or refuses it with file, line and column.

The shape of the file is design.md section 9 of the interface; keys beyond it are `documented`,
`tls` and `publish` of a listener, `once`, `family` and `server_name` of a call, `project`,
`service` and `image` of a workload, and `internet` at the top.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from pathlib import Path

from netwatch.lab.node import Node, parse
from netwatch.lab.spec import (
    INTERNET,
    SERVERS,
    SPOKEN,
    TLS_VERSIONS,
    UNDERLAYS,
    Call,
    Lab,
    Listen,
    WorkloadSpec,
)
from netwatch.model.errors import InvalidDocument

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LONGEST_NAME = 63  # a DNS label (RFC 1035), because the name goes into a certificate
MOST_HOSTS = 200  # each has a number in 192.0.2.0/24 and in 198.18.0.0/15
MOST_WORKLOADS = 2000

LAB_KEYS = ("hosts", "underlay", "namespaces", "workloads", "internet")
LISTEN_KEYS = tuple(field.name for field in dataclasses.fields(Listen))
WORKLOAD_KEYS = tuple(f.name for f in dataclasses.fields(WorkloadSpec) if f.name != "place")
CALL_KEYS = ("to", "port", "every", "with", "once", "family", "server_name")


def load(path: Path) -> Lab:
    """The lab in a file; raises InvalidDocument."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidDocument(
            f"the lab file can not be read: {error.strerror}", "check the path", file=str(path)
        ) from None
    except UnicodeDecodeError:
        raise InvalidDocument(
            "the lab file is not UTF-8 text", "save it as UTF-8", file=str(path)
        ) from None
    return read(text, file=str(path))


def read(text: str, *, file: str) -> Lab:
    """The lab in a text; raises InvalidDocument that names `file`."""
    top = parse(text, file).fields("a lab", LAB_KEYS, ("hosts",))
    hosts = _hosts(top["hosts"])
    lab = Lab(
        hosts=hosts,
        underlay=top["underlay"].choice("underlay", UNDERLAYS) if "underlay" in top else "routed",
        namespaces=_namespaces(top["namespaces"]) if "namespaces" in top else (),
        internet=_internet(top["internet"]) if "internet" in top else None,
    )
    return _with_workloads(lab, top["workloads"]) if "workloads" in top else lab


def _hosts(node: Node) -> tuple[str, ...]:
    hosts: list[str] = []
    for item in node.items("hosts"):
        name = _name(item, "a host")
        if name in hosts:
            raise item.error(f"two hosts are called {name}")
        hosts.append(name)
    if not 1 <= len(hosts) <= MOST_HOSTS:
        raise node.error(f"a lab has 1 to {MOST_HOSTS} hosts, this one {len(hosts)}")
    return tuple(hosts)


def _namespaces(node: Node) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    found = []
    for name, labels in node.mapping("namespaces").items():
        if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
            raise labels.error(f"{name!r} can not be the name of a namespace", NAME_HINT)
        found.append((name, () if labels.value is None else _labels(labels)))
    return tuple(found)


def _internet(node: Node) -> tuple[Listen, ...]:
    if node.value is None:
        return ()
    fields = node.fields("internet", ("listen",), ())
    return _listeners(fields["listen"]) if "listen" in fields else ()


def _with_workloads(lab: Lab, node: Node) -> Lab:
    nodes = list(node.items("workloads"))
    if len(nodes) > MOST_WORKLOADS:
        raise node.error(f"a lab has at most {MOST_WORKLOADS} workloads, this one {len(nodes)}")
    places = [item.fields("a workload", WORKLOAD_KEYS, ("name", "host")) for item in nodes]
    names: dict[str, int] = {host: 0 for host in lab.hosts}
    for fields in places:
        name = _name(fields["name"], "a workload")
        if name in names:
            what = "a host" if names[name] == 0 else f"the workload in line {names[name]}"
            raise fields["name"].error(
                f"the name {name} is already that of {what}", "hosts and workloads share one space"
            )
        names[name] = fields["name"].line
    callable_names = [*names, *([INTERNET] if lab.internet is not None else [])]
    workloads = tuple(_workload(fields, lab, callable_names) for fields in places)
    return dataclasses.replace(lab, workloads=workloads)


def _workload(fields: dict[str, Node], lab: Lab, names: list[str]) -> WorkloadSpec:
    host = fields["host"].text("host")
    if host not in lab.hosts:
        raise fields["host"].error(f"there is no host {host!r}", f"hosts: {', '.join(lab.hosts)}")
    optional: dict[str, str] = {
        key: fields[key].text(key) for key in ("project", "service", "image") if key in fields
    }
    if "namespace" in fields:
        optional["namespace"] = _name(fields["namespace"], "a namespace")
    calls = fields["calls"].items("calls") if "calls" in fields else ()
    where = fields.get("addresses", fields["name"])
    return WorkloadSpec(
        name=fields["name"].value,
        host=host,
        labels=_labels(fields["labels"]) if "labels" in fields else (),
        addresses=_addresses(fields["addresses"]) if "addresses" in fields else (),
        listen=_listeners(fields["listen"]) if "listen" in fields else (),
        calls=tuple(_call(item, names) for item in calls),
        place=(where.line, where.column),
        **optional,
    )


def _listeners(node: Node) -> tuple[Listen, ...]:
    found: list[Listen] = []
    for item in node.items("listen"):
        listen = _listen(item)
        if any((seen.port, seen.protocol) == (listen.port, listen.protocol) for seen in found):
            raise item.error(f"{listen.protocol} port {listen.port} is listed twice")
        found.append(listen)
    return tuple(found)


def _listen(node: Node) -> Listen:
    fields = node.fields("a listener", LISTEN_KEYS, ("port",))
    protocol = "tcp"
    if "protocol" in fields:
        said = fields["protocol"]
        protocol = str(said.value).lower()
        if protocol not in ("tcp", "udp"):
            raise said.error(f"protocol is {said.value!r}", "known: tcp, udp")
    serve = fields["serve"].choice("serve", SERVERS) if "serve" in fields else "echo"
    if protocol == "udp" and serve != "echo":
        raise fields["serve"].error(f"{serve} is not served over udp", "use serve: echo")
    return Listen(
        port=fields["port"].port("port"),
        protocol=protocol,
        name=fields["name"].text("name") if "name" in fields else None,
        serve=serve,
        documented=fields["documented"].truth("documented") if "documented" in fields else True,
        tls=fields["tls"].choice("tls", TLS_VERSIONS) if "tls" in fields else "1.3",
        publish=fields["publish"].port("publish") if "publish" in fields else None,
    )


def _call(node: Node, names: list[str]) -> Call:
    fields = node.fields("a call", CALL_KEYS, ("to", "port"))
    target = fields["to"].text("to")
    if target not in names and not _is_address(target):
        near = difflib.get_close_matches(target, names, 1)
        hint = f"did you mean {near[0]}?" if near else "a workload, a host, internet or an address"
        if target == INTERNET:
            hint = "add `internet: {listen: []}` to the lab"
        raise fields["to"].error(f"nothing is called {target!r}", hint)
    family = fields["family"].value if "family" in fields else None
    if family not in (None, 4, 6) or isinstance(family, bool):
        raise fields["family"].error(f"family is {family!r}", "known: 4, 6")
    return Call(
        to=target,
        port=fields["port"].port("port"),
        every=_seconds(fields["every"]) if "every" in fields else 1.0,
        once=fields["once"].truth("once") if "once" in fields else False,
        speak=fields["with"].choice("with", SPOKEN) if "with" in fields else None,
        family=family,
        server_name=fields["server_name"].text("server_name") if "server_name" in fields else None,
        place=(fields["to"].line, fields["to"].column),
    )


def _seconds(node: Node) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise node.error("every must be a number of seconds, such as 1 or 0.5")
    if not 0.01 <= value <= 86400:
        raise node.error(f"every is {value} seconds, but must be from 0.01 to 86400")
    return float(value)


def _labels(node: Node) -> tuple[tuple[str, str], ...]:
    found = node.mapping("labels")
    for key, value in found.items():
        if not isinstance(value.value, str):
            raise value.error(f"the label {key} must be a string", f'write {key}: "..."')
    return tuple((key, str(value.value)) for key, value in found.items())


NAME_HINT = f"a-z, 0-9 and - inside, at most {LONGEST_NAME} characters"


def _name(node: Node, what: str) -> str:
    name = node.text(f"the name of {what}")
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
        raise node.error(f"{name!r} can not be the name of {what}", NAME_HINT)
    if name == INTERNET and what != "a namespace":
        raise node.error(f"the name {INTERNET} is that of the world outside the hosts")
    return name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _addresses(node: Node) -> tuple[str, ...]:
    found: list[str] = []
    for item in node.items("addresses"):
        text = item.text("an address")
        if not _is_address(text):
            raise item.error(f"{text!r} is not a bare address", "such as 198.18.1.10")
        address = ipaddress.ip_address(text)
        if not address.is_private or address.is_loopback or address.is_link_local:
            raise item.error(
                f"{text} is not free for a lab", "use 198.18.0.0/15, 2001:db8::/32 or private ones"
            )
        found.append(str(address))
    if not found:
        raise node.error("a workload needs an address", "leave the key out to have one chosen")
    return tuple(found)
