"""`/metrics` in the Prometheus text format, computed when asked.

No label names a workload or a pair of them: their number is not ours to bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from netwatch import __version__
from netwatch.controller.service import Controller
from netwatch.model.finding import SEVERITIES
from netwatch.model.times import SECOND

STATES = ("open", "acknowledged", "snoozed", "resolved")


class _Fleet:
    """Asks the controller at each scrape (the collector protocol of prometheus_client)."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("netwatch_build_info", "Version in use.", labels=("version",))
        build.add_metric([__version__], 1)
        yield build
        yield from self._hosts()
        yield from self._traffic()
        yield from self._alerts()

    def _hosts(self) -> Iterable[Metric]:
        hosts = self._controller.hosts()
        known = GaugeMetricFamily("netwatch_hosts", "Hosts by state.", labels=("state",))
        known.add_metric(
            ["reporting"], sum(h.last_report is not None and not h.silent for h in hosts)
        )
        known.add_metric(["silent"], sum(h.silent for h in hosts))
        known.add_metric(["waiting"], sum(h.last_report is None and not h.silent for h in hosts))
        yield known
        last = GaugeMetricFamily(
            "netwatch_host_last_report_seconds",
            "When a host reported last, Unix time.",
            labels=("host",),
        )
        for host in hosts:
            if host.last_report is not None:
                last.add_metric([host.host], host.last_report / SECOND)
        yield last

    def _traffic(self) -> Iterable[Metric]:
        controller = self._controller
        yield GaugeMetricFamily(
            "netwatch_workloads", "Workloads of the last reports.", len(controller.workloads())
        )
        edges = controller.judged_edges()  # all of history would be read anew at each scrape
        counted = Counter(edge.encryption for edge in edges)
        family = GaugeMetricFamily(
            "netwatch_edges",
            "Edges of the last two hours by the worst encryption seen.",
            labels=("encryption",),
        )
        for status in ("encrypted", "plaintext", "unknown"):
            family.add_metric([status], counted[status])
        yield family
        yield GaugeMetricFamily(
            "netwatch_connections",
            "Connections on the edges of the last two hours.",
            sum(e.connections for e in edges),
        )
        changes = CounterMetricFamily("netwatch_changes", "Reports and alerts taken in.")
        changes.add_metric([], controller.wait_for_change(-1, 0).counter)
        yield changes
        losses = CounterMetricFamily(
            "netwatch_losses", "What was seen and dropped, by reason.", labels=("reason",)
        )
        for reason, number in sorted(controller.losses().items()):
            losses.add_metric([reason], number)
        yield losses

    def _alerts(self) -> Iterable[Metric]:
        counted = Counter((a.finding.severity, a.state) for a in self._controller.alerts())
        family = GaugeMetricFamily(
            "netwatch_alerts", "Alerts by severity and state.", labels=("severity", "state")
        )
        for severity in SEVERITIES:
            for state in STATES:
                family.add_metric([severity, state], counted[severity, state])
        yield family


def render(controller: Controller) -> bytes:
    """All metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fleet(controller))
    return generate_latest(registry)
