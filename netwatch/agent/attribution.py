"""Who and what is behind the ends of a flow: processes on this host, names of addresses outside.

Asked once for each connection, when it is new, and remembered for the packets that follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from netwatch.agent.learned import LearnedNames
from netwatch.agent.names import Names
from netwatch.agent.processes import Processes
from netwatch.capture.sensor import Payload
from netwatch.model.flow import Endpoint, Flow, Process
from netwatch.model.learned import LearnedName

MAX_KNOWN = 65_536
MAX_LOOKED = 256  # new connections whose processes are looked for in one round, 15 us each
_Key = tuple[str, int | None, str, int | None, str]
_Both = tuple[Process | None, Process | None]
Value = TypeVar("Value")


class Attribution:
    """`own` is a process in the host's own network namespace: the agent."""

    def __init__(self, processes: Processes, learned: LearnedNames, *, own: int) -> None:
        self._processes = processes
        self._learned = learned
        self._own = own
        self._holders: dict[_Key, _Both] = {}
        self._called: dict[_Key, str] = {}
        self._looked = 0
        self._unlooked = 0

    def learn(self, payloads: Iterable[Payload], names: Names, now: int) -> None:
        """Take the answers of name servers out of what was captured."""
        self._learned.learn(payloads, names, now)

    def news(self) -> tuple[LearnedName, ...]:
        """Names that were learned or renewed since the last time."""
        return self._learned.news()

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason. A process that nobody looked for is no loss: the flow is told."""
        return (("names not kept", self._learned.dropped),)

    @property
    def unlooked(self) -> int:
        """New connections, and namespaces, that there was no room to look at."""
        return self._unlooked + self._processes.unlooked

    def __call__(self, flows: Sequence[Flow], names: Names, now: int) -> tuple[Flow, ...]:
        """The same flows with what is known of their ends."""
        self._processes.begin(now)
        self._looked = 0
        return tuple(self._attributed(flow, names) for flow in flows)

    def _attributed(self, flow: Flow, names: Names) -> Flow:
        client, server = flow.client, flow.server
        key = (client.address, client.port, server.address, server.port, flow.protocol)
        holders = self._both(key, flow, names)
        if holders != (None, None):
            client = replace(client, process=holders[0])
            server = replace(server, process=holders[1])
        name = self._name(key, flow, names)
        if name is not None:
            server = replace(server, name=name, named_by="dns")
        if client is flow.client and server is flow.server:
            return flow
        return replace(flow, client=client, server=server)

    def _both(self, key: _Key, flow: Flow, names: Names) -> _Both:
        if flow.protocol not in ("tcp", "udp") or flow.server.port is None:
            return None, None
        known = self._holders.get(key)
        if known is not None and not flow.connections:
            return known
        if self._looked >= MAX_LOOKED:
            self._unlooked += 1
            return None, None
        self._looked += 1
        found = self._client(flow, names), self._server(flow, names)
        _keep(self._holders, key, found)
        return found

    def _client(self, flow: Flow, names: Names) -> Process | None:
        """Its socket, by where it aimed; of several connections on one port it is none's."""
        pid = self._pid(flow.client, names)
        if pid is None or flow.client.port is None or flow.connections > 1:
            return None
        for aimed in (flow.original, flow.server):
            if aimed is not None and aimed.port is not None:
                ends = (flow.client.address, flow.client.port, aimed.address, aimed.port)
                found = self._processes.of_connection(pid, flow.protocol, ends)
                if found is not None:
                    return found
        return None

    def _server(self, flow: Flow, names: Names) -> Process | None:
        """Whoever accepted it, else whoever listens on that port."""
        client, server = flow.client, flow.server
        pid = self._pid(server, names)
        if pid is None or server.port is None or flow.state in ("refused", "unanswered"):
            return None
        found = None
        if client.port is not None:
            ends = (server.address, server.port, client.address, client.port)
            found = self._processes.of_connection(pid, flow.protocol, ends)
        return found or self._processes.of_port(pid, flow.protocol, server.port)

    def _pid(self, end: Endpoint, names: Names) -> int | None:
        """A process that lives in the network namespace of this end, if it is on this host."""
        if end.workload is None:
            return self._own if end.address in names.own else None
        local = names.local.get(end.workload)
        return local.pid if local else None

    def _name(self, key: _Key, flow: Flow, names: Names) -> str | None:
        server = flow.server
        if server.name or server.workload or names.is_known(server.address):
            return None
        known = self._called.get(key)
        if known is None:
            known = self._learned.name(
                server.address, workload=flow.client.workload, at=flow.first_seen
            )
            if known is not None:
                _keep(self._called, key, known)
        return known


def _keep(table: dict[_Key, Value], key: _Key, value: Value) -> None:
    table.pop(key, None)
    while len(table) >= MAX_KNOWN:
        del table[next(iter(table))]
    table[key] = value
