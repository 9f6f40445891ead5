"""What the objects of the API look like, by name: JSON Schema as OpenAPI 3.1 takes it."""

from __future__ import annotations

from typing import Any

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


def record(**members: Schema) -> Schema:
    """An object that has exactly these members, all of them always."""
    return {"type": "object", "required": list(members), "properties": members}


def many(item: Schema) -> Schema:
    """An array of it."""
    return {"type": "array", "items": item}


def map_of(value: Schema) -> Schema:
    """An object with any keys and values like this one."""
    return {"type": "object", "additionalProperties": value}


def ref(name: str) -> Schema:
    """The schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


_PROCESS = record(pid=NUMBER, exe=MAYBE, uid=NUMBER, user=MAYBE)
_END = record(
    address=TEXT,
    port=MAYBE_NUMBER,
    **dict.fromkeys(("workload", "name", "named_by"), MAYBE),
    **dict.fromkeys(("image", "image_digest", "project", "service"), MAYBE),
    process={"oneOf": [_PROCESS, {"type": "null"}]},
)
_PROTECTION: Schema = {"enum": ["tls", "link", "both", "neither", "unknown"]}
_MAYBE_PROTECTION: Schema = {"enum": [*_PROTECTION["enum"], None]}
_LINK_STATUS: Schema = {"enum": ["proven", "claimed", "unknown", "none"]}
_PLACE: dict[str, Schema] = {"file": MAYBE, "line": MAYBE_NUMBER, "column": MAYBE_NUMBER}
_DOCUMENT = record(
    kind=TEXT,
    namespace=MAYBE,
    name=TEXT,
    mode={"enum": ["observe", "stage", "enforce"]},
    governs=TEXT,
    isolates_ingress=FLAG,
    isolates_egress=FLAG,
    rules=NUMBER,
    **_PLACE,
)
_RULE = record(
    name=MAYBE,
    action=TEXT,
    exception=FLAG,
    **dict.fromkeys(("because", "owner", "ticket"), MAYBE),
    expires=MAYBE_TIME,
    require=MAYBE,
    **_PLACE,
)
_COUNTED = ("packets", "bytes", "payload_bytes")

SCHEMAS: dict[str, Schema] = {
    "Number": NUMBER,
    "Cursor": MAYBE,
    "Secret": MAYBE,
    "Text": TEXT,
    "MaybeText": MAYBE,
    "Flag": FLAG,
    "Losses": map_of(NUMBER),
    "Time": MAYBE_TIME,
    "Gap": record(host=TEXT, since=TIME, until=TIME),
    "Slot": record(observed=NUMBER, known=NUMBER),
    "LossesByHost": map_of(map_of(NUMBER)),
    "Error": record(
        code=TEXT, message=TEXT, hint=MAYBE, file=MAYBE, line=MAYBE_NUMBER, column=MAYBE_NUMBER
    ),
    "Peer": record(
        id=TEXT,
        kind={"enum": ["workload", "host", "external"]},
        name=TEXT,
        namespace=MAYBE,
        host=MAYBE,
        **dict.fromkeys(("known_as", "named_by"), MAYBE),
        **dict.fromkeys(("image", "image_digest", "project", "service"), MAYBE),
    ),
    "Omitted": record(nodes=NUMBER, edges=NUMBER),
    "MapNode": record(
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
    "MapEdge": record(
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
    "Workload": record(
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
        labels=map_of(TEXT),
        label_sources=map_of(TEXT),
        addresses=TEXTS,
        networks=TEXTS,
        host_network=FLAG,
        interfaces=TEXTS,
        ports=many(record(port=NUMBER, protocol=TEXT, name=MAYBE, source=TEXT)),
        published=many(record(host_address=TEXT, host_port=NUMBER, port=NUMBER, protocol=TEXT)),
    ),
    "Edge": record(
        id=TEXT,
        source=ref("Peer"),
        destination=ref("Peer"),
        protocol=TEXT,
        port=MAYBE_NUMBER,
        original_port=MAYBE_NUMBER,
        connections=NUMBER,
        packets=NUMBER,
        bytes=NUMBER,
        first_seen=TIME,
        last_seen=TIME,
        encryption=record(status=TEXT, versions=TEXTS),
        applications=TEXTS,
        states=TEXTS,
        direction=TEXT,
        verdict=MAYBE,
        staged=MAYBE,
        documented=MAYBE,
        crosses_hosts=FLAG,
        link={"oneOf": [record(status=_LINK_STATUS, kind=MAYBE), {"type": "null"}]},
        protection=_MAYBE_PROTECTION,
    ),
    "ChangedEdge": record(before=ref("Edge"), after=ref("Edge"), what=TEXTS),
    "ReplayedCall": record(
        outcome={"enum": ["escaped", "misdropped", "uncertain", "rejected", "permitted"]},
        **dict.fromkeys(
            ("source", "destination"), record(workload=MAYBE, address=MAYBE, host=FLAG)
        ),
        **dict.fromkeys(("protocol", "was", "will", "reason"), TEXT),
        port=MAYBE_NUMBER,
        connections=NUMBER,
        **dict.fromkeys(("first_seen", "last_seen"), TIME),
        rule={"type": ["object", "null"]},
    ),
    "Broken": record(
        workload=TEXT, calls=NUMBER, connections=NUMBER, first_seen=TIME, last_seen=TIME
    ),
    "Certificate": record(
        subject=TEXT,
        issuer=TEXT,
        not_before=TIME,
        not_after=TIME,
        sha256=TEXT,
        key=record(type=MAYBE, bits={"type": ["integer", "null"]}),
    ),
    "Encryption": record(
        status={"enum": ["encrypted", "plaintext", "unknown"]},
        proof={"enum": ["handshake", "negotiation", "content", "none"]},
        **dict.fromkeys(("protocol", "version", "cipher", "group", "server_name"), MAYBE),
        alpn_offered=TEXTS,
        **dict.fromkeys(("alpn", "ja3", "ja3s", "ja4"), MAYBE),
        certificate={"oneOf": [ref("Certificate"), {"type": "null"}]},
        hassh=MAYBE,
        hassh_server=MAYBE,
        ech={"type": ["boolean", "null"]},
    ),
    "Flow": record(
        client=_END,
        server=_END,
        protocol=TEXT,
        vlan=many(NUMBER),
        tunnel=many(record(type=TEXT, id=MAYBE_NUMBER, client=TEXT, server=TEXT)),
        **{f"{side}_{what}": NUMBER for what in _COUNTED for side in ("client", "server")},
        first_seen=TIME,
        last_seen=TIME,
        state=TEXT,
        application=MAYBE,
        direction=TEXT,
        encryption=ref("Encryption"),
        original={"oneOf": [record(address=TEXT, port=MAYBE_NUMBER), {"type": "null"}]},
        connections=NUMBER,
        reporter=TEXT,
        host=MAYBE,
        verdict=MAYBE,
        staged=MAYBE,
        link={
            "oneOf": [
                record(status=_LINK_STATUS, kind=MAYBE, through=MAYBE, reason=MAYBE),
                {"type": "null"},
            ]
        },
        protection=_PROTECTION,
    ),
    "Host": record(
        host=TEXT,
        version=MAYBE,
        enrolled=MAYBE_TIME,
        first_report=MAYBE_TIME,
        last_report=MAYBE_TIME,
        silent=FLAG,
        capture=record(method=TEXT, interfaces=TEXTS, problem=MAYBE),
        enforcement=record(
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
            totals=map_of(NUMBER),
            proven=NUMBER,
            proven_at=MAYBE_TIME,
            repairs=many(
                record(
                    right_until=MAYBE_TIME,
                    repaired=MAYBE_TIME,
                    open_ms_at_most={"type": "number"},
                    differences=TEXTS,
                    by=TEXTS,
                )
            ),
            unproven=many(
                record(
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
        losses=ref("Losses"),
        clock_skew_ms={"type": "number"},
        skewed=FLAG,
        workloads=NUMBER,
        addresses=TEXTS,
        links=record(
            read=MAYBE_TIME,
            problem=MAYBE,
            wireguard=many(
                record(
                    interface=TEXT,
                    source=TEXT,
                    peers=many(
                        record(key=TEXT, endpoint=MAYBE, allowed=TEXTS, handshake=MAYBE_TIME)
                    ),
                )
            ),
            xfrm=record(
                policies=NUMBER,
                associations=many(
                    record(source=TEXT, destination=TEXT, protocol=TEXT, mode=TEXT, encrypts=FLAG)
                ),
            ),
        ),
    ),
    "Alert": record(
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
        evidence=many({"type": "object"}),
    ),
    "Receiver": record(
        id=TEXT,
        url=TEXT,
        allow_private=FLAG,
        created=TIME,
        disabled=MAYBE,
        waiting=NUMBER,
        delivered=NUMBER,
        failed=NUMBER,
    ),
    "PolicyDocument": record(name=TEXT, text=TEXT),
    "PolicyVersion": record(
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
    "Verdict": {"enum": ["allow", "deny", "unknown"]},
    "DecidingDocument": {"oneOf": [_DOCUMENT, {"type": "null"}]},
    "DecidingRule": {"oneOf": [_RULE, {"type": "null"}]},
    "Step": record(
        side={"enum": ["source", "destination", "both"]},
        outcome={"enum": ["holds", "misses", "passes", "permits", "denies"]},
        text=TEXT,
        **_PLACE,
    ),
    "Near": record(policy=_DOCUMENT, rule=_RULE, because=TEXTS),
    "Fix": {
        "oneOf": [record(document=MAYBE, edits=TEXTS, why_not=MAYBE), {"type": "null"}],
    },
    "AuditEntry": record(
        number=NUMBER,
        time=TIME,
        action=TEXT,
        subject=TEXT,
        actor=record(uid=NUMBER, login_uid=MAYBE_NUMBER, sudo_user=MAYBE),
        details={"type": "object"},
        previous=TEXT,
        hash=TEXT,
    ),
    "Delivery": record(
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
