"""One look for every policy file: indentation, spaces and separators; never a word or a comment.

The result is read back: it must mean the same and hold the same comments, or nothing is changed.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterable

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from netwatch.model.errors import NetwatchError
from netwatch.policy.document import parse
from netwatch.policy.ir import Place, Policy, Rule

_QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|'(?:[^']|'')*'""")
_COMMENT = re.compile(r"(?:^|\s)#\s*(.*?)\s*$")
_BEHIND = re.compile(r"(?<=\S)\s+#")
_NOWHERE = Place("", 0, 0)
_ROUNDS = 3
"""ruamel settles the place of some comments in the second round only."""


def formatted(text: str, file: str) -> str:
    """The same documents, laid out; formatting the result again changes nothing.

    Raises InvalidPolicies for what is no policy file, and NetwatchError where a new layout would
    lose something.
    """
    before = parse(text, file)
    if text.lstrip()[:1] in ("{", "["):
        raise NetwatchError(f"{file} is JSON, which has no layout of ours", "write it as YAML")
    laid = text
    for _ in range(_ROUNDS):
        last, laid = laid, _laid_out(laid, file)
        if last == laid:
            break
    else:
        raise _lossy(file, "its layout does not settle")
    if laid == text:
        return text
    if meaning(parse(laid, file)) != meaning(before):
        raise _lossy(file, "it would mean something else")
    if _comments(laid) != _comments(text):
        raise _lossy(file, "a comment would be lost")
    return laid


def _lossy(file: str, why: str) -> NetwatchError:
    return NetwatchError(
        f"{file} can not be laid out: {why}", "put comments on lines of their own"
    )


def _laid_out(text: str, file: str) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    out = io.StringIO()
    try:
        documents = list(yaml.load_all(text))
        yaml.dump_all(documents, out)
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError):
        raise _lossy(file, "its YAML can not be written back") from None
    return "\n".join(_aligned(out.getvalue().split("\n"))).strip("\n") + "\n"


def _aligned(lines: list[str]) -> list[str]:
    """Comments stand like the line that follows them, or one space behind their own."""
    laid: list[str] = []
    indent = ""
    for line in reversed(lines):
        text = line.strip()
        if text.startswith("#"):
            laid.append(indent + text)
            continue
        if text:
            indent = line[: len(line) - len(line.lstrip())]
        blanked = _QUOTED.sub(lambda match: "x" * len(match[0]), line)
        found = _BEHIND.search(blanked)
        if found:
            line = f"{line[: found.start()]} {line[found.end() - 1 :]}"
        laid.append(line.rstrip())
    return laid[::-1]


def meaning(policies: Iterable[Policy]) -> list[Policy]:
    """The documents without their places."""
    return [
        dataclasses.replace(
            policy,
            place=_NOWHERE,
            ingress=_placeless(policy.ingress),
            egress=_placeless(policy.egress),
            ignored=_placeless(policy.ignored),
        )
        for policy in policies
    ]


def _placeless(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(dataclasses.replace(rule, place=_NOWHERE) for rule in rules)


def _comments(text: str) -> Counter[str]:
    """Every comment with its number; `#` in quotes is none."""
    bare = (_QUOTED.sub("", line) for line in text.split("\n"))
    return Counter(match[1] for line in bare if (match := _COMMENT.search(line)))
