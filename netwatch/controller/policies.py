"""The policies of the fleet: every version that was, which one is wanted now, and until when.

A version is the whole set of documents and never changes. What is wanted is the last of the turns:
each decision (apply, go back, time over) appends one. A turn that waits for its confirmation ends
by itself: the last one that was final is taken up again. The tables here are written by nobody
else; they are in the store's file, so that one copy of it holds everything. Each decision stands
in the audit trail before it counts: what can not be audited is not done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from netwatch.audit import Record
from netwatch.controller.judging import policies_of
from netwatch.controller.policy_documents import changed_mode, checked_documents
from netwatch.model.errors import NetwatchError, UsageError
from netwatch.model.policy_version import NO_DOCUMENTS, Document, PolicyVersion, Wanted, digest_of
from netwatch.model.times import SECOND
from netwatch.policy.explain import Explanation, Question, explain
from netwatch.policy.ir import Mode, World

TEXT_LIMIT = 500  # of author, reason, ticket and replay
KEPT = 1_000  # versions; the oldest go first
CONFIRM_S = 60  # semantics 4
LONGEST_CONFIRM_S = 3_600

_schema = sa.MetaData()
_versions = sa.Table(
    "policy_versions",
    _schema,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("ticket", sa.String),
    sa.Column("replay", sa.String),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("restores", sa.Integer),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("documents", sa.Text, nullable=False),
)
_turns = sa.Table(
    "policy_turns",
    _schema,
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("began", sa.BigInteger, nullable=False),
    sa.Column("confirm_by", sa.BigInteger),
    sa.Column("confirmed", sa.BigInteger),
)


@dataclass(frozen=True, slots=True)
class Signed:
    """Who wants a version, and why; all but the author may be unknown."""

    author: str
    reason: str | None = None
    ticket: str | None = None
    replay: str | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    turn: int
    version: int
    began: int
    confirm_by: int | None
    confirmed: int | None

    @property
    def final(self) -> bool:
        return self.confirm_by is None or self.confirmed is not None


class Policies:
    """Methods may be called from any thread. `changed` is called after each decision, `record`
    before it counts.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        record: Record,
        clock: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._record = record
        self._clock = clock
        self._changed = changed
        self._lock = threading.RLock()
        _schema.create_all(engine)
        with engine.connect() as connection:
            rows = connection.execute(sa.select(_turns).order_by(_turns.c.turn)).all()
        self._history = [_Turn(**row._mapping) for row in rows]
        self._held: tuple[Document, ...] = ()
        self._sha256 = NO_DOCUMENTS
        self._hold(self.documents(self._history[-1].version) if self._history else ())

    def versions(self) -> tuple[PolicyVersion, ...]:
        """All that are kept, the newest first."""
        columns = [column for column in _versions.c if column.name != "documents"]
        query = sa.select(*columns).order_by(_versions.c.version.desc())
        with self._lock, self._engine.connect() as connection:
            rows = connection.execute(query).all()
            return tuple(self._version(row) for row in rows)

    def version(self, which: str) -> PolicyVersion:
        """By its number, or `current`, or `previous`; raises NetwatchError not-found."""
        with self._lock:
            number = self._number(which)
            found = next((v for v in self.versions() if v.version == number), None)
        if found is None:
            raise NetwatchError(
                f"there is no policy version {which[:20]!r}",
                "`netwatch policy versions` lists them",
                code="not-found",
            )
        return found

    def documents(self, version: int) -> tuple[Document, ...]:
        """The files of a version; none for version 0."""
        query = sa.select(_versions.c.documents).where(_versions.c.version == version)
        with self._engine.connect() as connection:
            text = connection.scalar(query)
        return msgspec.json.decode(text, type=tuple[Document, ...]) if text else ()

    def apply(
        self, documents: Sequence[Document], signed: Signed, *, confirm_s: int = CONFIRM_S
    ) -> PolicyVersion:
        """A new version, wanted at once; undone after `confirm_s` unless confirmed (0: final).

        Raises InvalidPolicies for documents that are wrong, each problem with file, line and
        column, and UsageError for the rest; nothing is kept then. Objects of a cluster without a
        mode are staged.
        """
        checked = checked_documents(documents)
        with self._lock:
            self._refuse_unconfirmed()
            return self._add("policy-apply", checked, signed, confirm_s=confirm_s)

    def confirm(self, which: str) -> PolicyVersion:
        """Keep what waits for its confirmation; raises NetwatchError if it does not wait."""
        with self._lock:
            self.expire()
            turn = self._history[-1] if self._history else None
            if turn is None or turn.final or turn.version != self._number(which):
                raise NetwatchError(
                    "no policy version waits for this confirmation",
                    "it was confirmed, or undone in time: `netwatch policy versions`",
                    code="conflict",
                )
            now = self._clock()
            with self._engine.begin() as connection:
                connection.execute(
                    _turns.update().where(_turns.c.turn == turn.turn).values(confirmed=now)
                )
                self._record("policy-confirm", f"version {turn.version}", {})
            self._history[-1] = replace(turn, confirmed=now)
            confirmed = self.version(which)
        self._changed()
        return confirmed

    def restore(self, which: str, signed: Signed, *, confirm_s: int = 0) -> PolicyVersion:
        """The documents of that version once more, as a new one; 0 stands for none at all."""
        with self._lock:
            self.expire()
            number = self._number(which)
            documents = self.documents(number) if number else ()
            if number:
                self.version(str(number))
            return self._add(
                "policy-rollback", documents, signed, confirm_s=confirm_s, restores=number
            )

    def change_mode(
        self, which: str, name: str, mode: Mode, signed: Signed, *, confirm_s: int = CONFIRM_S
    ) -> PolicyVersion:
        """One document of what is in force with another mode, as a new version.

        `which` has to be in force (so that nobody changes what he did not see); `name` is the
        document's, `namespace/name`, or `kind/namespace/name`. Raises NetwatchError conflict,
        not-found or ambiguous.
        """
        with self._lock:
            self._refuse_unconfirmed()
            if not self._history or self._number(which) != self._history[-1].version:
                raise NetwatchError(
                    "another policy version is in force by now", "look again", code="conflict"
                )
            after = changed_mode(self._held, name, mode)
            return self._add("policy-mode", after, signed, confirm_s=confirm_s)

    def wanted(self, holds: str) -> Wanted | None:
        """What agents are told; None while nobody ever applied anything.

        The documents are left out for an agent that `holds` them (their hash) already.
        """
        with self._lock:
            self.expire()
            if not self._history:
                return None
            turn, held = self._history[-1], self._held
            left = None
            if turn.confirm_by is not None and not turn.final:
                left = (turn.confirm_by - self._clock()) / SECOND
            documents = None if holds == self._sha256 else held
            return Wanted(turn.turn, turn.version, self._sha256, left, documents)

    def sha256(self) -> str | None:
        """The hash of what is wanted, or None."""
        with self._lock:
            self.expire()
            return self._sha256 if self._history else None

    def explain(self, asked: Question, world: World, *, modes: frozenset[Mode]) -> Explanation:
        """Why the documents that are wanted now decide so."""
        with self._lock:
            self.expire()
            held = self._held
        return explain(policies_of(held), world, asked, now=self._clock(), modes=modes)

    def expire(self) -> None:
        """Go back where the time to confirm is over."""
        with self._lock:
            turn = self._history[-1] if self._history else None
            if turn is None or turn.final or (turn.confirm_by or 0) > self._clock():
                return
            before = self._before()
            with self._engine.begin() as connection:
                back = self._turn(connection, before, confirm_by=None)
                self._record("policy-withdrawn", f"version {turn.version}", {"back_to": before})
            self._history.append(back)
            self._hold(self.documents(before))
        self._changed()

    # inside, under the lock

    def _refuse_unconfirmed(self) -> None:
        self.expire()
        if self._history and not self._history[-1].final:
            raise NetwatchError(
                f"version {self._history[-1].version} waits for its confirmation",
                "`netwatch policy confirm` keeps it, `netwatch policy rollback` undoes it",
                code="conflict",
            )

    def _add(
        self,
        action: str,
        documents: tuple[Document, ...],
        signed: Signed,
        *,
        confirm_s: int,
        restores: int | None = None,
    ) -> PolicyVersion:
        _check_signed(signed)
        if not 0 <= confirm_s <= LONGEST_CONFIRM_S:
            raise UsageError(f"confirm is {confirm_s} s", f"0 (final) to {LONGEST_CONFIRM_S}")
        now = self._clock()
        fallback = next((t.version for t in reversed(self._history) if t.final), 0)
        row = {
            "sha256": digest_of(document.text for document in documents),
            "author": signed.author,
            "reason": signed.reason,
            "ticket": signed.ticket,
            "replay": signed.replay,
            "created": now,
            "restores": restores,
            "names": msgspec.json.encode([d.name for d in documents]).decode(),
            "documents": msgspec.json.encode(documents).decode(),
        }
        with self._engine.begin() as connection:
            key = connection.execute(_versions.insert(), row).inserted_primary_key
            assert key is not None
            number = int(key[0])
            confirm_by = now + confirm_s * SECOND if confirm_s else None
            turn = self._turn(connection, number, confirm_by=confirm_by)
            old = _versions.c.version <= number - KEPT, _versions.c.version != fallback
            connection.execute(_versions.delete().where(*old))
            told = {"sha256": row["sha256"], "confirm_s": confirm_s, "restores": restores}
            self._record(action, f"version {number}", asdict(signed) | told)
        self._history.append(turn)
        self._hold(documents)
        added = self.version(str(number))
        self._changed()
        return added

    def _turn(self, connection: sa.Connection, version: int, *, confirm_by: int | None) -> _Turn:
        """Written, and for the caller to take up once the transaction is through."""
        number = self._history[-1].turn + 1 if self._history else 1
        turn = _Turn(number, version, self._clock(), confirm_by, None)
        connection.execute(_turns.insert(), asdict(turn))
        return turn

    def _hold(self, documents: tuple[Document, ...]) -> None:
        self._held = documents
        self._sha256 = digest_of(document.text for document in documents)

    def _before(self) -> int:
        """The version that was final before the one in force; 0 if there was none."""
        now = self._history[-1].version if self._history else 0
        past = (t.version for t in reversed(self._history) if t.final and t.version != now)
        return next(past, 0)

    def _number(self, which: str) -> int:
        if which == "previous":
            return self._before()
        if which == "current":
            return self._history[-1].version if self._history else -1
        if which.isascii() and which.isdigit() and len(which) < 10:
            return int(which)
        raise UsageError(f"{which[:20]!r} is no version", "a number, current or previous")

    def _version(self, row: Any) -> PolicyVersion:
        turns = [turn for turn in self._history if turn.version == row.version]
        now, state = self._history[-1], "past"
        if now.version == row.version:
            state = "in-force" if now.final else "unconfirmed"
        elif not any(turn.final for turn in turns):
            state = "withdrawn"
        values = dict(row._mapping)
        values["names"] = tuple(msgspec.json.decode(row.names, type=list[str]))
        due = now.confirm_by if state == "unconfirmed" else None
        return PolicyVersion(**values, state=state, confirm_by=due)


def _check_signed(signed: Signed) -> None:
    if not signed.author:
        raise UsageError("the author is missing", "say who wants this: --author NAME")
    texts = (signed.author, signed.reason, signed.ticket, signed.replay)
    for text in texts:
        if text and (len(text) > TEXT_LIMIT or not text.isprintable()):
            raise UsageError(
                f"{text[:60]!r} can not be kept", f"one printable line of {TEXT_LIMIT} characters"
            )
