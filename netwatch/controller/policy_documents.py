"""What becomes a version: documents that are all right, or none; one of them in another mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError
from netwatch.model.policy_version import Document
from netwatch.policy.document import check_together, parse
from netwatch.policy.fields import Problems, meant
from netwatch.policy.ir import Mode, Policy
from netwatch.policy.modes import staged_unless_stated, with_mode

DOCUMENTS_LIMIT = 1_000
CHARACTERS_LIMIT = 4 * 1024 * 1024  # of all documents; 1,000 rules are about 150,000
NAME_LIMIT = 255


def checked_documents(documents: Sequence[Document]) -> tuple[Document, ...]:
    """The documents as they are kept: all of them right, and staged where semantics say so.

    Raises InvalidPolicies with every problem, UsageError for names and sizes.
    """
    if not documents:
        raise UsageError("there are no documents", "policy rollback 0 takes all policies away")
    if len(documents) > DOCUMENTS_LIMIT:
        raise UsageError(f"there are {len(documents)} files; at most {DOCUMENTS_LIMIT} are kept")
    names = [document.name for document in documents]
    for name in names:
        if not (0 < len(name) <= NAME_LIMIT and name.isprintable()):
            raise UsageError(f"{name[:60]!r} can not name a document", "use a printable name")
    if len(set(names)) < len(names):
        raise UsageError("two documents have one name", "name each by its own path")
    if sum(len(document.text) for document in documents) > CHARACTERS_LIMIT:
        raise UsageError(f"the documents have more than {CHARACTERS_LIMIT} characters")
    problems = Problems()
    policies: list[Policy] = []
    checked = []
    for document in documents:
        with problems.collected():
            policies.extend(parse(document.text, document.name))
            text = staged_unless_stated(document.text, document.name)
            checked.append(replace(document, text=text))
    problems.raise_any()
    check_together(policies)
    if not policies:
        raise InvalidDocument("the files hold no document", "see netwatch policy check")
    return tuple(checked)


def changed_mode(documents: tuple[Document, ...], name: str, mode: Mode) -> tuple[Document, ...]:
    """The documents with one of them in another mode; raises NetwatchError."""
    known = [(d, policy) for d in documents for policy in parse(d.text, d.name)]
    found = [(d, policy) for d, policy in known if name in _names_of(policy)]
    if not found:
        hint = meant(name, [policy.name for _, policy in known][:200])
        raise NetwatchError(f"no document is called {name[:60]!r}", hint, code="not-found")
    if len(found) > 1:
        titles = ", ".join(_names_of(policy)[-1] for _, policy in found[:10])
        raise NetwatchError(
            f"{name[:60]!r} may be any of {titles}", "name it in full", code="ambiguous"
        )
    document, policy = found[0]
    if policy.mode is mode:
        raise NetwatchError(f"{policy.title} is in mode {mode} already", code="conflict")
    changed = replace(document, text=with_mode(document.text, document.name, policy, mode))
    return tuple(changed if each is document else each for each in documents)


def _names_of(policy: Policy) -> tuple[str, str, str]:
    key = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name
    return policy.name, key, f"{policy.kind}/{key}"
