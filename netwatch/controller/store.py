"""The controller's state in SQLite; only policies.py writes tables of its own beside these.

WAL with synchronous=FULL: what was committed outlives kill -9 and a power cut. Flow history is
not here (history.py); neither is anything that every report changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from netwatch.controller.health import Wrote
from netwatch.controller.records import Delivery, Receiver
from netwatch.model.errors import NetwatchError
from netwatch.model.finding import Alert
from netwatch.model.host import HostState
from netwatch.model.workload import Workload

ALERTS_SHOWN = 5_000
DELIVERIES_SHOWN = 1_000
WAITING_LIMIT = 10_000  # per receiver; about four days of an alert every half minute
ACTIVE = ("open", "acknowledged", "snoozed")

_schema = sa.MetaData()
_hosts = sa.Table(
    "hosts",
    _schema,
    sa.Column("host", sa.String, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
)
_workloads = sa.Table(
    "workloads",
    _schema,
    sa.Column("identity", sa.String, primary_key=True),
    sa.Column("host", sa.String, nullable=False, index=True),
    sa.Column("gone", sa.BigInteger),
    sa.Column("document", sa.Text, nullable=False),
)
_tokens = sa.Table(
    "tokens",
    _schema,
    sa.Column("host", sa.String, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False, unique=True),
)
_alerts = sa.Table(
    "alerts",
    _schema,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("opened", sa.BigInteger, nullable=False, index=True),
    sa.Column("changed_by", sa.String),
    sa.Column("document", sa.Text, nullable=False),
)
_receivers = sa.Table(
    "receivers",
    _schema,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("secret", sa.String, nullable=False),
    sa.Column("allow_private", sa.Boolean, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("disabled", sa.String),
)
_deliveries = sa.Table(
    "deliveries",
    _schema,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("receiver", sa.String, nullable=False),
    sa.Column("alert", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("due", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("problem", sa.String),
    sa.Index("deliveries_by_state", "receiver", "state", "due"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """What receivers are told about one alert: its type and the body, the same for all."""

    alert: str
    type: str
    body: str
    created: int


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Store:
    """One SQLite file. Methods may be called from any thread; each is one transaction.

    `engine` is for whoever keeps tables of its own in the same file.
    """

    def __init__(self, path: Path, *, wrote: Wrote = lambda _: None) -> None:
        self._wrote = wrote  # hears of each write how it went
        self.engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        sa.event.listen(self.engine, "connect", _configure)
        sa.event.listen(self.engine, "handle_error", _failed, retval=True)
        _schema.create_all(self.engine)

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except NetwatchError as failure:
            if failure.code == "state-failed":
                self._wrote(failure)
            raise
        self._wrote(None)

    def _read(self, query: sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    # hosts, workloads, tokens

    def hosts(self) -> tuple[HostState, ...]:
        """Every host as it was saved last."""
        rows = self._read(sa.select(_hosts.c.state))
        return tuple(msgspec.json.decode(row.state, type=HostState) for row in rows)

    def save_hosts(self, hosts: Iterable[HostState]) -> None:
        """Writes these hosts over what was known of them."""
        with self._write() as connection:
            for host in hosts:
                connection.execute(
                    _hosts.insert().prefix_with("OR REPLACE"),
                    {"host": host.host, "state": _json(host)},
                )

    def workloads(self) -> tuple[tuple[Workload, bool], ...]:
        """Every workload ever reported and not yet forgotten; True: it is still there."""
        rows = self._read(sa.select(_workloads.c.document, _workloads.c.gone))
        return tuple(
            (msgspec.json.decode(row.document, type=Workload), row.gone is None) for row in rows
        )

    def save_workloads(self, host: str, workloads: Iterable[Workload], now: int) -> None:
        """These are the workloads of that host now; others of it are marked as gone."""
        rows = [
            {"identity": w.identity, "host": host, "gone": None, "document": _json(w)}
            for w in workloads
        ]
        still_there = _workloads.c.host == host, _workloads.c.gone.is_(None)
        with self._write() as connection:
            connection.execute(_workloads.update().where(*still_there).values(gone=now))
            if rows:
                connection.execute(_workloads.insert().prefix_with("OR REPLACE"), rows)

    def forget_workloads(self, before: int) -> None:
        """Deletes workloads that went before that time."""
        with self._write() as connection:
            connection.execute(_workloads.delete().where(_workloads.c.gone < before))

    def set_token(self, host: str, token: str) -> None:
        """Binds a token to a host in place of any before. 256 random bits need no slow hash."""
        row = {"host": host, "sha256": hashlib.sha256(token.encode()).hexdigest()}
        with self._write() as connection:
            connection.execute(_tokens.insert().prefix_with("OR REPLACE"), row)

    def host_of_token(self, token: str) -> str | None:
        """The host that this token is bound to."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        rows = self._read(sa.select(_tokens.c.host).where(_tokens.c.sha256 == digest))
        return rows[0].host if rows else None

    # alerts and what is sent about them

    def alerts(self, state: str | None = None) -> tuple[Alert, ...]:
        """The newest alerts first."""
        query = sa.select(_alerts.c.document).order_by(
            _alerts.c.opened.desc(), _alerts.c.id.desc()
        )
        if state is not None:
            query = query.where(_alerts.c.state == state)
        return _alerts_of(self._read(query.limit(ALERTS_SHOWN)))

    def active_alerts(self) -> tuple[Alert, ...]:
        """Every alert whose cause was still there."""
        return _alerts_of(
            self._read(sa.select(_alerts.c.document).where(_alerts.c.state.in_(ACTIVE)))
        )

    def save_alerts(
        self, alerts: Iterable[Alert], events: Iterable[Event] = (), *, by: str | None = None
    ) -> int:
        """Writes alerts and queues their events in one transaction; returns the events dropped.

        An event is dropped for a receiver that has WAITING_LIMIT waiting already.
        """
        events = list(events)
        with self._write() as connection:
            rows = [_alert_row(alert, by) for alert in alerts]
            if rows:
                connection.execute(_alerts.insert().prefix_with("OR REPLACE"), rows)
            return _queue(connection, events) if events else 0

    def forget_alerts(self, before: int) -> None:
        """Deletes resolved alerts opened before that time, and deliveries ended before it."""
        old = _alerts.c.state == "resolved", _alerts.c.opened < before
        with self._write() as connection:
            connection.execute(_alerts.delete().where(*old))
            connection.execute(_deliveries.delete().where(_deliveries.c.ended < before))

    # receivers and deliveries

    def receivers(self) -> tuple[Receiver, ...]:
        """All, with secrets and counts."""
        count = sa.func.count()
        totals = sa.select(_deliveries.c.receiver, _deliveries.c.state, count.label("n"))
        counts = {
            (row.receiver, row.state): row.n
            for row in self._read(totals.group_by(_deliveries.c.receiver, _deliveries.c.state))
        }
        return tuple(
            Receiver(
                id=row.id,
                url=row.url,
                allow_private=row.allow_private,
                created=row.created,
                disabled=row.disabled,
                waiting=counts.get((row.id, "waiting"), 0),
                delivered=counts.get((row.id, "delivered"), 0),
                failed=counts.get((row.id, "failed"), 0),
                secret=row.secret,
            )
            for row in self._read(sa.select(_receivers).order_by(_receivers.c.created))
        )

    def save_receiver(self, receiver: Receiver) -> None:
        """Writes the receiver, its counts excepted."""
        row = {
            "id": receiver.id,
            "url": receiver.url,
            "secret": receiver.secret,
            "allow_private": receiver.allow_private,
            "created": receiver.created,
            "disabled": receiver.disabled,
        }
        with self._write() as connection:
            connection.execute(_receivers.insert().prefix_with("OR REPLACE"), row)

    def remove_receiver(self, id: str) -> bool:
        """Deletes the receiver and its deliveries."""
        with self._write() as connection:
            connection.execute(_deliveries.delete().where(_deliveries.c.receiver == id))
            return (
                connection.execute(_receivers.delete().where(_receivers.c.id == id)).rowcount > 0
            )

    def disable_receiver(self, id: str, reason: str, now: int) -> None:
        """Nothing is sent there any more; what waits has failed for that reason."""
        waiting = _deliveries.c.receiver == id, _deliveries.c.state == "waiting"
        ended = {"state": "failed", "ended": now, "problem": reason}
        with self._write() as connection:
            connection.execute(
                _receivers.update().where(_receivers.c.id == id).values(disabled=reason)
            )
            connection.execute(_deliveries.update().where(*waiting).values(ended))

    def due(self, now: int, limit: int) -> dict[str, list[tuple[Delivery, str]]]:
        """What is to be sent now, with its body, by receiver, oldest first."""
        query = (
            sa.select(_deliveries)
            .where(_deliveries.c.state == "waiting", _deliveries.c.due <= now)
            .order_by(_deliveries.c.number)
        )
        found: dict[str, list[tuple[Delivery, str]]] = {}
        with self.engine.connect() as connection:
            for id in connection.scalars(sa.select(_receivers.c.id)).all():
                mine = query.where(_deliveries.c.receiver == id).limit(limit)
                rows = connection.execute(mine).all()
                if rows:
                    found[id] = [(_delivery(row), row.body) for row in rows]
        return found

    def save_delivery(self, delivery: Delivery) -> None:
        """Writes how a try ended; a delivery that was removed meanwhile stays removed."""
        values = {
            "state": delivery.state,
            "attempts": delivery.attempts,
            "due": delivery.due,
            "ended": delivery.ended,
            "problem": delivery.problem,
        }
        with self._write() as connection:
            connection.execute(
                _deliveries.update().where(_deliveries.c.id == delivery.id).values(values)
            )

    def deliveries(self, receiver: str | None = None) -> tuple[Delivery, ...]:
        """The newest first."""
        query = sa.select(_deliveries).order_by(_deliveries.c.number.desc())
        if receiver is not None:
            query = query.where(_deliveries.c.receiver == receiver)
        return tuple(_delivery(row) for row in self._read(query.limit(DELIVERIES_SHOWN)))


def _failed(context: sa.ExceptionContext) -> BaseException | None:
    """A disk that is full is told as what it is, and ends nothing."""
    if not isinstance(context.original_exception, sqlite3.OperationalError):
        return None
    return NetwatchError(
        f"the state can not be written or read: {str(context.original_exception)[:200]}",
        "is there room on the disk of the state folder?",
        code="state-failed",
    )


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.close()


def _alert_row(alert: Alert, by: str | None) -> dict[str, Any]:
    return {
        "id": alert.id,
        "state": alert.state,
        "opened": alert.opened,
        "changed_by": by,
        "document": _json(alert),
    }


def _alerts_of(rows: Iterable[Any]) -> tuple[Alert, ...]:
    return tuple(msgspec.json.decode(row.document, type=Alert) for row in rows)


def _queue(connection: sa.Connection, events: list[Event]) -> int:
    dropped = 0
    rows = []
    enabled = sa.select(_receivers.c.id).where(_receivers.c.disabled.is_(None))
    for receiver in connection.scalars(enabled).all():
        waiting = connection.scalar(
            sa.select(sa.func.count())
            .select_from(_deliveries)
            .where(_deliveries.c.receiver == receiver, _deliveries.c.state == "waiting")
        )
        room = max(0, WAITING_LIMIT - (waiting or 0))
        dropped += max(0, len(events) - room)
        rows += [_delivery_row(event, receiver) for event in events[:room]]
    if rows:
        connection.execute(_deliveries.insert(), rows)
    return dropped


def _delivery_row(event: Event, receiver: str) -> dict[str, Any]:
    # One alert opens once and is resolved once, so these three name the message for ever.
    name = f"{event.type} {event.alert} {receiver}"
    return {
        "id": "msg_" + hashlib.sha256(name.encode()).hexdigest()[:32],
        "receiver": receiver,
        "alert": event.alert,
        "type": event.type,
        "body": event.body,
        "state": "waiting",
        "attempts": 0,
        "created": event.created,
        "due": event.created,
    }


def _delivery(row: Any) -> Delivery:
    values = dict(row._mapping)
    del values["number"], values["body"]
    return Delivery(**values)


def without_secret(receiver: Receiver) -> Receiver:
    """The receiver as it may be shown."""
    return replace(receiver, secret="")
