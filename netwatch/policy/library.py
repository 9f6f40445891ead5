"""The policy library: documents that a security team turns on by name and scope.

An entry is a policy file like any other, in mode observe, so that loading it decides nothing. Its
annotations `library/...` explain it; an anchor marks each value that a user may replace, and the
anchor `governs` marks whom it is about where the labels of the scope stand for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from netwatch.model.errors import InvalidDocument, UsageError
from netwatch.policy import fields, nodes
from netwatch.policy.document import MODE_ANNOTATION, parse
from netwatch.policy.ir import EVERYTHING, Mode, Place, Policy, Selector
from netwatch.policy.nodes import Kind
from netwatch.policy.short import named_namespace, read_labels
from netwatch.policy.upstream import selector_data
from netwatch.policy.writing import dumped, labels_of, one_line

PARTS = ("what", "why", "fix", "limits")
"""The texts of an entry; every one has all of them but limits."""
GOVERNS = "governs"
MAX_VALUE = 2_000
"""Characters of one value on a command line; 25 networks of IPv6 are 1,100."""

_PREFIX = "library/"
_COMMAND_LINE = Place("", 1, 1)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a user may replace (`needed`: must). `default` is one line of YAML."""

    name: str
    meaning: str
    default: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy of the library. `texts` has the keys PARTS; `anywhere`: it fits every namespace
    at once, and not only one. `follows`: the labels of a scope stand in place of `subject`."""

    name: str
    title: str
    texts: Mapping[str, str]
    standards: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    policies: tuple[Policy, ...]
    anywhere: bool
    follows: bool
    documents: tuple[Node, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its documents, in order."""
        return tuple(policy.kind for policy in self.policies)

    @property
    def subject(self) -> Selector:
        """Whom it governs by itself; all its documents govern the same."""
        return self.policies[0].subject

    @property
    def needs(self) -> tuple[str, ...]:
        """The parameters that have no default."""
        return tuple(p.name for p in self.parameters if p.needed)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a policy is turned on: one namespace or (None) all of them, and for which labels."""

    namespace: str | None
    labels: Selector = EVERYTHING


def read_entry(text: str, file: str) -> Entry:
    """The entry that a file of the library holds; raises InvalidDocument."""
    policies = parse(text, file)
    documents = tuple(YAML(typ="safe", pure=True).compose_all(text))
    metadata = _plain(documents[0], {}).get("metadata", {})
    told = {
        key.removeprefix(_PREFIX): str(value).strip()
        for key, value in metadata.get("annotations", {}).items()
        if key.startswith(_PREFIX)
    }
    for part in (*PARTS[:3], "standards"):
        if not told.get(part):
            raise InvalidDocument(
                f"the policy does not tell its {part}",
                f"add the annotation {_PREFIX}{part}",
                file=file,
                line=policies[0].place.line,
            )
    anchored = {name: node for document in documents for name, node in _anchors(document)}
    return Entry(
        policies[0].name,
        _title(text),
        {part: told.get(part, "") for part in PARTS},
        tuple(each.strip() for each in told["standards"].split(";")),
        tuple(_parameters(told, anchored, policies[0].place)),
        policies,
        anywhere=all(policy.namespace is None for policy in policies),
        follows=GOVERNS in anchored or policies[0].subject == EVERYTHING,
        documents=documents,
    )


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("#").strip().rstrip(".")


def _parameters(
    told: Mapping[str, str], anchored: Mapping[str, Node], place: Place
) -> list[Parameter]:
    found = []
    for key, meaning in told.items():
        word, dash, name = key.partition("-")
        if word not in ("parameter", "needs") or not dash:
            continue
        if name not in anchored:
            raise nodes.invalid(
                place, f"no value has the anchor of the parameter {name}", f"write &{name} there"
            )
        default = one_line(_plain(anchored[name], {}))
        found.append(Parameter(name, meaning, default, word == "needs"))
    return found


def read_scope(text: str) -> Scope:
    """`shop`, `all`, and either with labels: `shop/app=web`, `all/data=pci, env!=dev`.

    Raises UsageError.
    """
    namespace, slash, labels = text.partition("/")
    place = Place("the scope", 1, 1)
    try:
        name = fields.name(nodes.Node(Kind.TEXT, place, namespace), "its namespace")
        selector = EVERYTHING
        if slash:
            selector = read_labels(nodes.Node(Kind.TEXT, place, labels), "its labels")
    except InvalidDocument as error:
        raise UsageError(
            f"the scope is {nodes.shorten(repr(text))}: {error.message}",
            "write shop, all, shop/app=web or all/data=pci",
        ) from None
    return Scope(None if name == "all" else name, selector)


def instantiate(
    entry: Entry, scope: Scope, *, mode: Mode, name: str, given: Mapping[str, str]
) -> str:
    """The documents of the entry for this scope, as YAML that `parse` takes.

    `given` are parameters by name, each a line of YAML. Raises UsageError for what does not fit.
    """
    _check(entry, scope, given)
    values = {key: _value(entry, key, text) for key, text in given.items()}
    written = []
    for policy, document in zip(entry.policies, entry.documents, strict=True):
        data = _plain(document, values)
        subject = _subject(entry, scope, policy)
        place_in = _segment if policy.kind == "Segment" else _cluster
        written.append(dumped(place_in(data, scope, subject, mode=mode, name=name)))
    head = f"# {entry.title}.\n# netwatch policy library {entry.name} tells why, and what to do.\n"
    text = head + "---\n".join(written)
    try:
        parse(text, f"{name}.yaml")
    except InvalidDocument as error:
        raise UsageError(
            f"with these values {entry.name} is no policy: {error.message}", error.hint
        ) from None
    return text


def _check(entry: Entry, scope: Scope, given: Mapping[str, str]) -> None:
    known = [parameter.name for parameter in entry.parameters if parameter.name != GOVERNS]
    for key in given:
        if key not in known:
            has = f"has no parameter {nodes.shorten(repr(key))}"
            raise UsageError(f"{entry.name} {has}", fields.meant(key, known) if known else None)
    for parameter in entry.parameters:
        if parameter.name == GOVERNS and parameter.needed and scope.labels == EVERYTHING:
            raise UsageError(
                f"{entry.name} needs labels in its scope: {parameter.meaning}",
                "write --scope all/LABEL=VALUE",
            )
        if parameter.name != GOVERNS and parameter.needed and parameter.name not in given:
            raise UsageError(
                f"{entry.name} needs {parameter.name}: {parameter.meaning}",
                f"add --set {parameter.name}=VALUE",
            )
    if scope.namespace is None and not entry.anywhere:
        raise UsageError(
            f"{entry.name} is about one namespace, because its peers are those of its own",
            "name it, --scope shop, and use it once for each",
        )


def _subject(entry: Entry, scope: Scope, policy: Policy) -> Selector:
    """Labels of the scope stand for those of the entry where these are only its habit."""
    if scope.labels == EVERYTHING:
        return policy.subject
    if entry.follows:
        return scope.labels
    return Selector((*policy.subject.requirements, *scope.labels.requirements))


def _segment(
    data: dict[str, Any], scope: Scope, subject: Selector, *, mode: Mode, name: str
) -> dict[str, Any]:
    everywhere = scope.namespace is None
    metadata = {"name": name} if everywhere else {"name": name, "namespace": scope.namespace}
    spec: dict[str, Any] = {"mode": str(mode)}
    if everywhere:
        spec["scope"] = "all"
    spec["governs"] = "all" if subject == EVERYTHING else labels_of(subject)
    rest = {key: value for key, value in data["spec"].items() if key not in (*spec, "scope")}
    return {**data, "metadata": metadata, "spec": {**spec, **rest}}


def _cluster(
    data: dict[str, Any], scope: Scope, subject: Selector, *, mode: Mode, name: str
) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {MODE_ANNOTATION: str(mode)}}
    namespaces = EVERYTHING if scope.namespace is None else named_namespace([scope.namespace])
    chosen: dict[str, Any] = {"namespaces": selector_data(namespaces)}
    if subject != EVERYTHING:
        chosen = {
            "pods": {
                "namespaceSelector": selector_data(namespaces),
                "podSelector": selector_data(subject),
            }
        }
    return {**data, "metadata": metadata, "spec": {**data["spec"], "subject": chosen}}


def _value(entry: Entry, key: str, text: str) -> Node:
    """The value as YAML; for a list its items will do."""
    default = next(parameter for parameter in entry.parameters if parameter.name == key).default
    shape = f"[{text}]" if default.startswith("[") and not text.lstrip().startswith("[") else text
    try:
        if len(text) > MAX_VALUE:
            raise nodes.invalid(_COMMAND_LINE, f"it has more than {MAX_VALUE} characters")
        (_,) = nodes.read_nodes(shape, "")  # which bounds it, and refuses tags
        node: Node = YAML(typ="safe", pure=True).compose(shape)
    except (InvalidDocument, ValueError) as error:
        why = error.message if isinstance(error, InvalidDocument) else "it is not one value"
        raise UsageError(
            f"{key} is {nodes.shorten(repr(text))}: {why}",
            f"write one line of YAML, such as {default}",
        ) from None
    if any(_anchors(node)):
        raise UsageError(f"{key} has an anchor", f"write it without, such as {default}")
    return node


def _anchors(node: Node) -> Iterator[tuple[str, Node]]:
    """Every anchor of the document with its value."""
    if node.anchor:
        yield node.anchor, node
    if isinstance(node, MappingNode):
        for _, value in node.value:
            yield from _anchors(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _anchors(item)


def _plain(node: Node, values: Mapping[str, Node]) -> Any:
    """The document as plain data, with these values where their anchors stand."""
    node = values.get(node.anchor, node)
    if isinstance(node, MappingNode):
        return {key.value: _plain(value, values) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_plain(item, values) for item in node.value]
    assert isinstance(node, ScalarNode)
    kind = str(node.tag).rpartition(":")[2]
    if kind == "int" and node.value.isdecimal():
        return int(node.value)
    if kind == "bool":
        return node.value.lower() == "true"
    return None if kind == "null" else node.value
