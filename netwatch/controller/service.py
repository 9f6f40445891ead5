"""The controller as its callers see it: reports go in, the map, alerts and webhooks come out.

The only class that the API, `netwatch up` and the server's thread use. Every method may be called
from any thread. Times are nanoseconds since the epoch by the clock given.
"""

from __future__ import annotations

import hmac
import os
import random
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from netwatch import audit, detect
from netwatch.controller import alerts as life
from netwatch.controller import webhook
from netwatch.controller.account import REFUSED, missing
from netwatch.controller.coverage import Coverage
from netwatch.controller.delivery import Dispatcher, keep_receiver_of, new_receiver
from netwatch.controller.edges import edges_of, grouped
from netwatch.controller.fleet import Fleet, check
from netwatch.controller.folder import guard, kept_token
from netwatch.controller.health import Health
from netwatch.controller.history import History
from netwatch.controller.policies import Policies
from netwatch.controller.records import Change, Delivery, FlowQuery, Receiver
from netwatch.controller.replays import held, replay_of
from netwatch.controller.rounds import Rounds
from netwatch.controller.store import Event, Store, without_secret
from netwatch.detect.silence import is_silent
from netwatch.graph.external import parse_groups
from netwatch.model.edge import Edge
from netwatch.model.errors import InvalidDocument
from netwatch.model.finding import Alert
from netwatch.model.flow import Flow
from netwatch.model.host import HostState
from netwatch.model.learned import LearnedName
from netwatch.model.policy_version import Document
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload
from netwatch.policy.replay import Replay
from netwatch.settings import Settings
from netwatch.wire import BadReport

JUDGED = 2 * 3_600 * SECOND  # edges seen since then raise findings: an hourly job is one alert
LOOK_EVERY = 2 * SECOND
LOOK_SHARE = 20  # looking takes at most a twentieth of the time, however large the fleet
SAVE_EVERY = 10 * SECOND
ROLL_EVERY = 60 * SECOND
PURGE_EVERY = 60 * SECOND
RENAME_BACK = 900 * SECOND  # a peer that gets its name now was the same this long ago
ALERTS_KEPT = 90 * 24 * 3_600 * SECOND
LONGEST_WAIT_S = 60.0


class Controller:
    """Owns the folder: state.db (SQLite), history.db (DuckDB), token. One process at a time.

    `policies`: their versions; `coverage`: who was observed when; `health`: what can be kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Settings,
        clock: Callable[[], int],
        send: webhook.Send = webhook.post,
    ) -> None:
        """Opens the folder, making it if absent; raises NetwatchError if another process has it.

        Where settings name a webhook_url, that receiver is made (once).
        """
        self._settings = settings
        self._clock = clock
        self._groups = parse_groups(settings.external)
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard = guard(folder)
        self.health = Health(self._announce)
        try:
            self._history = History(folder / "history.db", wrote=self.health.of("history"))
            self._store = Store(folder / "state.db", wrote=self.health.of("state"))
        except BaseException:
            os.close(self._guard)
            raise
        self.coverage = Coverage(self._history, clock)
        self._ingesting = threading.Lock()
        self._changed = threading.Condition()  # guards everything below
        self._counter = 1
        self._fleet = Fleet()
        self._fleet.load(self._store.hosts(), self._store.workloads())
        self._active = {life.cause_of(a.finding): a for a in self._store.active_alerts()}
        self._dropped = {"alerts-over-limit": 0, "webhooks-over-limit": 0}
        self._listening_since = clock()
        self._rounds = Rounds()
        self._judged: tuple[Edge, ...] = ()
        self._replaying = threading.Lock()
        self._closed = False
        self._token = kept_token(folder / "token")
        self._dispatcher = Dispatcher(
            self._store, send=send, clock=clock, random=random.Random().random
        )
        record = audit.recorder(folder, audit.this_actor(os.environ), clock)
        self.policies = Policies(
            self._store.engine, record=record, clock=clock, changed=self._announce
        )
        try:
            keep_receiver_of(settings, self._store, now=clock())
        except InvalidDocument:
            self.close()
            raise

    def ingest(self, report: Report) -> bool:
        """True: new and now durable. False: a repeat, nothing changed. Raises BadReport.

        Whoever calls has checked that the token belongs to `report.host` (`agent_of`).
        """
        check(report)
        now = self._clock()
        with self._ingesting:
            if self._history.knows(report):
                return False
            with self._changed:
                before = self._fleet.hosts.get(report.host)
                losses = missing(report, before, self._fleet.present.get(report.host, ()), now)
                learned = self._fleet.learn(report, now)
                host = self._fleet.hosts[report.host]
            # In this order, because each step may be repeated but append() ends the retries.
            self._history.rename(learned.names, since=now - RENAME_BACK)
            if learned.workloads:
                self._store.save_workloads(report.host, report.workloads, now)
            if learned.workloads or before is None:
                self._store.save_hosts([host])
            named = self._fleet.named(report.flows, report.host)
            try:
                new = self._history.append(report, named, now, losses=losses)
            except (OverflowError, ValueError, TypeError) as error:
                raise BadReport(f"the report can not be counted: {error}") from None
        self._announce()
        return new

    def refuse(self, host: str) -> None:
        """A report of this host, proven by its token, could not be read or counted."""
        self._history.lose(host, REFUSED, 1)

    def hosts(self) -> tuple[HostState, ...]:
        """Every host that was enrolled or has reported, by name."""
        losses = self._history.losses()
        now, wanted = self._clock(), self.policies.sha256()
        with self._changed:
            known = sorted(self._fleet.hosts.items())
        return tuple(
            replace(
                host,
                losses=tuple(losses.get(name, {}).items()),
                silent=is_silent(host, now, listening_since=self._listening_since),
                wanted=wanted,
            )
            for name, host in known
        )

    def workloads(self) -> tuple[Workload, ...]:
        """The workloads of the last report of each host, by identity."""
        with self._changed:
            present = list(self._fleet.present.values())
        return tuple(sorted((w for mine in present for w in mine), key=lambda w: w.identity))

    def edges(self, *, since: int | None = None, until: int | None = None) -> tuple[Edge, ...]:
        """All edges with a flow last seen in [since, until), by id; all of history by default."""
        halves = self._history.edges(since, until)
        with self._changed:
            known = dict(self._fleet.known)
        return edges_of(halves, known, self._groups)

    def judged_edges(self) -> tuple[Edge, ...]:
        """Those of the last two hours, as detectors saw them last: at no cost."""
        return self._judged

    def flows(self, query: FlowQuery) -> tuple[tuple[Flow, ...], str | None]:
        """Conversations, newest first, and the cursor of the next page or None.

        Raises UsageError for a cursor or an edge id that can not be read.
        """
        flows, cursor = self._history.flows(query)
        return tuple(grouped(flow, self._groups) for flow in flows), cursor

    def replay(
        self,
        draft: Sequence[Document],
        before: Sequence[Document] | None = None,
        *,
        since: int | None = None,
        until: int | None = None,
    ) -> Replay:
        """What the draft would have done to all flows of [since, until); NetwatchError if busy."""
        with held(self._replaying, "a replay or an export is under way"):
            flows, left = self._history.alike(since, until)
            world, now = (self.workloads(), self.hosts()), self._clock()
            return replay_of(flows, draft, before=before, world=world, now=now, left_out=left)

    def export(self, query: FlowQuery, format: str) -> Path:
        """A file of the flows that fit, which the caller takes away; one at a time."""
        path = self._folder / f"export.{format}"
        with held(self._replaying, "a replay or an export is under way"):
            self._history.export(query, path, format)
            return path.rename(path.with_stem(f"export-{secrets.token_hex(8)}"))

    def names(self) -> tuple[LearnedName, ...]:
        """What hosts learned of names from answers, as far as it has not expired."""
        now = self._clock()
        with self._changed:
            return tuple(each for each in self._fleet.names.values() if each.expires > now)

    def losses(self) -> dict[str, int]:
        """What the fleet's captures saw and dropped, in total, by reason."""
        total = {reason: count for reason, count in self._dropped.items() if count}
        for losses in self._history.losses().values():
            for reason, count in losses.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def alerts(self, *, state: str | None = None) -> tuple[Alert, ...]:
        """Alerts, newest first; `state` open, acknowledged, snoozed or resolved. At most 5,000."""
        return self._store.alerts(state)

    def acknowledge(self, id: str, *, by: str) -> Alert:
        """Somebody looks at it; it ends with its cause. Raises NetwatchError not-found."""
        with self._changed:
            alert = life.with_id(self._active.values(), id)
            changed = replace(alert, state="acknowledged", updated=self._clock())
            self._store.save_alerts([changed], by=by)
            self._active[life.cause_of(alert.finding)] = changed
        self._announce()
        return changed

    def resolve(self, id: str, *, by: str) -> Alert:
        """Closed by hand; a lasting cause opens a new one. Raises NetwatchError not-found."""
        with self._changed:
            alert, now = life.with_id(self._active.values(), id), self._clock()
            changed = replace(alert, state="resolved", updated=now, resolved=now)
            self._save_alerts([changed], [life.event("alert.resolved", changed, now)], by=by)
            del self._active[life.cause_of(alert.finding)]
        self._announce()
        return changed

    def receivers(self) -> tuple[Receiver, ...]:
        """Where alerts go, without secrets."""
        return tuple(without_secret(receiver) for receiver in self._store.receivers())

    def add_receiver(
        self, url: str, secret: str | None = None, *, allow_private: bool = False
    ) -> Receiver:
        """A new receiver; without a secret one is made. Raises InvalidDocument for url or secret.

        Its `secret` is in this answer and nowhere else.
        """
        now = self._clock()
        return new_receiver(self._store, url, secret, allow_private=allow_private, now=now)

    def remove_receiver(self, id: str) -> bool:
        """Forgets it and what waits for it; False if there is none."""
        return self._store.remove_receiver(id)

    def deliveries(self, receiver: str | None = None) -> tuple[Delivery, ...]:
        """The last 1,000 deliveries, newest first."""
        return self._store.deliveries(receiver)

    def audited(self, last: int) -> tuple[audit.Entry, ...]:
        """The last lines of the audit trail, oldest first."""
        return audit.read(self._folder, last=last)

    def enrol(self, host: str) -> str:
        """A new token bound to that host; tokens before stop working. Stored only as a hash.

        Raises UsageError if `host` is no host name.
        """
        token = secrets.token_urlsafe(32)
        with self._changed:
            state = self._fleet.enrol(host, self._clock())
        self._store.save_hosts([state])
        self._store.set_token(host, token)
        return token

    def agent_of(self, token: str) -> str | None:
        """The host that this agent token is bound to, or None."""
        return self._store.host_of_token(token)

    def person_token(self) -> str:
        """The first-run token for people and programs, kept in folder/token with mode 0600."""
        return self._token

    def accepts(self, token: str) -> bool:
        """Whether this is the person token (compared in constant time)."""
        return hmac.compare_digest(token.encode(errors="replace"), self._token.encode())

    def wait_for_change(self, after: int, timeout_s: float) -> Change:
        """Returns once the counter is above `after`, or after `timeout_s` (at most 60)."""
        with self._changed:
            # A caller that remembers a counter of before a restart is told at once.
            if after <= self._counter:
                self._changed.wait_for(
                    lambda: self._counter > after or self._closed, min(timeout_s, LONGEST_WAIT_S)
                )
            return Change(self._counter, timed_out=self._counter == after)

    def tick(self, now: int) -> None:
        """Runs detectors, updates alerts, starts due webhooks, rolls up and purges history.

        Called about once a second by the server's thread; does not wait for receivers.
        """
        if self._rounds.broken(now):  # who was not listened to is not silent
            with self._changed:
                self._listening_since = now
                self._fleet.heard_by(now)
        self.policies.expire()
        if self._rounds.is_due("save", now, SAVE_EVERY):
            with self._changed:
                hosts = list(self._fleet.hosts.values())
            self._store.save_hosts(hosts)
        if self._rounds.is_due("look", now, LOOK_EVERY):
            started = self._clock()
            self._look(now)
            self._rounds.rest("look", now, max(LOOK_EVERY, LOOK_SHARE * (self._clock() - started)))
        self._dispatcher.start_due(now)
        if self._rounds.is_due("roll", now, ROLL_EVERY):
            self._history.roll_up(now)
        if self._rounds.is_due("purge", now, PURGE_EVERY):
            self._history.purge(now, retention_hours=self._settings.retention_hours)
            self._history.shrink(self._settings.history_bytes)
            self._store.forget_alerts(now - ALERTS_KEPT)
            self._store.forget_workloads(now - ALERTS_KEPT)

    def close(self) -> None:
        """Stops sending and closes both stores; calling it twice is harmless."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._dispatcher.stop(timeout_s=2.0)
        with self._ingesting:
            self._store.save_hosts(self._fleet.hosts.values())
            self._history.close()
            self._store.close()
            os.close(self._guard)

    def settle(self, timeout_s: float) -> bool:
        """Waits until no webhook is under way; False if that takes longer."""
        return self._dispatcher.join(timeout_s)

    # inside

    def _announce(self) -> None:
        with self._changed:
            self._counter += 1
            self._changed.notify_all()

    def _look(self, now: int) -> None:
        """Runs the detectors and moves the alerts on; what changed is queued for receivers."""
        self._judged = edges = self.edges(since=now - JUDGED)
        with self._changed:
            state = detect.FleetState(
                workloads=dict(self._fleet.known),
                edges=edges,
                hosts=tuple(self._fleet.hosts.values()),
                listening_since=self._listening_since,
                denials=self._fleet.denials.recent(now),
            )
            self._dropped["denials-over-limit"] = self._fleet.denials.dropped
        findings = [finding for detector in detect.DETECTORS for finding in detector(state, now)]
        with self._changed:
            step = life.step(self._active, findings, now, new_id=_alert_id)
            events = [life.event("alert.opened", alert, now) for alert in step.opened]
            events += [life.event("alert.resolved", alert, now) for alert in step.resolved]
            changed = (*step.opened, *step.updated, *step.resolved)
            if changed:
                self._save_alerts(changed, events)
            self._active = step.active
            self._dropped["alerts-over-limit"] = step.dropped
        if events:
            self._announce()

    def _save_alerts(
        self, alerts: Iterable[Alert], events: Iterable[Event], *, by: str | None = None
    ) -> None:
        dropped = self._store.save_alerts(alerts, events, by=by)
        self._dropped["webhooks-over-limit"] += dropped


def _alert_id() -> str:
    return f"al_{secrets.token_hex(8)}"
