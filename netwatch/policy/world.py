"""Reads a WORLD file: the workloads and namespaces that a matrix or a decision is about."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from netwatch.model.errors import InvalidDocument
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy.fields import PROTOCOLS, meant
from netwatch.policy.ir import World
from netwatch.policy.nodes import shorten

MAX_CHARACTERS = 64 << 20
"""2,000 workloads take about 1 MB."""
_OF_ROWS = ("namespace", "name", "labels", "addresses", "host", "host_network")


def parse_world(text: str, file: str) -> World:
    """The world that the JSON text describes; raises InvalidDocument.

    `{"namespaces": {"x": {"label": "value"}}, "workloads": [{"namespace": "x", "name": "a",
    "labels": {}, "addresses": ["198.18.0.1"], "ports": [{"port": 80, "protocol": "TCP",
    "name": "http"}]}], "networks": [], "host_addresses": [], "names": {"api.example.com":
    ["203.0.113.7"]}, "protected": [["198.18.0.1", "198.18.1.1"]]}`; only `workloads` must be
    there.
    """
    return _Reader(file).world(_load(text, file))


def world_of_rows(
    workloads: Iterable[Mapping[str, Any]], host_addresses: Iterable[str], file: str
) -> World:
    """The world of workloads as the API tells them; the one reader checks these too."""
    rows = [
        {**{key: row[key] for key in _OF_ROWS}, "ports": _ports_of(row["ports"])}
        for row in workloads
    ]
    data = {"workloads": rows, "host_addresses": list(host_addresses)}
    return parse_world(json.dumps(data), file)


def _ports_of(ports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: port[key] for key in ("port", "protocol", "name")}
        for port in ports
        if port["protocol"] in ("tcp", "udp", "sctp")
    ]


def _load(text: str, file: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise InvalidDocument("the world is larger than 64 MiB", "leave workloads out", file=file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidDocument(
            f"this is not JSON: {error.msg}",
            "check quotes, commas and brackets up to here",
            file=file,
            line=error.lineno,
            column=error.colno,
        ) from None
    except (RecursionError, ValueError):
        raise InvalidDocument("this JSON is nested too deep", None, file=file, line=1) from None


class _Reader:
    """Reads values of one file; `where` names the value as a path, `workloads[3].ports[0]`."""

    def __init__(self, file: str) -> None:
        self._file = file

    def world(self, data: Any) -> World:
        known = ("namespaces", "workloads", "networks", "host_addresses", "names", "protected")
        entries = self._mapping(data, "the world", known)
        if "workloads" not in entries:
            raise self._wrong("the world", "has no workloads", 'add "workloads": []')
        workloads = tuple(
            self._workload(item, f"workloads[{i}]")
            for i, item in enumerate(self._list(entries["workloads"], "workloads"))
        )
        seen: set[str] = set()
        for workload in workloads:
            if workload.identity in seen:
                raise self._wrong(workload.key, "stands twice", "give one another name")
            seen.add(workload.identity)
        namespaces = self._mapping(entries.get("namespaces", {}), "namespaces")
        return World(
            workloads,
            tuple(
                (name, tuple(self._labels(labels, f"namespaces.{name}").items()))
                for name, labels in namespaces.items()
            ),
            self._networks(entries.get("networks", []), "networks"),
            self._addresses(entries.get("host_addresses", []), "host_addresses"),
            tuple(
                (name.lower().rstrip("."), self._addresses(known, f"names.{name}"))
                for name, known in self._mapping(entries.get("names", {}), "names").items()
            ),
            tuple(
                self._pair(pair, f"protected[{i}]")
                for i, pair in enumerate(self._list(entries.get("protected", []), "protected"))
            ),
        )

    def _pair(self, data: Any, where: str) -> tuple[str, str]:
        pair = self._addresses(data, where)
        if len(pair) != 2:
            raise self._wrong(where, f"has {len(pair)} addresses", "write the two of one link")
        return pair[0], pair[1]

    def _workload(self, data: Any, where: str) -> Workload:
        known = ("namespace", "name", "labels", "addresses", "ports", "host", "host_network")
        entries = self._mapping(data, where, known)
        for needed in ("namespace", "name"):
            if needed not in entries:
                raise self._wrong(where, f"has no {needed}", f'add "{needed}": "web"')
        labels = self._labels(entries.get("labels", {}), f"{where}.labels")
        ports = self._list(entries.get("ports", []), f"{where}.ports")
        return Workload(
            host=self._text(entries.get("host", "world"), f"{where}.host"),
            namespace=self._text(entries["namespace"], f"{where}.namespace"),
            name=self._text(entries["name"], f"{where}.name"),
            runtime="world",
            labels=tuple(Label(key, value, "own") for key, value in labels.items()),
            addresses=self._addresses(entries.get("addresses", []), f"{where}.addresses"),
            ports=tuple(self._port(port, f"{where}.ports[{i}]") for i, port in enumerate(ports)),
            host_network=entries.get("host_network", False) is True,
        )

    def _port(self, data: Any, where: str) -> DocumentedPort:
        entries = self._mapping(data, where, ("port", "protocol", "name"))
        number = entries.get("port")
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
            raise self._wrong(f"{where}.port", f"is {_shown(number)}", "write 1 to 65535")
        protocol = self._text(entries.get("protocol", "TCP"), f"{where}.protocol")
        if protocol.upper() not in PROTOCOLS:
            hint = meant(protocol, PROTOCOLS)
            raise self._wrong(f"{where}.protocol", f"is {_shown(protocol)}", hint)
        name = entries.get("name")
        if name is not None:
            name = self._text(name, f"{where}.name")
        return DocumentedPort(number, protocol.lower(), "label", name)

    def _addresses(self, data: Any, where: str) -> tuple[str, ...]:
        texts = [self._text(item, where) for item in self._list(data, where)]
        try:
            return tuple(str(ipaddress.ip_address(text)) for text in texts)
        except ValueError as error:
            raise self._wrong(where, f"holds no address: {shorten(str(error))}", None) from None

    def _networks(self, data: Any, where: str) -> tuple[str, ...]:
        texts = [self._text(item, where) for item in self._list(data, where)]
        try:
            return tuple(str(ipaddress.ip_network(text)) for text in texts)
        except ValueError as error:
            raise self._wrong(where, f"holds no network: {shorten(str(error))}", None) from None

    def _labels(self, data: Any, where: str) -> dict[str, str]:
        entries = self._mapping(data, where)
        return {key: self._text(value, f"{where}.{key}") for key, value in entries.items()}

    def _mapping(
        self, data: Any, where: str, known: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self._wrong(where, f"is {_shown(data)}, but must be an object", None)
        for key in data:
            if known is not None and key not in known:
                raise self._wrong(where, f"has no key {_shown(key)}", meant(key, known))
        return data

    def _list(self, data: Any, where: str) -> list[Any]:
        if not isinstance(data, list):
            raise self._wrong(where, f"is {_shown(data)}, but must be a list", None)
        return data

    def _text(self, data: Any, where: str) -> str:
        if not isinstance(data, str):
            raise self._wrong(where, f"is {_shown(data)}, but must be text", None)
        return data

    def _wrong(self, where: str, what: str, hint: str | None) -> InvalidDocument:
        return InvalidDocument(f"{shorten(where)} {what}", hint, file=self._file, line=1)


def _shown(value: object) -> str:
    return shorten(json.dumps(value) if value is not None else "missing")
