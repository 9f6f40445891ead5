"""The schema and the parser know the same documents: neither has a field that the other lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from netwatch.cli.policy import policy as command
from netwatch.policy.document import API_VERSIONS, documents_of, parse
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.nodes import Kind, Node, read_nodes
from netwatch.policy.schema import schema

ROOT = Path(__file__).parents[3]
VALIDATOR = Draft202012Validator(schema())
COMPLETE = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  governs: app=db
  mode: stage
  scope: namespace
  ingress: isolated
  egress: open
  rules:
  - from: [{app: [api, web]}, host, {namespace: [pay], labels: {app: web}}]
    ports: [5432, 53/udp, 8000-8010, https, "*/tcp"]
    exception: true
    deny: false
    because: orders
    owner: me
    ticket: T-1
    expires: 2030-01-31
    require: tls>=1.2
    name: one
  - to: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: db}, matchExpressions: [{key: a, operator: In, values: [b]}]}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: []}}]
    ports: [{port: 80, endPort: 90, protocol: TCP}, {port: http}]
  egress: [{to: [{podSelector: {}}], ports: []}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: a}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {}}}
  ingress:
  - name: one
    action: Deny
    from: [{namespaces: {}}, {pods: {podSelector: {}}}]
    protocols: [{tcp: {destinationPort: {number: 80}}}, {destinationNamedPort: http}]
  egress:
  - action: Accept
    to: [{networks: [10.0.0.0/8]}, {domainNames: [www.example.com]}]
    protocols: [{udp: {destinationPort: {range: {start: 1, end: 2}}}}]
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: b}
spec:
  priority: 9
  subject: {namespaces: {}}
  ingress:
  - action: Allow
    from: [{pods: {namespaceSelector: {}, podSelector: {}}}]
    ports: [{portNumber: {protocol: TCP, port: 80}}, {namedPort: http}]
  egress:
  - {action: Pass, to: [{networks: [10.0.0.0/8]}], ports: [{portRange: {start: 1, end: 2}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
"""
"""Every mapping that a document can have, most of them with every key."""


def data(node: Node) -> Any:
    """The node as an editor sees it."""
    match node.kind:
        case Kind.MAPPING:
            return {key.text: data(value) for key, value in node.entries}
        case Kind.LIST:
            return [data(item) for item in node.items]
        case Kind.TEXT:
            return node.text
        case _:
            return json.loads(node.text.lower() or "null")


def documents(text: str) -> list[Node]:
    return [node for root in read_nodes(text, "a.yaml") for node in documents_of(root)]


def test_the_schema_is_one() -> None:
    """By its own meta-schema; and the verb prints it."""
    Draft202012Validator.check_schema(schema())
    result = CliRunner().invoke(command, ["schema"])
    assert result.exit_code == 0 and json.loads(result.stdout) == schema()


def test_complete_documents_are_valid_to_both() -> None:
    """Of every kind there is one."""
    assert {policy.kind for policy in parse(COMPLETE, "a.yaml")} == set(API_VERSIONS)
    for node in documents(COMPLETE):
        assert [error.message for error in VALIDATOR.iter_errors(data(node))] == []


def test_what_the_schema_refuses_the_parser_refuses() -> None:
    """An editor that underlines what `check` takes would be switched off."""
    with pytest.raises(InvalidPolicies):
        parse(COMPLETE.replace("mode: stage\n", "mode: on\n"), "a.yaml")
