"""Reading a lab file: all of it, or an error that points at the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.lab.document import load, read
from netwatch.lab.node import LARGEST
from netwatch.lab.spec import Call, Lab, Listen, WorkloadSpec
from netwatch.model.errors import InvalidDocument

SHOP = Path(__file__).parents[3] / "netwatch" / "lab" / "shop.yaml"

EVERYTHING = """\
hosts: [a, b]
underlay: nat
namespaces:
  shop: {team: red}
  empty:
internet:
  listen: [{port: 443, serve: https}]
workloads:
  - name: web
    host: a
    namespace: shop
    labels: {app: web}
    addresses: [198.18.7.9, "2001:db8:7::9"]
    project: p
    service: s
    image: i:1
    listen:
      - {port: 443, protocol: TCP, name: https, serve: https, tls: 1.2, publish: 8443}
      - {port: 53, protocol: udp, documented: false}
    calls:
      - {to: db, port: 5432, every: 0.5, with: tcp, family: 6}
      - {to: internet, port: 443, once: true, server_name: example.test}
      - {to: 198.51.100.7, port: 1}
      - {to: b, port: 22}
  - {name: db, host: b}
"""


def test_every_key_of_a_lab_file_arrives() -> None:
    """What the file says is what the spec holds; what it leaves out has the documented default."""
    web = WorkloadSpec(
        name="web",
        host="a",
        namespace="shop",
        labels=(("app", "web"),),
        addresses=("198.18.7.9", "2001:db8:7::9"),
        listen=(
            Listen(443, "tcp", "https", "https", tls="1.2", publish=8443),
            Listen(53, "udp", documented=False),
        ),
        calls=(
            Call("db", 5432, every=0.5, speak="tcp", family=6),
            Call("internet", 443, once=True, server_name="example.test"),
            Call("198.51.100.7", 1),
            Call("b", 22),
        ),
        project="p",
        service="s",
        image="i:1",
    )
    assert read(EVERYTHING, file="lab.yaml") == Lab(
        hosts=("a", "b"),
        underlay="nat",
        namespaces=(("shop", (("team", "red"),)), ("empty", ())),
        workloads=(web, WorkloadSpec("db", "b")),
        internet=(Listen(443, serve="https"),),
    )


def test_json_is_read_as_well() -> None:
    """A program writes JSON; the same keys mean the same."""
    text = '{"hosts": ["a"],\n "workloads": [{"name": "w", "host": "a", "labels": {"k": "v"}}]}'
    lab = read(text, file="lab.json")
    assert lab.workloads == (WorkloadSpec("w", "a", labels=(("k", "v"),)),)


def test_the_demo_estate_has_one_undocumented_port() -> None:
    """The demo must raise exactly one alert about documentation."""
    lab = load(SHOP)
    hidden = [(w.name, one.port) for w in lab.workloads for one in w.listen if not one.documented]
    assert hidden == [("worker", 8089)]


def test_the_demo_estate_crosses_hosts_in_plain_http_once() -> None:
    """The demo must raise exactly one alert about plaintext on the wire between hosts."""
    lab = load(SHOP)
    homes = {w.name: w.host for w in lab.workloads}
    serves = {(w.name, one.port): one.serve for w in lab.workloads for one in w.listen}
    crossing = [
        (w.name, call.to, call.port)
        for w in lab.workloads
        for call in w.calls
        if homes.get(call.to, w.host) != w.host
        and (call.speak or serves[call.to, call.port]) in ("http", "redis")
    ]
    assert crossing == [("metrics", "api", 9100)]


def workload(keys: str, more: str = "") -> str:
    return f"hosts: [a]\nworkloads:\n  - {{name: w, host: a, {keys}}}\n{more}"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        pytest.param("hosts: [a\n", (2, 1), "not YAML", id="broken YAML"),
        pytest.param("hosts: [a]\nhosts: [b]\n", (2, 1), "duplicate key", id="a key twice"),
        pytest.param("- a\n", (1, 1), "must be a mapping", id="a list at the top"),
        pytest.param("", (1, 1), "not nothing", id="empty"),
        pytest.param("underlay: nat\n", (1, 1), "needs the key 'hosts'", id="no hosts"),
        pytest.param("hosts: []\n", (1, 8), "1 to 200 hosts", id="an empty list of hosts"),
        pytest.param("hosts: a\n", (1, 8), "must be a list", id="hosts is no list"),
        pytest.param("hosts: [a, a]\n", (1, 12), "two hosts are called a", id="host twice"),
        pytest.param("hosts: [a, A]\n", (1, 12), "can not be the name", id="upper case"),
        pytest.param("hosts: [a/b]\n", (1, 9), "can not be the name", id="a path as a name"),
        pytest.param("hosts: [-a]\n", (1, 9), "can not be the name", id="an option as a name"),
        pytest.param(f"hosts: [{'a' * 64}]\n", (1, 9), "can not be the name", id="too long"),
        pytest.param("hosts: [internet]\n", (1, 9), "outside the hosts", id="a reserved name"),
        pytest.param("hosts: [a]\nunderlay: flat\n", (2, 11), "known: routed", id="underlay"),
        pytest.param("hosts: [a]\nworklods: []\n", (2, 1), "did you mean workloads", id="typo"),
        pytest.param(
            "hosts: [a]\nnamespaces: {x: {k: 1}}\n", (2, 21), "must be a string", id="number label"
        ),
        pytest.param(
            "hosts: [a]\nnamespaces: {X: {}}\n", (2, 17), "of a namespace", id="namespace"
        ),
        pytest.param("hosts: [a]\nworkloads: [{host: a}]\n", (2, 13), "'name'", id="no name"),
        pytest.param(
            "hosts: [a]\nworkloads: [{name: a, host: a}]\n", (2, 20), "that of a host", id="shared"
        ),
        pytest.param(
            "hosts: [a]\nworkloads:\n- {name: w, host: a}\n- {name: w, host: a}\n",
            (4, 10),
            "the workload in line 3",
            id="workload twice",
        ),
        pytest.param(
            "hosts: [a]\nworkloads: [{name: w, host: c}]\n", (2, 29), "no host 'c'", id="no host"
        ),
        pytest.param(workload("port: 1"), (3, 24), "no key 'port'", id="a key of another thing"),
        pytest.param(workload("addresses: [10.0.0.1/24]"), (3, 36), "bare address", id="length"),
        pytest.param(workload("addresses: [8.8.8.8]"), (3, 36), "not free", id="somebody's"),
        pytest.param(workload("addresses: [127.0.0.2]"), (3, 36), "not free", id="loopback"),
        pytest.param(workload("addresses: ['fe80::1']"), (3, 36), "not free", id="link-local"),
        pytest.param(workload("addresses: ['::1%lo']"), (3, 36), "bare address", id="zone"),
        pytest.param(workload("addresses: []"), (3, 35), "needs an address", id="no addresses"),
        pytest.param(workload("listen: [{port: 0}]"), (3, 40), "1 to 65535", id="port 0"),
        pytest.param(workload("listen: [{port: 65536}]"), (3, 40), "1 to 65535", id="port 65536"),
        pytest.param(workload("listen: [{port: true}]"), (3, 40), "a number", id="port true"),
        pytest.param(workload("listen: [{port: '80'}]"), (3, 40), "a number", id="port as text"),
        pytest.param(
            workload("listen: [{port: 1, protocol: icmp}]"), (3, 53), "tcp, udp", id="protocol"
        ),
        pytest.param(workload("listen: [{port: 1, serve: smtp}]"), (3, 50), "known:", id="serve"),
        pytest.param(workload("listen: [{port: 1, tls: 1.1}]"), (3, 48), "1.2, 1.3", id="tls"),
        pytest.param(
            workload("listen: [{port: 1, protocol: udp, serve: http}]"),
            (3, 65),
            "not served over udp",
            id="http over udp",
        ),
        pytest.param(
            workload("listen: [{port: 1}, {port: 1}]"), (3, 44), "listed twice", id="port twice"
        ),
        pytest.param(
            workload("listen: [{port: 1, documented: maybe}]"),
            (3, 55),
            "true or false",
            id="maybe",
        ),
        pytest.param(workload("calls: [{to: w}]"), (3, 32), "'port'", id="call without port"),
        pytest.param(
            workload("calls: [{to: x, port: 1}]"), (3, 37), "nothing is called 'x'", id="to nobody"
        ),
        pytest.param(
            workload("calls: [{to: internet, port: 1}]"),
            (3, 37),
            "add `internet:",
            id="no internet in this lab",
        ),
        pytest.param(
            workload("calls: [{to: w, port: 1, every: 0}]"), (3, 56), "0.01 to 86400", id="every 0"
        ),
        pytest.param(
            workload("calls: [{to: w, port: 1, every: .nan}]"), (3, 56), "0.01", id="every nan"
        ),
        pytest.param(
            workload("calls: [{to: w, port: 1, family: 5}]"), (3, 57), "known: 4, 6", id="family"
        ),
        pytest.param(
            workload("calls: [{to: w, port: 1, with: ftp}]"), (3, 55), "known: http", id="with"
        ),
    ],
)
def test_an_error_points_at_its_place(text: str, place: tuple[int, int], words: str) -> None:
    """File, line and column of every mistake, and what would be right."""
    with pytest.raises(InvalidDocument) as caught:
        read(text, file="lab.yaml")
    error = caught.value
    assert words in str(error)
    assert (error.file, error.line, error.column) == ("lab.yaml", *place)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    """Parsing costs far more memory than the text."""
    with pytest.raises(InvalidDocument, match="larger than"):
        read("#" * (LARGEST + 1), file="lab.yaml")


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    """A hostile file ends in a sentence."""
    with pytest.raises(InvalidDocument):
        read("hosts: " + "[" * 500, file="lab.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "can not be read", id="missing"),
        pytest.param(b"hosts: [\xff]", "not UTF-8", id="not text"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """The file's name is in the error even when nothing in it could be read."""
    file = tmp_path / "lab.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidDocument, match=words) as caught:
        load(file)
    assert caught.value.file == str(file)
