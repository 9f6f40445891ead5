"""Writes a document's mode into its text, and nothing else: no comment moves, no rule changes.

The result is read back: but for the modes it must mean the same, or nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from netwatch.model.errors import InvalidDocument, Replacement
from netwatch.policy.document import MODE_ANNOTATION, documents_of, parse
from netwatch.policy.edits import added, instead
from netwatch.policy.formatting import meaning
from netwatch.policy.ir import Mode, Policy
from netwatch.policy.nodes import Node, invalid, read_nodes


def staged_unless_stated(text: str, file: str) -> str:
    """The text in which every object of a cluster without a mode is staged (semantics 2).

    Raises InvalidPolicies for what is no policy file.
    """

    def wanted(document: Node, policy: Policy) -> Mode | None:
        stated = policy.kind == "Segment" or _annotation(document) is not None
        return None if stated else Mode.STAGE

    return _restated(text, file, wanted)


def with_mode(text: str, file: str, chosen: Policy, mode: Mode) -> str:
    """The text in which that document, one of its own, has the mode."""

    def wanted(_: Node, policy: Policy) -> Mode | None:
        return mode if policy.place == chosen.place and policy.mode is not mode else None

    return _restated(text, file, wanted)


def _restated(text: str, file: str, wanted: Callable[[Node, Policy], Mode | None]) -> str:
    policies = parse(text, file)
    nodes = [node for root in read_nodes(text, file) for node in documents_of(root)]
    changed: list[Policy] = []
    edits: list[Replacement] = []
    for node, policy in zip(nodes, policies, strict=True):
        mode = wanted(node, policy)
        changed.append(policy if mode is None else replace(policy, mode=mode))
        if mode is not None:
            edits.append(_statement(node, policy, mode))
    if not edits:
        return text
    for edit in sorted(edits, reverse=True):
        text = _put_in(text, edit)
    try:
        same = meaning(parse(text, file)) == meaning(changed)
    except InvalidDocument:
        same = False
    if not same:
        raise invalid(
            policies[0].place,
            "the mode can not be written into this file",
            f"state it there: annotations: {{{MODE_ANNOTATION}: stage}}, or mode in a Segment",
        )
    return text


def _statement(document: Node, policy: Policy, mode: Mode) -> Replacement:
    stated = _annotation(document)
    if stated is not None:
        return instead(stated, mode)
    if policy.kind == "Segment":
        spec = _entry(document, "spec")
        assert spec is not None
        return added(spec, "mode", mode)
    metadata = _entry(document, "metadata")
    assert metadata is not None
    annotations = _entry(metadata, "annotations")
    if annotations is not None and annotations.entries:
        return added(annotations, MODE_ANNOTATION, mode)
    return added(metadata, "annotations", f"{{{MODE_ANNOTATION}: {mode}}}")


def _annotation(document: Node) -> Node | None:
    metadata = _entry(document, "metadata")
    annotations = _entry(metadata, "annotations") if metadata else None
    return _entry(annotations, MODE_ANNOTATION) if annotations else None


def _entry(mapping: Node, key: str) -> Node | None:
    return next((value for known, value in mapping.entries if known.text == key), None)


def _put_in(text: str, edit: Replacement) -> str:
    lines = text.split("\n")
    start = sum(len(line) + 1 for line in lines[: edit.line - 1]) + edit.column - 1
    end = sum(len(line) + 1 for line in lines[: edit.end_line - 1]) + edit.end_column - 1
    return f"{text[:start]}{edit.text}{text[end:]}"
