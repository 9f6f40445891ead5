"""The OpenAPI 3.1 document, built from the same table that serves the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netwatch import __version__
from netwatch.api.routes import Parameter, Route
from netwatch.api.schemas import FLAG, NUMBER, SCHEMAS, TEXT, TIME, Schema, many, record, ref


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
            str(route.status): _file(route)
            if route.media
            else _content(route.summary, _answer(route)),
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
        return many(ref("PolicyDocument"))
    return {**TEXT, "enum": list(parameter.choices)} if parameter.choices else TEXT


def _answer(route: Route) -> Schema:
    members: dict[str, Schema] = {"ok": {"const": True}}
    for name, schema in route.gives:
        listed = schema.startswith("[")
        members[name] = many(ref(schema[1:-1])) if listed else ref(schema)
    return record(**members)


def _file(route: Route) -> dict[str, Any]:
    return {"description": route.summary, "content": {media: {} for media in route.media}}


def _refusal() -> Schema:
    return record(ok={"const": False}, error=ref("Error"))


def _content(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
