"""The JSON Schema of every document that `document.parse` reads, for editors and for other tools.

It says the structure: keys, kinds of values, words, what must be there. What needs arithmetic or
two places of a file (a range's order, a network's host part, two equal names) only the parser
says. A key whose value is nothing counts as absent, so optional keys take null.
"""

from __future__ import annotations

from typing import Any

from netwatch.policy import admin_network_policy as admin
from netwatch.policy import cluster_network_policy as cluster
from netwatch.policy.document import API_VERSIONS, LISTS, METADATA_KEYS
from netwatch.policy.fields import PROTOCOLS
from netwatch.policy.ir import Mode, Operator
from netwatch.policy.tiers import MAX_ADDRESSES, MAX_PRIORITY, MAX_RULE_NAME

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$"
_KEY = r"^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9_.-]+$"
_SPELT = "(tcp|udp|sctp|TCP|UDP|SCTP)"
_PORT = rf"^([1-9][0-9]{{0,4}}( *- *[1-9][0-9]{{0,4}})?|(?=.*[a-z])[a-z0-9-]{{1,15}})(/{_SPELT})?$"
_WORD = r"^(host|internet)$|[=()]|^[^ ]*[.:][^ ]*$"  # a peer: word, labels, address, name
_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_KEPT: Schema = {"not": {"const": "link-encrypted"}}
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 1024}


def schema() -> Schema:
    """The schema of one document or of a List of them, as JSON data."""
    kinds = [*API_VERSIONS, *LISTS]
    return {
        "$schema": DIALECT,
        "title": "netwatch policy",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": kinds}},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": _ref("List" if kind in LISTS else kind),
            }
            for kind in kinds
        ],
        "$defs": {
            **_shared(),
            **_segment(),
            **_network_policy(),
            **_tiers(),
            "List": _object(
                {
                    "apiVersion": {},
                    "kind": {"enum": list(LISTS)},
                    "metadata": {},
                    "items": _optional({"type": "array", "items": {"$ref": "#"}}),
                },
                ["kind"],
            ),
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _optional(inner: Schema) -> Schema:
    return {"anyOf": [inner, {"type": "null"}]}


def _object(properties: Schema, required: list[str], **more: Any) -> Schema:
    """A mapping of these keys and no others; what is not required may be nothing."""
    return {
        "type": "object",
        "properties": {
            key: inner if key in required or not inner else _optional(inner)
            for key, inner in properties.items()
        },
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _list(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


def _one_of(properties: Schema, **more: Any) -> Schema:
    """A mapping that has exactly one of these keys."""
    return {
        **_object(properties, []),
        "oneOf": [
            {"required": [key], "properties": {key: {"not": {"type": "null"}}}}
            for key in properties
        ],
        **more,
    }


def _shared() -> Schema:
    free: Schema = {key: {} for key in METADATA_KEYS}
    annotations = _optional(
        {
            "type": "object",
            "properties": {"netwatch/mode": _optional({"enum": list(map(str, Mode))})},
            "propertyNames": {
                "anyOf": [{"const": "netwatch/mode"}, {"not": {"pattern": "^netwatch/"}}]
            },
        }
    )
    metadata = _object(free, ["name"])
    metadata["properties"] |= {
        "name": {"type": "string", "pattern": _NAME},
        "namespace": _optional({"type": "string", "pattern": _NAME}),
        "annotations": annotations,
    }
    values = {"anyOf": [{"type": "string", "maxLength": 1024}, _list(_label_value(), minItems=1)]}
    return {
        "metadata": metadata,
        "labels": {
            "anyOf": [
                {"type": "string", "pattern": "[=(]"},
                {
                    "type": "object",
                    "propertyNames": {"pattern": _KEY},
                    "additionalProperties": values,
                },
            ]
        },
        "matchLabels": {
            "type": "object",
            "propertyNames": {"pattern": _KEY},
            "additionalProperties": _label_value(),
        },
        "selector": _object(
            {
                "matchLabels": _ref("matchLabels"),
                "matchExpressions": _list(_ref("expression")),
            },
            [],
        ),
        "expression": _object(
            {
                "key": {"type": "string", "pattern": _KEY},
                "operator": {"enum": [str(operator) for operator in Operator]},
                "values": _list(_label_value()),
            },
            ["key", "operator"],
        ),
        "network": {"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$"},
        "protocol": {"enum": list(PROTOCOLS)},
    }


def _label_value() -> Schema:
    return {"type": "string", "maxLength": 1024}


def _document(kind: str, spec: Schema, *, status: bool = True) -> Schema:
    properties: Schema = {
        "apiVersion": {"const": API_VERSIONS[kind]},
        "kind": {"const": kind},
        "metadata": _ref("metadata"),
        "spec": spec,
    }
    if status:
        properties["status"] = {}
    return _object(properties, ["apiVersion", "kind", "metadata", "spec"])


def _segment() -> Schema:
    labels_alone = {
        "allOf": [
            {"type": "object", **_ref("labels")},
            *({"not": {"required": [key]}} for key in ("namespace", "labels", "cidr", "except")),
        ]
    }
    never = {"type": "null"}
    address = {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"}
    namespace = {
        "anyOf": [
            {"type": "string", "pattern": _NAME},
            _list({"type": "string", "pattern": _NAME}, minItems=1),
            {"type": "object", **_ref("labels")},
        ]
    }
    peer = {
        "anyOf": [
            {"type": "string", "pattern": _WORD, "not": {"const": "anyone"}},
            labels_alone,
            _object({"namespace": namespace, "labels": _ref("labels")}, [], minProperties=1),
            _object(
                {"cidr": address, "except": _list(address), "namespace": never, "labels": never},
                ["cidr"],
            ),
        ]
    }
    peers = {
        "anyOf": [
            {"const": "anyone"},
            {"const": ["anyone"]},
            _ref("peer"),
            _list(_ref("peer"), minItems=1),
        ]
    }
    port = {
        "anyOf": [
            _NUMBER,
            {"type": "string", "pattern": _PORT},
            {"type": "string", "pattern": rf"^\*/{_SPELT}$"},
        ]
    }
    spec = _object(
        {
            "governs": {"anyOf": [{"const": "all"}, _ref("labels")]},
            "mode": {"enum": list(map(str, Mode))},
            "scope": {"enum": ["all", "namespace"]},
            "ingress": {"enum": ["isolated", "open"]},
            "egress": {"enum": ["isolated", "open"]},
            "rules": _list(_ref("rule")),
        },
        ["governs"],
    )
    return {
        "Segment": _document("Segment", spec, status=False),
        "peer": peer,
        "peers": peers,
        "port": port,
        "rule": _segment_rule(),
    }


def _segment_rule() -> Schema:
    yes = {"const": True}
    rule = _object(
        {
            "deny": {"type": "boolean"},
            "exception": {"type": "boolean"},
            "require": {
                "type": "string",
                "pattern": r"^\s*([Ee]ncrypted|link-encrypted|tls\s*>=\s*1\.[0-3])\s*$",
            },
            "strict": {"type": "boolean"},
            "because": _TEXT,
            "owner": _TEXT,
            "ticket": _TEXT,
            "expires": {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"},
            "name": _TEXT,
        },
        [],
    )
    rule["properties"] |= {
        "from": _ref("peers"),
        "to": _ref("peers"),
        "ports": {"anyOf": [_ref("port"), _list(_ref("port"), minItems=1)]},
    }
    exceptional = {
        "required": ["owner", "expires"],
        "properties": {
            "owner": {"type": "string"},
            "expires": {"type": "string"},
            "deny": {"not": yes},
        },
    }
    return {
        **rule,
        "oneOf": [{"required": ["from"]}, {"required": ["to"]}],
        "allOf": [
            _when("exception", exceptional),
            _when("deny", {"properties": {"require": {"type": "null"}}}),
            _when("strict", {"required": ["require"], "properties": {"require": _KEPT}}),
        ],
    }


def _when(key: str, then: Schema) -> Schema:
    return {"if": {"properties": {key: {"const": True}}, "required": [key]}, "then": then}


def _network_policy() -> Schema:
    block = _object({"cidr": _ref("network"), "except": _list(_ref("network"))}, ["cidr"])
    selectors = {"podSelector": _ref("selector"), "namespaceSelector": _ref("selector")}
    alone = {key: {"type": "null"} for key in selectors}
    named = [
        {"required": [key], "properties": {key: {"type": "object"}}}
        for key in (*selectors, "ipBlock")
    ]
    peer = _object({**selectors, "ipBlock": block}, [], anyOf=named)
    peer["if"] = {"required": ["ipBlock"], "properties": {"ipBlock": {"type": "object"}}}
    peer["then"] = {"properties": alone}
    name = {"type": "string", "pattern": "^(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 15}
    port = _object(
        {"protocol": _ref("protocol"), "port": {"anyOf": [_NUMBER, name]}, "endPort": _NUMBER},
        [],
    )
    port["if"] = {"required": ["endPort"], "properties": {"endPort": {"type": "integer"}}}
    port["then"] = {"required": ["port"], "properties": {"port": {"type": "integer"}}}
    rules = {
        f"networkPolicy.{end}": _object(
            {end: _list(_ref("networkPolicy.peer")), "ports": _list(_ref("networkPolicy.port"))},
            [],
        )
        for end in ("from", "to")
    }
    spec = _object(
        {
            "podSelector": _ref("selector"),
            "policyTypes": _list({"enum": ["Ingress", "Egress"]}),
            "ingress": _list(_ref("networkPolicy.from")),
            "egress": _list(_ref("networkPolicy.to")),
        },
        [],
    )
    return {
        "NetworkPolicy": _document("NetworkPolicy", spec),
        "networkPolicy.peer": peer,
        "networkPolicy.port": port,
        **rules,
    }


def _tiers() -> Schema:
    range_ = _object({"start": _NUMBER, "end": _NUMBER}, ["start", "end"])
    target = _object(
        {"destinationPort": _one_of({"number": _NUMBER, "range": range_})}, ["destinationPort"]
    )
    with_protocol = {"protocol": _ref("protocol"), "start": _NUMBER, "end": _NUMBER}
    number = _object({"protocol": _ref("protocol"), "port": _NUMBER}, ["port"])
    ports = {
        cluster.KIND: _one_of(
            {"tcp": target, "udp": target, "sctp": target, "destinationNamedPort": _port_name()}
        ),
        admin.KIND: _one_of(
            {
                "portNumber": number,
                "portRange": _object(with_protocol, ["start", "end"]),
                "namedPort": _port_name(),
            }
        ),
    }
    ports[admin.BASELINE_KIND] = ports[admin.KIND]
    found: Schema = {}
    for kind, dialect in (
        (cluster.KIND, cluster.DIALECT),
        (admin.KIND, admin.ADMIN),
        (admin.BASELINE_KIND, admin.BASELINE),
    ):
        needed = (["namespaceSelector"] if dialect.needs_namespaces else []) + ["podSelector"]
        pods = {"namespaceSelector": _ref("selector"), "podSelector": _ref("selector")}
        inside = {"namespaces": _ref("selector"), "pods": _object(pods, needed)}
        some = {"minItems": 1, "maxItems": MAX_ADDRESSES}
        outside = {"networks": _list(_ref("network"), **some)}
        if dialect.names:
            outside["domainNames"] = _list({"type": "string", "maxLength": 253}, **some)
        never = {key: {"type": "null"} for key in ("networks", "domainNames", "nodes")}
        most = {"minItems": 1, "maxItems": dialect.most}
        for end, peers in (("from", inside), ("to", {**inside, **outside})):
            peer = _one_of(peers)
            peer["properties"] = {**never, **peer["properties"]}
            found[f"{kind}.{end}"] = _object(
                {
                    "name": {**_TEXT, "maxLength": MAX_RULE_NAME},
                    "action": {"enum": list(dialect.actions)},
                    end: _list(peer, **most),
                    dialect.ports: _list(ports[kind], **most),
                },
                ["action", end],
            )
        spec = {
            "subject": _one_of(inside),
            "ingress": _list(_ref(f"{kind}.from"), maxItems=dialect.most),
            "egress": _list(_ref(f"{kind}.to"), maxItems=dialect.most),
        }
        necessary = ["subject"]
        if kind != admin.BASELINE_KIND:
            spec["priority"] = {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY}
            necessary.append("priority")
        if kind == cluster.KIND:
            spec["tier"] = {"enum": list(cluster.TIERS)}
            necessary.append("tier")
        found[kind] = _document(kind, _object(spec, necessary))
        found[kind]["properties"]["metadata"] = {
            "allOf": [
                _ref("metadata"),
                {"properties": {"namespace": {"type": "null"}, **_baseline_name(kind)}},
            ]
        }
    return found


def _baseline_name(kind: str) -> Schema:
    return {"name": {"const": admin.BASELINE_NAME}} if kind == admin.BASELINE_KIND else {}


def _port_name() -> Schema:
    return {"type": "string", "pattern": "^(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 15}
