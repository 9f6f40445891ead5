"""The routes of `/api/v1`: each is an entry of `ROUTES` and a small view over the controller."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flask import Response, send_file

from netwatch.api.answers import listing, page
from netwatch.api.policies import POLICY_ROUTES
from netwatch.api.questions import QUESTION_ROUTES
from netwatch.api.routes import Call, Parameter, Route
from netwatch.api.traffic import AT, PERIOD, TRAFFIC_ROUTES, WINDOW, gaps_of, period
from netwatch.controller.records import FlowQuery, delivery_as_json, receiver_as_json
from netwatch.controller.search import term
from netwatch.controller.service import Controller
from netwatch.model.edge import Edge, Peer, edge_as_json
from netwatch.model.errors import NetwatchError
from netwatch.model.finding import SEVERITIES, alert_as_json
from netwatch.model.flow import live_flow_as_json
from netwatch.model.host import host_as_json
from netwatch.model.workload import workload_as_json

Answer = Mapping[str, Any]

MAX_ROWS = 5000  # of one page; an edge is about 700 bytes of JSON


def _limit(maximum: int) -> Parameter:
    return Parameter("limit", "integer", "Rows of one page.", minimum=1, maximum=maximum)


CURSOR = Parameter("cursor", "text", "`next` of the page before.")
PAGED = (_limit(MAX_ROWS), CURSOR)
PORT = Parameter("port", "integer", "The server's port.", maximum=65535)
PROTOCOL = Parameter("protocol", "text", "tcp, udp, icmp …")
STATUSES = ("encrypted", "plaintext", "unknown")
ENCRYPTION = Parameter("encryption", "text", "Status of the encryption.", choices=STATUSES)
VERDICT = Parameter(
    "verdict", "text", "What rules say of it.", choices=("allow", "deny", "violated")
)
HOST = Parameter("host", "text", "Name of a host.")
NAMESPACE = Parameter("namespace", "text", "Name of a namespace.")
WORKLOAD = Parameter("workload", "text", "A workload's id, on either side.")


def list_workloads(controller: Controller, call: Call) -> Answer:
    """Filtered by host and namespace, by id."""
    rows = [
        workload
        for workload in controller.workloads()
        if call.query.get("host") in (None, workload.host)
        and call.query.get("namespace") in (None, workload.namespace)
    ]
    chosen, next = page(
        rows, key=lambda w: w.identity, limit=call.limit(1000), cursor=call.query.get("cursor")
    )
    found = [workload_as_json(workload) for workload in chosen]
    return listing("workloads", found, next=next, losses=controller.losses())


def list_edges(controller: Controller, call: Call) -> Answer:
    """Filtered, by id."""
    query = call.query
    when = period(query)
    edges = controller.edges(**when)
    rows = [edge for edge in edges if _is_wanted(edge, query)]
    chosen, next = page(
        rows, key=lambda e: e.id, limit=call.limit(1000), cursor=query.get("cursor")
    )
    found = [edge_as_json(edge) for edge in chosen]
    gaps = gaps_of(controller, when)
    return {**listing("edges", found, next=next, losses=controller.losses()), "gaps": gaps}


def _is_wanted(edge: Edge, query: Mapping[str, Any]) -> bool:
    ends = (edge.source, edge.destination)
    exact = {
        "source": edge.source.id,
        "destination": edge.destination.id,
        "port": edge.port,
        "protocol": edge.protocol,
        "encryption": edge.encryption,
        "verdict": edge.verdict,
        "staged": edge.staged,
    }
    if any(query[name] != value for name, value in exact.items() if name in query):
        return False
    return all(
        any(_part(end, name) == query[name] for end in ends)
        for name in ("workload", "namespace", "host")
        if name in query
    )


def _part(peer: Peer, name: str) -> str | None:
    return {"workload": peer.id, "namespace": peer.namespace, "host": peer.host}[name]


def list_flows(controller: Controller, call: Call) -> Answer:
    """Newest first."""
    asked = _asked(call)
    flows, next = controller.flows(asked)
    known = {workload.identity: workload for workload in controller.workloads()}
    found = [live_flow_as_json(flow, known) for flow in flows]
    gaps = gaps_of(controller, {"since": asked.since, "until": asked.until})
    return {**listing("flows", found, next=next, losses=controller.losses()), "gaps": gaps}


def export_flows(controller: Controller, call: Call) -> Response:
    """A file, gone from the disk when it is sent."""
    format = call.query.get("format", "jsonl")
    path = controller.export(_asked(call), format)
    try:
        stream = path.open("rb")
    finally:
        path.unlink()
    return send_file(stream, mimetype=MEDIA[format], download_name=f"flows.{format}")


def _asked(call: Call) -> FlowQuery:
    names = {field.name for field in dataclasses.fields(FlowQuery)}
    given = {name: value for name, value in call.query.items() if name in names}
    terms = [term(SEARCHED[n], v) for n, v in call.query.items() if n in SEARCHED]
    if "where" in given:
        terms.append(given["where"])
    return FlowQuery(**{**given, "where": " and ".join(terms) or None})


def list_hosts(controller: Controller, call: Call) -> Answer:
    """By name."""
    chosen, next = page(
        controller.hosts(),
        key=lambda h: h.host,
        limit=call.limit(1000),
        cursor=call.query.get("cursor"),
    )
    found = [host_as_json(host) for host in chosen]
    return listing("hosts", found, next=next, losses=controller.losses())


def list_alerts(controller: Controller, call: Call) -> Answer:
    """Newest first."""
    severity = call.query.get("severity")
    rows = [
        alert
        for alert in controller.alerts(state=call.query.get("state"))
        if severity in (None, alert.finding.severity)
    ]
    chosen, next = page(
        rows,
        key=lambda a: f"{2**63 - a.opened:020d}{a.id}",
        limit=call.limit(1000),
        cursor=call.query.get("cursor"),
    )
    found = [alert_as_json(alert) for alert in chosen]
    return listing("alerts", found, next=next, losses=controller.losses())


def acknowledge_alert(controller: Controller, call: Call) -> Answer:
    """Somebody looks at it."""
    return {
        "ok": True,
        "alert": alert_as_json(controller.acknowledge(call.path["id"], by=call.by)),
    }


def resolve_alert(controller: Controller, call: Call) -> Answer:
    """Closed by hand."""
    return {"ok": True, "alert": alert_as_json(controller.resolve(call.path["id"], by=call.by))}


def list_receivers(controller: Controller, call: Call) -> Answer:
    """Without their secrets."""
    found = [receiver_as_json(receiver) for receiver in controller.receivers()]
    return listing("receivers", found, losses=controller.losses())


def add_receiver(controller: Controller, call: Call) -> Answer:
    """A secret that was given is not repeated; one that we made is told this once."""
    given = call.body.get("secret")
    receiver = controller.add_receiver(
        call.body["url"], given, allow_private=bool(call.body.get("allow_private"))
    )
    secret = None if given else receiver.secret
    return {"ok": True, "receiver": receiver_as_json(receiver), "secret": secret}


def remove_receiver(controller: Controller, call: Call) -> Answer:
    """Forgets it and what waits for it."""
    if not controller.remove_receiver(call.path["id"]):
        raise NetwatchError("there is no such receiver", code="not-found")
    return {"ok": True}


def list_deliveries(controller: Controller, call: Call) -> Answer:
    """Newest first."""
    found = [delivery_as_json(each) for each in controller.deliveries(call.path["id"])]
    return listing("deliveries", found, losses=controller.losses())


def show_losses(controller: Controller, call: Call) -> Answer:
    """In total and by host."""
    hosts = {host.host: dict(host.losses) for host in controller.hosts()}
    return {"ok": True, "losses": controller.losses(), "hosts": hosts}


EDGE_FILTERS = (
    Parameter("source", "text", "Id of the source."),
    Parameter("destination", "text", "Id of the destination."),
    WORKLOAD,
    NAMESPACE,
    HOST,
    PORT,
    PROTOCOL,
    ENCRYPTION,
    VERDICT,
    Parameter("staged", "text", "What staged policies would do.", choices=("allow", "deny")),
    AT,
    WINDOW,
    *PERIOD,
    *PAGED,
)
# Filters that are a comparison of a search, by the name of the field there.
SEARCHED = {
    "host": "host",
    "namespace": "namespace",
    "address": "address",
    "state": "state",
    "version": "encryption.version",
    "server_name": "encryption.server_name",
}
FLOW_FILTERS = (
    WORKLOAD,
    HOST,
    NAMESPACE,
    Parameter("address", "text", "An address, on either side or before translation."),
    Parameter("state", "text", "established, unanswered, refused, reset or one-way."),
    Parameter("version", "text", "Version of the encryption, such as TLSv1.2."),
    Parameter("server_name", "text", "The name that the client asked for."),
    Parameter("where", "text", "Any field: `client.port > 1023 and certificate.issuer ~ acme`."),
    Parameter("edge", "text", "Id of an edge."),
    PORT,
    PROTOCOL,
    ENCRYPTION,
    VERDICT,
    Parameter("reporter", "text", "Side that saw it.", choices=("client", "server", "both")),
    *PERIOD,
    _limit(1000),
    CURSOR,
)
MEDIA = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
ALERT_FILTERS = (
    Parameter("state", "text", "State.", choices=("open", "acknowledged", "snoozed", "resolved")),
    Parameter("severity", "text", "Severity.", choices=SEVERITIES),
    *PAGED,
)
RECEIVER = (
    Parameter("url", "text", "Where to POST, http or https."),
    Parameter("secret", "text", "`whsec_` and base64; one is made if it is absent."),
    Parameter("allow_private", "boolean", "Whether private and loopback addresses may be used."),
)


GAPS = (("gaps", "[Gap]"),)


def _list(
    name: str,
    summary: str,
    view: Any,
    parameters: tuple[Parameter, ...] = (),
    *,
    more: tuple[tuple[str, str], ...] = (),
) -> Route:
    schema = {"deliveries": "Delivery"}.get(name, name[:-1].capitalize())
    gives = ((name, f"[{schema}]"), ("next", "Cursor"), ("losses", "Losses"), *more)
    return Route("GET", f"/{name}", f"list_{name}", summary, view, gives, parameters)


ROUTES = (
    *POLICY_ROUTES,
    *TRAFFIC_ROUTES,
    *QUESTION_ROUTES,
    _list(
        "workloads",
        "Workloads of the last report of each host.",
        list_workloads,
        (HOST, NAMESPACE, *PAGED),
    ),
    _list("edges", "Who talks to whom.", list_edges, EDGE_FILTERS, more=GAPS),
    _list("flows", "Conversations, newest first.", list_flows, FLOW_FILTERS, more=GAPS),
    Route(
        "GET",
        "/flows/export",
        "export_flows",
        "The flows that fit as a file: CSV, JSON lines or Parquet.",
        export_flows,
        (),
        (
            Parameter("format", "text", "jsonl by default.", choices=tuple(MEDIA)),
            *FLOW_FILTERS[:-2],
        ),
        media=tuple(MEDIA.values()),
    ),
    _list("hosts", "Hosts: how each one sees and what it missed.", list_hosts, PAGED),
    _list("alerts", "Alerts, newest first.", list_alerts, ALERT_FILTERS),
    Route(
        "POST",
        "/alerts/{id}/acknowledge",
        "acknowledge_alert",
        "Somebody looks at it.",
        acknowledge_alert,
        (("alert", "Alert"),),
    ),
    Route(
        "POST",
        "/alerts/{id}/resolve",
        "resolve_alert",
        "Close it by hand.",
        resolve_alert,
        (("alert", "Alert"),),
    ),
    _list("receivers", "Webhook receivers, without secrets.", list_receivers),
    Route(
        "POST",
        "/receivers",
        "add_receiver",
        "A new receiver of alerts.",
        add_receiver,
        (("receiver", "Receiver"), ("secret", "Secret")),
        body=RECEIVER,
        required=("url",),
        status=201,
    ),
    Route(
        "DELETE", "/receivers/{id}", "remove_receiver", "Forget a receiver.", remove_receiver, ()
    ),
    Route(
        "GET",
        "/receivers/{id}/deliveries",
        "list_deliveries",
        "What was sent to it.",
        list_deliveries,
        (("deliveries", "[Delivery]"), ("next", "Cursor"), ("losses", "Losses")),
    ),
    Route(
        "GET",
        "/losses",
        "show_losses",
        "What was seen and dropped, by reason.",
        show_losses,
        (("losses", "Losses"), ("hosts", "LossesByHost")),
    ),
)
