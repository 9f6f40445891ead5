"""Whether an answer is what the OpenAPI document says of it."""

from __future__ import annotations

from typing import Any


def agree(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> None:
    """Members and types, as far as the document says them; enough to find a forgotten key."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        if value is None:
            return
        schema = schema["oneOf"][0]
    if "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for key, inner in schema["properties"].items():
            agree(value[key], inner, schemas, f"{where}.{key}")
    elif schema.get("type") == "array":
        for item in value:
            agree(item, schema["items"], schemas, f"{where}[]")
    elif "enum" in schema:
        assert value in schema["enum"], where
    elif "type" in schema:
        allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        types = {
            "string": str,
            "integer": int,
            "boolean": bool,
            "null": type(None),
            "object": dict,
            "number": (int, float),
        }
        assert any(isinstance(value, types[name]) for name in allowed), where
