"""A controller in memory, with the methods of the real one, and the shop estate to fill it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from netwatch.api.app import create_app
from netwatch.api.server import Listener, listen_on
from netwatch.controller.health import Health
from netwatch.controller.policies import Policies
from netwatch.controller.records import Change, Delivery, FlowQuery, Receiver
from netwatch.controller.replays import replay_of
from netwatch.model.edge import Edge, Peer
from netwatch.model.errors import NetwatchError
from netwatch.model.finding import Alert, Finding
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.host import HostState
from netwatch.model.policy_version import Document
from netwatch.model.report import Capture, Report
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy.replay import Replay
from tests.fake_coverage import FakeCoverage

NOW = 1_795_315_200 * SECOND  # 2026-11-22T02:40:00Z
TOKEN = "a-token-for-tests"
AGENTS = {"token-of-a": "a", "token-of-b": "b"}


class FakeController:
    """Answers from what it was given; `change` tells everyone who waits."""

    def __init__(
        self,
        *,
        workloads: tuple[Workload, ...] = (),
        edges: tuple[Edge, ...] = (),
        flows: tuple[Flow, ...] = (),
        hosts: tuple[HostState, ...] = (),
        alerts: tuple[Alert, ...] = (),
        losses: dict[str, int] | None = None,
    ) -> None:
        self._workloads, self._edges, self._flows = workloads, edges, flows
        self._hosts, self._losses = hosts, losses or {}
        self._alerts = {alert.id: alert for alert in alerts}
        self._receivers: dict[str, Receiver] = {}
        self._changed, self._counter, self.coverage = threading.Condition(), 1, FakeCoverage(NOW)
        self.health = Health(self.change)
        self.reports: list[Report] = []
        memory = sa.create_engine(
            "sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
        )
        self.policies = Policies(
            memory, record=lambda *_: None, clock=lambda: NOW, changed=self.change
        )

    def change(self, **parts: object) -> None:
        """Replace parts (`edges=…`, `alerts=…`) and wake who waits."""
        with self._changed:
            for name, value in parts.items():
                wanted = {a.id: a for a in value} if name == "alerts" else value
                setattr(self, f"_{name}", wanted)
            self._counter += 1
            self._changed.notify_all()

    def ingest(self, report: Report) -> bool:
        if report in self.reports:
            return False
        self.reports.append(report)
        return True

    def hosts(self) -> tuple[HostState, ...]:
        return self._hosts

    def workloads(self) -> tuple[Workload, ...]:
        return self._workloads

    def edges(self, *, since: int | None = None, until: int | None = None) -> tuple[Edge, ...]:
        return tuple(
            edge
            for edge in sorted(self._edges, key=lambda e: e.id)
            if (since is None or edge.last_seen >= since)
            and (until is None or edge.last_seen < until)
        )

    def flows(self, query: FlowQuery) -> tuple[tuple[Flow, ...], str | None]:
        found = [flow for flow in self._flows if _answers(flow, query)]
        start = int(query.cursor or 0)
        end = start + query.limit
        return tuple(found[start:end]), str(end) if len(found) > end else None

    def judged_edges(self) -> tuple[Edge, ...]:
        return self._edges

    def replay(
        self, draft: Sequence[Document], before: Sequence[Document] | None = None, **_: int | None
    ) -> Replay:
        world = (self._workloads, self._hosts)
        return replay_of(self._flows, draft, before=before, world=world, now=NOW)

    def export(self, query: FlowQuery, format: str) -> Path:
        path = Path(tempfile.mkdtemp()) / f"flows.{format}"
        path.write_text("{}\n" * len(self.flows(query)[0]))
        return path

    def refuse(self, host: str) -> None:
        self._losses["reports refused"] = self._losses.get("reports refused", 0) + 1

    def losses(self) -> dict[str, int]:
        return dict(self._losses)

    def alerts(self, *, state: str | None = None) -> tuple[Alert, ...]:
        return tuple(a for a in self._alerts.values() if state in (None, a.state))

    def acknowledge(self, id: str, *, by: str) -> Alert:
        return self._set(id, "acknowledged")

    def resolve(self, id: str, *, by: str) -> Alert:
        return self._set(id, "resolved")

    def _set(self, id: str, state: str) -> Alert:
        if id not in self._alerts:
            raise NetwatchError("there is no such alert", code="not-found")
        self._alerts[id] = replace(self._alerts[id], state=state)
        self.change()
        return self._alerts[id]

    def receivers(self) -> tuple[Receiver, ...]:
        return tuple(self._receivers.values())

    def add_receiver(
        self, url: str, secret: str | None = None, *, allow_private: bool = False
    ) -> Receiver:
        id = f"receiver-{len(self._receivers) + 1}"
        self._receivers[id] = Receiver(id, url, allow_private, NOW)
        return replace(self._receivers[id], secret=secret or "whsec_bWFkZS1ieS11cw==")

    def remove_receiver(self, id: str) -> bool:
        return self._receivers.pop(id, None) is not None

    def deliveries(self, receiver: str | None = None) -> tuple[Delivery, ...]:
        return ()

    def agent_of(self, token: str) -> str | None:
        return AGENTS.get(token)

    def person_token(self) -> str:
        return TOKEN

    def accepts(self, token: str) -> bool:
        return token == TOKEN

    def wait_for_change(self, after: int, timeout_s: float) -> Change:
        with self._changed:
            changed = self._changed.wait_for(lambda: self._counter > after, timeout_s)
            return Change(counter=self._counter, timed_out=not changed)


def serve(controller: FakeController, *, clock: Callable[[], int] = lambda: NOW) -> Listener:
    """The API and the page of this controller on a free loopback port, started."""
    bound = listen_on("127.0.0.1:0")
    stopping = threading.Event()
    app = create_app(controller, clock=clock, stopping=stopping)  # type: ignore[arg-type]
    return Listener(app, bound, stopping=stopping).start()


def _answers(flow: Flow, query: FlowQuery) -> bool:
    ends = (flow.client.workload, flow.server.workload)
    edge = f"{ends[0]}>{ends[1]}:{flow.protocol}/{flow.server.port}"
    return (
        (query.workload is None or query.workload in ends)
        and query.edge in (None, edge)
        and query.port in (None, flow.server.port)
        and query.protocol in (None, flow.protocol)
        and query.encryption in (None, flow.encryption.status)
        and query.verdict in (None, flow.verdict)
        and (query.since is None or flow.last_seen >= query.since)
        and (query.until is None or flow.last_seen < query.until)
    )


def workload(name: str, *, host: str = "a", namespace: str = "shop", ports: str = "") -> Workload:
    """A workload with documented ports written like `80 443`."""
    number = sum(name.encode()) % 200 + 10
    return Workload(
        host=host,
        namespace=namespace,
        name=name,
        runtime="docker",
        labels=(
            Label("app", name, "own"),
            Label("com.docker.compose.project", namespace, "compose"),
        ),
        addresses=(f"198.18.{1 if host == 'a' else 2}.{number}",),
        ports=tuple(DocumentedPort(int(port), "tcp", "compose") for port in ports.split()),
        project=namespace,
        service=name,
        image=f"example/{name}:1.4",
        runtime_id=f"{number:064x}",
    )


def peer(workload: Workload) -> Peer:
    """The end of an edge that this workload is."""
    return Peer("workload", workload.name, workload.namespace, workload.host)


def edge(source: Peer, destination: Peer, port: int, encryption: str, **more: object) -> Edge:
    """An edge seen a moment before NOW; `encryption` is a status or a version."""
    versions = () if encryption in ("plaintext", "unknown") else (encryption,)
    known = Edge(
        source,
        destination,
        "tcp",
        port,
        connections=120 + port % 97,
        packets=4000 + port,
        bytes=900_000 + 731 * port,
        first_seen=NOW - 3600 * SECOND,
        last_seen=NOW - port % 9 * SECOND,
        encryption="encrypted" if versions else encryption,
        versions=versions,
        states=("established",),
        verdict="allow",
        documented="compose",
    )
    return replace(known, **more)  # type: ignore[arg-type]


def flows_of(edge: Edge, number: int = 3) -> tuple[Flow, ...]:
    """Conversations that this edge may consist of."""
    version = edge.versions[0] if edge.versions else None
    encryption = Encryption(
        status=edge.encryption,
        proof="handshake" if version else "content",
        protocol="tls" if version else "http",
        version=version,
        cipher="TLS_AES_128_GCM_SHA256" if version else None,
        server_name=f"{edge.destination.name}.internal" if version else None,
        alpn="h2" if version else None,
    )
    return tuple(
        Flow(
            client=Endpoint("198.18.1.20", 40_000 + index, edge.source.id),
            server=Endpoint("198.18.1.30", edge.port, edge.destination.id),
            protocol=edge.protocol,
            first_seen=edge.last_seen - (index + 1) * SECOND,
            last_seen=edge.last_seen - index * SECOND,
            client_packets=12,
            server_packets=14,
            client_bytes=1840,
            server_bytes=21_300,
            state="established",
            application=edge.applications[0] if edge.applications else None,
            direction="seen",
            encryption=encryption,
            reporter="client",
            host=edge.source.host,
            verdict=edge.verdict,
            staged=edge.staged,
        )
        for index in range(number)
    )


def shop() -> FakeController:
    """The demo estate: 13 workloads on two hosts, the internet, and something of everything."""
    w = {
        each.name: each
        for each in (
            workload("edge", ports="80 443"),
            workload("web", ports="8443"),
            workload("api", ports="8443"),
            workload("cache", ports="6379"),
            workload("queue", ports="5671"),
            workload("report", namespace="batch"),
            workload("metrics", namespace="ops", ports="9090"),
            workload("db", host="b", ports="5432"),
            workload("worker", host="b", ports="9100"),
            workload("pay", host="b", namespace="pay", ports="8443"),
            workload("pay-db", host="b", namespace="pay", ports="5432"),
            workload("mailer", host="b", ports="587"),
            workload("rogue", host="b", namespace="default"),
        )
    }
    p = {name: peer(each) for name, each in w.items()}
    p["internet"] = Peer("external", "internet")
    p["host-b"] = Peer("host", "b")
    http, redis, postgres = ("http",), ("redis",), ("postgresql",)
    edges = (
        edge(p["internet"], p["edge"], 443, "TLSv1.3", applications=http),
        edge(p["internet"], p["edge"], 80, "plaintext", applications=http),
        edge(p["edge"], p["web"], 8443, "TLSv1.3", applications=http),
        edge(p["web"], p["api"], 8443, "TLSv1.3", applications=http),
        edge(p["api"], p["db"], 5432, "TLSv1.2", applications=postgres),
        edge(p["api"], p["cache"], 6379, "plaintext", applications=redis),
        edge(p["api"], p["queue"], 5671, "TLSv1.2"),
        edge(p["api"], p["pay"], 8443, "TLSv1.3", applications=http),
        edge(p["worker"], p["queue"], 5671, "TLSv1.2"),
        edge(p["worker"], p["db"], 5432, "plaintext", applications=postgres),
        edge(p["worker"], p["mailer"], 587, "TLSv1.3"),
        edge(p["mailer"], p["internet"], 587, "TLSv1.2", documented=None),
        edge(p["pay"], p["pay-db"], 5432, "TLSv1.3", applications=postgres),
        edge(p["pay"], p["internet"], 443, "TLSv1.3", applications=http, documented=None),
        edge(p["report"], p["db"], 5432, "TLSv1.3", applications=postgres, staged="deny"),
        edge(p["metrics"], p["api"], 9102, "plaintext", applications=http, documented=None),
        edge(p["metrics"], p["worker"], 9100, "unknown"),
        edge(p["metrics"], p["web"], 8443, "TLSv1.3"),
        edge(p["rogue"], p["pay-db"], 5432, "unknown", verdict="deny", states=("unanswered",)),
        edge(p["rogue"], p["cache"], 6379, "plaintext", staged="deny", applications=redis),
        edge(p["host-b"], p["worker"], 9100, "unknown"),
    )
    edges = tuple(
        replace(e, documented=e.documented if e.destination.kind == "workload" else None)
        for e in edges
    )
    return FakeController(
        workloads=tuple(w.values()),
        edges=edges,
        flows=tuple(flow for e in edges for flow in flows_of(e)),
        hosts=(
            host("a", workloads=7),
            host("b", workloads=6, losses=(("ring-full", 120),)),
            host("c", silent=True, last_report=NOW - 240 * SECOND, capture=Capture("clsact")),
        ),
        alerts=shop_alerts(p),
        losses={"ring-full": 120},
    )


def host(name: str, **more: object) -> HostState:
    """A host that reported a second before NOW."""
    known = HostState(
        name,
        version="0.1.0",
        enrolled=NOW - 7200 * SECOND,
        first_report=NOW - 7100 * SECOND,
        last_report=NOW - SECOND,
        capture=Capture("tcx", ("veth1", "veth2")),
        interval=SECOND,
    )
    return replace(known, **more)  # type: ignore[arg-type]


def shop_alerts(p: dict[str, Peer]) -> tuple[Alert, ...]:
    """One alert of each detector of the first cut."""
    return (
        alert(
            "1",
            "plaintext",
            "high",
            "worker talks to db:5432 in plaintext",
            workloads=(p["worker"].id, p["db"].id),
            evidence=(
                {
                    "client": "198.18.2.64:40110",
                    "server": "198.18.2.208:5432",
                    "application": "postgresql",
                },
            ),
        ),
        alert(
            "2",
            "undocumented-port",
            "medium",
            "api serves port 9102, which nobody documented",
            workloads=(p["api"].id,),
            evidence=({"client": "metrics", "port": 9102, "connections": 201},),
        ),
        alert("3", "silent-agent", "high", "host c has been silent for 4 minutes", minutes=4),
    )


def alert(
    id: str,
    detector: str,
    severity: str,
    title: str,
    *,
    workloads: tuple[str, ...] = (),
    evidence: tuple[dict[str, object], ...] = (),
    minutes: int = 12,
) -> Alert:
    """An open alert."""
    finding = Finding(
        detector,
        f"subject-{id}",
        severity,
        title,
        "Say why it is right in a policy, or stop it.",
        evidence=evidence,
        workloads=workloads,
    )
    return Alert(id, finding, "open", NOW - minutes * 60 * SECOND, NOW)
