"""Writes policies as YAML that `document.parse` reads as the same policies.

What tools propose is written here and nowhere else, and read back before it is shown: a proposal
that its own reader refuses would be found out by the person who trusted it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from netwatch.model.errors import NetwatchError
from netwatch.model.times import SECOND, rfc3339
from netwatch.policy.fields import NAMESPACE_NAME
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    HostPeer,
    InternetPeer,
    NamePeer,
    NetworkPeer,
    Operator,
    PeerSpec,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    WorkloadPeer,
)
from netwatch.policy.upstream import cluster_network_policy, network_policy

WIDTH = 96
DAY = 86_400 * SECOND
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./ -]*[A-Za-z0-9_./-])?|[0-9]+(?:-[0-9]+)?/[a-z]+")
_NUMERIC = re.compile(r"[0-9]+-[0-9]+|[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?")
_RESERVED = ("null", "true", "false", "yes", "no", "on", "off")
_BARE_VALUE = re.compile(r"[^\s=!(),]+")
_PEER_WORDS = frozenset({"namespace", "labels", "cidr", "except"})


def as_text(policies: Iterable[Policy]) -> str:
    """All documents as one YAML text; raises NetwatchError for what its kind can not say."""
    return "---\n".join(dumped(as_data(policy)) for policy in policies)


def as_data(policy: Policy) -> dict[str, Any]:
    """The document as plain data, of its own kind."""
    if policy.kind == "Segment":
        return _segment(policy)
    if policy.kind == "NetworkPolicy":
        return network_policy(policy)
    return cluster_network_policy(policy)


def rule_line(rule: Rule, *, ingress: bool) -> str:
    """One rule of a Segment on one line, as it would stand in its `rules`."""
    return f"- {one_line(segment_rule(rule, ingress=ingress))}"


def _segment(policy: Policy) -> dict[str, Any]:
    metadata = {"name": policy.name}
    if policy.namespace is not None:
        metadata["namespace"] = policy.namespace
    spec: dict[str, Any] = {"mode": str(policy.mode)}
    if policy.namespace is None:
        spec["scope"] = "all"
    spec["governs"] = "all" if policy.subject == EVERYTHING else labels_of(policy.subject)
    for word, isolated, given in (
        ("ingress", policy.isolates_ingress, policy.ingress),
        ("egress", policy.isolates_egress, policy.egress),
    ):
        if isolated != bool(given):
            spec[word] = "isolated" if isolated else "open"
    rules = [
        *(segment_rule(rule, ingress=True) for rule in policy.ingress),
        *(segment_rule(rule, ingress=False) for rule in policy.egress),
    ]
    if rules:
        spec["rules"] = rules
    return {"apiVersion": "netwatch/v1", "kind": "Segment", "metadata": metadata, "spec": spec}


def segment_rule(rule: Rule, *, ingress: bool) -> dict[str, Any]:
    """One entry of a Segment's `rules`."""
    peers = [_peer(peer) for peer in rule.peers]
    data: dict[str, Any] = {"from" if ingress else "to": _one_or_list(peers) or "anyone"}
    if len(peers) == 1:
        data["from" if ingress else "to"] = peers[0]
    if rule.ports:
        data["ports"] = _one_or_list([port_text(port) for port in rule.ports])
    if rule.action is Action.DENY:
        data["deny"] = True
    elif rule.action is not Action.ALLOW:
        raise NetwatchError(f"a Segment has no action {rule.action}", "keep it in its own kind")
    if rule.exception:
        data["exception"] = True
    for key, value in (
        ("require", rule.obligation),
        ("name", rule.name),
        ("because", rule.because),
        ("owner", rule.owner),
        ("ticket", rule.ticket),
        ("expires", _expiry(rule.expires)),
    ):
        if value is not None:
            data[key] = value
    if rule.strict:
        data["strict"] = True
    return data


def _expiry(moment: int | None) -> str | None:
    """A date where the moment is the end of one, as the reader takes dates."""
    if moment is None or moment % DAY:
        return rfc3339(moment)
    return str(rfc3339(moment - DAY)).partition("T")[0]


def _one_or_list(items: Sequence[Any]) -> Any:
    return items[0] if len(items) == 1 else list(items)


def _peer(peer: PeerSpec) -> Any:
    match peer:
        case HostPeer():
            return "host"
        case InternetPeer():
            return "internet"
        case NetworkPeer():
            if peer.excepts:
                return {"cidr": peer.cidr, "except": list(peer.excepts)}
            return peer.cidr
        case WorkloadPeer():
            return _workload_peer(peer)
        case NamePeer():
            return peer.name


def _workload_peer(peer: WorkloadPeer) -> Any:
    labels = labels_of(peer.workloads)
    if peer.namespaces is None:
        clashes = isinstance(labels, dict) and _PEER_WORDS & set(labels)
        return {"labels": labels} if clashes else labels
    data: dict[str, Any] = {"namespace": _namespaces(peer.namespaces)}
    if peer.workloads != EVERYTHING:
        data["labels"] = labels
    return data


def _namespaces(selector: Selector) -> Any:
    if selector == EVERYTHING:
        return "any"
    if len(selector.requirements) == 1:
        only = selector.requirements[0]
        if only.key == NAMESPACE_NAME and only.operator is Operator.IN:
            return _one_or_list(sorted(only.values))
    labels = labels_of(selector)
    if isinstance(labels, str):
        raise NetwatchError(
            "a Segment names namespaces by name or by labels that they have", "keep its own kind"
        )
    return labels


def labels_of(selector: Selector) -> Any:
    """The mapping where it can say it, else the text form; raises NetwatchError for neither."""
    keys = [requirement.key for requirement in selector.requirements]
    demands = all(r.operator is Operator.IN and r.values for r in selector.requirements)
    if demands and len(set(keys)) == len(keys):
        return {r.key: _one_or_list(sorted(r.values)) for r in selector.requirements}
    return ", ".join(_term(requirement) for requirement in selector.requirements)


def _term(requirement: Requirement) -> str:
    match requirement.operator:
        case Operator.EXISTS:
            return f"has({requirement.key})"
        case Operator.DOES_NOT_EXIST:
            return f"!has({requirement.key})"
    values = sorted(requirement.values)
    negated = requirement.operator is Operator.NOT_IN
    if values == [""]:
        return f"{requirement.key}{'!=' if negated else '='}"
    if not all(_BARE_VALUE.fullmatch(value) for value in values):
        raise NetwatchError(
            f"the labels of {requirement.key} can not be written as text", "keep their own kind"
        )
    if len(values) == 1:
        return f"{requirement.key}{'!=' if negated else '='}{values[0]}"
    return f"{requirement.key} {'not in' if negated else 'in'} ({', '.join(values)})"


def port_text(port: PortSpec) -> int | str:
    """The short form of a Segment: 5432, 53/udp, 8000-8010, https, */udp."""
    what = port.name or "*"
    if port.first is not None:
        last = port.last or port.first
        what = str(port.first) if last == port.first else f"{port.first}-{last}"
        if port.protocol in (None, "tcp"):
            return port.first if last == port.first else what
    return what if port.protocol is None else f"{what}/{port.protocol}"


def dumped(data: dict[str, Any]) -> str:
    """Plain data as YAML: blocks outside, what fits on a line in one line."""
    return "".join(f"{line}\n" for line in _mapping(data))


def _mapping(data: dict[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        if key == "rules" or not _fits(value):
            yield f"{_scalar(key)}:"
            inner = _list(value) if isinstance(value, list) else _mapping(value)
            yield from (f"  {line}" for line in inner)
        else:
            yield f"{_scalar(key)}: {one_line(value)}"


def _list(items: list[Any]) -> Iterator[str]:
    for item in items:
        lines = list(_mapping(item)) if isinstance(item, dict) and item else [one_line(item)]
        yield f"- {lines[0]}"
        yield from (f"  {line}" for line in lines[1:])


def _fits(value: Any) -> bool:
    if isinstance(value, dict) and any(isinstance(v, dict | list) and v for v in value.values()):
        return len(value) < 4 and len(one_line(value)) < WIDTH // 2
    return not isinstance(value, dict | list) or not value or len(one_line(value)) < WIDTH - 16


def one_line(value: Any) -> str:
    """Plain data as YAML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(k)}: {one_line(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(one_line, value))}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Plain where no reader could take it for anything but text; otherwise in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if (_PLAIN.fullmatch(text) and text.lower() not in _RESERVED) or _NUMERIC.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)
