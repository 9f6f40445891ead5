"""Versions of the policies: whole or not at all, never changed, and undone unless confirmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from netwatch import audit
from netwatch.controller.policies import KEPT, Policies, Signed
from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError
from netwatch.model.policy_version import NO_DOCUMENTS, Document, digest_of
from netwatch.model.times import SECOND
from netwatch.policy.document import parse
from netwatch.policy.ir import Mode
from tests.unit.controller.samples import START, Clock

ADA = Signed("ada")


def segment(name: str = "db", *, mode: str = "enforce") -> str:
    return f"""apiVersion: netwatch/v1
kind: Segment
metadata: {{name: {name}, namespace: shop}}
spec:
  governs: app={name}
  mode: {mode}  # for now
  rules: [{{from: app=web, ports: 5432}}]
"""


CLUSTER = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny, namespace: shop}
spec: {podSelector: {}}
"""


def files(**texts: str) -> list[Document]:
    return [Document(f"{name}.yaml", text) for name, text in texts.items()]


Open = Callable[[], Policies]


def trail(folder: Path) -> audit.Record:
    return audit.recorder(folder, audit.this_actor({}), lambda: START)


@pytest.fixture
def reopen(tmp_path: Path, clock: Clock) -> Open:
    """The same file, opened anew: what a restart of the controller finds."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'state.db'}", poolclass=sa.NullPool)
    return lambda: Policies(engine, record=trail(tmp_path), clock=clock, changed=lambda: None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policies(reopen: Open) -> Policies:
    return reopen()


def states(policies: Policies) -> list[str]:
    """Of all versions, the first one first."""
    return [version.state for version in reversed(policies.versions())]


def test_nothing_is_wanted_before_anything_was_applied(policies: Policies) -> None:
    """So an agent leaves alone what a host decided for itself."""
    assert (policies.wanted(""), policies.versions(), policies.sha256()) == (None, (), None)


def test_a_version_is_kept_as_it_was_given(policies: Policies) -> None:
    """Text, hash, and who wanted it and why."""
    signed = Signed("ada", "orders only", "SEC-7", "rp_12")
    version = policies.apply(files(db=segment()), signed, confirm_s=0)
    assert policies.documents(1) == tuple(files(db=segment()))
    assert version.sha256 == digest_of([segment()])
    told = (version.author, version.reason, version.ticket, version.replay, version.created)
    assert told == ("ada", "orders only", "SEC-7", "rp_12", START)
    assert (version.version, version.names, version.state) == (1, ("db.yaml",), "in-force")


def test_an_object_of_a_cluster_is_staged_unless_it_says_otherwise(policies: Policies) -> None:
    """Semantics 2; a Segment enforces unless it says otherwise."""
    plain = segment("plain").replace("  mode: enforce  # for now\n", "")
    policies.apply(files(cluster=CLUSTER, plain=plain), ADA)
    kept = [p.mode for d in policies.documents(1) for p in parse(d.text, d.name)]
    assert kept == [Mode.STAGE, Mode.ENFORCE]


@pytest.mark.parametrize(
    ("documents", "signed", "words"),
    [
        pytest.param([], ADA, "no documents", id="nothing"),
        pytest.param(files(a="# nothing\n"), ADA, "no document", id="only comments"),
        pytest.param(
            files(fine=segment("fine"), a=segment(mode="enfroce")),
            ADA,
            "'enfroce'",
            id="one of two has a wrong mode",
        ),
        pytest.param(files(a=segment(), b=segment()), ADA, "stands twice", id="one name twice"),
        pytest.param([*files(a=segment())] * 2, ADA, "one name", id="one file twice"),
        pytest.param([Document("a\n", segment())], ADA, "name a document", id="a hostile name"),
        pytest.param(files(a=segment()), Signed(""), "author", id="nobody"),
        pytest.param(files(a=segment()), Signed("a\x1b[2J"), "printable", id="a hostile author"),
    ],
)
def test_what_is_wrong_is_refused_whole(
    policies: Policies, documents: list[Document], signed: Signed, words: str
) -> None:
    """Nothing is kept, and what was in force stays so."""
    policies.apply(files(good=segment("good")), ADA, confirm_s=0)
    with pytest.raises((InvalidDocument, UsageError)) as refused:
        policies.apply(documents, signed)
    assert words in str(refused.value) + (refused.value.hint or "")
    assert [v.version for v in policies.versions()] == [1]
    assert policies.sha256() == digest_of([segment("good")])


def test_a_mistake_is_told_with_its_place(policies: Policies) -> None:
    """File, line and column of the document that was sent."""
    with pytest.raises(InvalidDocument) as refused:
        policies.apply(files(good=segment("good"), bad=segment(mode="enfroce")), ADA)
    told = refused.value
    assert (told.file, told.line, told.column) == ("bad.yaml", 6, 9)


def test_documents_are_told_only_to_who_lacks_them(policies: Policies) -> None:
    """By the hash of what the agent holds."""
    version = policies.apply(files(db=segment()), ADA, confirm_s=0)
    told, short = policies.wanted(""), policies.wanted(version.sha256)
    assert told is not None and told.documents == tuple(files(db=segment()))
    assert short is not None and short.documents is None
    assert (short.sha256, short.version, short.confirm_s) == (version.sha256, 1, None)


@pytest.mark.parametrize("restarted", [False, True])
def test_what_nobody_confirms_is_undone(
    policies: Policies, reopen: Open, clock: Clock, restarted: bool
) -> None:
    """After its time the version before is wanted again, by a new turn; a restart forgets none."""
    policies.apply(files(db=segment()), ADA, confirm_s=0)
    first = policies.wanted("")
    policies.apply(files(db=segment(mode="stage")), ADA, confirm_s=60)
    clock.now += 59 * SECOND
    waiting = policies.wanted("")
    assert waiting is not None and (waiting.version, waiting.confirm_s) == (2, 1.0)
    clock.now += SECOND
    policies = reopen() if restarted else policies
    back = policies.wanted("")
    assert first is not None and back is not None
    assert (back.version, back.sha256, back.confirm_s) == (1, first.sha256, None)
    assert back.turn > waiting.turn > first.turn
    assert states(policies) == ["in-force", "withdrawn"]
    with pytest.raises(NetwatchError, match="no policy version waits"):
        policies.confirm("2")


def test_the_first_version_is_undone_to_nothing(policies: Policies, clock: Clock) -> None:
    """Version 0 has no documents; that is a wish, unlike none at all."""
    policies.apply(files(db=segment()), ADA, confirm_s=5)
    clock.now += 5 * SECOND
    wanted = policies.wanted("")
    assert wanted is not None
    assert (wanted.version, wanted.sha256, wanted.documents) == (0, NO_DOCUMENTS, ())


def test_what_is_confirmed_stays(policies: Policies, reopen: Open, clock: Clock) -> None:
    """For ever, and with the same documents."""
    policies.apply(files(db=segment()), ADA, confirm_s=60)
    waiting = policies.wanted("")
    policies.confirm("current")
    clock.now += 3_600 * SECOND
    wanted = reopen().wanted("")
    assert waiting is not None and wanted is not None
    assert (wanted.turn, wanted.sha256, wanted.confirm_s) == (waiting.turn, waiting.sha256, None)
    assert states(policies) == ["in-force"]


def test_one_decision_at_a_time(policies: Policies) -> None:
    """While a version waits nobody applies another on top of it; going back is always possible."""
    policies.apply(files(db=segment()), ADA, confirm_s=0)
    policies.apply(files(db=segment(mode="stage")), ADA, confirm_s=60)
    with pytest.raises(NetwatchError, match="version 2 waits") as refused:
        policies.apply(files(api=segment("api")), ADA)
    assert refused.value.code == "conflict"
    restored = policies.restore("previous", ADA)
    assert (restored.version, restored.restores, restored.state) == (3, 1, "in-force")
    assert policies.documents(3) == policies.documents(1)
    assert policies.version("1").sha256 == restored.sha256
    assert states(policies) == ["past", "withdrawn", "in-force"]


def test_zero_takes_everything_away(policies: Policies) -> None:
    """As a version of its own."""
    policies.apply(files(db=segment()), ADA, confirm_s=0)
    assert policies.restore("0", ADA).sha256 == NO_DOCUMENTS
    assert policies.documents(2) == ()


@pytest.mark.parametrize("name", ["db", "shop/db", "Segment/shop/db"])
def test_a_mode_is_changed_as_a_new_version(policies: Policies, name: str) -> None:
    """Of one document; the rest of its text, comments included, stays as it is."""
    policies.apply(files(db=segment(), api=segment("api")), ADA, confirm_s=0)
    policies.change_mode("1", name, Mode.STAGE, ADA, confirm_s=0)
    assert policies.documents(2) == tuple(files(db=segment(mode="stage"), api=segment("api")))
    assert policies.documents(1) == tuple(files(db=segment(), api=segment("api")))


@pytest.mark.parametrize(
    ("which", "name", "mode", "code"),
    [
        pytest.param("1", "db", Mode.STAGE, "conflict", id="not in force any more"),
        pytest.param("2", "dc", Mode.STAGE, "not-found", id="nobody"),
        pytest.param("2", "db", Mode.ENFORCE, "conflict", id="as it is"),
        pytest.param("2", "twin", Mode.STAGE, "ambiguous", id="two of a name"),
    ],
)
def test_a_mode_that_can_not_be_changed(
    policies: Policies, which: str, name: str, mode: Mode, code: str
) -> None:
    policies.apply(files(db=segment(mode="stage")), ADA, confirm_s=0)
    twins = {"one": segment("twin"), "two": segment("twin").replace("shop", "lab")}
    policies.apply(files(db=segment(), **twins), ADA, confirm_s=0)
    with pytest.raises(NetwatchError) as refused:
        policies.change_mode(which, name, mode, ADA)
    assert refused.value.code == code
    assert len(policies.versions()) == 2


@pytest.mark.parametrize(
    ("which", "code"), [("7", "not-found"), ("0", "not-found"), ("one", "usage"), ("-1", "usage")]
)
def test_a_version_that_is_not_there(policies: Policies, which: str, code: str) -> None:
    policies.apply(files(db=segment()), ADA, confirm_s=0)
    with pytest.raises(NetwatchError) as refused:
        policies.version(which)
    assert refused.value.code == code


def test_the_oldest_versions_go(tmp_path: Path, clock: Clock) -> None:
    """More than KEPT are not held; what is in force is, and numbers are not used again."""
    memory = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    policies = Policies(memory, record=trail(tmp_path), clock=clock, changed=lambda: None)
    policies.apply(files(db=segment()), ADA, confirm_s=0)
    with memory.begin() as connection:
        connection.execute(sa.text("update policy_versions set version = :n"), {"n": KEPT})
        connection.execute(sa.text("update policy_turns set version = :n"), {"n": KEPT})
        connection.execute(
            sa.text(
                "insert into policy_versions select 3, sha256, author, reason, ticket, replay,"
                " created, restores, names, documents from policy_versions"
            )
        )
    policies = Policies(memory, record=trail(tmp_path), clock=clock, changed=lambda: None)
    policies.apply(files(db=segment(mode="stage")), ADA, confirm_s=60)
    assert [v.version for v in policies.versions()] == [KEPT + 1, KEPT, 3]
    policies.restore("previous", ADA)
    policies.apply(files(db=segment(mode="stage")), ADA, confirm_s=0)
    assert [v.version for v in policies.versions()] == [KEPT + 3, KEPT + 2, KEPT + 1, KEPT]


def test_each_decision_stands_in_the_audit_trail(policies: Policies, tmp_path: Path) -> None:
    """Who, why, and which documents by their hash; going back by itself as well."""
    first = policies.apply(files(db=segment()), Signed("ada", "orders", "SEC-7"), confirm_s=9)
    policies.confirm("current")
    policies.change_mode("1", "db", Mode.STAGE, ADA, confirm_s=0)
    policies.restore("1", ADA)
    entries = audit.read(tmp_path, last=10)
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("policy-apply", "version 1"),
        ("policy-confirm", "version 1"),
        ("policy-mode", "version 2"),
        ("policy-rollback", "version 3"),
    ]
    assert entries[0].details == {
        "author": "ada",
        "reason": "orders",
        "ticket": "SEC-7",
        "replay": None,
        "sha256": first.sha256,
        "confirm_s": 9,
        "restores": None,
    }
    assert audit.verify(tmp_path).broken is None


def test_what_can_not_be_audited_is_not_decided(policies: Policies, tmp_path: Path) -> None:
    (tmp_path / audit.FILE).write_text("{this is no entry\n")
    with pytest.raises(audit.Damaged):
        policies.apply(files(db=segment()), ADA, confirm_s=0)
    assert (policies.versions(), policies.wanted("")) == ((), None)
