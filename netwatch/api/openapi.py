"""The OpenAPI 3.1 document, built from the same table that serves the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netwatch import __version__
from netwatch.api.routes import Parameter, Route

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MAYBE: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer"}
MAYBE_NUMBER: Schema = {"type": ["integer", "null"]}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
TEXTS: Schema = {"type": "array", "items": TEXT}
ANY: Schema = {}


def _object(**members: Schema) -> Schema:
    return {"type": "object", "required": list(members), "properties": members}


def _many(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _map_of(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PROCESS = _object(pid=NUMBER, exe=MAYBE, uid=NUMBER, user=MAYBE)
_END = _object(
    address=TEXT,
    port=MAYBE_NUMBER,
    **dict.fromkeys(("workload", "name", "named_by"), MAYBE),
    **dict.fromkeys(("image", "image_digest", "project", "service"), MAYBE),
    process={"oneOf": [_PROCESS, {"type": "null"}]},
)
_PROTECTION: Schema = {"enum": ["tls", "link", "both", "neither", "unknown"]}
_MAYBE_PROTECTION: Schema = {"enum": [*_PROTECTION["enum"], None]}
_LINK_STATUS: Schema = {"enum": ["proven", "claimed", "unknown", "none"]}
_COUNTED = ("packets", "bytes", "payload_bytes")

SCHEMAS: dict[str, Schema] = {
    "Number": NUMBER,
    "Cursor": MAYBE,
    "Secret": MAYBE,
    "Losses": _map_of(NUMBER),
    "LossesByHost": _map_of(_map_of(NUMBER)),
    "Error": _object(
        code=TEXT, message=TEXT, hint=MAYBE, file=MAYBE, line=MAYBE_NUMBER, column=MAYBE_NUMBER
    ),
    "Peer": _object(
        id=TEXT,
        kind={"enum": ["workload", "host", "external"]},
        name=TEXT,
        namespace=MAYBE,
        host=MAYBE,
        **dict.fromkeys(("known_as", "named_by"), MAYBE),
        **dict.fromkeys(("image", "image_digest", "project", "service"), MAYBE),
    ),
    "Omitted": _object(nodes=NUMBER, edges=NUMBER),
    "MapNode": _object(
        id=TEXT,
        label=TEXT,
        kind={"enum": ["workload", "host", "external", "group"]},
        group=MAYBE,
        host=MAYBE,
        namespace=MAYBE,
        known_as=MAYBE,
        named_by=MAYBE,
        members=NUMBER,
        silent=FLAG,
        badges={"type": "object"},
    ),
    "MapEdge": _object(
        id=TEXT,
        source=TEXT,
        target=TEXT,
        label=TEXT,
        protocol=MAYBE,
        port=MAYBE_NUMBER,
        verdict={"enum": ["allow", "deny", "would-deny", "unknown"]},
        encryption={"enum": ["encrypted", "plaintext", "unknown"]},
        protection=_MAYBE_PROTECTION,
        documented={"type": ["boolean", "null"]},
        members=NUMBER,
        connections=NUMBER,
        packets=NUMBER,
        bytes=NUMBER,
        first_seen=TIME,
        last_seen=TIME,
        alerts=NUMBER,
    ),
    "Workload": _object(
        id=TEXT,
        host=TEXT,
        namespace=TEXT,
        name=TEXT,
        runtime=TEXT,
        runtime_id=MAYBE,
        project=MAYBE,
        service=MAYBE,
        image=MAYBE,
        image_digest=MAYBE,
        labels=_map_of(TEXT),
        label_sources=_map_of(TEXT),
        addresses=TEXTS,
        networks=TEXTS,
        host_network=FLAG,
        interfaces=TEXTS,
        ports=_many(_object(port=NUMBER, protocol=TEXT, name=MAYBE, source=TEXT)),
        published=_many(_object(host_address=TEXT, host_port=NUMBER, port=NUMBER, protocol=TEXT)),
    ),
    "Edge": _object(
        id=TEXT,
        source=_ref("Peer"),
        destination=_ref("Peer"),
        protocol=TEXT,
        port=MAYBE_NUMBER,
        original_port=MAYBE_NUMBER,
        connections=NUMBER,
        packets=NUMBER,
        bytes=NUMBER,
        first_seen=TIME,
        last_seen=TIME,
        encryption=_object(status=TEXT, versions=TEXTS),
        applications=TEXTS,
        states=TEXTS,
        direction=TEXT,
        verdict=MAYBE,
        staged=MAYBE,
        documented=MAYBE,
        crosses_hosts=FLAG,
        link={"oneOf": [_object(status=_LINK_STATUS, kind=MAYBE), {"type": "null"}]},
        protection=_MAYBE_PROTECTION,
    ),
    "Certificate": _object(
        subject=TEXT,
        issuer=TEXT,
        not_before=TIME,
        not_after=TIME,
        sha256=TEXT,
        key=_object(type=MAYBE, bits={"type": ["integer", "null"]}),
    ),
    "Encryption": _object(
        status={"enum": ["encrypted", "plaintext", "unknown"]},
        proof={"enum": ["handshake", "negotiation", "content", "none"]},
        **dict.fromkeys(("protocol", "version", "cipher", "group", "server_name"), MAYBE),
        alpn_offered=TEXTS,
        **dict.fromkeys(("alpn", "ja3", "ja3s", "ja4"), MAYBE),
        certificate={"oneOf": [_ref("Certificate"), {"type": "null"}]},
        hassh=MAYBE,
        hassh_server=MAYBE,
    ),
    "Flow": _object(
        client=_END,
        server=_END,
        protocol=TEXT,
        vlan=_many(NUMBER),
        tunnel=_many(_object(type=TEXT, id=MAYBE_NUMBER, client=TEXT, server=TEXT)),
        **{f"{side}_{what}": NUMBER for what in _COUNTED for side in ("client", "server")},
        first_seen=TIME,
        last_seen=TIME,
        state=TEXT,
        application=MAYBE,
        direction=TEXT,
        encryption=_ref("Encryption"),
        original={"oneOf": [_object(address=TEXT, port=MAYBE_NUMBER), {"type": "null"}]},
        connections=NUMBER,
        reporter=TEXT,
        host=MAYBE,
        verdict=MAYBE,
        staged=MAYBE,
        link={
            "oneOf": [
                _object(status=_LINK_STATUS, kind=MAYBE, through=MAYBE, reason=MAYBE),
                {"type": "null"},
            ]
        },
        protection=_PROTECTION,
    ),
    "Host": _object(
        host=TEXT,
        version=MAYBE,
        enrolled=MAYBE_TIME,
        first_report=MAYBE_TIME,
        last_report=MAYBE_TIME,
        silent=FLAG,
        capture=_object(method=TEXT, interfaces=TEXTS, problem=MAYBE),
        enforcement=_object(
            backend=MAYBE,
            digest=MAYBE,
            enforced=TEXTS,
            staged=TEXTS,
            drift=TEXTS,
            problem=MAYBE,
            quarantined=TEXTS,
            policies=MAYBE,
            mode={"enum": ["observe", "enforce"]},
            pending=FLAG,
            totals=_map_of(NUMBER),
            proven=NUMBER,
            proven_at=MAYBE_TIME,
            unproven=_many(
                _object(
                    kind={"enum": ["false-allow", "false-deny"]},
                    source=TEXT,
                    destination=TEXT,
                    address=TEXT,
                    protocol=TEXT,
                    port=NUMBER,
                    result=TEXT,
                    segment=TEXT,
                    document=MAYBE,
                    file=MAYBE,
                    line=MAYBE_NUMBER,
                    at=MAYBE_TIME,
                )
            ),
        ),
        wanted=MAYBE,
        differs=FLAG,
        losses=_ref("Losses"),
        clock_skew_ms={"type": "number"},
        workloads=NUMBER,
        addresses=TEXTS,
        links=_object(
            read=MAYBE_TIME,
            problem=MAYBE,
            wireguard=_many(
                _object(
                    interface=TEXT,
                    source=TEXT,
                    peers=_many(
                        _object(key=TEXT, endpoint=MAYBE, allowed=TEXTS, handshake=MAYBE_TIME)
                    ),
                )
            ),
            xfrm=_object(
                policies=NUMBER,
                associations=_many(
                    _object(source=TEXT, destination=TEXT, protocol=TEXT, mode=TEXT, encrypts=FLAG)
                ),
            ),
        ),
    ),
    "Alert": _object(
        id=TEXT,
        detector=TEXT,
        subject=TEXT,
        severity=TEXT,
        title=TEXT,
        advice=TEXT,
        state={"enum": ["open", "acknowledged", "snoozed", "resolved"]},
        opened=TIME,
        updated=TIME,
        resolved=MAYBE_TIME,
        host=MAYBE,
        workloads=TEXTS,
        evidence=_many({"type": "object"}),
    ),
    "Receiver": _object(
        id=TEXT,
        url=TEXT,
        allow_private=FLAG,
        created=TIME,
        disabled=MAYBE,
        waiting=NUMBER,
        delivered=NUMBER,
        failed=NUMBER,
    ),
    "PolicyDocument": _object(name=TEXT, text=TEXT),
    "PolicyVersion": _object(
        version=NUMBER,
        sha256=TEXT,
        state={"enum": ["in-force", "unconfirmed", "withdrawn", "past"]},
        author=TEXT,
        reason=MAYBE,
        ticket=MAYBE,
        replay=MAYBE,
        created=TIME,
        confirm_by=MAYBE_TIME,
        restores=MAYBE_NUMBER,
        documents=TEXTS,
    ),
    "Delivery": _object(
        id=TEXT,
        receiver=TEXT,
        alert=TEXT,
        type=TEXT,
        state={"enum": ["waiting", "delivered", "failed"]},
        attempts=NUMBER,
        created=TIME,
        due=TIME,
        ended=MAYBE_TIME,
        problem=MAYBE,
    ),
}


def document(routes: Iterable[Route], *, prefix: str) -> dict[str, Any]:
    """The whole document; `prefix` stands before each route's path."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route)
    paths[f"{prefix}/openapi.json"] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document.",
            "responses": {"200": _content("An OpenAPI 3.1 document.", {"type": "object"})},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "netwatch", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "netwatch_session"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    placeholders = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": TEXT} for n in placeholders),
            *(
                {"name": p.name, "in": "query", "description": p.meaning, "schema": _schema(p)}
                for p in route.parameters
            ),
        ],
        "responses": {
            str(route.status): _content(route.summary, _answer(route)),
            "default": _content("What is wrong, and what to do.", _refusal()),
        },
    }
    if route.body:
        members = {p.name: {**_schema(p), "description": p.meaning} for p in route.body}
        schema = {
            "type": "object",
            "required": list(route.required),
            "properties": members,
            "additionalProperties": False,
        }
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _schema(parameter: Parameter) -> Schema:
    if parameter.kind == "integer":
        return {**NUMBER, "minimum": parameter.minimum, "maximum": parameter.maximum}
    if parameter.kind == "time":
        return TIME
    if parameter.kind == "boolean":
        return FLAG
    if parameter.kind == "documents":
        return _many(_ref("PolicyDocument"))
    return {**TEXT, "enum": list(parameter.choices)} if parameter.choices else TEXT


def _answer(route: Route) -> Schema:
    members: dict[str, Schema] = {"ok": {"const": True}}
    for name, schema in route.gives:
        listed = schema.startswith("[")
        members[name] = _many(_ref(schema[1:-1])) if listed else _ref(schema)
    return _object(**members)


def _refusal() -> Schema:
    return _object(ok={"const": False}, error=_ref("Error"))


def _content(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
