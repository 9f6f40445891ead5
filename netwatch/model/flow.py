"""A flow: one conversation, its size in both directions, and what is proven of its encryption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netwatch.model.link import Link, link_as_json, protection_of
from netwatch.model.times import rfc3339
from netwatch.model.workload import Workload

_NOBODY: Mapping[str, Workload] = {}


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that a server showed. Times are nanoseconds since the epoch.

    `key_type` is rsa, ec, ed25519, ed448 or dsa, `key_bits` its size; None where the key is of
    another kind.
    """

    subject: str
    issuer: str
    not_before: int
    not_after: int
    sha256: str
    key_type: str | None = None
    key_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Encryption:
    """What the first bytes of both directions prove; the default says "we do not know".

    `status`: encrypted, plaintext or unknown. `proof`: handshake (both ends agreed), negotiation
    (one end was seen), content (the bytes themselves), none. A false "encrypted" is the worst
    error that can be made here. `ech`: the hello carries another one that is encrypted, or bytes
    that look the same, so `server_name` may be that of a front, not the one that is asked for;
    None where no hello was seen.
    """

    status: str = "unknown"
    proof: str = "none"
    protocol: str | None = None
    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    server_name: str | None = None
    alpn_offered: tuple[str, ...] = ()
    alpn: str | None = None
    ja3: str | None = None
    ja3s: str | None = None
    ja4: str | None = None
    certificate: Certificate | None = None
    hassh: str | None = None
    hassh_server: str | None = None
    ech: bool | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """Who holds the socket of an end, as the host sees it: pid and uid are the host's numbers.

    `exe` is the file that runs, None where it could not be read. `user` is what this host calls
    the uid, None where it has no such user; a container may call it otherwise.
    """

    pid: int
    exe: str | None
    uid: int
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a flow. `workload` is a `Workload.identity`, or None: no workload, or unknown.

    `process` is None where its socket was gone before anybody looked. `name` is what an address
    outside is called, and `named_by` who said so: sni or http (the client, in this conversation),
    dns (an answer that was seen before), cidr (the operator).
    """

    address: str
    port: int | None
    workload: str | None = None
    process: Process | None = None
    name: str | None = None
    named_by: str | None = None


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One encapsulation around a flow, outermost first in `Flow.tunnel`."""

    type: str
    id: int | None
    client: str | None
    server: str | None


@dataclass(frozen=True, slots=True)
class Flow:
    """One conversation. Bytes count IP total length; times are nanoseconds since the epoch.

    `state`: established, unanswered, refused, reset or one-way. `direction`: seen, or guessed when
    nothing proves who is the client; a guessed flow never raises a finding and never teaches.
    `reporter` is the side whose host saw it: client, server, both or file. `original` is where the
    client aimed before DNAT, if that differs from `server`. `link` says what carries it out of its
    host; None where it stays within, or nobody looked.
    """

    client: Endpoint
    server: Endpoint
    protocol: str
    first_seen: int
    last_seen: int
    client_packets: int = 0
    server_packets: int = 0
    client_bytes: int = 0
    server_bytes: int = 0
    client_payload_bytes: int = 0
    server_payload_bytes: int = 0
    state: str = "one-way"
    application: str | None = None
    direction: str = "guessed"
    encryption: Encryption = Encryption()
    vlan: tuple[int, ...] = ()
    tunnel: tuple[Tunnel, ...] = ()
    connections: int = 1
    reporter: str = "file"
    host: str | None = None
    original: Endpoint | None = None
    verdict: str | None = None
    staged: str | None = None
    link: Link | None = None


def certificate_as_json(certificate: Certificate | None) -> dict[str, Any] | None:
    """The `certificate` object of the interface, or None."""
    if certificate is None:
        return None
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
        "sha256": certificate.sha256,
        "key": {"type": certificate.key_type, "bits": certificate.key_bits},
    }


def encryption_as_json(encryption: Encryption) -> dict[str, Any]:
    """The `encryption` object of the interface: every key, unknown is null."""
    return {
        "status": encryption.status,
        "proof": encryption.proof,
        "protocol": encryption.protocol,
        "version": encryption.version,
        "cipher": encryption.cipher,
        "group": encryption.group,
        "server_name": encryption.server_name,
        "alpn_offered": list(encryption.alpn_offered),
        "alpn": encryption.alpn,
        "ja3": encryption.ja3,
        "ja3s": encryption.ja3s,
        "ja4": encryption.ja4,
        "certificate": certificate_as_json(encryption.certificate),
        "hassh": encryption.hassh,
        "hassh_server": encryption.hassh_server,
        "ech": encryption.ech,
    }


def flow_as_json(flow: Flow) -> dict[str, Any]:
    """One line of `netwatch read --json`: what a capture alone can say."""
    return {
        "client": {"address": flow.client.address, "port": flow.client.port},
        "server": {"address": flow.server.address, "port": flow.server.port},
        "protocol": flow.protocol,
        "vlan": list(flow.vlan),
        "tunnel": [
            {"type": t.type, "id": t.id, "client": t.client, "server": t.server}
            for t in flow.tunnel
        ],
        "client_packets": flow.client_packets,
        "server_packets": flow.server_packets,
        "client_bytes": flow.client_bytes,
        "server_bytes": flow.server_bytes,
        "client_payload_bytes": flow.client_payload_bytes,
        "server_payload_bytes": flow.server_payload_bytes,
        "first_seen": rfc3339(flow.first_seen),
        "last_seen": rfc3339(flow.last_seen),
        "state": flow.state,
        "application": flow.application,
        "direction": flow.direction,
        "encryption": encryption_as_json(flow.encryption),
    }


def live_flow_as_json(flow: Flow, known: Mapping[str, Workload] = _NOBODY) -> dict[str, Any]:
    """`flow_as_json` with what only a running host knows: workloads, processes, verdicts, link.

    `known` are workloads by identity: what an end was made from is taken from there.
    """
    line = flow_as_json(flow)
    line["client"] |= _behind(flow.client, known)
    line["server"] |= _behind(flow.server, known)
    line["original"] = (
        {"address": flow.original.address, "port": flow.original.port} if flow.original else None
    )
    line["connections"] = flow.connections
    line["reporter"] = flow.reporter
    line["host"] = flow.host
    line["verdict"] = flow.verdict
    line["staged"] = flow.staged
    line["link"] = link_as_json(flow.link)
    line["protection"] = protection_of(
        flow.encryption.status, flow.link.status if flow.link else None
    )
    return line


def process_as_json(process: Process | None) -> dict[str, Any] | None:
    """The `process` object of an end, or None."""
    if process is None:
        return None
    return {
        "pid": process.pid,
        "exe": process.exe,
        "uid": process.uid,
        "user": process.user,
    }


def _behind(end: Endpoint, known: Mapping[str, Workload]) -> dict[str, Any]:
    """What is known of an end beside its address."""
    workload = known.get(end.workload or "")
    return {
        "workload": end.workload,
        "name": end.name,
        "named_by": end.named_by,
        "image": workload.image if workload else None,
        "image_digest": workload.image_digest if workload else None,
        "project": workload.project if workload else None,
        "service": workload.service if workload else None,
        "process": process_as_json(end.process),
    }
